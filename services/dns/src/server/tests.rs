//! The front by itself, with a handler that does as a test says.

use std::sync::{Condvar, Mutex};

use dns_core::wire::{Query, code, refuse};

use super::*;

/// A gate that stands open or shut.
#[derive(Debug, Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn shut(&self, shut: bool) {
        *self.0.lock().unwrap() = shut;
        self.1.notify_all();
    }

    fn pass(&self) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |shut| *shut).unwrap());
    }
}

/// Answers everything with no records; hangs at the gate first.
#[derive(Debug, Default)]
struct Hanging(Arc<Gate>);

impl Handler for Hanging {
    type Note = ();
    type Turn = ();

    fn quick(
        &self,
        query: &Query,
        client: &Client,
        _: Duration,
        (): &mut (),
        out: &mut Vec<u8>,
    ) -> Quick<()> {
        self.0.pass();
        refuse(query, code::NOERROR, None, &client.reply, out);
        Quick::Answered
    }

    async fn slow(&self, _: Query, _: Client, (): ()) -> Vec<u8> {
        Vec::new()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_that_hangs_in_an_answer_is_seen_and_one_that_goes_on_is_well_again() {
    let bound = bind(&["127.0.0.1:0".parse().unwrap()], 1);
    let address = bound.sockets.udp[0][0].local_addr().unwrap();
    let (gate, shutdown) = (Arc::new(Gate::default()), CancellationToken::new());
    let handler = Hanging(Arc::clone(&gate));
    let server = Server::start(
        bound.sockets,
        handler,
        Limits::default(),
        [7; 16],
        shutdown.clone(),
    )
    .unwrap();
    assert!(server.is_well().await);
    gate.shut(true);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let query = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";
    client.send_to(query, address).unwrap();
    // the thread takes it up before it is asked whether it is well
    while server.is_well().await {
        sleep(Duration::from_millis(10)).await;
    }
    gate.shut(false);
    assert!(server.is_well().await);
    assert_eq!(server.counters().noerror, 1, "our own questions are not counted");
    shutdown.cancel();
    server.stopped().await;
}

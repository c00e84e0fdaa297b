use std::sync::{Arc, atomic::AtomicBool};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    server::{self, SendResponse},
};
use http::{Method, Request, Response};
use tokio::{
    io::{AsyncReadExt as _, duplex},
    net::TcpListener,
    task::JoinHandle,
};

use super::*;

/// What a node's window lets come before it was read.
const WINDOW: u32 = 1 << 20;

/// A program's connection, the splice that carries it, and its stream at the far end.
struct Carrying {
    program: TcpStream,
    splice: JoinHandle<()>,
    carried: Carried,
    from: RecvStream,
    respond: SendResponse<Bytes>,
}

async fn carrying() -> Carrying {
    let (near, far) = duplex(1 << 16);
    let far = tokio::spawn(async move {
        let mut connection = server::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(2 * WINDOW)
            .max_frame_size(256 << 10)
            .handshake(far)
            .await
            .unwrap();
        let request: (Request<RecvStream>, SendResponse<Bytes>) = connection.accept().await.unwrap().unwrap();
        tokio::spawn(async move { while connection.accept().await.is_some() {} });
        request
    });
    let (send, connection) = h2::client::handshake(near).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri("198.18.0.1:443")
        .body(())
        .unwrap();
    let (answer, to) = send.ready().await.unwrap().send_request(request, false).unwrap();
    let stream = Tunnel::early("alpha", answer, to, &Arc::new(AtomicBool::new(false)));
    let (request, respond) = far.await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let program = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (taken, _) = listener.accept().await.unwrap();
    let carried = Carried {
        sent: Counter::default(),
        received: Counter::default(),
    };
    let counts = carried.clone();
    let splice = tokio::spawn(async move { splice(taken, stream, &counts).await });
    Carrying {
        program,
        splice,
        carried,
        from: request.into_body(),
        respond,
    }
}

/// All that comes; the window is opened as it is read.
async fn whole(mut from: RecvStream) -> Vec<u8> {
    let mut octets = Vec::new();
    while let Some(part) = from.data().await {
        let part = part.unwrap();
        from.flow_control().release_capacity(part.len()).unwrap();
        octets.extend_from_slice(&part);
    }
    octets
}

fn octets(count: usize) -> Vec<u8> {
    (0..count).map(|place| (place % 251) as u8).collect()
}

async fn say(mut to: SendStream<Bytes>, octets: Vec<u8>) {
    to.send_data(octets.into(), true).unwrap();
}

#[tokio::test]
async fn all_octets_and_both_ends_come_through() {
    let mut all = carrying().await;
    let (out, back) = (octets(3_000_000), octets(2_000_001));
    let to = all.respond.send_response(Response::new(()), false).unwrap();
    say(to, back.clone()).await;
    let far = tokio::spawn(whole(all.from));
    let (mut from_splice, mut to_splice) = all.program.into_split();
    let sent = out.clone();
    let near = tokio::spawn(async move {
        to_splice.write_all(&sent).await.unwrap();
        to_splice.shutdown().await.unwrap();
    });
    let mut read = Vec::new();
    from_splice.read_to_end(&mut read).await.unwrap();
    near.await.unwrap();
    assert!(read == back, "what was said comes, and ends");
    assert!(far.await.unwrap() == out, "and so does what the program says");
    all.splice.await.unwrap();
    assert_eq!(all.carried.sent.get(), out.len() as u64);
    assert_eq!(all.carried.received.get(), back.len() as u64);
}

#[tokio::test]
async fn a_few_octets_wait_for_no_more() {
    let mut all = carrying().await;
    let mut to = all.respond.send_response(Response::new(()), false).unwrap();
    for word in [&b"one"[..], b"two"] {
        all.program.write_all(word).await.unwrap();
        let heard = all.from.data().await.unwrap().unwrap();
        assert_eq!(heard, word);
        to.send_data(heard, false).unwrap();
        let mut echo = [0; 3];
        all.program.read_exact(&mut echo).await.unwrap();
        assert_eq!(echo, word);
    }
}

#[tokio::test]
async fn nothing_is_read_from_a_program_that_the_far_end_does_not_take() {
    let mut all = carrying().await;
    let _to = all.respond.send_response(Response::new(()), false).unwrap();
    let (_from_splice, mut to_splice) = all.program.into_split();
    let sender = tokio::spawn(async move {
        let block = octets(1 << 20);
        while to_splice.write_all(&block).await.is_ok() {}
    });
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = all.carried.sent.get();
        if now == before {
            break;
        }
        before = now;
    }
    assert!(before >= u64::from(WINDOW), "{before}");
    assert!(before <= u64::from(WINDOW) + 8 * PIECE as u64, "{before}");
    sender.abort();
}

#[tokio::test]
async fn a_program_hears_of_a_stream_that_broke() {
    let mut all = carrying().await;
    let mut to = all.respond.send_response(Response::new(()), false).unwrap();
    to.send_reset(Reason::CONNECT_ERROR);
    let error = all.program.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    all.splice.await.unwrap();
}

#[tokio::test]
async fn the_far_end_hears_of_a_program_that_was_reset() {
    let mut all = carrying().await;
    let _to = all.respond.send_response(Response::new(()), false).unwrap();
    rustix::net::sockopt::set_socket_linger(&all.program, Some(AT_ONCE)).unwrap();
    drop(all.program);
    let end = all.from.data().await.unwrap().unwrap_err();
    assert_eq!(end.reason(), Some(Reason::CANCEL));
}

/// As where the process ends, or is killed: its sockets are closed by the kernel then.
#[tokio::test]
async fn what_is_cut_off_by_our_end_is_a_break_to_the_program() {
    let mut carrying = carrying().await;
    let answer = Response::builder().status(200).body(()).unwrap();
    let mut to = carrying.respond.send_response(answer, false).unwrap();
    to.send_data(Bytes::from_static(b"half"), false).unwrap();
    let mut half = [0; 4];
    carrying.program.read_exact(&mut half).await.unwrap();
    carrying.splice.abort();
    let end = carrying.program.read(&mut half).await;
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

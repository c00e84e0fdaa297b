//! An entry of the test's own, for what a real one cannot be made to do at the right moment: it speaks the contract, listens
//! where the rules lead, and carries nothing anywhere.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use integration::{Namespace, World, eventually};
use proto::gate17::v1::{
    Carried, Cause, FlowQuestion, FromEntry, Open, Opened, Refused, ToEntry, Tunnelled,
    from_entry::Said,
    to_entry,
    tunnel_server::{Tunnel, TunnelServer},
};
use tokio::{net::UnixListener, sync::mpsc};
use tokio_stream::{
    Stream, StreamExt as _,
    wrappers::{UnboundedReceiverStream, UnixListenerStream},
};
use tonic::{Request, Response, Status, Streaming};

/// What it says to whoever wants to be carried.
#[derive(Clone, Copy, Debug)]
pub(super) enum Says {
    Opened,
    Refused(Cause),
    Nothing,
}

#[derive(Debug)]
struct Seen {
    says: Says,
    opens: Vec<Open>,
    withdrawn: Vec<u64>,
    answers: HashMap<u64, Option<Tunnelled>>,
    stream: Option<mpsc::UnboundedSender<FromEntry>>,
    questions: u64,
}

type Shared = Arc<Mutex<Seen>>;

pub(super) struct StandIn {
    seen: Shared,
    runtime: Option<tokio::runtime::Runtime>,
    over: Arc<AtomicBool>,
    listeners: Vec<thread::JoinHandle<()>>,
}

const HOPS: [&str; 3] = ["alpha", "beta", "gamma"];

impl StandIn {
    /// Returns once the interceptor follows it.
    pub(super) fn start(world: &World, says: Says) -> Self {
        let seen = Arc::new(Mutex::new(Seen {
            says,
            opens: Vec::new(),
            withdrawn: Vec::new(),
            answers: HashMap::new(),
            stream: None,
            questions: 0,
        }));
        let over = Arc::new(AtomicBool::new(false));
        let mut listeners = Vec::new();
        for address in ["127.0.0.17", "::1"] {
            let address = SocketAddr::new(address.parse().unwrap(), 717);
            listeners.push(echo(&world.host, address, &over));
            listeners.push(echo_datagrams(&world.host, address, &seen, &over));
        }
        let runtime = serve(&world.runtime_dir().join("gate17-entry.sock"), &seen);
        eventually("the interceptor follows the entry", || {
            lock(&seen).stream.is_some().then_some(())
        });
        Self {
            seen,
            runtime: Some(runtime),
            over,
            listeners,
        }
    }

    pub(super) fn says(&self, says: Says) {
        lock(&self.seen).says = says;
    }

    pub(super) fn opens(&self) -> Vec<Open> {
        lock(&self.seen).opens.clone()
    }

    pub(super) fn withdrawn(&self) -> Vec<u64> {
        lock(&self.seen).withdrawn.clone()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        for listener in self.listeners.drain(..) {
            let _over = listener.join();
        }
    }
}

fn serve(socket: &Path, seen: &Shared) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let _none = fs::remove_file(socket);
    let listener = {
        let _inside = runtime.enter();
        UnixListener::bind(socket).unwrap()
    };
    let service = TunnelServer::new(Service(Arc::clone(seen)));
    runtime.spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(UnixListenerStream::new(listener)),
    );
    runtime
}

struct Service(Shared);

#[tonic::async_trait]
impl Tunnel for Service {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<FromEntry, Status>> + Send>>;

    async fn exchange(
        &self,
        request: Request<Streaming<ToEntry>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        lock(&self.0).stream = Some(sender);
        let (seen, mut heard) = (Arc::clone(&self.0), request.into_inner());
        tokio::spawn(async move {
            while let Some(Ok(message)) = heard.next().await {
                lock(&seen).hear(message);
            }
        });
        Ok(Response::new(Box::pin(
            UnboundedReceiverStream::new(receiver).map(Ok),
        )))
    }
}

impl Seen {
    fn hear(&mut self, message: ToEntry) {
        match message.said {
            Some(to_entry::Said::Open(open)) => {
                let request_id = open.request_id;
                self.opens.push(open);
                let said = match self.says {
                    Says::Nothing => return,
                    Says::Opened => Said::Opened(Opened {
                        request_id,
                        hops: HOPS.map(str::to_owned).to_vec(),
                        circuit: 1,
                    }),
                    Says::Refused(cause) => Said::Refused(Refused {
                        request_id,
                        cause: cause.into(),
                        text: "gamma: said no".to_owned(),
                    }),
                };
                self.say(said);
            }
            Some(to_entry::Said::Withdrawn(withdrawn)) => self.withdrawn.push(withdrawn.request_id),
            Some(to_entry::Said::Flow(answer)) => {
                self.answers.insert(answer.request_id, answer.connection);
            }
            None => {}
        }
    }

    fn say(&self, said: Said) {
        if let Some(stream) = &self.stream {
            let _gone = stream.send(FromEntry { said: Some(said) });
        }
    }
}

fn echo(host: &Namespace, address: SocketAddr, over: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let listener = host.enter(|| TcpListener::bind(address)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let over = Arc::clone(over);
    thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            let Ok((stream, _)) = listener.accept() else {
                thread::sleep(Duration::from_millis(5));
                continue;
            };
            stream.set_nonblocking(false).unwrap();
            thread::spawn(move || {
                let mut back = stream.try_clone().unwrap();
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if back.write_all(format!("{line}\n").as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    })
}

/// Sends back the profile of whoever sent a datagram, as the interceptor says.
fn echo_datagrams(
    host: &Namespace,
    address: SocketAddr,
    seen: &Shared,
    over: &Arc<AtomicBool>,
) -> thread::JoinHandle<()> {
    let socket = host.enter(|| UdpSocket::bind(address)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let (seen, over) = (Arc::clone(seen), Arc::clone(over));
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while !over.load(Ordering::Relaxed) {
            let Ok((_, from)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            let connection = whose(&seen, from, address);
            if let Some(connection) = &connection {
                lock(&seen).say(Said::Carried(Carried {
                    flow: connection.flow.clone(),
                    hops: HOPS.map(str::to_owned).to_vec(),
                    circuit: 1,
                }));
            }
            let text = connection.map_or_else(|| "nobody".to_owned(), |connection| connection.profile);
            let _gone = socket.send_to(text.as_bytes(), from);
        }
    })
}

fn whose(seen: &Shared, client: SocketAddr, server: SocketAddr) -> Option<Tunnelled> {
    let request_id = {
        let mut seen = lock(seen);
        seen.questions += 1;
        let request_id = seen.questions;
        seen.say(Said::Flow(FlowQuestion {
            request_id,
            protocol: 17,
            client_address: octets(client.ip()),
            client_port: client.port().into(),
            server_address: octets(server.ip()),
            server_port: server.port().into(),
        }));
        request_id
    };
    eventually("the interceptor says whose it is", || {
        lock(seen).answers.remove(&request_id)
    })
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn lock(seen: &Shared) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

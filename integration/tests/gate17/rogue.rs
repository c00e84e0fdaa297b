//! A node of the network's map, with the key that the map says, that does not do what a node should.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::Response;
use integration::{Namespace, eventually, namespace};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// What a node should.
    Honest,
    /// It has another key than the map says.
    WrongKey,
    /// It connects to itself, whatever the next node is.
    ToItself,
    /// It connects to this node instead.
    ToAnother(SocketAddr),
    /// Who is through with TLS hears nothing more.
    Deaf,
    /// It says that it is connected, and is not.
    OnlySays,
    /// It answers every CONNECT with a word that no client knows.
    Babbles,
    /// Once armed: one bit is another, on the way to the client.
    AltersDown,
    /// The same on the way to the next node.
    AltersUp,
    /// Once armed: what came last comes once more.
    Replays,
    /// Once armed: what is for one circuit comes to another.
    Crosses,
    /// Once armed: nothing moves in its streams any more, old or new ones that are a second old.
    Stalls,
}

#[derive(Debug)]
struct State {
    mode: Mutex<Mode>,
    armed: AtomicBool,
    over: AtomicBool,
    /// Ways to clients, for what crosses.
    ways: Mutex<Vec<mpsc::UnboundedSender<Vec<u8>>>>,
}

pub(crate) struct Rogue {
    state: Arc<State>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Two certificates with their keys: of the map, and another.
type Identities = [TlsAcceptor; 2];

impl Rogue {
    /// At `address` in `host`; `own`, `other`: folders with `key.pem` and `certificate.pem`.
    pub(crate) fn start(host: &Namespace, address: SocketAddr, own: &Path, other: &Path) -> Self {
        let state = Arc::new(State {
            mode: Mutex::new(Mode::Honest),
            armed: AtomicBool::new(false),
            over: AtomicBool::new(false),
            ways: Mutex::default(),
        });
        let identities = [acceptor(own), acceptor(other)];
        let (inside, of_thread) = (host.path(), Arc::clone(&state));
        let thread = thread::spawn(move || {
            namespace::enter(&inside, || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(serve(address, identities, of_thread));
            });
        });
        let rogue = Self {
            state,
            thread: Some(thread),
        };
        eventually("the rogue listens", || {
            host.enter(|| std::net::TcpStream::connect(address)).ok()
        });
        rogue
    }

    /// From now on; not armed.
    pub(crate) fn is(&self, mode: Mode) {
        self.state.armed.store(false, Ordering::SeqCst);
        *self.state.mode.lock().unwrap() = mode;
        self.state.ways.lock().unwrap().clear();
    }

    pub(crate) fn arm(&self) {
        self.state.armed.store(true, Ordering::SeqCst);
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _over = thread.join();
        }
    }
}

impl State {
    fn mode(&self) -> Mode {
        *self.mode.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is to do its worst now.
    fn does(&self, mode: Mode) -> bool {
        self.mode() == mode && self.armed.load(Ordering::SeqCst)
    }
}

fn acceptor(folder: &Path) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(folder.join("certificate.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(address: SocketAddr, identities: Identities, state: Arc<State>) {
    let listener = TcpListener::bind(address).await.unwrap();
    while !state.over.load(Ordering::SeqCst) {
        let came = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        if let Ok(Ok((stream, _))) = came {
            let [own, other] = &identities;
            let acceptor = if state.mode() == Mode::WrongKey {
                other
            } else {
                own
            };
            tokio::spawn(connection(stream, acceptor.clone(), Arc::clone(&state), address));
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, state: Arc<State>, own: SocketAddr) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    if state.mode() == Mode::Deaf {
        // who does not poll it answers nothing, PINGs neither
        return std::future::pending().await;
    }
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let target: Option<SocketAddr> = request
                .uri()
                .authority()
                .and_then(|authority| authority.as_str().parse().ok());
            let to = match state.mode() {
                Mode::ToItself => Some(own),
                Mode::ToAnother(other) => Some(other),
                _ => target,
            };
            if state.mode() == Mode::Babbles {
                let answer = Response::builder().status(299).body(()).unwrap();
                let _gone = respond.send_response(answer, true);
                return;
            }
            let Ok(outgoing) = respond.send_response(Response::new(()), false) else {
                return;
            };
            if state.mode() == Mode::OnlySays {
                let _held = (request, outgoing);
                return std::future::pending().await;
            }
            if let Some(to) = to
                && let Ok(next) = TcpStream::connect(to).await
            {
                let (reader, writer) = next.into_split();
                let up = up(request.into_body(), writer, &state);
                let down = down(reader, outgoing, &state);
                tokio::join!(up, down);
            }
        });
    }
}

/// Waits for ever where nothing moves any more.
async fn may_stall(state: &State) {
    if state.does(Mode::Stalls) {
        std::future::pending::<()>().await;
    }
}

fn altered(octets: &mut [u8]) {
    if let Some(last) = octets.last_mut() {
        *last ^= 1;
    }
}

async fn up(mut from: RecvStream, mut to: OwnedWriteHalf, state: &State) {
    while let Some(Ok(octets)) = from.data().await {
        may_stall(state).await;
        let _window = from.flow_control().release_capacity(octets.len());
        let mut octets = octets.to_vec();
        if state.does(Mode::AltersUp) {
            altered(&mut octets);
        }
        if to.write_all(&octets).await.is_err() {
            return;
        }
    }
}

async fn down(mut from: OwnedReadHalf, mut to: SendStream<Bytes>, state: &State) {
    let (tell, mut told) = mpsc::unbounded_channel::<Vec<u8>>();
    let place = {
        let mut ways = state.ways.lock().unwrap_or_else(PoisonError::into_inner);
        ways.push(tell);
        ways.len() - 1
    };
    let (mut buffer, mut last) = (vec![0; 1 << 16], Vec::new());
    loop {
        let octets = tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(count @ 1..) => buffer[..count].to_vec(),
                _ => break,
            },
            Some(others) = told.recv() => {
                if to.send_data(others.into(), false).is_err() { return }
                continue;
            }
        };
        may_stall(state).await;
        let mut octets = octets;
        if state.does(Mode::AltersDown) {
            altered(&mut octets);
        }
        if state.does(Mode::Replays) {
            octets.extend_from_slice(&last);
        }
        if state.does(Mode::Crosses) {
            let ways = state.ways.lock().unwrap_or_else(PoisonError::into_inner);
            let other = (0..ways.len()).rev().find(|way| *way != place);
            if let Some(other) = other {
                let _gone = ways[other].send(octets);
                continue;
            }
        }
        last.clone_from(&octets);
        if to.send_data(octets.into(), false).is_err() {
            return;
        }
    }
    let _gone = to.send_data(Bytes::new(), true);
}

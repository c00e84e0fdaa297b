//! A name server of the internet that answers as a test says: late, wrong, cut, or not at all.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
    time::Duration,
};

use integration::{Service, World, world::INTERNET_V4};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Runtime,
};

use super::stage::{self, Dig};

/// What it was asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// In small letters, without the last dot.
    pub(super) name: String,
    pub(super) tcp: bool,
    pub(super) query: Vec<u8>,
}

/// What it sends, and after how long; over TCP no octets stand for hanging up.
pub(super) type Sends = Vec<(Duration, Vec<u8>)>;
type Script = dyn Fn(&Asked) -> Sends + Send + Sync;

/// A world whose one upstream follows a script.
pub(super) struct Scripted {
    pub(super) world: World,
    /// Ends before the world does.
    _runtime: Runtime,
}

impl Scripted {
    /// `settings` are added to dns.toml.
    pub(super) fn new(
        label: &str,
        settings: &str,
        script: impl Fn(&Asked) -> Sends + Send + Sync + 'static,
    ) -> Self {
        let toml = format!("[resolve.upstreams]\nservers = [\"udp://{INTERNET_V4}\"]\n{settings}\n");
        let world = World::builder(label)
            .config_file("dns.toml", &toml)
            .with(Service::Dns)
            .start();
        let runtime = serve(&world, Arc::new(script));
        Self {
            world,
            _runtime: runtime,
        }
    }

    /// What the service counted; nothing where it is not there.
    pub(super) fn counter(&self, name: &str) -> u64 {
        stage::counter(&self.world, name).unwrap_or(0)
    }

    pub(super) fn dig(&self, name: &str) -> Dig<'_> {
        Dig::new(&self.world, "/usr/bin/dig", name)
    }
}

fn serve(world: &World, script: Arc<Script>) -> Runtime {
    let at = SocketAddr::from((INTERNET_V4, 53));
    let (udp, tcp) = world
        .internet
        .enter(|| (UdpSocket::bind(at).unwrap(), TcpListener::bind(at).unwrap()));
    udp.set_nonblocking(true).unwrap();
    tcp.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let for_tcp = Arc::clone(&script);
    runtime.spawn(async move {
        let tcp = tokio::net::TcpListener::from_std(tcp).unwrap();
        while let Ok((stream, _)) = tcp.accept().await {
            tokio::spawn(stream_served(stream, Arc::clone(&for_tcp)));
        }
    });
    runtime.spawn(async move {
        let udp = Arc::new(tokio::net::UdpSocket::from_std(udp).unwrap());
        let mut octets = [0; 4096];
        while let Ok((length, peer)) = udp.recv_from(&mut octets).await {
            let asked = read(octets.get(..length).unwrap_or_default(), false);
            let (udp, sends) = (Arc::clone(&udp), script(&asked));
            tokio::spawn(async move {
                for (after, message) in sends {
                    tokio::time::sleep(after).await;
                    let _gone = udp.send_to(&message, peer).await;
                }
            });
        }
    });
    runtime
}

async fn stream_served(mut stream: tokio::net::TcpStream, script: Arc<Script>) {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; length.into()];
        if stream.read_exact(&mut query).await.is_err() {
            return;
        }
        for (after, message) in script(&read(&query, true)) {
            tokio::time::sleep(after).await;
            let length = u16::try_from(message.len()).unwrap();
            let whole = [&length.to_be_bytes(), &message[..]].concat();
            if message.is_empty() || stream.write_all(&whole).await.is_err() {
                return;
            }
        }
    }
}

/// Of a message as it came.
pub(super) fn read(query: &[u8], tcp: bool) -> Asked {
    let (mut labels, mut rest) = (Vec::new(), query.get(12..).unwrap_or_default());
    while let Some((length, tail)) = rest.split_first()
        && let Some((label, tail)) = tail.split_at_checked((*length).into())
        && !label.is_empty()
    {
        labels.push(String::from_utf8_lossy(label).to_lowercase());
        rest = tail;
    }
    Asked {
        name: labels.join("."),
        tcp,
        query: query.to_vec(),
    }
}

impl Asked {
    /// Header and question, made an answer without records; nothing of EDNS.
    pub(super) fn empty(&self, code: u8) -> Vec<u8> {
        let end = 12 + self.name.len() + 2 + 4;
        let mut message = self.query.get(..end).unwrap_or_default().to_vec();
        let head = [0x81, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0];
        for (to, from) in message.iter_mut().skip(2).zip(head) {
            *to = from;
        }
        message
    }

    /// This many addresses, 192.0.2.x and so on.
    pub(super) fn addresses(&self, count: u16, ttl: u32) -> Vec<u8> {
        let mut message = self.empty(0);
        for (to, from) in message.iter_mut().skip(6).zip(count.to_be_bytes()) {
            *to = from;
        }
        for at in 0..count {
            message.extend([0xc0, 12, 0, 1, 0, 1]);
            message.extend(ttl.to_be_bytes());
            message.extend([0, 4, 203, 0]);
            message.extend((0x7100 + at).to_be_bytes());
        }
        message
    }

    /// Nothing but the word that there is more.
    pub(super) fn cut(&self) -> Vec<u8> {
        let mut message = self.empty(0);
        message.iter_mut().skip(2).take(1).for_each(|flags| *flags |= 2);
        message
    }
}

/// One message, at once.
pub(super) fn now(message: Vec<u8>) -> Sends {
    vec![(Duration::ZERO, message)]
}

//! A host behind the rules, and an internet.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use integration::{Link, Namespace};
use interceptor::firewall::{BackendChoice, Config, Finding, Firewall};
use verdict::mark::MarkScheme;

use crate::decider::Decider;

/// Long enough for everything that comes at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
/// Long enough to see that nothing comes.
pub(crate) const SILENCE: Duration = Duration::from_millis(1500);

/// Both back ends.
pub(crate) const BACKENDS: [BackendChoice; 2] = [BackendChoice::Nft, BackendChoice::Legacy];

/// Settings that differ from the defaults in the back end alone.
pub(crate) fn config(backend: BackendChoice) -> Config {
    Config {
        backend,
        ..Config::default()
    }
}

/// Runs `act` on a runtime inside the namespace.
pub(crate) fn inside<T: Send, F: Future<Output = T>>(
    namespace: &Namespace,
    act: impl FnOnce() -> F + Send,
) -> T {
    namespace.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(act())
    })
}

/// Loads the rules.
pub(crate) fn apply(namespace: &Namespace, config: &Config, scheme: MarkScheme) {
    inside(namespace, || async {
        let applied = Firewall::new(config, scheme)
            .await
            .unwrap()
            .apply()
            .await
            .unwrap();
        assert_eq!((applied.families.len(), applied.problems), (2, vec![]));
    });
}

/// Compares the rules.
pub(crate) fn verify(namespace: &Namespace, config: &Config) -> Vec<Finding> {
    inside(namespace, || async {
        let firewall = Firewall::new(config, MarkScheme::default()).await.unwrap();
        firewall.verify().await.unwrap()
    })
}

/// Two namespaces; the rules stand in `host`, and are decided by port.
pub(crate) struct Host {
    /// Behind the rules.
    pub(crate) host: Namespace,
    /// Not.
    pub(crate) internet: Namespace,
    /// From host (a) to internet (b).
    pub(crate) link: Link,
    decider: Option<Decider>,
}

impl Host {
    /// With these settings and the whole mark.
    pub(crate) fn new(config: &Config) -> Self {
        Self::with_scheme(config, MarkScheme::default())
    }

    /// With these settings and marks.
    pub(crate) fn with_scheme(config: &Config, scheme: MarkScheme) -> Self {
        let (host, internet) = (Namespace::new("rules"), Namespace::new("rules-inet"));
        let link = Namespace::connect(&host, &internet);
        host.default_route(link.b); // a leak needs a way out
        let decider = Some(Decider::start(&host, scheme));
        apply(&host, config, scheme);
        Self {
            host,
            internet,
            link,
            decider,
        }
    }

    /// Who decides.
    pub(crate) fn decider(&self) -> &Decider {
        self.decider.as_ref().unwrap()
    }

    /// The interceptor is gone.
    pub(crate) fn stop_deciding(&mut self) {
        self.decider = None;
    }

    /// Addresses of the internet.
    pub(crate) fn remotes(&self) -> [IpAddr; 2] {
        [self.link.b.v4.into(), self.link.b.v6.into()]
    }

    /// An attempt of a program behind the rules.
    pub(crate) fn connect(&self, to: IpAddr, port: u16, patience: Duration) -> io::Result<TcpStream> {
        self.host
            .enter(|| TcpStream::connect_timeout(&SocketAddr::new(to, port), patience))
    }

    /// A connected UDP socket of a program behind the rules.
    pub(crate) fn udp(&self, to: IpAddr, port: u16) -> UdpSocket {
        self.host.enter(|| {
            let socket = UdpSocket::bind((any(to), 0)).unwrap();
            socket.connect((to, port)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        })
    }

    /// How many packets a counting rule has seen; `rule` as in [`Host::count`].
    pub(crate) fn counted(&self, namespace: &Namespace, to: IpAddr, table: &str, chain: &str) -> u64 {
        let program = program(to);
        let listed = namespace.sh(&format!("{program} -t {table} -nvxL {chain}"));
        let lines = listed.lines().filter(|line| line.contains("/* counted */"));
        lines
            .map(|line| line.split_whitespace().next().unwrap().parse::<u64>().unwrap())
            .sum()
    }

    /// Appends a rule that only counts.
    pub(crate) fn count(&self, namespace: &Namespace, to: IpAddr, table: &str, chain: &str, rule: &str) {
        let program = program(to);
        namespace.sh(&format!(
            "{program} -t {table} -A {chain} {rule} -m comment --comment counted"
        ));
    }
}

fn program(to: IpAddr) -> &'static str {
    if to.is_ipv4() {
        "iptables-nft"
    } else {
        "ip6tables-nft"
    }
}

/// The wildcard address of this address's family.
pub(crate) fn any(family: IpAddr) -> IpAddr {
    match family {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Sends back what it gets, on TCP and UDP, until the test ends.
pub(crate) fn echo(namespace: &Namespace, address: IpAddr, port: u16) {
    let (tcp, udp) = namespace.enter(|| {
        (
            TcpListener::bind((address, port)).unwrap(),
            UdpSocket::bind((address, port)).unwrap(),
        )
    });
    thread::spawn(move || {
        for stream in tcp.incoming() {
            thread::spawn(move || echo_stream(stream.unwrap()));
        }
    });
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&buffer[..length], from);
        }
    });
}

fn echo_stream(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}

/// One round trip.
pub(crate) fn talk(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"hello").unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");
}

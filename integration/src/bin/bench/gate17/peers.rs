//! Other people's tunnels: Tor, shadowsocks-rust, and TLS by stunnel. `make bench` puts them below target/peers; none of them is
//! installed, and none runs in the machine's own namespace.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
    process::Command,
};

use integration::{Namespace, Running, World, eventually, world::INTERNET_V4};

use super::traffic::{ECHO, SINK};

/// Of the hosts that their servers run on, each in a network of its own.
pub(super) const ADDRESSES: [Ipv4Addr; 3] = [
    Ipv4Addr::new(5, 18, 0, 1),
    Ipv4Addr::new(6, 18, 0, 1),
    Ipv4Addr::new(7, 18, 0, 1),
];
/// Where sslocal listens on the client's host.
pub(super) const SHADOWSOCKS_SOCKS: u16 = 7510;
/// Where stunnel listens there, for one hop and for three: the sink, then the echo.
pub(super) const TLS_ONE: [u16; 2] = [7521, 7522];
/// See [`TLS_ONE`].
pub(super) const TLS_THREE: [u16; 2] = [7531, 7532];
/// Of the same length as a generated one.
const PASSWORD: &str = "seventeen-and-seventeen";

/// Where `make bench` put the programs.
pub(super) fn folder() -> PathBuf {
    let own = crate::arena::own();
    let target = own.ancestors().nth(2).expect("a program has a folder");
    target.join("peers")
}

/// Three hosts beyond the internet, like those of our nodes.
pub(super) fn hosts(world: &World) -> Vec<Namespace> {
    let hosts = ADDRESSES.into_iter().enumerate().map(|(place, address)| {
        let host = Namespace::new(&format!("peer{place}"));
        let link = Namespace::connect(&world.internet, &host);
        host.add_address(address);
        host.default_route(link.a);
        world
            .internet
            .sh(&format!("ip route add {address} via {}", link.b.v4));
        host
    });
    hosts.collect()
}

/// What runs on the client's host, and on the others.
pub(super) struct Peer {
    /// Kept running.
    _running: Vec<Running>,
    /// Processes of the client.
    pub(super) client: Vec<i32>,
    /// Processes of all relays.
    pub(super) relays: Vec<i32>,
}

impl Peer {
    pub(super) fn new(client: Running, relays: Vec<Running>) -> Self {
        let pid = |running: &Running| running.pid().as_raw_nonzero().get();
        let (clients, others) = (vec![pid(&client)], relays.iter().map(pid).collect());
        let mut running = relays;
        running.push(client);
        Self {
            _running: running,
            client: clients,
            relays: others,
        }
    }
}

/// AES-256-GCM, as it comes; None where it is not there.
pub(super) fn shadowsocks(world: &World, hosts: &[Namespace]) -> Option<Peer> {
    let bin = folder().join("bin");
    if !bin.join("ssserver").exists() {
        return None;
    }
    let server = format!("{}:8388", ADDRESSES[0]);
    let common = ["-s", &server, "-k", PASSWORD, "-m", "aes-256-gcm"];
    let mut command = hosts[0].command(bin.join("ssserver"));
    command.args(common).arg("--tcp-no-delay");
    let relay = logged(world, "ssserver", command);
    let mut command = world.host.command(bin.join("sslocal"));
    command
        .args(common)
        .arg("--tcp-no-delay")
        .args(["-b", &format!("127.0.0.1:{SHADOWSOCKS_SOCKS}")]);
    let client = logged(world, "sslocal", command);
    listening(&world.host, SHADOWSOCKS_SOCKS);
    Some(Peer::new(client, vec![relay]))
}

/// TLS 1.3 from host to host: each hop decrypts what comes, and encrypts it again. `None` where stunnel is not there.
pub(super) fn tls(world: &World, hosts: &[Namespace]) -> Option<Peer> {
    let stunnel = folder().join("debian/usr/bin/stunnel4");
    if !stunnel.exists() {
        return None;
    }
    let root = world.root();
    let (key, certificate) = (root.join("tls.key"), root.join("tls.pem"));
    integration::process::run(
        Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
            ])
            .args(["-subj", "/CN=bench", "-days", "30", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate),
    );
    let served = format!("cert = {}\nkey = {}\n", certificate.display(), key.display());
    let start = |name: &str, host: &Namespace, services: String| {
        let file = root.join(format!("{name}.conf"));
        let common = "foreground = yes\npid =\ndebug = 3\nsslVersion = TLSv1.3\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n";
        fs::write(&file, format!("{common}{services}")).expect("write stunnel's configuration");
        let mut command = host.command(&stunnel);
        command.arg(&file);
        logged(world, name, command)
    };
    let client = |accept: u16, to: (Ipv4Addr, u16)| {
        let to = SocketAddrV4::new(to.0, to.1);
        format!("[client-{accept}]\nclient = yes\naccept = 127.0.0.1:{accept}\nconnect = {to}\n")
    };
    let server = |at: Ipv4Addr, accept: u16, to: (Ipv4Addr, u16)| {
        let to = SocketAddrV4::new(to.0, to.1);
        format!("[server-{accept}]\naccept = {at}:{accept}\nconnect = {to}\n{served}")
    };
    let [mut here, mut one, mut two, mut three] = [const { String::new() }; 4];
    let local = Ipv4Addr::LOCALHOST;
    let [a, b, c] = ADDRESSES;
    for (which, end) in [SINK, ECHO].into_iter().enumerate() {
        let port = |base: u16| base + u16::try_from(which).expect("there are two");
        here += &client(TLS_ONE[which], (a, port(8401)));
        here += &client(TLS_THREE[which], (a, port(8431)));
        one += &server(a, port(8401), (INTERNET_V4, end));
        one += &(server(a, port(8431), (local, port(9431))) + &client(port(9431), (b, port(8431))));
        two += &(server(b, port(8431), (local, port(9431))) + &client(port(9431), (c, port(8431))));
        three += &server(c, port(8431), (INTERNET_V4, end));
    }
    let relays = vec![
        start("stunnel-a", &hosts[0], one),
        start("stunnel-b", &hosts[1], two),
        start("stunnel-c", &hosts[2], three),
    ];
    let client = start("stunnel", &world.host, here);
    listening(&world.host, TLS_THREE[1]);
    Some(Peer::new(client, relays))
}

pub(super) fn logged(world: &World, name: &str, command: Command) -> Running {
    Running::start_logged(name, command, &log(world.root(), name))
}

/// Where a peer's output goes.
pub(super) fn log(root: &Path, name: &str) -> PathBuf {
    root.join(format!("{name}.log"))
}

fn listening(host: &Namespace, port: u16) {
    eventually(&format!("somebody listens at {port}"), || {
        host.sh("ss -Hltn").contains(&format!(":{port} ")).then_some(())
    });
}

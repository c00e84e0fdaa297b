//! Where names go as the system's state changes: a bus of the test's own with what systemd-resolved and NetworkManager
//! tell on it, files, and servers behind them.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use dns::{
    route::{Connectivity, Files, Link, RouteSettings, Router, Source, Sources, System, Why},
    upstream::Error,
};
use tempfile::TempDir;
use zbus::{Connection, OwnedObjectPath, connection::Builder, interface, object_server::SignalEmitter};

use super::{
    GENEROUS, addresses,
    liar::{Liar, answer},
    query,
};

/// A `dbus-daemon` of one's own; ends when it is dropped.
struct Bus {
    daemon: Child,
    directory: TempDir,
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Bus {
    async fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let address = format!("--address=unix:path={}/bus", directory.path().display());
        let daemon = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", &address])
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon is installed");
        let made = Self { daemon, directory };
        let end = Instant::now() + GENEROUS;
        while !made.socket().exists() {
            assert!(Instant::now() < end, "dbus-daemon does not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        made
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("bus")
    }

    fn client(&self) -> Builder<'static> {
        let address = format!("unix:path={}", self.socket().display());
        Builder::address(address.as_str())
    }
}

type Server = (i32, i32, Vec<u8>, u16, String);

struct Manager {
    servers: Vec<Server>,
    domains: Vec<(i32, String, bool)>,
}

#[interface(name = "org.freedesktop.resolve1.Manager")]
impl Manager {
    #[zbus(property, name = "DNSEx")]
    fn dns_ex(&self) -> Vec<Server> {
        self.servers.clone()
    }

    #[zbus(property)]
    fn domains(&self) -> Vec<(i32, String, bool)> {
        self.domains.clone()
    }

    fn get_link(&self, interface: i32) -> zbus::fdo::Result<OwnedObjectPath> {
        let path = format!("/org/freedesktop/resolve1/link/_{interface}");
        path.try_into()
            .map_err(|_| zbus::fdo::Error::Failed("no path".to_owned()))
    }
}

struct ResolvedLink;

#[interface(name = "org.freedesktop.resolve1.Link")]
impl ResolvedLink {
    #[zbus(property)]
    fn default_route(&self) -> bool {
        true
    }
}

struct Reach(u32);

#[interface(name = "org.freedesktop.NetworkManager")]
impl Reach {
    #[zbus(property)]
    fn connectivity(&self) -> u32 {
        self.0
    }
}

fn entry(interface: i32, server: SocketAddr) -> Server {
    let IpAddr::V4(four) = server.ip() else {
        panic!("{server}");
    };
    (interface, 2, four.octets().to_vec(), server.port(), String::new())
}

async fn resolved(bus: &Bus, manager: Manager) -> Connection {
    bus.client()
        .serve_at("/org/freedesktop/resolve1", manager)
        .serve_at("/org/freedesktop/resolve1/link/_7", ResolvedLink)
        .name("org.freedesktop.resolve1")
        .build()
        .await
        .unwrap()
}

async fn next(sources: &mut Sources, wanted: impl Fn(&System) -> bool) -> System {
    let waiting = async {
        loop {
            let system = sources.changed().await.expect("sources go on");
            if wanted(&system) {
                return system;
            }
        }
    };
    tokio::time::timeout(GENEROUS, waiting)
        .await
        .expect("the change is noticed")
}

fn files(paths: &[PathBuf]) -> Files {
    Files {
        resolv_conf: paths.to_vec(),
        displaced: PathBuf::from("/nonexistent"),
    }
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changes_and_when_it_is_replaced() {
    let directory = TempDir::new().unwrap();
    let (first, second) = (
        directory.path().join("resolv.conf"),
        directory.path().join("backup"),
    );
    std::fs::write(&first, "nameserver 127.0.0.1\n").unwrap();
    std::fs::write(&second, "nameserver 192.0.2.2\n").unwrap();
    let mut sources = Sources::start(files(&[first.clone(), second.clone()]), None);
    let told = |system: &System, server: &str| system.servers() == [format!("{server}:53").parse().unwrap()];
    let system = next(&mut sources, |system| told(system, "192.0.2.2")).await;
    assert_eq!(
        system.source,
        Some(Source::ResolvConf),
        "the first names only ourselves"
    );
    std::fs::write(&second, "nameserver 192.0.2.3\n").unwrap();
    next(&mut sources, |system| told(system, "192.0.2.3")).await;
    let new = directory.path().join("new");
    std::fs::write(&new, "nameserver 192.0.2.4\n").unwrap();
    std::fs::rename(&new, &first).unwrap();
    next(&mut sources, |system| told(system, "192.0.2.4")).await;
    std::fs::remove_file(&first).unwrap();
    next(&mut sources, |system| told(system, "192.0.2.3")).await;
    assert_eq!(sources.connectivity(), Connectivity::Unknown);
}

#[tokio::test]
async fn a_folder_of_files_is_read_as_one_file() {
    let directory = TempDir::new().unwrap();
    let (file, folder) = (
        directory.path().join("resolv.conf"),
        directory.path().join("interfaces"),
    );
    std::fs::write(&file, "nameserver 127.0.0.17\n").unwrap();
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("eth0"), "search lan\nnameserver 192.0.2.2").unwrap();
    let mut sources = Sources::start(files(&[file, folder.clone()]), None);
    let told = |system: &System, servers: &[&str]| {
        let servers = servers
            .iter()
            .map(|server| format!("{server}:53").parse().unwrap());
        system.servers() == servers.collect::<Vec<SocketAddr>>()
    };
    next(&mut sources, |system| told(system, &["192.0.2.2"])).await;
    std::fs::write(folder.join("wlan0"), "nameserver 192.0.2.3\n").unwrap();
    next(&mut sources, |system| told(system, &["192.0.2.2", "192.0.2.3"])).await;
    std::fs::remove_file(folder.join("eth0")).unwrap();
    next(&mut sources, |system| told(system, &["192.0.2.3"])).await;
}

#[tokio::test]
async fn resolved_comes_first_and_is_followed_from_its_start_to_its_end() {
    let bus = Bus::start().await;
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("resolv.conf");
    std::fs::write(&file, "nameserver 192.0.2.2\n").unwrap();
    let client = bus.client().build().await.unwrap();
    let mut sources = Sources::start(files(&[file]), Some(client));
    next(&mut sources, |system| system.source == Some(Source::ResolvConf)).await;
    let server: SocketAddr = "192.0.2.7:53".parse().unwrap();
    let manager = Manager {
        servers: vec![entry(7, server), entry(0, "127.0.0.1:53".parse().unwrap())],
        domains: vec![(7, "corp.example".to_owned(), true)],
    };
    let service = resolved(&bus, manager).await;
    let system = next(&mut sources, |system| system.source == Some(Source::Resolved)).await;
    assert_eq!(system.servers(), [server], "without ourselves");
    assert!(system.links[0].default_route && system.links[0].domains[0].route_only);
    let manager = service
        .object_server()
        .interface::<_, Manager>("/org/freedesktop/resolve1")
        .await
        .unwrap();
    manager.get_mut().await.servers = vec![entry(7, "192.0.2.8:53".parse().unwrap())];
    let emitter: &SignalEmitter<'_> = manager.signal_emitter();
    manager.get().await.d_n_s_ex_changed(emitter).await.unwrap();
    next(&mut sources, |system| {
        system.servers() == ["192.0.2.8:53".parse().unwrap()]
    })
    .await;
    drop(manager);
    service.close().await.unwrap();
    next(&mut sources, |system| system.source == Some(Source::ResolvConf)).await;
}

/// `portmaster dns enable` made systemd-resolved ask us for all names: its links' servers are asked on, and those that it had
/// for the host as a whole; never itself, which would go round in circles.
#[tokio::test]
async fn servers_that_ours_took_the_place_of_are_asked_on() {
    let bus = Bus::start().await;
    let directory = TempDir::new().unwrap();
    let displaced = directory.path().join("displaced");
    std::fs::write(&displaced, "nameserver 192.0.2.9\nsearch ~.\n").unwrap();
    let (ours, link): (SocketAddr, SocketAddr) =
        ("127.0.0.17:53".parse().unwrap(), "192.0.2.7:53".parse().unwrap());
    let manager = Manager {
        servers: vec![entry(0, ours), entry(7, link)],
        domains: vec![(0, ".".to_owned(), true)],
    };
    let service = resolved(&bus, manager).await;
    let places = Files {
        displaced,
        ..files(&[])
    };
    let mut sources = Sources::start(places, Some(bus.client().build().await.unwrap()));
    let system = next(&mut sources, |system| system.source == Some(Source::Resolved)).await;
    assert_eq!(system.servers(), [link, "192.0.2.9:53".parse().unwrap()]);
    let all = |link: &Link| {
        link.domains
            .iter()
            .any(|domain| domain.route_only && domain.name.is_root())
    };
    assert_eq!(
        system.links.iter().map(all).collect::<Vec<_>>(),
        [false, true],
        "as it was before"
    );
    // put back: what it has for the host counts, and no longer what is kept
    let manager = service
        .object_server()
        .interface::<_, Manager>("/org/freedesktop/resolve1")
        .await
        .unwrap();
    manager.get_mut().await.servers = vec![entry(0, "192.0.2.8:53".parse().unwrap())];
    let emitter: &SignalEmitter<'_> = manager.signal_emitter();
    manager.get().await.d_n_s_ex_changed(emitter).await.unwrap();
    next(&mut sources, |system| {
        system.servers() == ["192.0.2.8:53".parse().unwrap()]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_signals_holds_up_nothing() {
    let bus = Bus::start().await;
    let network_manager = bus
        .client()
        .serve_at("/org/freedesktop/NetworkManager", Reach(4))
        .name("org.freedesktop.NetworkManager")
        .build()
        .await
        .unwrap();
    let manager = Manager {
        servers: vec![entry(7, "192.0.2.7:53".parse().unwrap())],
        domains: Vec::new(),
    };
    let service = resolved(&bus, manager).await;
    let mut sources = Sources::start(files(&[]), Some(bus.client().build().await.unwrap()));
    next(&mut sources, |system| system.source == Some(Source::Resolved)).await;
    let reach = network_manager
        .object_server()
        .interface::<_, Reach>("/org/freedesktop/NetworkManager")
        .await
        .unwrap();
    for _ in 0..2000 {
        reach
            .get()
            .await
            .connectivity_changed(reach.signal_emitter())
            .await
            .unwrap();
    }
    let manager = service
        .object_server()
        .interface::<_, Manager>("/org/freedesktop/resolve1")
        .await
        .unwrap();
    manager.get_mut().await.servers = vec![entry(7, "192.0.2.8:53".parse().unwrap())];
    manager
        .get()
        .await
        .d_n_s_ex_changed(manager.signal_emitter())
        .await
        .unwrap();
    next(&mut sources, |system| {
        system.servers() == ["192.0.2.8:53".parse().unwrap()]
    })
    .await;
    assert_eq!(sources.connectivity(), Connectivity::Full);
}

#[tokio::test]
async fn names_go_to_the_system_and_to_zones_and_come_back_with_the_reason() {
    let network = Liar::over_udp(|query| vec![answer(query, [192, 0, 2, 1])]).await;
    let company = Liar::over_udp(|query| vec![answer(query, [192, 0, 2, 2])]).await;
    let settings = format!(
        "[[zones]]\nnames = ['corp.example']\nupstreams.servers = ['udp://{}']\n",
        company.address
    );
    let settings: RouteSettings = toml::from_str(&settings).unwrap();
    let router = Router::new(&settings).unwrap();
    assert!(matches!(
        router.exchange(&query("www.example.org")).await,
        Err(Error::NoUpstream)
    ));
    assert!(matches!(
        router.exchange(&query("printer.local")).await,
        Err(Error::NotFound { .. })
    ));
    let bus = Bus::start().await;
    let manager = Manager {
        servers: vec![entry(7, network.address)],
        domains: Vec::new(),
    };
    let _service = resolved(&bus, manager).await;
    let sources = Sources::start(files(&[]), Some(bus.client().build().await.unwrap()));
    let following = router.clone();
    let follow = tokio::spawn(async move { following.follow(sources).await });
    let end = Instant::now() + GENEROUS;
    while router.exchange(&query("www.example.org")).await.is_err() {
        assert!(Instant::now() < end, "the system's servers are never known");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (name, address, why) in [
        ("www.example.org", "192.0.2.1", Why::SystemDefault),
        ("git.corp.example", "192.0.2.2", Why::Zone),
        ("printer.local", "192.0.2.1", Why::Local),
    ] {
        let got = router.exchange(&query(name)).await.unwrap();
        assert_eq!(
            (addresses(&got.answer), got.why),
            (vec![address.to_owned()], why),
            "{name}"
        );
    }
    follow.abort();
}

#[tokio::test]
async fn behind_a_portal_its_check_and_nothing_else_is_asked_in_the_clear() {
    let network = Liar::over_udp(|query| vec![answer(query, [192, 0, 2, 1])]).await;
    let closed = super::program::free_port();
    let settings = format!("[upstreams]\nservers = ['tls://127.0.0.1:{closed}#resolver.example']\n");
    let settings: RouteSettings = toml::from_str(&settings).unwrap();
    let router = Router::new(&settings).unwrap();
    let bus = Bus::start().await;
    let manager = Manager {
        servers: vec![entry(7, network.address)],
        domains: Vec::new(),
    };
    let _resolved = resolved(&bus, manager).await;
    let network_manager = bus
        .client()
        .serve_at("/org/freedesktop/NetworkManager", Reach(2))
        .name("org.freedesktop.NetworkManager")
        .build()
        .await
        .unwrap();
    let sources = Sources::start(files(&[]), Some(bus.client().build().await.unwrap()));
    let following = router.clone();
    let follow = tokio::spawn(async move { following.follow(sources).await });
    let end = Instant::now() + GENEROUS;
    // Nothing listens where the encrypted upstream should be: after some queries that is known, and a portal suspected.
    let checked = loop {
        match router.exchange(&query("detectportal.firefox.com")).await {
            Ok(got) => break got,
            Err(_) => assert!(Instant::now() < end, "no portal is ever suspected"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(checked.why, Why::PortalCheck);
    assert!(router.exchange(&query("www.example.org")).await.is_err());
    let asked = network.over_udp.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(asked, 1, "the network saw one name, the check's");
    // The owner's hand opens the rest.
    router.open_for(Duration::from_secs(60));
    assert_eq!(
        router.exchange(&query("login.hotel.example")).await.unwrap().why,
        Why::Opened
    );
    let reach = network_manager
        .object_server()
        .interface::<_, Reach>("/org/freedesktop/NetworkManager")
        .await
        .unwrap();
    reach.get_mut().await.0 = 4;
    follow.abort();
}

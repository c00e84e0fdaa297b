//! A namespace that plays the internet: real HTTP, TLS and DNS servers on addresses of their own, both families.

use std::{fs::File, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use super::{
    shell::{ip, need, run},
    world::{add_namespace, inside},
};

/// /etc/resolv.conf of those behind the firewall.
pub(super) const NAMESERVERS: &str =
    "nameserver 203.0.113.53\nnameserver 2001:db8:17::53\noptions timeout:2 attempts:2\n";

/// The router's address, as a host on the local network: a neighbour.
pub(super) const NEIGHBOUR_V4: &str = "10.17.0.1";
/// Our own address there.
pub(super) const HOME_V4: &str = "10.17.0.2";
/// The same in IPv6.
pub(super) const HOME_V6: &str = "fd17::2";

/// Where the tour's programs may go.
pub(super) const ALLOWED: Site = Site {
    name: "allowed.example",
    v4: "203.0.113.10",
    v6: "2001:db8:17::10",
};
/// Where they are refused.
pub(super) const BLOCKED: Site = Site {
    name: "blocked.example",
    v4: "203.0.113.20",
    v6: "2001:db8:17::20",
};
/// Where they hear nothing.
pub(super) const DROPPED: Site = Site {
    name: "dropped.example",
    v4: "203.0.113.30",
    v6: "2001:db8:17::30",
};
/// Every other name below example. (addresses: RFC 5737, RFC 3849).
const OTHERS: Site = Site {
    name: "example",
    v4: "203.0.113.99",
    v6: "2001:db8:17::99",
};
const SITES: [Site; 4] = [ALLOWED, BLOCKED, DROPPED, OTHERS];

/// One site.
pub(super) struct Site {
    pub(super) name: &'static str,
    pub(super) v4: &'static str,
    pub(super) v6: &'static str,
}

const WEB_SERVER: &str = include_str!("playground.py");

/// Wildcards straight below a top-level domain are not believed in.
const NAMES: &str =
    "subjectAltName=DNS:allowed.example,DNS:blocked.example,DNS:dropped.example,DNS:www.example";

/// The servers, which end with it.
pub(super) struct Playground {
    _servers: Vec<Child>,
}

impl Playground {
    /// Makes the namespace `internet`, connects `home` to it, and returns when the servers listen.
    pub(super) async fn open(home: &str, internet: &str, folder: &Path) -> Result<Self> {
        let dnsmasq = need("dnsmasq", "dnsmasq-base")?;
        let python = need("python3", "python3")?;
        add_namespace(internet).await?;
        connect(home, internet).await?;
        certificate(folder).await?;
        let mut servers = Vec::new();
        servers.push(start("dnsmasq", dns(inside(internet, dnsmasq)), folder)?);
        let mut web = inside(internet, python);
        web.args(["-c", WEB_SERVER]).arg(folder.join("site.pem"));
        web.args(SITES.iter().flat_map(|site| [site.v4, site.v6]));
        servers.push(start("web", web, folder)?);
        listening(internet, &mut servers, folder).await?;
        Ok(Self { _servers: servers })
    }
}

/// A cable; at the far end a router that owns the sites' networks.
async fn connect(home: &str, internet: &str) -> Result<()> {
    for words in [
        format!("-n {home} link add up0 type veth peer name down0 netns {internet}"),
        format!("-n {home} link set up0 up"),
        format!("-n {internet} link set down0 up"),
        format!("-n {home} address add {HOME_V4}/24 dev up0"),
        format!("-n {home} address add {HOME_V6}/64 dev up0 nodad"),
        format!("-n {internet} address add {NEIGHBOUR_V4}/24 dev down0"),
        format!("-n {internet} address add fd17::1/64 dev down0 nodad"),
        format!("-n {home} route add default via {NEIGHBOUR_V4}"),
        format!("-n {home} -6 route add default via fd17::1"),
        // Every address of these networks is one of this host's own.
        format!("-n {internet} route add local 203.0.113.0/24 dev lo"),
        format!("-n {internet} route add local 198.51.100.0/24 dev lo"),
        format!("-n {internet} -6 route add local 2001:db8:17::/64 dev lo"),
    ] {
        run(&mut ip(&words)).await?;
    }
    // Unlike IPv4, IPv6 lets nobody listen on an address that only a route makes local.
    run(inside(internet, "sh").args(["-c", "echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind"])).await?;
    Ok(())
}

async fn certificate(folder: &Path) -> Result<()> {
    let pem = folder.join("site.pem");
    let mut command = Command::new(need("openssl", "openssl")?);
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]);
    command.args(["-subj", "/CN=example", "-addext", NAMES]);
    command
        .arg("-keyout")
        .arg(&pem)
        .arg("-out")
        .arg(folder.join("site.crt"));
    run(&mut command)
        .await
        .context("make the playground's certificate")?;
    let crt = std::fs::read(folder.join("site.crt")).context("read site.crt")?;
    let mut both = std::fs::read(&pem).context("read site.pem")?;
    both.extend(crt);
    std::fs::write(&pem, both).context("write site.pem")
}

fn dns(mut command: Command) -> Command {
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--log-facility=-",
    ]);
    command.args([
        "--user=root",
        "--pid-file=",
        "--bind-interfaces",
        "--local=/example/",
        "--cache-size=0",
    ]);
    command.args([
        "--listen-address=203.0.113.53",
        "--listen-address=2001:db8:17::53",
    ]);
    for site in SITES {
        command.arg(format!("--address=/{}/{}", site.name, site.v4));
        command.arg(format!("--address=/{}/{}", site.name, site.v6));
    }
    command
}

fn start(name: &str, mut command: Command, folder: &Path) -> Result<Child> {
    let log = File::create(folder.join(format!("{name}.log"))).context("make a log")?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    command.spawn().with_context(|| format!("start {name}"))
}

async fn listening(internet: &str, servers: &mut [Child], folder: &Path) -> Result<()> {
    let all = async {
        loop {
            for server in servers.iter_mut() {
                if let Some(status) = server.try_wait().context("watch the playground")? {
                    let logs = ["dnsmasq.log", "web.log"]
                        .map(|log| std::fs::read_to_string(folder.join(log)).unwrap_or_default());
                    bail!(
                        "a server of the playground ended with {status}: {}",
                        logs.concat().trim()
                    );
                }
            }
            let sockets = run(inside(internet, "ss").arg("-Hltn")).await?;
            if [":53 ", ":80 ", ":443 "]
                .iter()
                .all(|port| sockets.contains(port))
            {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), all)
        .await
        .context("the playground's servers do not listen")?
}

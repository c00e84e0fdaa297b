//! A namespace with the mesh inside, and the outside that it is connected to.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::{
    fs::{FlockOperation, flock},
    process::{Pid, Signal, kill_process},
};
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};
use tonic::transport::{Channel, Endpoint};

use super::{
    janitor::{self, Janitor},
    network::Nodes,
    playground::{self, Playground},
    shell::{ip, run},
    uplink::{self, Uplink},
};

/// Until traffic is decided.
const START: Duration = Duration::from_secs(60);
/// From SIGTERM to the janitor.
const STOP: Duration = Duration::from_secs(15);

/// What is beyond the firewall.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outside {
    Playground,
    Uplink,
    /// The playground, and a Gate17 network on it.
    Network,
}

/// [`World::stop`] and [`World::sweep`] end it; so does the janitor, if this process ends without.
pub(super) struct World {
    name: String,
    mesh: Child,
    mesh_pid: Pid,
    _playground: Option<Playground>,
    _uplink: Option<Uplink>,
    nodes: Option<Nodes>,
    _janitor: Janitor,
    _lock: File,
}

impl World {
    /// Makes it, and returns when traffic is decided. `write_config` gets the folder that is laid out like
    /// `/etc/portmaster`.
    pub(super) async fn make(
        name: &str,
        write_config: Option<fn(&Path) -> Result<()>>,
        outside: Outside,
    ) -> Result<Self> {
        let config = janitor::folder(name).join("etc/portmaster");
        Self::make_with(name, &config, write_config, outside).await
    }

    /// The same with the owner's configuration.
    pub(super) async fn make_with(
        name: &str,
        config: &Path,
        write_config: Option<fn(&Path) -> Result<()>>,
        outside: Outside,
    ) -> Result<Self> {
        check_name(name)?;
        let lock = claim(name).await?;
        // Of a world whose janitor was killed as well.
        janitor::sweep(name);
        let janitor = Janitor::hire(name, &lock)?;
        let folder = janitor::folder(name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        if let Some(write_config) = write_config {
            write_config(config)?;
        }
        let [inside, internet] = janitor::namespaces(name);
        add_namespace(&inside).await?;
        let (playground, uplink) = match outside {
            Outside::Playground | Outside::Network => {
                (Some(Playground::open(&inside, &internet, &folder).await?), None)
            }
            Outside::Uplink => (None, Some(Uplink::open(&inside).await?)),
        };
        let nodes = match outside {
            Outside::Network => Some(Nodes::open(name, &internet, &folder, config).await?),
            _ => None,
        };
        let nameserver = match outside {
            Outside::Uplink => uplink::NAMESERVERS,
            _ => playground::NAMESERVERS,
        };
        let mut mesh = start_mesh(&inside, &folder, config, nameserver)?;
        wait_for(&mut mesh, &folder).await?;
        let mesh_pid = mesh
            .id()
            .and_then(|pid| Pid::from_raw(pid.cast_signed()))
            .context("the mesh has ended")?;
        let name = name.to_owned();
        Ok(Self {
            name,
            mesh,
            mesh_pid,
            _playground: playground,
            _uplink: uplink,
            nodes,
            _janitor: janitor,
            _lock: lock,
        })
    }

    /// Folder of sockets, state and logs.
    pub(super) fn folder(&self) -> PathBuf {
        janitor::folder(&self.name)
    }

    /// Name of the namespace behind the firewall.
    pub(super) fn namespace(&self) -> String {
        let [inside, _] = janitor::namespaces(&self.name);
        inside
    }

    /// Name of the playground internet's namespace.
    pub(super) fn internet(&self) -> String {
        let [_, internet] = janitor::namespaces(&self.name);
        internet
    }

    /// Of its Gate17 network, for people.
    pub(super) fn nodes(&self) -> Option<String> {
        self.nodes.as_ref().map(|nodes| nodes.shown(&self.name))
    }

    /// One of its nodes is there no more.
    pub(super) fn lose(&self, node: &str) -> bool {
        self.nodes.as_ref().is_some_and(|nodes| nodes.lose(node))
    }

    /// A command behind the firewall, in its network and mount namespaces (the latter for /etc/resolv.conf), in this
    /// working directory, with the environment that leads to this world's services.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let here = std::env::current_dir().context("find the working directory")?;
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.mesh_pid.as_raw_nonzero()))
            .args(["--net", "--mount"]);
        command.arg(format!("--wdns={}", here.display()));
        command
            .args(["setpriv", "--pdeathsig", "KILL", "--"])
            .arg(program)
            .kill_on_drop(true);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", crate::up::bus::address(&self.folder()));
        command.env("PORTMASTER_RUNTIME_DIR", self.folder().join("run/portmaster"));
        Ok(command)
    }

    /// To one of this world's services.
    pub(super) fn channel(&self, service: &str) -> Result<Channel> {
        let socket = self
            .folder()
            .join("run/portmaster")
            .join(format!("{service}.sock"));
        let address = format!("unix://{}", socket.display());
        Ok(Endpoint::try_from(address.clone())
            .with_context(|| format!("connect to {address}"))?
            .connect_lazy())
    }

    /// Stops the services; whoever follows them sees their last words.
    pub(super) async fn stop(&mut self) {
        let _gone = kill_process(self.mesh_pid, Signal::TERM);
        if timeout(STOP, self.mesh.wait()).await.is_err() {
            eprintln!("portmaster try: the services do not stop: killed");
        }
    }

    /// Takes all of it away, and returns when that is done.
    pub(super) fn sweep(self) {
        drop(self);
    }
}

fn check_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let last = name.rsplit_once('-').map_or("", |(_, last)| last);
    let is_of_another = last == "internet" || janitor::NODES.contains(&last);
    if name.is_empty() || name.len() > 32 || !name.chars().all(fits) || is_of_another {
        bail!(
            "{name:?} cannot name a world: use up to 32 lower-case letters, digits and dashes, not ending in -internet or -{}",
            janitor::NODES.join(", -")
        );
    }
    Ok(())
}

/// One world of a name at a time; a janitor may still be at work in the last one.
async fn claim(name: &str) -> Result<File> {
    let path = janitor::lock_path(name);
    for _ in 0..50 {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = file.with_context(|| format!("open {}", path.display()))?;
        let locked = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        // The last janitor may have removed the file between the two calls: then this lock keeps nobody out.
        let same = |there: fs::Metadata| file.metadata().is_ok_and(|own| own.ino() == there.ino());
        if locked && fs::metadata(&path).is_ok_and(same) {
            return Ok(file);
        }
        sleep(Duration::from_millis(100)).await;
    }
    bail!("a world called {name} runs already: choose another --name");
}

/// Makes a namespace with `lo` up, where IPv6 addresses work at once.
pub(super) async fn add_namespace(name: &str) -> Result<()> {
    run(&mut ip(&format!("netns add {name}")))
        .await
        .with_context(|| format!("make the network namespace {name}"))?;
    let script = "ip link set lo up; echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad";
    run(inside(name, "sh").args(["-c", script])).await?;
    Ok(())
}

/// A command in a namespace, bound to us.
pub(super) fn inside(namespace: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/run/netns/{namespace}"))
        .args(["setpriv", "--pdeathsig", "KILL", "--"]);
    command.arg(program).kill_on_drop(true);
    command
}

/// Has its own view of /etc/resolv.conf and /etc/nsswitch.conf: names are asked for through the namespace, not through
/// a resolver that runs outside of it.
const MOUNTS: &str = r#"
for file in resolv.conf nsswitch.conf; do
    [ ! -e "/etc/$file" ] || mount --bind "$0/etc/$file" "/etc/$file"
done
exec "$@"
"#;

fn start_mesh(namespace: &str, folder: &Path, config: &Path, nameservers: &str) -> Result<Child> {
    let etc = folder.join("etc");
    fs::create_dir_all(&etc).with_context(|| format!("make {}", etc.display()))?;
    fs::write(etc.join("resolv.conf"), nameservers).context("write resolv.conf")?;
    fs::write(etc.join("nsswitch.conf"), nsswitch()).context("write nsswitch.conf")?;
    let log = File::create(folder.join("mesh.log")).context("make the log")?;
    let own = std::env::current_exe().context("find our own program")?;
    let mut command = inside(namespace, "unshare");
    command
        .args(["--mount", "--propagation", "slave", "sh", "-ec", MOUNTS])
        .arg(folder);
    command
        .arg(own)
        .arg("up")
        .arg("--root")
        .arg(folder)
        .arg("--config")
        .arg(config);
    command
        .arg("--ready-file")
        .arg(folder.join("ready"))
        .env_remove("DBUS_SYSTEM_BUS_ADDRESS")
        .env("NO_COLOR", "1");
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0);
    command.spawn().context("start the services")
}

/// The machine's own, without the host-name services that would ask outside of the namespace.
fn nsswitch() -> String {
    let text = fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    let others = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("hosts:"));
    others
        .chain(["hosts: files dns"])
        .map(|line| format!("{line}\n"))
        .collect()
}

async fn wait_for(mesh: &mut Child, folder: &Path) -> Result<()> {
    let ready = async {
        while !folder.join("ready").exists() {
            if let Some(status) = mesh.try_wait().context("watch the services")? {
                bail!(
                    "the services did not start ({status}): {}",
                    tail(&folder.join("mesh.log"))
                );
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    match timeout(START, ready).await {
        Ok(outcome) => outcome,
        Err(_) => bail!(
            "the services do not get ready: {}",
            tail(&folder.join("mesh.log"))
        ),
    }
}

/// The end of a log, since its folder goes away with the world.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let from = lines.len().saturating_sub(15);
    lines.get(from..).unwrap_or_default().join("\n")
}

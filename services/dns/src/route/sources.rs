//! Where the system's servers are read, and how it is noticed that they changed: systemd-resolved, else NetworkManager,
//! else files. A source that says nothing is passed over; none of them is started for being asked.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use zbus::{Connection, MatchRule, MessageStream, fdo::DBusProxy, match_rule, message};

use super::{network_manager, portal::Connectivity, resolv_conf, resolved, system::System};

/// Several changes of one event are read as one.
const SETTLE: Duration = Duration::from_millis(200);
/// What nobody signalled is noticed after so long.
const LOOK_ANYWAY: Duration = Duration::from_secs(60);
/// A source that does not answer for so long is passed over.
const PATIENCE: Duration = Duration::from_secs(5);
/// Signals that wait to be read; one is as good as many.
const SIGNALS: usize = 16;

/// The files, and folders of files, that may name the system's servers; the first that names any but ourselves counts.
#[derive(Debug, Clone)]
pub struct Files {
    /// In the order in which they are read.
    pub resolv_conf: Vec<PathBuf>,
    /// The servers for the host as a whole that `portmaster dns enable` put ours in the place of.
    pub displaced: PathBuf,
}

/// Root's: whoever writes it says where names are asked.
const DISPLACED: &str = "/var/lib/portmaster/resolver/resolv.conf";

impl Default for Files {
    /// The C library's file; what systemd-resolved, NetworkManager and resolvconf write beside it when it names a stub, or us;
    /// what openresolv keeps of each interface (two folders, by version);
    /// what `portmaster dns enable` keeps of it when it names us.
    fn default() -> Self {
        let paths = [
            "/etc/resolv.conf",
            "/run/systemd/resolve/resolv.conf",
            "/run/NetworkManager/no-stub-resolv.conf",
            "/run/NetworkManager/resolv.conf",
            "/run/resolvconf/resolv.conf",
            "/run/resolvconf/interfaces",
            "/run/resolvconf/keys",
            DISPLACED,
        ];
        Self {
            resolv_conf: paths.map(PathBuf::from).to_vec(),
            displaced: DISPLACED.into(),
        }
    }
}

/// The system's servers as they change. Reading ends when this is dropped.
#[derive(Debug)]
pub struct Sources {
    system: watch::Receiver<Option<System>>,
    connectivity: watch::Receiver<Connectivity>,
    task: JoinHandle<()>,
}

impl Drop for Sources {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sources {
    /// Begins to read. Without a bus there are only the files.
    pub fn start(files: Files, bus: Option<Connection>) -> Self {
        let (to_system, system) = watch::channel(None);
        let (to_connectivity, connectivity) = watch::channel(Connectivity::default());
        let reader = Reader { files, bus };
        let task = tokio::spawn(Box::pin(reader.run(to_system, to_connectivity)));
        Self {
            system,
            connectivity,
            task,
        }
    }

    /// The first time: what there is. Then: what there is after a change. `None` at the end.
    pub async fn changed(&mut self) -> Option<System> {
        loop {
            self.system.changed().await.ok()?;
            if let Some(system) = self.system.borrow_and_update().clone() {
                return Some(system);
            }
        }
    }

    /// How far the network reaches, as last heard.
    pub fn connectivity(&self) -> Connectivity {
        *self.connectivity.borrow()
    }
}

struct Reader {
    files: Files,
    bus: Option<Connection>,
}

impl Reader {
    async fn run(self, system: watch::Sender<Option<System>>, connectivity: watch::Sender<Connectivity>) {
        let (_watcher, mut files) = watch_files(&self.files);
        let (_drain, mut signals) = self.signals().await;
        loop {
            let read = Some(self.system().await);
            system.send_if_modified(|known| {
                *known != read && {
                    *known = read;
                    true
                }
            });
            let reach = self.connectivity().await;
            connectivity.send_if_modified(|known| {
                *known != reach && {
                    *known = reach;
                    true
                }
            });
            tokio::select! {
                Some(()) = files.recv() => {}
                Some(()) = signals.recv() => {}
                () = sleep(LOOK_ANYWAY) => {}
            }
            sleep(SETTLE).await;
            while files.try_recv().is_ok() || signals.try_recv().is_ok() {}
        }
    }

    async fn system(&self) -> System {
        let interfaces = Interfaces::read();
        let read = |path: &PathBuf| {
            let text = text_of(path)?;
            let system = resolv_conf::parse(&text, |name| interfaces.number(name));
            (!system.is_empty()).then_some(system)
        };
        if let Some(bus) = &self.bus {
            if is_there(bus, resolved::NAME).await {
                let displaced = read(&self.files.displaced).map_or_else(Vec::new, |system| system.links);
                let told = timeout(PATIENCE, resolved::read(bus, &interfaces, displaced)).await;
                if let Some(system) = said(told) {
                    return system;
                }
            }
            if is_there(bus, network_manager::NAME).await
                && let Some(system) = said(timeout(PATIENCE, network_manager::read(bus, &interfaces)).await)
            {
                return system;
            }
        }
        self.files.resolv_conf.iter().find_map(read).unwrap_or_default()
    }

    async fn connectivity(&self) -> Connectivity {
        let Some(bus) = &self.bus else {
            return Connectivity::Unknown;
        };
        if !is_there(bus, network_manager::NAME).await {
            return Connectivity::Unknown;
        }
        let asked = timeout(PATIENCE, network_manager::connectivity(bus)).await;
        asked.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Whatever may mean that something changed. A task takes the signals in at all times: a stream that nobody reads
    /// stops the whole connection once it is full, and with it the answers to our own calls.
    async fn signals(&self) -> (JoinSet<()>, mpsc::Receiver<()>) {
        const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
        const PATHS: [(&str, &str, bool); 4] = [
            (resolved::NAME, "/org/freedesktop/resolve1", false),
            (resolved::NAME, "/org/freedesktop/resolve1/link", true),
            (network_manager::NAME, "/org/freedesktop/NetworkManager", false),
            (
                network_manager::NAME,
                "/org/freedesktop/NetworkManager/DnsManager",
                false,
            ),
        ];
        let mut rules = Vec::new();
        for (name, path, below) in PATHS {
            let rule = signals_of(name).interface(PROPERTIES);
            rules.push(if below {
                rule.path_namespace(path)
            } else {
                rule.path(path)
            });
        }
        for name in [resolved::NAME, network_manager::NAME] {
            rules.push(
                signals_of("org.freedesktop.DBus")
                    .member("NameOwnerChanged")
                    .arg(0, name),
            );
        }
        let mut all = stream::SelectAll::new();
        for rule in rules {
            if let (Some(bus), Ok(rule)) = (&self.bus, rule.build()) {
                all.extend(MessageStream::for_match_rule(rule, bus, NonZeroUsize::new(SIGNALS)).await);
            }
        }
        let (tell, changes) = mpsc::channel(1);
        let mut drain = JoinSet::new();
        drain.spawn(async move {
            while all.next().await.is_some() {
                let _ = tell.try_send(());
            }
        });
        (drain, changes)
    }
}

/// Of a file, or of all files in a folder, by name.
fn text_of(path: &Path) -> Option<String> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return std::fs::read_to_string(path).ok();
    };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let texts = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    Some(texts.map(|text| text + "\n").collect())
}

fn signals_of(name: &'static str) -> match_rule::Builder<'static> {
    MatchRule::builder().msg_type(message::Type::Signal).sender(name)
}

/// What a source said, unless it said nothing.
fn said(answer: Result<zbus::Result<System>, tokio::time::error::Elapsed>) -> Option<System> {
    match answer {
        Ok(Ok(system)) => Some(system).filter(|system| !system.is_empty()),
        Ok(Err(error)) => {
            tracing::debug!(%error, "read the system's name servers over D-Bus");
            None
        }
        Err(_) => None,
    }
}

/// Asking a name that nobody owns could start a service that the owner left off.
async fn is_there(bus: &Connection, name: &'static str) -> bool {
    let Ok(proxy) = DBusProxy::new(bus).await else {
        return false;
    };
    let Ok(name) = name.try_into() else {
        return false;
    };
    timeout(PATIENCE, proxy.name_has_owner(name))
        .await
        .is_ok_and(|owned| owned.unwrap_or(false))
}

/// The folders of the files: a file is often replaced as a whole, and its place may not exist yet.
fn watch_files(files: &Files) -> (Option<RecommendedWatcher>, mpsc::Receiver<()>) {
    let (tell, changes) = mpsc::channel(1);
    let watched = files.resolv_conf.clone();
    let made = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let concerns = |path: &PathBuf| watched.iter().any(|file| path.starts_with(file));
        if event.is_ok_and(|event| !event.kind.is_access() && event.paths.iter().any(concerns)) {
            let _ = tell.try_send(());
        }
    });
    let Ok(mut watcher) = made else {
        tracing::warn!(
            "changes of /etc/resolv.conf are noticed only each minute: no inotify watch to be had"
        );
        return (None, changes);
    };
    let above = files.resolv_conf.iter().filter_map(|file| file.parent());
    let folders = files.resolv_conf.iter().map(PathBuf::as_path).chain(above);
    for folder in folders.filter(|folder| folder.is_dir()) {
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            tracing::debug!(%error, folder = %folder.display(), "watch a folder");
        }
    }
    (Some(watcher), changes)
}

/// The interfaces of this host: number, name, whether it is a tunnel.
#[derive(Debug, Default)]
pub(super) struct Interfaces {
    by_number: HashMap<u32, (String, bool)>,
}

impl Interfaces {
    fn read() -> Self {
        let mut by_number = HashMap::new();
        for entry in std::fs::read_dir("/sys/class/net")
            .into_iter()
            .flatten()
            .flatten()
        {
            let path = entry.path();
            let number = std::fs::read_to_string(path.join("ifindex")).ok();
            if let Some(number) = number.and_then(|text| text.trim().parse().ok()) {
                let name = entry.file_name().to_string_lossy().into_owned();
                by_number.insert(number, (name, is_tunnel(&path)));
            }
        }
        Self { by_number }
    }

    /// Its name, and whether it is a tunnel.
    pub(super) fn get(&self, number: u32) -> (String, bool) {
        self.by_number.get(&number).cloned().unwrap_or_default()
    }

    /// Its number.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        let mut all = self.by_number.iter();
        all.find_map(|(number, (known, _))| (known == name).then_some(*number))
    }

    #[cfg(test)]
    pub(super) fn of<const N: usize>(all: [(u32, &str, bool); N]) -> Self {
        let entry = |(number, name, tunnel): (u32, &str, bool)| (number, (name.to_owned(), tunnel));
        Self {
            by_number: all.map(entry).into(),
        }
    }
}

/// A TUN or TAP device, WireGuard, or PPP (ARPHRD_PPP).
fn is_tunnel(path: &Path) -> bool {
    let text = |file: &str| std::fs::read_to_string(path.join(file)).unwrap_or_default();
    path.join("tun_flags").exists()
        || text("uevent").contains("DEVTYPE=wireguard")
        || text("type").trim() == "512"
}

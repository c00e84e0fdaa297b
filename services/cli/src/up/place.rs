//! Where a mesh stands: folders, addresses, and the commands that start its parts.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use tokio::process::Command;
use tonic::transport::{Channel, Endpoint};

use super::{
    UpArgs, bus,
    unit::{self, Readiness, Spec},
};

/// Nobody's.
const MESH_UID: &str = "60717";

/// What `portmaster up` was told, checked and made absolute.
pub(super) struct Place {
    root: PathBuf,
    config: PathBuf,
    ready_file: Option<PathBuf>,
    /// Folder of our own programs.
    programs: PathBuf,
    /// A bus that is there already.
    pub(super) given_bus: Option<String>,
    /// Held while we run.
    _lock: File,
}

impl Place {
    /// Makes the folders; refuses a root that another `up` stands in.
    pub(super) fn prepare(args: &UpArgs) -> Result<Self> {
        let root = folder(&args.root)?;
        folder(&root.join("run/portmaster"))?;
        let config = folder(&args.config.clone().unwrap_or_else(|| root.join("etc/portmaster")))?;
        let interceptor = crate::place::program("portmaster-interceptor")?;
        let given_bus = std::env::var("DBUS_SYSTEM_BUS_ADDRESS")
            .ok()
            .filter(|address| !address.is_empty());
        let place = Self {
            ready_file: args.ready_file.clone(),
            programs: interceptor.parent().unwrap_or_else(|| Path::new("/")).to_owned(),
            given_bus,
            _lock: lock(&root)?,
            root,
            config,
        };
        place.not_ready();
        Ok(place)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// How to run one of our services here.
    pub(super) fn service(self: &Arc<Self>, name: &'static str) -> Spec {
        let place = Arc::clone(self);
        Spec {
            name,
            readiness: Readiness::Notified,
            command: Box::new(move || {
                let mut command = place.command(name);
                // all of them run as root here: the firewall knows the mesh's own traffic by this user
                match name {
                    super::INTERCEPTOR => command.args(["--mesh-uid", MESH_UID]),
                    super::DNS | super::ENTRY | super::GATEWAY => command.args(["--socket-uid", MESH_UID]),
                    _ => &mut command,
                };
                command
            }),
        }
    }

    /// The command of one of our services.
    pub(super) fn command(&self, service: &str) -> Command {
        let mut command = unit::dies_with_us(&self.programs.join(format!("portmaster-{service}")));
        command
            .arg("--root")
            .arg(&self.root)
            .arg("--config-dir")
            .arg(&self.config);
        let address = self.given_bus.clone().unwrap_or_else(|| bus::address(&self.root));
        command.env("DBUS_SYSTEM_BUS_ADDRESS", address);
        // What our caller wants to be told is our business, and --root says where things are.
        for name in [
            "NOTIFY_SOCKET",
            "PORTMASTER_ROOT",
            "PORTMASTER_CONFIG_DIR",
            "PORTMASTER_RUNTIME_DIR",
            "PORTMASTER_STATE_DIR",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// To one of our services.
    pub(super) fn channel(&self, service: &str) -> Result<Channel> {
        let socket = self.root.join("run/portmaster").join(format!("{service}.sock"));
        let address = format!("unix://{}", socket.display());
        Ok(Endpoint::try_from(address.clone())
            .with_context(|| format!("connect to {address}"))?
            .connect_lazy())
    }

    /// Tells whoever waits for the file.
    pub(super) fn ready(&self) -> Result<()> {
        let Some(file) = &self.ready_file else {
            return Ok(());
        };
        let new = file.with_added_extension("new");
        fs::write(&new, format!("{}\n", std::process::id()))
            .with_context(|| format!("write {}", new.display()))?;
        fs::rename(&new, file).with_context(|| format!("write {}", file.display()))
    }

    /// Takes the file back.
    pub(super) fn not_ready(&self) {
        if let Some(file) = &self.ready_file {
            let _was_not_there = fs::remove_file(file);
        }
    }
}

fn folder(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path).with_context(|| format!("make {}", path.display()))?;
    path.canonicalize()
        .with_context(|| format!("find {}", path.display()))
}

fn lock(root: &Path) -> Result<File> {
    let path = root.join("run/up.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.with_context(|| format!("open {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => bail!(
            "already running: another `portmaster up` holds {}; give a --root of its own",
            path.display()
        ),
        Err(error) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

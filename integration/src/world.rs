//! The whole product in a world of its own: two namespaces, a bus, a root folder, the services as real programs.

mod builder;
mod services;

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{Events, Link, Namespace, PrivateBus, Running};
pub use builder::Builder;
pub use services::Service;

/// Addresses of the internet's servers, on the internet side's `lo`.
pub const INTERNET_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 17, 10);
/// See [`INTERNET_V4`].
pub const INTERNET_V6: Ipv6Addr = Ipv6Addr::new(0x2606, 0x17, 0, 0, 0, 0, 0, 0x10);

/// The services stand in `host`; `internet` is everybody else. Dropped, all of it ends.
#[derive(Debug)]
pub struct World {
    // Order matters when dropped: services before the namespace that they stand in, folders last.
    services: BTreeMap<Service, Running>,
    bus: Option<PrivateBus>,
    /// Where the firewall stands.
    pub host: Namespace,
    /// The other side.
    pub internet: Namespace,
    /// `a` is the host, `b` the internet (a neighbour on the LAN, and the default router).
    pub link: Link,
    root: TempDir,
}

impl World {
    /// All services, no profile, shipped defaults; returns when traffic is being decided.
    pub fn start(label: &str) -> Self {
        Self::builder(label).start()
    }

    /// The same with settings.
    pub fn builder(label: &str) -> Builder {
        Builder::new(label)
    }

    /// The folder that all paths of the services are below.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// `ROOT/etc/portmaster`.
    pub fn config_dir(&self) -> PathBuf {
        self.root().join("etc/portmaster")
    }

    /// `ROOT/run/portmaster`.
    pub fn runtime_dir(&self) -> PathBuf {
        self.root().join("run/portmaster")
    }

    /// `ROOT/var/lib/portmaster/<service>`.
    pub fn state_dir(&self, service: Service) -> PathBuf {
        self.root().join("var/lib/portmaster").join(service.name())
    }

    /// The gRPC socket of a service.
    pub fn socket(&self, service: Service) -> PathBuf {
        self.runtime_dir().join(format!("{}.sock", service.name()))
    }

    /// Writes `profiles.d/<id>.toml` as an owner's editor would: a new file renamed over the old one.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn profile(&self, id: &str, toml: &str) {
        self.config_file(&format!("profiles.d/{id}.toml"), toml);
    }

    /// Removes a profile.
    ///
    /// # Panics
    /// If it was not there.
    pub fn remove_profile(&self, id: &str) {
        let path = self.config_dir().join(format!("profiles.d/{id}.toml"));
        fs::remove_file(&path).unwrap_or_else(|error| panic!("remove {}: {error}", path.display()));
    }

    /// Writes a file below the configuration folder.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn config_file(&self, name: &str, text: &str) {
        write(&self.config_dir().join(name), text);
    }

    /// The private bus.
    ///
    /// # Panics
    /// In a world without one.
    pub fn bus(&mut self) -> &mut PrivateBus {
        self.bus.as_mut().expect("this world has no bus")
    }

    /// Follows the interceptor's events from now on (live connections first).
    pub fn events(&self) -> Events {
        Events::follow(&self.socket(Service::Interceptor))
    }

    /// Addresses of an internet server, of both families.
    pub fn internet_addresses(&self) -> [IpAddr; 2] {
        [INTERNET_V4.into(), INTERNET_V6.into()]
    }

    /// A command in the host's namespace with the environment of this world, for our own programs: `portmaster …`.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> std::process::Command {
        let mut command = self.host.command(program);
        command.env("PORTMASTER_ROOT", self.root());
        command.env("PORTMASTER_RUNTIME_DIR", self.runtime_dir());
        command.env("DBUS_SYSTEM_BUS_ADDRESS", self.bus_address());
        command
    }

    fn bus_address(&self) -> String {
        match &self.bus {
            Some(bus) => bus.address(),
            None => format!("unix:path={}", self.root().join("no-bus.sock").display()),
        }
    }
}

fn write(path: &Path, text: &str) {
    let folder = path.parent().expect("a file has a folder");
    fs::create_dir_all(folder).unwrap_or_else(|error| panic!("make {}: {error}", folder.display()));
    let new = folder.join(".new");
    fs::write(&new, text).unwrap_or_else(|error| panic!("write {}: {error}", new.display()));
    fs::rename(&new, path).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
}

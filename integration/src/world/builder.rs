//! What a world is made of before it starts.

use std::collections::BTreeMap;

use super::{INTERNET_V4, INTERNET_V6, Service, World, write};
use crate::{Namespace, PrivateBus};

/// See [`World::builder`].
#[derive(Debug)]
pub struct Builder {
    label: String,
    services: Vec<Service>,
    files: Vec<(String, String)>,
    bus: bool,
}

impl Builder {
    pub(super) fn new(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            services: Service::ALL.to_vec(),
            files: Vec::new(),
            bus: true,
        }
    }

    /// A profile that is there from the beginning.
    pub fn profile(self, id: &str, toml: &str) -> Self {
        self.config_file(&format!("profiles.d/{id}.toml"), toml)
    }

    /// A file below the configuration folder that is there from the beginning.
    pub fn config_file(mut self, name: &str, text: &str) -> Self {
        self.files.push((name.to_owned(), text.to_owned()));
        self
    }

    /// Starts this one too.
    pub fn with(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// Does not start this one (it can be started later).
    pub fn without(mut self, service: Service) -> Self {
        self.services.retain(|other| *other != service);
        self
    }

    /// No service is started.
    pub fn without_services(mut self) -> Self {
        self.services.clear();
        self
    }

    /// There is no bus at the address that the services get.
    pub fn without_bus(mut self) -> Self {
        self.bus = false;
        self
    }

    /// Makes it, and returns once every service has said that it is ready.
    ///
    /// # Panics
    /// With the log of the service that did not start.
    pub fn start(self) -> World {
        let host = Namespace::new(&self.label);
        let internet = Namespace::new(&format!("{}-inet", self.label));
        let link = Namespace::connect(&host, &internet);
        internet.add_address(INTERNET_V4);
        internet.add_address(INTERNET_V6);
        host.default_route(link.b);
        let root = tempfile::Builder::new()
            .prefix("pm-")
            .tempdir()
            .expect("make a temporary folder");
        let bus = self.bus.then(|| PrivateBus::start(&root.path().join("bus")));
        let mut world = World {
            services: BTreeMap::new(),
            bus,
            host,
            internet,
            link,
            root,
        };
        for (name, text) in &self.files {
            write(&world.config_dir().join(name), text);
        }
        for service in self.services {
            world.start_service(service);
        }
        world
    }
}

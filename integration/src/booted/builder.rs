//! How a host comes up.

use std::path::PathBuf;

use tempfile::TempDir;

use super::{
    Booted,
    base::{self, Suite},
    machine::{self, Machine, Plan},
    product, write,
};
use crate::{
    Namespace, require_root,
    world::{INTERNET_V4, INTERNET_V6},
};

/// What [`Booted::builder`] gives.
#[derive(Debug)]
pub struct Builder {
    label: String,
    installed: bool,
    enabled: bool,
    /// Files that lie over everything else.
    own: TempDir,
    repository: bool,
    packages: &'static [&'static str],
    suite: Suite,
}

impl Builder {
    pub(super) fn new(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            installed: true,
            enabled: true,
            own: machine::folder(),
            repository: false,
            packages: &[],
            suite: Suite::default(),
        }
    }

    /// A plain host without the product.
    pub fn plain(mut self) -> Self {
        self.installed = false;
        self
    }

    /// The product does not start at boot.
    pub fn disabled(mut self) -> Self {
        self.enabled = false;
        self
    }

    /// The repository lies in `/src`, the programs in `/programs`; read-only.
    pub fn with_repository(mut self) -> Self {
        self.repository = true;
        self
    }

    /// Packages of the distribution beside those of every host: a tree of its own, made once.
    pub fn packages(mut self, packages: &'static [&'static str]) -> Self {
        self.packages = packages;
        self
    }

    /// Another distribution: a tree of its own, made once.
    pub fn suite(mut self, suite: Suite) -> Self {
        self.suite = suite;
        self
    }

    /// A file that is there before the host boots.
    pub fn file(self, path: &str, content: &str) -> Self {
        write(
            &self.own.path().join(path.trim_start_matches('/')),
            content.as_bytes(),
        );
        self
    }

    /// A symbolic link that is there before the host boots.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn link(self, path: &str, to: &str) -> Self {
        let path = self.own.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().expect("a link has a folder")).expect("make a folder");
        std::os::unix::fs::symlink(to, path).expect("make a link");
        self
    }

    /// A file of the host without the lines that `without` names, before it boots.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn file_without(self, path: &str, without: impl Fn(&str) -> bool) -> Self {
        let layers = self.layers();
        let places = layers
            .iter()
            .map(|layer| layer.join(path.trim_start_matches('/')));
        let text = places
            .filter_map(|place| std::fs::read_to_string(place).ok())
            .next();
        let text = text.unwrap_or_else(|| panic!("no layer has {path}"));
        let kept: String = text
            .lines()
            .filter(|line| !without(line))
            .map(|line| format!("{line}\n"))
            .collect();
        self.file(path, &kept)
    }

    /// Topmost first.
    fn layers(&self) -> Vec<PathBuf> {
        let base = base::tree(self.suite, self.packages);
        let product = self.installed.then(|| product::tree(&base, self.suite));
        [Some(self.own.path().to_owned()), product, Some(base)]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Boots it; returns when all of the boot is done, successful or not.
    ///
    /// # Panics
    /// Where this machine cannot boot containers, with what it lacks.
    #[track_caller]
    pub fn start(self) -> Booted {
        require_root();
        machine::require();
        let layers = self.layers();
        if self.installed && self.enabled {
            let wants = self.own.path().join("etc/systemd/system/multi-user.target.wants");
            std::fs::create_dir_all(&wants).expect("make a folder");
            let target = "/usr/lib/systemd/system/portmaster.target";
            std::os::unix::fs::symlink(target, wants.join("portmaster.target")).expect("make a link");
        }
        let host = Namespace::new(&self.label);
        let internet = Namespace::new("internet");
        let link = Namespace::connect(&host, &internet);
        host.default_route(link.b);
        internet.add_address(INTERNET_V4);
        internet.add_address(INTERNET_V6);
        let binds = if self.repository {
            vec![
                (product::repository(), "/src"),
                (product::programs(), "/programs"),
            ]
        } else {
            Vec::new()
        };
        let machine = Machine::boot(Plan {
            namespace: &host,
            layers,
            own: self.own,
            binds,
        });
        Booted {
            machine,
            host,
            internet,
            link,
        }
    }
}

//! Who shares circuits with whom.

use std::net::IpAddr;

use gate17_proto::{
    exit::Transport,
    target::{Host, Target},
};
use proto::gate17::v1::App;
use verdict::policy::tunnel::{ExitChoice, Hops, Isolation, TunnelOptions};

/// What a stream is for.
#[derive(Clone, Debug)]
pub struct Want {
    /// The program.
    pub app: App,
    /// Its profile's id.
    pub profile: String,
    /// What that says.
    pub options: TunnelOptions,
    /// The name that it asked for; empty where it is not known.
    pub domain: String,
}

/// Who shares circuits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    /// Device, inode, script and user; None: not isolated.
    program: Option<(u64, u64, String, u32)>,
    /// Where isolation is by site.
    site: Option<String>,
    options: TunnelOptions,
}

/// What one circuit has to have in common with another to stand in for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    /// Nodes.
    pub(super) hops: Hops,
    /// The last of them.
    pub(super) exit: ExitChoice,
}

impl Owner {
    /// Of a stream to `target`, or of a name to be asked.
    pub(super) fn of(want: &Want, target: Option<&Target>) -> Self {
        let App {
            device,
            inode,
            script,
            uid,
            ..
        } = &want.app;
        let program = (*device, *inode, script.clone(), *uid);
        let site = || {
            if want.domain.is_empty() {
                target.map(|target| target.host.to_string())
            } else {
                Some(want.domain.clone())
            }
        };
        let (program, site) = match want.options.isolate {
            Isolation::None => (None, None),
            Isolation::App => (Some(program), None),
            Isolation::Site => (Some(program), site()),
        };
        Self {
            program,
            site,
            options: want.options.clone(),
        }
    }

    /// Whether programs share it.
    pub(super) const fn is_shared(&self) -> bool {
        self.program.is_none()
    }

    /// Of its circuits.
    pub(super) fn shape(&self) -> Shape {
        Shape {
            hops: self.options.hops,
            exit: self.options.exit.clone(),
        }
    }
}

/// Where a stream goes, as far as it is known: names are known to the exit alone.
pub(super) type Destination = (IpAddr, u16, Transport);

/// Of a target.
pub(super) const fn destination(target: &Target, transport: Transport) -> Option<Destination> {
    match target.host {
        Host::V4(address) => Some((IpAddr::V4(address), target.port, transport)),
        Host::V6(address) => Some((IpAddr::V6(address), target.port, transport)),
        Host::Name(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(isolate: Isolation, inode: u64, domain: &str) -> Want {
        Want {
            app: App {
                inode,
                ..App::default()
            },
            profile: String::new(),
            options: TunnelOptions {
                isolate,
                ..TunnelOptions::default()
            },
            domain: domain.to_owned(),
        }
    }

    #[test]
    fn a_name_is_asked_by_the_circuit_that_its_site_is_reached_by() {
        let target: Target = "192.0.2.1:443".parse().unwrap();
        let stream = Owner::of(&want(Isolation::Site, 1, "example.org"), Some(&target));
        assert_eq!(Owner::of(&want(Isolation::Site, 1, "example.org"), None), stream);
        for other in [
            want(Isolation::Site, 1, "example.net"),
            want(Isolation::Site, 2, "example.org"),
            want(Isolation::App, 1, "example.org"),
        ] {
            assert_ne!(Owner::of(&other, None), stream);
        }
    }

    #[test]
    fn programs_share_only_where_their_owner_says_so() {
        let owner = |isolate, inode| Owner::of(&want(isolate, inode, ""), None);
        assert_eq!(owner(Isolation::None, 1), owner(Isolation::None, 2));
        assert_ne!(owner(Isolation::App, 1), owner(Isolation::App, 2));
    }
}

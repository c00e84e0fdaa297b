//! What stands in the path.

use std::{fs, process::Stdio};

use integration::{Running, Service};
use verdict::ruleset::{Family, Options, RuleSet, render};

use crate::{
    arena::{Arena, own, started},
    opensnitch,
};

/// A firewall, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Nothing,
    AcceptAll,
    Portmaster,
    OpenSnitch,
}

impl Subject {
    pub(super) const ALL: [Self; 4] = [Self::Nothing, Self::AcceptAll, Self::Portmaster, Self::OpenSnitch];

    /// For people.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "no firewall",
            Self::AcceptAll => "bare accept-all",
            Self::Portmaster => "Portmaster",
            Self::OpenSnitch => "OpenSnitch",
        }
    }

    /// Puts it in the path, and returns its processes.
    pub(super) fn start(self, arena: &mut Arena) -> Vec<Running> {
        match self {
            Self::Nothing => Vec::new(),
            Self::AcceptAll => vec![accept_all(arena)],
            Self::Portmaster => {
                portmaster(arena);
                Vec::new()
            }
            Self::OpenSnitch => {
                let folder = opensnitch::unpacked().expect("OpenSnitch is unpacked");
                vec![opensnitch::start(arena, &folder)]
            }
        }
    }

    /// Process ids of what it consists of.
    pub(super) fn pids(self, arena: &Arena, own: &[Running]) -> Vec<i32> {
        match self {
            Self::Portmaster => Service::ALL
                .map(|service| arena.world.service(service).pid().as_raw_nonzero().get())
                .to_vec(),
            _ => own
                .iter()
                .map(|running| running.pid().as_raw_nonzero().get())
                .collect(),
        }
    }
}

/// The very rules that Portmaster uses, and a program that says yes.
fn accept_all(arena: &Arena) -> Running {
    let mut command = arena.world.host.command(own());
    command.arg("accept-all").stdout(Stdio::piped());
    let (running, _) = started(command);
    let rules = RuleSet::new(&Options::default());
    for family in Family::ALL {
        let file = arena.world.root().join("rules");
        fs::write(&file, render(&rules, family)).expect("write rules");
        let program = if family == Family::V4 {
            "iptables-restore"
        } else {
            "ip6tables-restore"
        };
        arena
            .world
            .host
            .sh(&format!("{program} --noflush {}", file.display()));
    }
    running
}

/// Release builds of the services, found beside this program.
fn portmaster(arena: &mut Arena) {
    for service in Service::ALL {
        let mut command = arena.world.service_command(service);
        command.env("PORTMASTER_LOG", "info");
        arena.world.start_as(service, command);
    }
}

//! What stands in the path.

use std::{fs, process::Stdio};

use integration::{Running, Service};
use verdict::ruleset::{Family, Options, RuleSet, render};

use crate::{
    arena::{Arena, own, started},
    collector::Collector,
    opensnitch,
};

/// A firewall, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Nothing,
    AcceptAll,
    Portmaster,
    /// The same with a collector that everything is exported to.
    Exporting,
    /// The same with one connection of a hundred traced.
    Sampled,
    OpenSnitch,
}

impl Subject {
    pub(super) const ALL: [Self; 6] = [
        Self::Nothing,
        Self::AcceptAll,
        Self::Portmaster,
        Self::Exporting,
        Self::Sampled,
        Self::OpenSnitch,
    ];

    /// For people.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "no firewall",
            Self::AcceptAll => "bare accept-all",
            Self::Portmaster => "Portmaster",
            Self::Exporting => "exporting all (Portmaster)",
            Self::Sampled => "sampled 1 % (Portmaster)",
            Self::OpenSnitch => "OpenSnitch",
        }
    }

    /// Puts it in the path, and returns its processes.
    pub(super) fn start(self, arena: &mut Arena) -> Vec<Running> {
        match self {
            Self::Nothing => Vec::new(),
            Self::AcceptAll => vec![accept_all(arena)],
            Self::Portmaster => {
                portmaster(arena, &[]);
                Vec::new()
            }
            Self::Exporting => {
                exporting(arena, "1");
                Vec::new()
            }
            Self::Sampled => {
                exporting(arena, "0.01");
                Vec::new()
            }
            Self::OpenSnitch => {
                let folder = opensnitch::unpacked().expect("OpenSnitch is unpacked");
                vec![opensnitch::start(arena, &folder)]
            }
        }
    }

    /// Whether its events say whose a connection was.
    pub(super) const fn is_ours(self) -> bool {
        matches!(self, Self::Portmaster | Self::Exporting | Self::Sampled)
    }

    /// Process ids of what it consists of.
    pub(super) fn pids(self, arena: &Arena, own: &[Running]) -> Vec<i32> {
        match self {
            Self::Portmaster | Self::Exporting | Self::Sampled => Service::ALL
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

/// Traces of this part of all connections, metrics and logs go to a receiver beside it.
fn exporting(arena: &mut Arena, part: &str) {
    arena.collector = Some(Collector::start(&arena.world.host));
    portmaster(
        arena,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &Collector::endpoint()),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", part),
            ("OTEL_METRIC_EXPORT_INTERVAL", "10000"),
        ],
    );
}

/// Release builds of the services, found beside this program.
fn portmaster(arena: &mut Arena, settings: &[(&str, &str)]) {
    for service in Service::ALL {
        let mut command = arena.world.service_command(service);
        command
            .env("PORTMASTER_LOG", "info")
            .envs(settings.iter().copied());
        arena.world.start_as(service, command);
    }
}

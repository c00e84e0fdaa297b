//! `interceptor.toml`.

use std::time::Duration;

use daemon::{Settings, Unfit};
use serde::Deserialize;
use verdict::mark::{MarkScheme, UnfitScheme};

use crate::{firewall, judge::Limits, nfqueue::QueueOptions};

/// Every key has a default: no file is needed to start.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The rules.
    pub firewall: firewall::Config,
    /// Which bits of the packet mark are ours.
    pub marks: Marks,
    /// The kernel's queues.
    pub queue: Queue,
    /// What is kept and waited for.
    pub limits: LimitKeys,
    /// What new connections meet after the service ended unasked, until it is back.
    pub on_crash: OnCrash,
    /// Users whose outgoing traffic is the mesh's own, by name; those that do not exist are passed over.
    pub mesh_users: MeshUsers,
}

/// See [`Config::on_crash`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnCrash {
    /// The rules stay: they wait in the queue, or are dropped.
    #[default]
    Closed,
    /// The rules go: everything passes undecided.
    Open,
}

/// `(mark << shift) & mask`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Marks {
    /// Bits that are ours. Default: all, as specified.
    pub mask: u32,
    /// Where they begin. Default: 0.
    pub shift: u8,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            mask: u32::MAX,
            shift: 0,
        }
    }
}

/// Room for bursts.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// Packets that may wait for a verdict in each queue.
    pub length: u32,
    /// Octets of receive buffer of each queue.
    pub receive_buffer: usize,
}

impl Default for Queue {
    fn default() -> Self {
        let QueueOptions {
            length,
            receive_buffer,
            ..
        } = QueueOptions::default();
        Self {
            length,
            receive_buffer,
        }
    }
}

/// See [`Limits`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitKeys {
    /// Milliseconds that a connection waits for its process to be found.
    pub attribution_deadline_ms: u32,
    /// Connections that may wait at once.
    pub pending: usize,
    /// Connections that are remembered.
    pub tracked: usize,
}

impl Default for LimitKeys {
    fn default() -> Self {
        let limits = Limits::default();
        let milliseconds = u32::try_from(limits.attribution_deadline.as_millis()).unwrap_or(u32::MAX);
        Self {
            attribution_deadline_ms: milliseconds,
            pending: limits.pending_flows,
            tracked: limits.tracked_flows,
        }
    }
}

/// A list of names.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct MeshUsers(pub Vec<String>);

impl Default for MeshUsers {
    fn default() -> Self {
        // those that ever open connections to other hosts; root is nobody's alone
        Self(
            [
                "portmaster-dns",
                "portmaster-gate17-entry",
                "portmaster-telemetry",
            ]
            .map(str::to_owned)
            .to_vec(),
        )
    }
}

/// More would be no waiting but hanging: connections are given up by then.
const LONGEST_DEADLINE_MS: u32 = 60_000;

impl Settings for Config {
    fn check(&self) -> Result<(), Unfit> {
        let scheme = self.scheme().map_err(|unfit| {
            Unfit::new(
                &["marks.mask", "marks.shift"],
                format!("{unfit}; or leave out marks.mask and marks.shift, which takes the whole mark"),
            )
        })?;
        self.firewall.check(scheme)?;
        let Queue { length, .. } = self.queue;
        let LimitKeys {
            attribution_deadline_ms: deadline,
            pending,
            tracked,
        } = self.limits;
        at_least_one(&["queue.length"], length != 0)?;
        at_least_one(&["limits.pending"], pending != 0)?;
        at_least_one(&["limits.tracked"], tracked != 0)?;
        if deadline == 0 || deadline > LONGEST_DEADLINE_MS {
            return Err(Unfit::new(
                &["limits.attribution_deadline_ms"],
                format!("{deadline} ms is no time to wait; give 1 to {LONGEST_DEADLINE_MS}"),
            ));
        }
        self.mesh_users.check()
    }
}

fn at_least_one(key: &'static [&'static str], is: bool) -> Result<(), Unfit> {
    let problem = "with room for none, no connection would ever be decided; give at least 1";
    if is { Ok(()) } else { Err(Unfit::new(key, problem)) }
}

impl MeshUsers {
    /// Whoever is named here is trusted without a question.
    fn check(&self) -> Result<(), Unfit> {
        let root = self.0.iter().find(|name| daemon::users::uid(name) == Some(0));
        match root {
            Some(name) => Err(Unfit::new(
                &["mesh_users"],
                format!(
                    "{name:?} is root, whose connections are not the mesh's alone; name a user of a service"
                ),
            )),
            None => Ok(()),
        }
    }
}

impl Config {
    /// Errors where the marks do not fit.
    pub const fn scheme(&self) -> Result<MarkScheme, UnfitScheme> {
        MarkScheme::new(self.marks.mask, self.marks.shift)
    }

    /// For each queue.
    pub fn queue_options(&self) -> QueueOptions {
        QueueOptions {
            length: self.queue.length,
            receive_buffer: self.queue.receive_buffer,
            ..QueueOptions::default()
        }
    }

    /// For the judge.
    pub fn limits(&self) -> Limits {
        Limits {
            attribution_deadline: Duration::from_millis(self.limits.attribution_deadline_ms.into()),
            pending_flows: self.limits.pending,
            tracked_flows: self.limits.tracked,
            ..Limits::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let config: Config = toml::from_str(text).unwrap();
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_fit() {
        Config::default().check().unwrap();
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_key() {
        for (text, key) in [
            ("marks.mask = 255", "marks.mask: "),
            ("marks.shift = 40", "marks.mask: "),
            ("firewall.dns_v4 = '10.0.0.1:53'", "firewall.dns_v4: "),
            ("firewall.gate17_v6 = '[2001:db8::1]:717'", "firewall.gate17_v6: "),
            ("firewall.dns_v6 = '[::1]:0'", "firewall.dns_v6: "),
            ("queue.length = 0", "queue.length: "),
            ("limits.pending = 0", "limits.pending: "),
            ("limits.tracked = 0", "limits.tracked: "),
            (
                "limits.attribution_deadline_ms = 0",
                "limits.attribution_deadline_ms: ",
            ),
            (
                "limits.attribution_deadline_ms = 60001",
                "limits.attribution_deadline_ms: ",
            ),
            ("mesh_users = ['root']", "mesh_users: "),
        ] {
            let said = refused(text);
            assert!(said.starts_with(key), "{text}: {said}");
        }
    }

    #[test]
    fn marks_beside_others_fit() {
        let config: Config = toml::from_str("marks.mask = 0x07ff0000\nmarks.shift = 16").unwrap();
        config.check().unwrap();
    }
}

//! Which connections a client wants.

use std::net::IpAddr;

use api::v1::ConnectionFilter;
use ipnet::IpNet;
use tonic::Status;

use crate::fields::{Field, Fields};

/// A filter, read once.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Nothing is asked.
    is_all: bool,
    wanted: ConnectionFilter,
    remote: Option<IpNet>,
    /// Lower case.
    text: String,
    domain: String,
}

impl Filter {
    /// As a client says it; nothing wants all.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for an address that is none.
    pub fn new(wanted: Option<ConnectionFilter>) -> Result<Self, Status> {
        let wanted = wanted.unwrap_or_default();
        let remote = match wanted.remote.as_str() {
            "" => None,
            text => Some(network(text)?),
        };
        Ok(Self {
            is_all: wanted == ConnectionFilter::default(),
            text: wanted.text.to_lowercase(),
            domain: wanted.domain.trim_end_matches('.').to_lowercase(),
            remote,
            wanted,
        })
    }

    /// Whether a connection is one of those; `octets` are a `Connection` as it goes out.
    pub fn fits(&self, octets: &[u8]) -> bool {
        if self.is_all {
            return true;
        }
        let (seen, wanted) = (Seen::of(octets), &self.wanted);
        let is = |wanted: &str, of: &str| wanted.is_empty() || of == wanted;
        let number = |wanted: u32, of: u32| wanted == 0 || of == wanted;
        let direction = u64::try_from(wanted.direction).unwrap_or(u64::MAX);
        let executable = &wanted.executable;
        (wanted.verdicts.is_empty() || wanted.verdicts.contains(&seen.verdict))
            && (is(executable, seen.executable) || is(executable, seen.script))
            && (self.domain.is_empty() || is_below(seen.domain, &self.domain))
            && self.remote.is_none_or(|network| is_in(seen.address, network))
            && number(wanted.remote_port, seen.port)
            && wanted.uid.is_none_or(|uid| seen.uid == Some(uid))
            && number(wanted.pid, seen.pid)
            && (direction == 0 || direction == seen.direction)
            && is(&wanted.profile, seen.profile)
            && (self.text.is_empty() || self.is_in_text(&seen))
    }

    fn is_in_text(&self, seen: &Seen<'_>) -> bool {
        let texts = [
            seen.domain,
            seen.address,
            seen.executable,
            seen.script,
            seen.rule,
            seen.profile,
        ];
        texts.iter().any(|text| text.to_lowercase().contains(&self.text))
    }
}

/// What filters look at, read where it stands. The numbers are those of the contract; a test below holds them to it.
#[derive(Debug, Default)]
struct Seen<'a> {
    direction: u64,
    domain: &'a str,
    uid: Option<u32>,
    address: &'a str,
    port: u32,
    pid: u32,
    executable: &'a str,
    script: &'a str,
    verdict: i32,
    rule: &'a str,
    profile: &'a str,
}

impl<'a> Seen<'a> {
    fn of(connection: &'a [u8]) -> Self {
        let mut seen = Self::default();
        for Field { number, value, .. } in Fields::of(connection) {
            match number {
                2 => seen.direction = value.number(),
                5 => seen.endpoint(value.octets()),
                7 => seen.domain = value.text(),
                9 => seen.process(value.octets()),
                11 => seen.uid = Some(value.number()),
                12 => seen.decision(value.octets()),
                _ => {}
            }
        }
        seen
    }

    fn endpoint(&mut self, endpoint: &'a [u8]) {
        for Field { number, value, .. } in Fields::of(endpoint) {
            match number {
                1 => self.address = value.text(),
                2 => self.port = value.number(),
                _ => {}
            }
        }
    }

    fn process(&mut self, process: &'a [u8]) {
        for Field { number, value, .. } in Fields::of(process) {
            match number {
                1 => self.pid = value.number(),
                4 => self.executable = value.text(),
                7 => self.script = value.text(),
                _ => {}
            }
        }
    }

    fn decision(&mut self, decision: &'a [u8]) {
        for Field { number, value, .. } in Fields::of(decision) {
            match number {
                1 => self.verdict = value.number(),
                4 => self.rule = value.text(),
                5 => self.profile = value.text(),
                _ => {}
            }
        }
    }
}

fn network(text: &str) -> Result<IpNet, Status> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
        Status::invalid_argument(format!(
            "filter.remote: {text:?} is neither an address nor a network like 192.0.2.0/24"
        ))
    })
}

fn is_in(address: &str, network: IpNet) -> bool {
    address
        .parse::<IpAddr>()
        .is_ok_and(|address| network.contains(&address))
}

fn is_below(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::v1::{Connection, Decision, Endpoint, Process};
    use prost::Message as _;

    fn connection() -> Connection {
        Connection {
            id: 1,
            domain: "www.a.example".into(),
            direction: 1,
            uid: Some(1000),
            remote: Some(Endpoint {
                address: "192.0.2.7".into(),
                port: 443,
            }),
            process: Some(Process {
                pid: 12,
                executable: "/usr/bin/Curl".into(),
                script: "/opt/script.py".into(),
                ..Process::default()
            }),
            decision: Some(Decision {
                verdict: 2,
                profile: "curl".into(),
                rule: "curl.toml#1".into(),
                ..Decision::default()
            }),
            ..Connection::default()
        }
    }

    fn fits(set: impl FnOnce(&mut ConnectionFilter)) -> bool {
        let mut wanted = ConnectionFilter::default();
        set(&mut wanted);
        Filter::new(Some(wanted))
            .unwrap()
            .fits(&connection().encode_to_vec())
    }

    #[test]
    fn each_field_must_hold() {
        assert!(fits(|_| {}));
        assert!(fits(|f| f.verdicts = vec![1, 2]) && !fits(|f| f.verdicts = vec![1]));
        assert!(fits(|f| f.executable = "/usr/bin/Curl".into()) && !fits(|f| f.executable = "/bin/x".into()));
        assert!(fits(|f| f.executable = "/opt/script.py".into()));
        assert!(fits(|f| f.domain = "A.example.".into()) && !fits(|f| f.domain = "w.a.example".into()));
        assert!(!fits(|f| f.domain = "xample".into()), "a label is whole");
        assert!(fits(|f| f.remote = "192.0.2.0/24".into()) && !fits(|f| f.remote = "192.0.2.8".into()));
        assert!(fits(|f| f.remote_port = 443) && !fits(|f| f.remote_port = 80));
        assert!(fits(|f| f.uid = Some(1000)) && !fits(|f| f.uid = Some(0)));
        assert!(fits(|f| f.pid = 12) && !fits(|f| f.pid = 13));
        assert!(fits(|f| f.direction = 1) && !fits(|f| f.direction = 2));
        assert!(fits(|f| f.profile = "curl".into()) && !fits(|f| f.profile = "x".into()));
        for text in ["CURL.toml", "www.A", "2.0.2.7", "BIN/curl", "script", "url"] {
            assert!(fits(|f| f.text = text.into()), "{text}");
        }
        assert!(fits(|f| f.text = "CURL.toml".into()) && !fits(|f| f.text = "nothing".into()));
        assert!(!fits(|f| (f.pid, f.remote_port) = (12, 80)), "all must hold");
    }

    #[test]
    fn what_is_no_address_is_named() {
        let wanted = ConnectionFilter {
            remote: "a.example".into(),
            ..ConnectionFilter::default()
        };
        let said = Filter::new(Some(wanted)).unwrap_err();
        assert!(said.message().contains("a.example"));
    }
}

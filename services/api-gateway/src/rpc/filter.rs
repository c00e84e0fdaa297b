//! Which connections a client wants.

use std::net::IpAddr;

use api::v1::{Connection, ConnectionFilter, Endpoint};
use ipnet::IpNet;
use tonic::Status;

/// A filter, read once.
#[derive(Clone, Debug, Default)]
pub struct Filter {
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
            text: wanted.text.to_lowercase(),
            domain: wanted.domain.trim_end_matches('.').to_lowercase(),
            remote,
            wanted,
        })
    }

    /// Whether it is one of those.
    pub fn fits(&self, connection: &Connection) -> bool {
        let wanted = &self.wanted;
        let decision = connection.decision.as_ref();
        let process = connection.process.as_ref();
        let remote = connection.remote.as_ref();
        let is = |wanted: &str, of: Option<&str>| wanted.is_empty() || of == Some(wanted);
        let number = |wanted: u32, of: Option<u32>| wanted == 0 || of == Some(wanted);
        let verdict = decision.map_or(0, |decision| decision.verdict);
        let executable = process.is_some_and(|process| {
            process.executable == wanted.executable || process.script == wanted.executable
        });
        (wanted.verdicts.is_empty() || wanted.verdicts.contains(&verdict))
            && (wanted.executable.is_empty() || executable)
            && (self.domain.is_empty() || is_below(&connection.domain, &self.domain))
            && self
                .remote
                .is_none_or(|network| remote.is_some_and(|remote| is_in(remote, network)))
            && number(wanted.remote_port, remote.map(|remote| remote.port))
            && wanted.uid.is_none_or(|uid| connection.uid == Some(uid))
            && number(wanted.pid, process.map(|process| process.pid))
            && (wanted.direction == 0 || wanted.direction == connection.direction)
            && is(
                &wanted.profile,
                decision.map(|decision| decision.profile.as_str()),
            )
            && (self.text.is_empty() || self.is_in_text(connection))
    }

    fn is_in_text(&self, connection: &Connection) -> bool {
        let process = connection.process.as_ref();
        let decision = connection.decision.as_ref();
        let texts = [
            Some(connection.domain.as_str()),
            connection.remote.as_ref().map(|remote| remote.address.as_str()),
            process.map(|process| process.executable.as_str()),
            process.map(|process| process.script.as_str()),
            decision.map(|decision| decision.rule.as_str()),
            decision.map(|decision| decision.profile.as_str()),
        ];
        let mut texts = texts.into_iter().flatten();
        texts.any(|text| text.to_lowercase().contains(&self.text))
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

fn is_in(remote: &Endpoint, network: IpNet) -> bool {
    remote
        .address
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
    use api::v1::{Decision, Process};

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
        Filter::new(Some(wanted)).unwrap().fits(&connection())
    }

    #[test]
    fn each_field_must_hold() {
        assert!(fits(|_| {}));
        assert!(fits(|f| f.verdicts = vec![1, 2]) && !fits(|f| f.verdicts = vec![1]));
        assert!(fits(|f| f.executable = "/usr/bin/Curl".into()) && !fits(|f| f.executable = "/bin/x".into()));
        assert!(fits(|f| f.domain = "A.example.".into()) && !fits(|f| f.domain = "w.a.example".into()));
        assert!(!fits(|f| f.domain = "xample".into()), "a label is whole");
        assert!(fits(|f| f.remote = "192.0.2.0/24".into()) && !fits(|f| f.remote = "192.0.2.8".into()));
        assert!(fits(|f| f.remote_port = 443) && !fits(|f| f.remote_port = 80));
        assert!(fits(|f| f.uid = Some(1000)) && !fits(|f| f.uid = Some(0)));
        assert!(fits(|f| f.pid = 12) && !fits(|f| f.pid = 13));
        assert!(fits(|f| f.direction = 1) && !fits(|f| f.direction = 2));
        assert!(fits(|f| f.profile = "curl".into()) && !fits(|f| f.profile = "x".into()));
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

//! The arguments of `Explain` as a connection.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
};

use proto::{convert, flow::v1};
use verdict::{Flow, Process};
use zbus::OwnedVariant;

/// Stands for an address that is not known: of the internet, and in nobody's network (RFC 5737).
const SOMEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Whose file is not known, and no user either.
const NOBODY: u32 = u32::MAX;

/// An address (4 or 16 octets, or none) and a port.
pub(super) type End = (Vec<u8>, u16);

/// What is asked.
#[derive(Debug)]
pub(super) struct Question {
    /// `None`: it could not be found.
    pub(super) process: Option<Process>,
    pub(super) flow: Flow,
    /// Taken for the remote one, which was not said.
    pub(super) assumed: Option<IpAddr>,
}

/// Why it cannot be answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Field(#[from] convert::Error),
    #[error("remote has no address, and there is no domain: say where the connection goes")]
    Nowhere,
    #[error("uid is {NOBODY}, which is nobody: say who runs the program")]
    Nobody,
    #[error(
        "more has {0:?}, which is not known: it takes script, unit, cgroup, flatpak, snap, container, sha256"
    )]
    Unknown(String),
    #[error("more has {key:?} of another type: it is {expected}")]
    Kind { key: String, expected: &'static str },
}

/// Who connects, as far as it is known.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) executable: String,
    pub(super) uid: u32,
    pub(super) more: HashMap<String, OwnedVariant>,
}

impl Question {
    pub(super) fn new(
        subject: Subject,
        direction: u32,
        protocol: u32,
        local: End,
        remote: End,
        domain: &str,
    ) -> Result<Self, Error> {
        let assumed = match (remote.0.is_empty(), domain.is_empty()) {
            (false, _) => None,
            (true, true) => return Err(Error::Nowhere),
            // of the family that the local end says
            (true, false) if local.0.len() == 16 => return Err(Error::Nowhere),
            (true, false) => Some(IpAddr::from(SOMEWHERE)),
        };
        let remote_address = match assumed {
            Some(_) => SOMEWHERE.octets().to_vec(),
            None => remote.0,
        };
        // any of this host's
        let local_address = if local.0.is_empty() {
            vec![0; if remote_address.len() == 4 { 4 } else { 16 }]
        } else {
            local.0
        };
        let flow = v1::Flow {
            direction: i32::try_from(direction).unwrap_or(i32::MAX),
            protocol,
            local_address,
            local_port: local.1.into(),
            remote_address,
            remote_port: remote.1.into(),
        };
        Ok(Self {
            process: subject.process()?,
            flow: flow.try_into()?,
            assumed,
        })
    }
}

impl Subject {
    fn process(self) -> Result<Option<Process>, Error> {
        let Self {
            executable,
            uid,
            more,
        } = self;
        match (executable.is_empty() && more.is_empty(), uid) {
            (true, NOBODY) => return Ok(None),
            (false, NOBODY) => return Err(Error::Nobody),
            _ => {}
        }
        let executable = v1::Executable {
            path: executable.clone(),
            claimed_path: executable,
            ..v1::Executable::default()
        };
        let mut process = v1::Process {
            uid,
            executable: Some(executable),
            ..v1::Process::default()
        };
        for (key, value) in more {
            put(&mut process, key, value)?;
        }
        Ok(Some(process.try_into()?))
    }
}

fn put(process: &mut v1::Process, key: String, value: OwnedVariant) -> Result<(), Error> {
    let cgroup = process.cgroup.get_or_insert_default();
    let place = match key.as_str() {
        "script" => &mut process.script,
        "unit" => &mut cgroup.unit,
        "cgroup" => &mut cgroup.path,
        "flatpak" => &mut cgroup.flatpak,
        "snap" => &mut cgroup.snap,
        "container" => &mut cgroup.container,
        "sha256" => {
            let expected = "32 octets (ay)";
            let octets = Vec::<u8>::try_from(value).map_err(|_| Error::Kind { key, expected })?;
            process.executable.get_or_insert_default().sha256 = octets;
            return Ok(());
        }
        _ => return Err(Error::Unknown(key)),
    };
    let expected = "a text (s)";
    *place = String::try_from(value).map_err(|_| Error::Kind { key, expected })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use zbus::Variant;

    use super::*;

    fn subject(executable: &str, uid: u32, more: &[(&str, Variant<'_>)]) -> Subject {
        let more = more.iter().map(|(key, value)| {
            let value = value.try_to_owned().unwrap();
            ((*key).to_owned(), value)
        });
        Subject {
            executable: executable.to_owned(),
            uid,
            more: more.collect(),
        }
    }

    fn to(subject: Subject, remote: &[u8], domain: &str) -> Result<Question, Error> {
        Question::new(subject, 1, 6, (vec![], 0), (remote.to_vec(), 443), domain)
    }

    fn error(asked: Result<Question, Error>) -> String {
        asked.unwrap_err().to_string()
    }

    #[test]
    fn a_program_is_what_is_said_of_it() {
        let more = [
            ("unit", Variant::from("a.service")),
            ("script", Variant::from("/x.py")),
            ("sha256", Variant::from(vec![7_u8; 32])),
        ];
        let asked = to(subject("/usr/bin/python3", 5, &more), &[192, 0, 2, 7], "").unwrap();
        let process = asked.process.unwrap();
        assert_eq!(
            process.executable.path.as_deref(),
            Some("/usr/bin/python3".as_ref())
        );
        assert_eq!(process.script.as_deref(), Some("/x.py".as_ref()));
        assert_eq!((process.uid, process.cgroup.unit.as_str()), (5, "a.service"));
        assert_eq!(process.executable.sha256, Some([7; 32]));
        assert_eq!(
            (asked.flow.local.address.to_string().as_str(), asked.assumed),
            ("0.0.0.0", None)
        );
    }

    #[test]
    fn nobody_is_a_process_that_was_not_found() {
        let asked = to(subject("", NOBODY, &[]), &[0; 16], "").unwrap();
        assert!(asked.process.is_none());
        assert!(to(subject("", 0, &[]), &[0; 16], "").unwrap().process.is_some());
        assert!(error(to(subject("/usr/bin/curl", NOBODY, &[]), &[0; 16], "")).contains("uid"));
    }

    #[test]
    fn a_name_alone_is_somewhere_in_the_internet() {
        let asked = to(subject("", NOBODY, &[]), &[], "example.org").unwrap();
        assert_eq!(asked.assumed, Some(asked.flow.remote.address));
        assert_eq!(asked.flow.scope(), verdict::Scope::Internet);
        assert!(error(to(subject("", NOBODY, &[]), &[], "")).contains("say where"));
        let v6 = Question::new(
            subject("", NOBODY, &[]),
            1,
            6,
            (vec![0; 16], 0),
            (vec![], 443),
            "example.org",
        );
        assert!(error(v6).contains("say where"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let number = [("unit", Variant::from(7_u32))];
        assert!(error(to(subject("", 0, &number), &[0; 4], "")).contains("\"unit\""));
        let unknown = [("colour", Variant::from("red"))];
        assert!(error(to(subject("", 0, &unknown), &[0; 4], "")).contains("\"colour\""));
        let short = [("sha256", Variant::from(vec![7_u8; 3]))];
        assert!(error(to(subject("", 0, &short), &[0; 4], "")).contains("sha256"));
        assert!(error(to(subject("", 0, &[]), &[0; 5], "")).contains("remote_address"));
        let ask = |direction, protocol| {
            let remote = (vec![192, 0, 2, 7], 1);
            Question::new(subject("", 0, &[]), direction, protocol, (vec![], 0), remote, "")
        };
        assert!(error(ask(0, 6)).contains("direction"));
        assert!(error(ask(u32::MAX, 6)).contains("direction"));
        assert!(error(ask(1, 256)).contains("protocol"));
    }
}

//! Field masks (`google.protobuf.FieldMask`): of a message only what a client wants, taken from its octets.

use bytes::Bytes;
use prost_reflect::MessageDescriptor;
use prost_types::FieldMask;
use tonic::Status;

use crate::fields::{Fields, Value};

/// The wanted fields of one kind of message.
#[derive(Clone, Debug, Default)]
pub struct Mask(Option<Tree>);

/// Fields by their numbers, and what is wanted of them; `None`: all.
type Tree = Vec<(u32, Option<Node>)>;

/// Fields of a field.
#[derive(Clone, Debug)]
struct Node(Tree);

impl Mask {
    /// `None` and an empty mask want all.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a field that is not there.
    pub fn new(mask: Option<FieldMask>, of: &MessageDescriptor) -> Result<Self, Status> {
        let paths = mask.map(|mask| mask.paths).unwrap_or_default();
        if paths.is_empty() {
            return Ok(Self(None));
        }
        let mut tree = Tree::new();
        for path in &paths {
            let numbers = numbers(path, of).ok_or_else(|| {
                Status::invalid_argument(format!("read_mask: {} has no field `{path}`", of.name()))
            })?;
            add(&mut tree, &numbers);
        }
        Ok(Self(Some(tree)))
    }

    /// The same for messages that hold such a message in field `number`, and are wanted with their fields `beside` it.
    #[must_use]
    pub fn inside(self, number: u32, beside: &[u32]) -> Self {
        Self(self.0.map(|tree| {
            let beside = beside.iter().map(|beside| (*beside, None));
            beside.chain([(number, Some(Node(tree)))]).collect()
        }))
    }

    /// Only what is wanted of a message that is written out.
    pub fn apply(&self, message: &Bytes) -> Bytes {
        let Some(tree) = &self.0 else {
            return message.clone();
        };
        let mut wanted = Vec::with_capacity(message.len());
        prune(message, tree, &mut wanted);
        wanted.into()
    }
}

/// `process.pid` as the contract numbers it. None: it has no such field.
fn numbers(path: &str, of: &MessageDescriptor) -> Option<Vec<u32>> {
    let mut at = Some(of.clone());
    path.split('.')
        .map(|name| {
            let field = at.as_ref()?.get_field_by_name(name)?;
            at = field.kind().as_message().filter(|_| !field.is_list()).cloned();
            Some(field.number())
        })
        .collect()
}

/// The whole field holds all of its parts.
fn add(tree: &mut Tree, path: &[u32]) {
    let Some((number, rest)) = path.split_first() else {
        return;
    };
    let part = |rest: &[u32]| {
        let mut below = Tree::new();
        add(&mut below, rest);
        Node(below)
    };
    match tree.iter_mut().find(|(known, _)| known == number) {
        None => tree.push((*number, (!rest.is_empty()).then(|| part(rest)))),
        Some((_, wanted)) if rest.is_empty() => *wanted = None,
        Some((_, Some(Node(below)))) => add(below, rest),
        Some((_, None)) => {}
    }
}

fn prune(message: &[u8], tree: &Tree, into: &mut Vec<u8>) {
    for field in Fields::of(message) {
        match tree.iter().find(|(number, _)| *number == field.number) {
            None => {}
            Some((_, Some(Node(below)))) if matches!(field.value, Value::Octets(_)) => {
                let mut inner = Vec::with_capacity(field.whole.len());
                prune(field.value.octets(), below, &mut inner);
                into.extend(field.key);
                // a Vec takes what it is given
                let _ = prost::encode_length_delimiter(inner.len(), into);
                into.extend(inner);
            }
            Some(_) => into.extend(field.whole),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::methods::Methods;
    use api::v1::{Connection, ConnectionEvent, Endpoint, Process};

    fn mask(paths: &[&str]) -> Result<Mask, Status> {
        let of = Methods::new()
            .unwrap()
            .message("portmaster.api.v1.Connection")
            .unwrap();
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        Mask::new(Some(FieldMask { paths }), &of)
    }

    fn whole() -> Connection {
        Connection {
            id: 7,
            domain: "a.example".into(),
            remote: Some(Endpoint {
                address: "192.0.2.1".into(),
                port: 443,
            }),
            process: Some(Process {
                pid: 3,
                comm: "x".into(),
                ..Process::default()
            }),
            hops: vec!["a".into(), "b".into()],
            ..Connection::default()
        }
    }

    fn applied(paths: &[&str]) -> Connection {
        let octets = whole().encode_to_vec().into();
        Connection::decode(mask(paths).unwrap().apply(&octets)).unwrap()
    }

    #[test]
    fn only_what_is_wanted_is_left() {
        let expected = Connection {
            id: 7,
            remote: whole().remote,
            process: Some(Process {
                pid: 3,
                ..Process::default()
            }),
            hops: whole().hops,
            ..Connection::default()
        };
        assert_eq!(applied(&["id", "remote", "process.pid", "hops"]), expected);
        // a field holds its parts, in whichever order they are named
        assert_eq!(
            applied(&["id", "remote.port", "remote", "process.pid", "hops"]),
            expected
        );
        assert_eq!(
            applied(&["remote", "remote.port", "id", "hops", "process.pid"]),
            expected
        );
        assert_eq!(applied(&[]), whole());
        // what is not there stays away
        assert_eq!(applied(&["local.port"]), Connection::default());
    }

    #[test]
    fn an_event_has_of_its_connection_what_is_wanted() {
        let event = |connection| ConnectionEvent {
            kind: 1,
            time: Some(prost_types::Timestamp::default()),
            connection: Some(connection),
        };
        let masked = mask(&["process.pid"]).unwrap().inside(3, &[1, 2]);
        let octets = masked.apply(&event(whole()).encode_to_vec().into());
        let expected = Connection {
            process: Some(Process {
                pid: 3,
                ..Process::default()
            }),
            ..Connection::default()
        };
        assert_eq!(ConnectionEvent::decode(octets).unwrap(), event(expected));
    }

    #[test]
    fn a_field_that_is_not_there_is_named() {
        for path in ["nonsense", "remote.nonsense", "id.x", "hops.x", ""] {
            let said = mask(&[path]).unwrap_err();
            assert!(said.message().contains(&format!("`{path}`")), "{said}");
        }
    }
}

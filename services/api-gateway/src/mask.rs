//! Field masks (`google.protobuf.FieldMask`): of a message only what a client wants.

use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage as _, Value};
use prost_types::FieldMask;
use tonic::Status;

/// The wanted fields of one kind of message, as a tree.
#[derive(Clone, Debug, Default)]
pub struct Mask {
    paths: Vec<Vec<String>>,
    descriptor: Option<MessageDescriptor>,
}

impl Mask {
    /// `None` and an empty mask want all.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a field that is not there.
    pub fn new(mask: Option<FieldMask>, of: &MessageDescriptor) -> Result<Self, Status> {
        let paths = mask.map(|mask| mask.paths).unwrap_or_default();
        let paths: Vec<Vec<String>> = paths
            .iter()
            .map(|path| path.split('.').map(str::to_owned).collect())
            .collect();
        for path in &paths {
            let mut at = Some(of.clone());
            for name in path {
                let field = at.as_ref().and_then(|message| message.get_field_by_name(name));
                let field = field.ok_or_else(|| {
                    let (path, of) = (path.join("."), of.name());
                    Status::invalid_argument(format!("read_mask: {of} has no field `{path}`"))
                })?;
                at = field.kind().as_message().cloned();
            }
        }
        let descriptor = (!paths.is_empty()).then(|| of.clone());
        Ok(Self { paths, descriptor })
    }

    /// Only what is wanted of `message`.
    pub fn apply<M: prost::Message + Default>(&self, message: M) -> M {
        let Some(descriptor) = &self.descriptor else {
            return message;
        };
        let octets = message.encode_to_vec();
        let Ok(mut dynamic) = DynamicMessage::decode(descriptor.clone(), octets.as_slice()) else {
            return message;
        };
        let paths: Vec<&[String]> = self.paths.iter().map(Vec::as_slice).collect();
        prune(&mut dynamic, &paths);
        M::decode(dynamic.encode_to_vec().as_slice()).unwrap_or(message)
    }
}

fn prune(message: &mut DynamicMessage, paths: &[&[String]]) {
    for field in message.descriptor().fields().collect::<Vec<_>>() {
        let below: Vec<&[String]> = paths
            .iter()
            .filter_map(|path| path.split_first())
            .filter(|(name, _)| *name == field.name())
            .map(|(_, rest)| rest)
            .collect();
        if below.is_empty() {
            message.clear_field(&field);
        } else if below.iter().all(|rest| !rest.is_empty())
            && message.has_field(&field)
            && let Value::Message(inner) = message.get_field_mut(&field)
        {
            prune(inner, &below);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::Methods;
    use api::v1::{Connection, Endpoint, Process};

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
            ..Connection::default()
        }
    }

    #[test]
    fn only_what_is_wanted_is_left() {
        let masked = mask(&["id", "remote", "process.pid"]).unwrap().apply(whole());
        let expected = Connection {
            id: 7,
            remote: whole().remote,
            process: Some(Process {
                pid: 3,
                ..Process::default()
            }),
            ..Connection::default()
        };
        assert_eq!(masked, expected);
        assert_eq!(mask(&[]).unwrap().apply(whole()), whole());
    }

    #[test]
    fn a_field_that_is_not_there_is_named() {
        for path in ["nonsense", "remote.nonsense", "id.x"] {
            let said = mask(&[path]).unwrap_err();
            assert!(said.message().contains(path), "{said}");
        }
    }
}

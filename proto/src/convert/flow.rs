//! Flows.

use verdict::{Direction, Endpoint, Flow, Protocol, Scope};

use super::{Error, address, narrow, octets, word, words};
use crate::flow::v1;

words!(v1::Direction, Direction, [Outgoing, Incoming]);
words!(v1::Scope, Scope, [Localhost, Lan, Internet, Multicast]);

impl From<Flow> for v1::Flow {
    fn from(flow: Flow) -> Self {
        Self {
            direction: v1::Direction::from(flow.direction).into(),
            protocol: flow.protocol.0.into(),
            local_address: octets(flow.local.address),
            local_port: flow.local.port.into(),
            remote_address: octets(flow.remote.address),
            remote_port: flow.remote.port.into(),
        }
    }
}

impl TryFrom<v1::Flow> for Flow {
    type Error = Error;

    fn try_from(wire: v1::Flow) -> Result<Self, Error> {
        let end = |address_field, octets: &[u8], port_field, port| {
            let port = narrow(port_field, port, "at most 65535")?;
            Ok(Endpoint::new(address(address_field, octets)?, port))
        };
        let flow = Self {
            direction: word::<v1::Direction, _>("direction", wire.direction)?,
            protocol: Protocol(narrow("protocol", wire.protocol, "at most 255")?),
            local: end(
                "local_address",
                &wire.local_address,
                "local_port",
                wire.local_port,
            )?,
            remote: end(
                "remote_address",
                &wire.remote_address,
                "remote_port",
                wire.remote_port,
            )?,
        };
        if flow.local.address.is_ipv4() != flow.remote.address.is_ipv4() {
            let value = flow.remote.address;
            return Err(Error::invalid(
                "remote_address",
                value,
                "of the family of local_address",
            ));
        }
        Ok(flow)
    }
}

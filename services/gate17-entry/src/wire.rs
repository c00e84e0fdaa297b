//! Between the contracts and our own types.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use gate17_proto::map::Node as MapNode;
use proto::gate17::v1::{Circuit, CircuitState, Node};

use crate::{circuits::Known, health::Nodes};

/// An address of 4 or 16 octets, and a port.
pub fn end(octets: &[u8], port: u32) -> Option<SocketAddr> {
    let address = proto::convert::address("address", octets).ok()?;
    Some(SocketAddr::new(address, u16::try_from(port).ok()?))
}

/// A circuit, as it is told of.
pub fn circuit(known: &Known) -> Circuit {
    let circuit = &known.circuit;
    let count = |value: &AtomicU64| value.load(Ordering::Relaxed);
    let state = if !circuit.lives() {
        CircuitState::Closed
    } else if circuit.is_open() {
        CircuitState::Ready
    } else {
        CircuitState::Draining
    };
    Circuit {
        id: circuit.id,
        state: state.into(),
        hops: circuit.hop_ids(),
        built: Some(circuit.built.into()),
        building: circuit.building.try_into().ok(),
        round_trip: circuit.round_trip().and_then(|time| time.try_into().ok()),
        streams_now: u32::try_from(count(&circuit.carried.now)).unwrap_or(u32::MAX),
        streams: count(&circuit.carried.streams),
        sent_bytes: count(&circuit.carried.sent),
        received_bytes: count(&circuit.carried.received),
        app: known.app.clone(),
        profile: known.profile.clone(),
        problem: circuit.problem(),
    }
}

/// The same for the desktop.
pub fn bus_circuit(known: &Known) -> dbus::Gate17Circuit {
    let told = circuit(known);
    let micros = |time: Option<std::time::Duration>| {
        time.and_then(|time| u64::try_from(time.as_micros()).ok())
            .unwrap_or_default()
    };
    dbus::Gate17Circuit {
        id: told.id,
        state: u32::try_from(told.state).unwrap_or_default(),
        hops: told.hops,
        built: micros(known.circuit.built.duration_since(std::time::UNIX_EPOCH).ok()),
        round_trip: micros(known.circuit.round_trip()),
        streams_now: told.streams_now,
        sent: told.sent_bytes,
        received: told.received_bytes,
        executable: told.app.map(|app| app.path).unwrap_or_default(),
        profile: told.profile,
        problem: told.problem,
        extra: std::collections::HashMap::new(),
    }
}

/// A node for the desktop.
pub fn bus_node(node: Node) -> dbus::Gate17Node {
    dbus::Gate17Node {
        round_trip: node.round_trip.map_or(0, micros),
        id: node.id,
        region: node.region,
        family: node.family,
        relay: node.relay,
        exit: node.exit,
        capacity: node.capacity,
        trouble: node.trouble,
        problem: node.problem,
        addresses: node.addresses,
        extra: std::collections::HashMap::new(),
    }
}

/// Whole microseconds; 0 where it cannot be told.
pub fn micros<T: TryInto<std::time::Duration>>(time: T) -> u64 {
    let time = time.try_into().map(|time| u64::try_from(time.as_micros()));
    time.ok().and_then(Result::ok).unwrap_or_default()
}

/// A node, as the map and our own experience have it.
pub fn node(node: &MapNode, nodes: &Nodes) -> Node {
    let now = Instant::now();
    let health = nodes.of(&node.id, now);
    Node {
        id: node.id.0.clone(),
        region: node.region.clone(),
        family: node.family.clone(),
        relay: node.relay,
        exit: !node.exit.is_empty(),
        capacity: node.capacity,
        round_trip: health.round_trip.and_then(|time| time.try_into().ok()),
        trouble: health.trouble,
        problem: nodes.problem(&node.id, now),
        addresses: node
            .addresses
            .iter()
            .map(|address| SocketAddr::new(address.address, address.port).to_string())
            .collect(),
    }
}

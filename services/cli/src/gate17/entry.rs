//! What is asked of the Gate17 entry.

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use proto::gate17::v1::{
    Circuit, CircuitState, CloseCircuitRequest, GetStatusRequest, ListCircuitsRequest, ListNodesRequest,
    MapState, Node, PingRequest, RouteRequest, gate17_entry_client::Gate17EntryClient,
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::{CloseArgs, PingArgs, RouteArgs};
use crate::{
    clock,
    dns::PlainArgs,
    output::print,
    paint::{Paint, Tone},
    place::{PlaceArgs, Service},
    printable::{json_line, printable},
    table::{Cell, table},
};

/// From here on a node is avoided.
const TROUBLED: f64 = 0.5;

fn client(place: &PlaceArgs) -> Gate17EntryClient<Channel> {
    Gate17EntryClient::new(place.channel(Service::Gate17Entry))
}

pub(super) async fn status(args: PlainArgs, paint: Paint) -> Result<ExitCode> {
    let place = &args.place;
    let reply = client(place).get_status(GetStatusRequest {}).await;
    let status = place.answer(Service::Gate17Entry, reply)?;
    let map = status.map.unwrap_or_default();
    if args.json {
        return print(&json_line(&json!({
            "map": map_json(&map),
            "circuits": status.circuits.iter().map(circuit_json).collect::<Vec<_>>(),
            "streams_now": status.streams_now, "sent": status.sent_bytes, "received": status.received_bytes,
        }))?);
    }
    let mut text = String::new();
    if map.nodes == 0 {
        text += &paint.text(Tone::Warning, "no map", 0).to_string();
        text += ": connections that are meant for the tunnel are refused\n";
    } else {
        text += &format!(
            "network {}, map {} of {}, holds until {}: {} nodes, {} of them exits\n",
            printable(&map.network),
            map.serial,
            clock::rfc3339(map.issued.as_ref()),
            clock::rfc3339(map.expires.as_ref()),
            map.nodes,
            map.exits,
        );
    }
    if !map.problem.is_empty() {
        text += &format!(
            "{}  {}\n",
            paint.text(Tone::Bad, "problem", 0),
            printable(&map.problem)
        );
    }
    text += &format!(
        "{} circuits, {} connections; sent {}, received {}\n",
        status.circuits.len(),
        status.streams_now,
        clock::octets(status.sent_bytes),
        clock::octets(status.received_bytes),
    );
    print(&text)
}

pub(super) async fn circuits(args: PlainArgs, paint: Paint) -> Result<ExitCode> {
    let place = &args.place;
    let reply = client(place).list_circuits(ListCircuitsRequest {}).await;
    let circuits = place.answer(Service::Gate17Entry, reply)?.circuits;
    if args.json {
        let lines = circuits.iter().map(|circuit| json_line(&circuit_json(circuit)));
        return print(&lines.collect::<Result<String, _>>()?);
    }
    let rows: Vec<_> = circuits
        .iter()
        .map(|circuit| {
            let tone = match circuit.state() {
                CircuitState::Ready => Tone::Good,
                CircuitState::Closed => Tone::Bad,
                _ => Tone::Warning,
            };
            let owner = circuit.app.as_ref().map_or("", |app| app.path.as_str());
            [
                Cell::plain(circuit.id.to_string()),
                Cell::toned(tone, state(circuit.state())),
                Cell::plain(printable(&circuit.hops.join(" → "))),
                Cell::plain(span(circuit.round_trip.as_ref())),
                Cell::plain(circuit.streams_now.to_string()),
                Cell::plain(clock::octets(circuit.sent_bytes)),
                Cell::plain(clock::octets(circuit.received_bytes)),
                Cell::plain(printable(owner)),
                Cell::toned(Tone::Bad, printable(&circuit.problem)),
            ]
        })
        .collect();
    let head = [
        "CIRCUIT",
        "STATE",
        "HOPS",
        "ROUND TRIP",
        "NOW",
        "SENT",
        "RECEIVED",
        "FOR",
        "PROBLEM",
    ];
    print(&table(head, &rows, paint))
}

pub(super) async fn nodes(args: PlainArgs, paint: Paint) -> Result<ExitCode> {
    let place = &args.place;
    let reply = client(place).list_nodes(ListNodesRequest {}).await;
    let nodes = place.answer(Service::Gate17Entry, reply)?.nodes;
    if args.json {
        let lines = nodes.iter().map(|node| json_line(&node_json(node)));
        return print(&lines.collect::<Result<String, _>>()?);
    }
    let rows: Vec<_> = nodes
        .iter()
        .map(|node| {
            let tone = if node.trouble < TROUBLED {
                Tone::Good
            } else {
                Tone::Bad
            };
            [
                Cell::toned(tone, printable(&node.id)),
                Cell::plain(roles(node)),
                Cell::plain(printable(&node.region)),
                Cell::plain(printable(&node.family)),
                Cell::plain(format!("{} Mbit/s", node.capacity)),
                Cell::plain(span(node.round_trip.as_ref())),
                Cell::plain(printable(&node.addresses.join(" "))),
                Cell::toned(Tone::Bad, printable(&node.problem)),
            ]
        })
        .collect();
    let head = [
        "NODE",
        "DOES",
        "REGION",
        "FAMILY",
        "CAPACITY",
        "ROUND TRIP",
        "AT",
        "PROBLEM",
    ];
    print(&table(head, &rows, paint))
}

pub(super) async fn route(args: RouteArgs, paint: Paint) -> Result<ExitCode> {
    let place = &args.plain.place;
    let request = RouteRequest {
        destination: args.destination,
        profile: args.profile,
    };
    let reply = client(place).route(request).await;
    let route = place.answer(Service::Gate17Entry, reply)?;
    if args.plain.json {
        return print(&json_line(&json!({
            "hops": route.hops.iter().map(node_json).collect::<Vec<_>>(),
            "circuit": route.circuit, "steps": route.steps,
        }))?);
    }
    let mut text = if route.hops.is_empty() {
        paint.text(Tone::Bad, "no way", 0).to_string()
    } else {
        let hops: Vec<_> = route
            .hops
            .iter()
            .map(|node| format!("{} ({})", printable(&node.id), printable(&node.region)))
            .collect();
        hops.join(" → ")
    };
    match route.circuit {
        0 => {}
        circuit => text += &format!("  by circuit {circuit}, which is open"),
    }
    text.push('\n');
    for step in &route.steps {
        text += &format!("  {}\n", printable(step));
    }
    print(&text)
}

pub(super) async fn ping(args: PingArgs) -> Result<ExitCode> {
    let place = &args.plain.place;
    let request = PingRequest {
        node: args.node.clone(),
    };
    let reply = client(place).ping(request).await;
    let answer = place.answer(Service::Gate17Entry, reply)?;
    if args.plain.json {
        return print(&json_line(&json!({
            "node": args.node, "connect_us": answer.connect.as_ref().map(clock::microseconds),
            "round_trip_us": answer.round_trip.as_ref().map(clock::microseconds),
            "version": answer.version, "problem": answer.problem,
        }))?);
    }
    if !answer.problem.is_empty() {
        bail!("{}: {}", printable(&args.node), printable(&answer.problem));
    }
    print(&format!(
        "{}: connected in {}, round trip {}\n",
        printable(&args.node),
        span(answer.connect.as_ref()),
        span(answer.round_trip.as_ref()),
    ))
}

pub(super) async fn close(args: CloseArgs) -> Result<ExitCode> {
    let place = &args.plain.place;
    let request = CloseCircuitRequest { id: args.circuit };
    place.answer(Service::Gate17Entry, client(place).close_circuit(request).await)?;
    if args.plain.json {
        return print(&json_line(&json!({ "closed": args.circuit }))?);
    }
    print(&format!("closed: circuit {}\n", args.circuit))
}

fn span(time: Option<&prost_types::Duration>) -> String {
    time.map(|time| clock::span(Duration::from_micros(clock::microseconds(time))))
        .unwrap_or_default()
}

const fn state(state: CircuitState) -> &'static str {
    match state {
        CircuitState::Unspecified => "unknown",
        CircuitState::Building => "building",
        CircuitState::Ready => "ready",
        CircuitState::Draining => "draining",
        CircuitState::Closed => "closed",
    }
}

fn roles(node: &Node) -> &'static str {
    match (node.relay, node.exit) {
        (true, true) => "relay, exit",
        (true, false) => "relay",
        (false, true) => "exit",
        (false, false) => "",
    }
}

fn map_json(map: &MapState) -> Value {
    json!({
        "network": map.network, "serial": map.serial, "issued": clock::rfc3339(map.issued.as_ref()),
        "expires": clock::rfc3339(map.expires.as_ref()), "nodes": map.nodes, "exits": map.exits, "source": map.source,
        "fetched": clock::rfc3339(map.fetched.as_ref()), "problem": map.problem,
    })
}

fn circuit_json(circuit: &Circuit) -> Value {
    json!({
        "id": circuit.id, "state": state(circuit.state()), "hops": circuit.hops,
        "built": clock::rfc3339(circuit.built.as_ref()),
        "building_us": circuit.building.as_ref().map(clock::microseconds),
        "round_trip_us": circuit.round_trip.as_ref().map(clock::microseconds),
        "streams_now": circuit.streams_now, "streams": circuit.streams,
        "sent": circuit.sent_bytes, "received": circuit.received_bytes,
        "for": circuit.app.as_ref().map(|app| app.path.as_str()), "profile": circuit.profile, "problem": circuit.problem,
    })
}

fn node_json(node: &Node) -> Value {
    json!({
        "id": node.id, "region": node.region, "family": node.family, "relay": node.relay, "exit": node.exit,
        "capacity": node.capacity, "round_trip_us": node.round_trip.as_ref().map(clock::microseconds),
        "trouble": node.trouble, "problem": node.problem, "addresses": node.addresses,
    })
}

// The tunnel: its map, its circuits, its nodes.

import { useState } from "preact/hooks";
import { type Failure, type Output, call, failure } from "../api/client";
import { CIRCUITS, base, duration, number, seconds, size } from "../api/words";
import { Card, Facts, Mark, Table, Trouble } from "../parts/small";
import { say } from "../state/page";
import { usePolled } from "../state/poll";

function date(text: string | undefined): string {
  return text ? new Date(text).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }) : "";
}

export function Gate17() {
  const { value, problem, again } = usePolled("Gate17", "getStatus", 3_000);
  const map = value?.map;
  return (
    <div class="gate17">
      <h1 class="unseen">Gate17</h1>
      <Trouble problem={problem} />
      <Card title="State" shape="wide">
        <Facts
          facts={[
            ["Tunnel", value ? map?.nodes ? <Mark tone="good">Ready</Mark> : <Mark tone="plain">No map</Mark> : undefined],
            ["Network", map?.network],
            ["Nodes", map?.nodes ? `${number(map.nodes)}, ${number(map.exits ?? 0)} of them exits` : undefined],
            ["Map", map?.serial ? `number ${map.serial}` : undefined],
            ["Issued", date(map?.issued)],
            ["Expires", date(map?.expires)],
            ["From", map?.source && <span class="mono">{map.source}</span>],
            ["Streams now", value && number(Number(value.streamsNow ?? 0))],
            ["Sent", value && size(Number(value.sentBytes ?? 0))],
            ["Received", value && size(Number(value.receivedBytes ?? 0))],
            ["Problem", map?.problem && <Mark tone="warn">{map.problem}</Mark>],
          ]}
        />
      </Card>
      <Circuits circuits={value?.circuits ?? []} again={again} />
      <Nodes />
    </div>
  );
}

type Circuit = NonNullable<Output<"Gate17", "getStatus">["circuits"]>[number];

function Circuits({ circuits, again }: { circuits: Circuit[]; again: () => void }) {
  const [problem, setProblem] = useState<Failure | undefined>(undefined);
  const close = (id: string) => {
    call("Gate17", "closeCircuit", { id })
      .then(() => {
        say({ text: `Circuit ${id} is closed.` });
        again();
      })
      .catch((error: unknown) => setProblem(failure(error)));
  };
  return (
    <Card title="Circuits" shape="wide">
      <Trouble problem={problem} />
      <Table
        label="Circuits"
        heads={["Circuit", "State", "Path", "Whose", "Round trip", "Streams", "Sent", "Received", "Close"]}
        empty="No circuit stands. The first connection that is to be tunnelled builds one."
        rows={circuits.map((circuit) => {
          const { word, tone } = CIRCUITS[circuit.state ?? "CIRCUIT_STATE_UNSPECIFIED"];
          const id = circuit.id ?? "0";
          return [
            id,
            <Mark tone={tone}>{word}</Mark>,
            (circuit.hops ?? []).join(" → "),
            owner(circuit),
            duration(seconds(circuit.roundTrip)),
            `${number(circuit.streamsNow ?? 0)} of ${number(Number(circuit.streams ?? 0))}`,
            size(Number(circuit.sentBytes ?? 0)),
            size(Number(circuit.receivedBytes ?? 0)),
            <button type="button" class="small" aria-label={`Close circuit ${id}`} onClick={() => close(id)}>
              Close
            </button>,
          ];
        })}
      />
    </Card>
  );
}

function owner(circuit: Circuit): string {
  return base(circuit.app?.script || circuit.app?.path || "") || circuit.profile || "built ahead";
}

function Nodes() {
  const { value, problem } = usePolled("Gate17", "listNodes", 10_000);
  const [answers, setAnswers] = useState<Record<string, string>>({});
  const ping = (node: string) => {
    const answer = (text: string) => setAnswers((before) => ({ ...before, [node]: text }));
    answer("…");
    call("Gate17", "ping", { node })
      .then((said) => answer(said.problem || duration(seconds(said.roundTrip))))
      .catch((error: unknown) => answer(failure(error).message));
  };
  return (
    <Card title="Nodes" shape="wide">
      <Trouble problem={problem} />
      <Table
        label="Nodes"
        heads={["Node", "Region", "Role", "State", "Round trip", "Capacity", "Ping"]}
        empty={value ? "The map is empty, or there is none." : ""}
        rows={(value?.nodes ?? []).map((node) => {
          const id = node.id ?? "";
          return [
            id,
            (node.region ?? "").toUpperCase(),
            [node.relay && "relay", node.exit && "exit"].filter(Boolean).join(", "),
            node.problem ? <Mark tone="warn">{node.problem}</Mark> : <Mark tone="good">Well</Mark>,
            duration(seconds(node.roundTrip)),
            node.capacity ? `${number(Number(node.capacity))} Mbit/s` : "",
            <button type="button" class="small" aria-label={`Ping ${id}`} onClick={() => ping(id)}>
              {answers[id] ?? "Ping"}
            </button>,
          ];
        })}
      />
    </Card>
  );
}

// What matters at a glance: does it run, what is refused, who talks.

import { useEffect, useState } from "preact/hooks";
import { HEALTHS, clock, count, number, size } from "../api/words";
import { Card, Mark, Trouble, Verdict } from "../parts/small";
import { type Beat, type Row, all, liveCount, loudest, pulse, trouble } from "../state/connections";
import { go } from "../state/page";
import { usePolled } from "../state/poll";
import { filter, program } from "./connections";
import { making } from "./rule-maker";

const REFUSED_SHOWN = 8;

/** Every few seconds, since what was is five minutes ago at some time. */
function useNow(): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 2_500);
    return () => clearInterval(timer);
  }, []);
  return now;
}

export function Overview() {
  const beats = pulse(useNow());
  const sum = (part: keyof Beat) => beats.reduce((total, beat) => total + beat[part], 0);
  const [allowed, refused, tunnelled] = [sum("allowed"), sum("refused"), sum("tunnelled")];
  return (
    <div class="overview">
      <h1 class="unseen">Overview</h1>
      {trouble.value && <Trouble problem={trouble.value} />}
      <section class="figures" aria-label="In numbers">
        <Figure label="Open connections" value={liveCount()} />
        <Figure label="Programs" value={loudest("connections").length} />
        <Figure label="Refused in 5 min" value={refused} tone={refused > 0 ? "bad" : "plain"} />
        <Figure label="Tunnelled in 5 min" value={tunnelled} tone={tunnelled > 0 ? "tunnel" : "plain"} />
      </section>
      <Card title="Last five minutes" shape="wide">
        <Pulse beats={beats} label={`${count(allowed, "connection")} allowed, ${refused} refused, ${tunnelled} tunnelled in the last five minutes`} />
      </Card>
      <Talkers />
      <Refused />
      <Services />
      <Names />
    </div>
  );
}

function Figure({ label, value, tone = "plain" }: { label: string; value: number; tone?: string }) {
  return (
    <div class={`figure tone-${tone}`}>
      <span class="value">{number(value)}</span>
      <span class="label">{label}</span>
    </div>
  );
}

function Pulse({ beats, label }: { beats: Beat[]; label: string }) {
  const total = (beat: Beat) => beat.allowed + beat.refused + beat.tunnelled;
  const most = Math.max(4, ...beats.map(total));
  const height = 80;
  return (
    <figure class="pulse">
      <svg viewBox={`0 0 ${beats.length * 10} ${height}`} preserveAspectRatio="none" role="img" aria-label={label}>
        {beats.map((beat, at) => {
          let y = height;
          return (["allowed", "tunnelled", "refused"] as const).map((part) => {
            const tall = (beat[part] / most) * (height - 2);
            y -= tall;
            return tall > 0 ? <rect key={`${at}-${part}`} class={part} x={at * 10 + 1} y={y} width={8} height={tall} rx={1} /> : null;
          });
        })}
        <line x1={0} x2={beats.length * 10} y1={height - 0.5} y2={height - 0.5} />
      </svg>
      <figcaption>
        <span>5 min ago</span>
        <span class="legend">
          <Mark tone="good">Allowed</Mark>
          <Mark tone="bad">Refused</Mark>
          <Mark tone="tunnel">Tunnelled</Mark>
        </span>
        <span>now</span>
      </figcaption>
    </figure>
  );
}

function Talkers() {
  const [measure, setMeasure] = useState<"connections" | "octets">("connections");
  const talkers = loudest(measure)
    .filter((talker) => talker[measure] > 0)
    .slice(0, REFUSED_SHOWN);
  const most = Math.max(1, ...talkers.map((talker) => talker[measure]));
  const choice = (
    <div class="chips" role="group" aria-label="Measure">
      {(["connections", "octets"] as const).map((name) => (
        <button type="button" key={name} aria-pressed={measure === name} onClick={() => setMeasure(name)}>
          {name === "octets" ? "Traffic" : "Connections"}
        </button>
      ))}
    </div>
  );
  return (
    <Card title="Who talks most" more={choice} shape="tall">
      <ol class="bars">
        {talkers.map((talker) => (
          <li key={talker.identity}>
            <button
              type="button"
              title={talker.identity}
              onClick={() => {
                program.value = talker.identity;
                filter.value = "";
                go("connections");
              }}
            >
              <span class="name">{talker.program}</span>
              <span class="numbers">{measure === "octets" ? size(talker.octets) : number(talker.connections)}</span>
              <meter min={0} max={most} value={talker[measure]} aria-hidden="true" />
            </button>
          </li>
        ))}
      </ol>
      {talkers.length === 0 && <p class="quiet">{measure === "octets" ? "Traffic is counted when a connection ends." : "Nobody has talked yet."}</p>}
    </Card>
  );
}

function Refused() {
  const rows = all();
  const last: Row[] = [];
  for (let at = rows.length - 1; at >= 0 && last.length < REFUSED_SHOWN; at -= 1) {
    const row = rows[at];
    if (row?.refused) last.push(row);
  }
  return (
    <Card title="Refused lately" shape="tall">
      <ul class="lately">
        {last.map((row) => (
          <li key={row.id}>
            <time>{clock(row.started)}</time>
            <span class="what">
              <b>{row.program}</b> {row.incoming ? "←" : "→"} {row.where} <span class="quiet">{row.reason}</span>
            </span>
            <Verdict verdict={row.verdict} />
            <button type="button" class="small" aria-label={`Make a rule from ${row.program} to ${row.where}`} onClick={() => (making.value = row)}>
              Rule…
            </button>
          </li>
        ))}
      </ul>
      {last.length === 0 && <p class="quiet">Nothing was refused.</p>}
    </Card>
  );
}

function Services() {
  const { value, problem } = usePolled("System", "listServices", 5_000);
  return (
    <Card title="What runs">
      <Trouble problem={value ? undefined : problem} />
      <ul class="lights">
        {(value?.services ?? []).map((service) => {
          const { word, tone } = service.state ? HEALTHS[service.state.health ?? "HEALTH_UNSPECIFIED"] : { word: "Not there", tone: "bad" as const };
          return (
            <li key={service.name}>
              <span>{service.name}</span>
              <span class="quiet">{service.state?.version}</span>
              <Mark tone={tone}>{word}</Mark>
            </li>
          );
        })}
      </ul>
    </Card>
  );
}

function Names() {
  const { value: upstreams } = usePolled("Dns", "listUpstreams", 10_000);
  const { value: gate17 } = usePolled("Gate17", "getStatus", 10_000);
  const list = upstreams?.upstreams ?? [];
  const up = list.filter((upstream) => upstream.up).length;
  const nodes = gate17?.map?.nodes ?? 0;
  return (
    <Card title="Names and tunnels">
      <ul class="lights">
        <li>
          <a href="#/dns">DNS</a>
          <span class="quiet">{upstreams && `${up} of ${count(list.length, "upstream")} up`}</span>
          {upstreams ? <Mark tone={up > 0 || list.length === 0 ? "good" : "bad"}>{up > 0 ? "Answers" : list.length === 0 ? "No upstream" : "Down"}</Mark> : <Mark tone="plain">Not there</Mark>}
        </li>
        <li>
          <a href="#/gate17">Gate17</a>
          <span class="quiet">{nodes > 0 && `${count(nodes, "node")}, ${count(gate17?.circuits?.length ?? 0, "circuit")}`}</span>
          {gate17 ? <Mark tone={nodes > 0 ? "good" : "plain"}>{nodes > 0 ? "Ready" : "No map"}</Mark> : <Mark tone="plain">Not there</Mark>}
        </li>
      </ul>
    </Card>
  );
}

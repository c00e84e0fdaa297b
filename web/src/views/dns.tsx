// Who asked for which name, and what became of it; upstreams, lists, the cache.

import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { type Failure, type Output, call, failure, watch } from "../api/client";
import { ORIGINS, base, clock, count, duration, number, recordType, responseCode, seconds } from "../api/words";
import { type Column, List } from "../parts/list";
import { Card, Mark, Table, Trouble } from "../parts/small";
import { narrow, say, whileSeen } from "../state/page";
import { usePolled } from "../state/poll";
import type { DnsQueryJson } from "../generated/portmaster/api/v1/dns_pb";

const KEPT = 5_000;
const COLUMNS: Column[] = [
  { name: "origin", label: "Answer" },
  { name: "name", label: "Name" },
  { name: "program", label: "Program" },
  { name: "answer", label: "Said" },
  { name: "time", label: "Time" },
  { name: "took", label: "Took" },
];

const queries = signal<DnsQueryJson[]>([]);
const missed = signal(0);
const filter = signal("");
/** Behind the last query that came: whoever comes back to this view goes on there. */
let behind: string | undefined;

/** Newest first. */
function take(message: Output<"Dns", "watchQueries">) {
  behind = message.eventId || behind;
  missed.value += Number(message.dropped ?? 0);
  const fresh = [...(message.queries ?? [])].reverse();
  if (fresh.length > 0) queries.value = [...fresh, ...queries.value].slice(0, KEPT);
}

const follow = () =>
  watch("Dns", "watchQueries", () => (behind ? { resumeAfter: behind } : { includeRecent: true }), {
    message: take,
    state(said) {
      problem.value = said;
    },
  });
/** Why nothing comes in. */
const problem = signal<Failure | undefined>(undefined);

function asker(query: DnsQueryJson): string {
  const process = query.process;
  return base(process?.script || process?.executable || process?.claimedExecutable || "") || process?.comm || "unknown program";
}

export function Dns() {
  return (
    <div class="dns">
      <h1 class="unseen">DNS</h1>
      <Queries />
      <Upstreams />
      <Lists />
      <Cache />
    </div>
  );
}

function Queries() {
  useEffect(() => whileSeen(follow), []);
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = queries.value.filter((query) => {
    const text = `${query.name} ${asker(query)} ${ORIGINS[query.origin ?? "ORIGIN_UNSPECIFIED"].word} ${query.list ?? ""}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const search = (
    <input type="search" aria-label="Filter queries" placeholder="Name, program…" value={filter.value} onInput={(event) => (filter.value = event.currentTarget.value)} />
  );
  return (
    <Card title="Queries" more={search} shape="wide">
      <Trouble problem={problem.value} />
      {missed.value > 0 && <p class="quiet">At least {number(missed.value)} are missing here: they came faster than this page read them, or before the service was started anew.</p>}
      <List
        kind="queries"
        label="Queries"
        columns={COLUMNS}
        count={shown.length}
        height={narrow.value ? 62 : 34}
        identity={(at) => `${shown[at]?.id}-${shown[at]?.time}`}
        cells={(at) => cells(shown[at])}
        empty="No name was asked for yet."
      />
    </Card>
  );
}

function cells(query: DnsQueryJson | undefined) {
  if (!query) return COLUMNS.map(() => "");
  const { word, tone } = ORIGINS[query.origin ?? "ORIGIN_UNSPECIFIED"];
  const addresses = query.addresses ?? [];
  const said = query.list ? `list ${query.list}` : (addresses[0] ?? responseCode(query.responseCode));
  return [
    <Mark tone={tone === "good" && query.responseCode ? "plain" : tone}>{word}</Mark>,
    <>
      <span class="name">{query.name || "."}</span> <span class="port">{recordType(query.recordType)}</span>
    </>,
    <span title={query.process?.executable}>{asker(query)}</span>,
    <span class="mono" title={addresses.join("\n") || query.decision?.rule}>
      {said}
      {addresses.length > 1 && ` +${addresses.length - 1}`}
    </span>,
    <time>{query.time ? clock(Date.parse(query.time)) : ""}</time>,
    duration(seconds(query.took)),
  ];
}

function Upstreams() {
  const { value, problem } = usePolled("Dns", "listUpstreams", 5_000);
  return (
    <Card title="Upstreams" shape="double">
      <Trouble problem={problem} />
      <Table
        label="Upstreams"
        heads={["Server", "State", "From", "Zones", "Queries", "Failed", "Answers in"]}
        empty={value ? "No upstream is known." : ""}
        rows={(value?.upstreams ?? []).map((upstream) => [
          <span class="mono">{upstream.name}</span>,
          <Mark tone={upstream.up ? "good" : "bad"}>{upstream.up ? "Up" : "Down"}</Mark>,
          upstream.source,
          (upstream.zones ?? []).join(", ") || "all",
          number(Number(upstream.queries ?? 0)),
          number(Number(upstream.failures ?? 0)),
          duration(seconds(upstream.smoothed)),
        ])}
      />
    </Card>
  );
}

function Lists() {
  const { value, problem } = usePolled("Dns", "listBlockLists", 30_000);
  return (
    <Card title="Block lists">
      <Trouble problem={problem} />
      <Table
        label="Block lists"
        heads={["List", "Categories", "Names", "State"]}
        empty={value ? "There are no lists." : ""}
        rows={(value?.lists ?? []).map((list) => [
          list.name,
          (list.categories ?? []).join(", "),
          number(Number(list.names ?? 0)),
          list.problem ? <Mark tone="warn">{list.problem}</Mark> : <Mark tone="good">Loaded</Mark>,
        ])}
      />
    </Card>
  );
}

type Entry = NonNullable<Output<"Dns", "listCache">["entries"]>[number];
/** As many as a table is good for; a zone narrows it. */
const CACHE_SHOWN = 200;

function Cache() {
  const [zone, setZone] = useState("");
  const [entries, setEntries] = useState<Entry[] | undefined>(undefined);
  const [problem, setProblem] = useState<Failure | undefined>(undefined);
  const show = () => {
    const found: Entry[] = [];
    // it comes in parts, and ends: what came is all
    const stop = watch("Dns", "listCache", () => ({ zone: zone.trim() }), {
      message: (said) => void found.push(...(said.entries ?? [])),
      state(said) {
        if (!said) return;
        stop();
        const ended = said.message === "The stream ended.";
        setProblem(ended ? undefined : said);
        setEntries(found);
      },
    });
  };
  const flush = () => {
    call("Dns", "flushCache", { name: zone.trim(), zone: zone.trim() !== "" })
      .then((said) => {
        say({ text: `Forgotten: ${count(Number(said.entries ?? 0), "name")}` });
        setEntries(undefined);
      })
      .catch((error: unknown) => setProblem(failure(error)));
  };
  return (
    <Card title="Cache" shape="wide">
      <form
        class="line"
        onSubmit={(event) => {
          event.preventDefault();
          show();
        }}
      >
        <input type="search" aria-label="Zone" placeholder="All, or a name and what is below…" value={zone} onInput={(event) => setZone(event.currentTarget.value)} />
        <button type="submit">Show</button>
        <button type="button" onClick={flush}>
          Forget
        </button>
      </form>
      <Trouble problem={problem} />
      {entries && (
        <>
          <Table
            label="Cache"
            heads={["Name", "Type", "Says", "Holds for", "Hits", "Octets"]}
            empty="Nothing is kept."
            rows={entries.slice(0, CACHE_SHOWN).map((entry) => [
              <span class="mono">{entry.name || "."}</span>,
              recordType(entry.kind),
              responseCode(entry.code),
              entry.ttl ? duration(entry.ttl) : "stale",
              number(Number(entry.hits ?? 0)),
              number(entry.octets ?? 0),
            ])}
          />
          {entries.length > CACHE_SHOWN && <p class="quiet">and {number(entries.length - CACHE_SHOWN)} more: name a zone</p>}
        </>
      )}
    </Card>
  );
}

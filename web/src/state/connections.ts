// Every connection that the page knows: the live ones, and those that ended lately. Fed by one stream; views read it by `changed`.

import { signal } from "@preact/signals";
import { type Failure, type Output, call, watch } from "../api/client";
import { VERDICTS, WHYS, base, endpoint, protocol, seconds } from "../api/words";
import type { ConnectionJson } from "../generated/portmaster/api/v1/connections_pb";
import type { VerdictJson } from "../generated/portmaster/flow/v1/flow_pb";

/** A connection as it is shown. Never changed: an event makes a new one. */
export interface Row {
  readonly id: string;
  readonly connection: ConnectionJson;
  readonly verdict: VerdictJson;
  /** What refuses: block, drop. */
  readonly refused: boolean;
  /** Its name for people, and what tells it from others. */
  readonly program: string;
  readonly identity: string;
  /** Name or address of the other end. */
  readonly where: string;
  /** `443/tcp` */
  readonly port: string;
  readonly incoming: boolean;
  /** `default`, `rule curl#1` */
  readonly reason: string;
  /** Milliseconds since 1970. */
  readonly started: number;
  readonly live: boolean;
  readonly octets: number;
  /** In lower case, for the filter. */
  readonly text: string;
}

/** What a program did since the page was opened. */
export interface Talker {
  identity: string;
  program: string;
  connections: number;
  live: number;
  refused: number;
  octets: number;
}

/** Decisions of some seconds. */
export interface Beat {
  allowed: number;
  refused: number;
  tunnelled: number;
}

/** Ended ones beyond that are forgotten, oldest first. */
const KEPT = 20_000;
const SLACK = 1_000;
/** Milliseconds between two drawings. */
const CALM = 150;
export const BEAT = 5_000;
export const BEATS = 60;

/** Grows with every change. */
export const changed = signal(0);
/** Why nothing comes in; undefined: it does; null: not known yet. */
export const trouble = signal<Failure | undefined | null>(null);
/** Events that were lost. */
export const lost = signal(0);

let rows: Row[] = [];
let places = new Map<string, number>();
const talkers = new Map<string, Talker>();
const beats = new Map<number, Beat>();
/** Behind the last event that came. */
let place: string | undefined;
let timer: ReturnType<typeof setTimeout> | undefined;

// Whoever reads in what it draws is drawn again with each change: each of these looks at `changed`.

/** All of them, oldest first. Not to be changed. */
export function all(): readonly Row[] {
  void changed.value;
  return rows;
}

export function find(id: string): Row | undefined {
  void changed.value;
  const place = places.get(id);
  return place === undefined ? undefined : rows[place];
}

/** Those who talk most, by `measure`. */
export function loudest(measure: "octets" | "connections"): Talker[] {
  void changed.value;
  return [...talkers.values()].sort((a, b) => b[measure] - a[measure] || b.connections - a.connections);
}

/** The last five minutes. */
export function pulse(now: number): Beat[] {
  void changed.value;
  const last = Math.floor(now / BEAT);
  return Array.from({ length: BEATS }, (_, at) => beats.get(last - BEATS + 1 + at) ?? { allowed: 0, refused: 0, tunnelled: 0 });
}

export function liveCount(): number {
  void changed.value;
  let live = 0;
  for (const talker of talkers.values()) live += talker.live;
  return live;
}

function redraw() {
  timer ??= setTimeout(() => {
    timer = undefined;
    changed.value += 1;
  }, CALM);
}

/** As it is shown. */
export function row(connection: ConnectionJson): Row {
  const { process, decision, remote, local, traffic } = connection;
  const verdict = decision?.verdict ?? "VERDICT_UNSPECIFIED";
  const file = process?.script || process?.executable || process?.claimedExecutable || "";
  const program = base(file) || process?.comm || unknown(connection);
  const incoming = connection.direction === "DIRECTION_INCOMING";
  const refused = verdict === "VERDICT_BLOCK" || verdict === "VERDICT_DROP";
  const port = incoming ? local?.port : remote?.port;
  const where = connection.domain || remote?.address || "";
  const why = WHYS[decision?.why ?? "WHY_UNSPECIFIED"];
  const reason = decision?.why === "WHY_RULE" || decision?.why === "WHY_GLOBAL_RULE" ? `${why} ${decision.rule ?? ""}` : why;
  const text = [program, file, process?.unit, where, endpoint(remote), protocol(connection.protocol), reason, decision?.rule, decision?.profile, VERDICTS[verdict].word];
  return {
    id: connection.id ?? "0",
    connection,
    verdict,
    refused,
    program,
    identity: file || program,
    where,
    port: port ? `${port}/${protocol(connection.protocol)}` : protocol(connection.protocol),
    incoming,
    reason,
    started: connection.started ? Date.parse(connection.started) : 0,
    live: connection.lasted === undefined && !refused,
    octets: Number(traffic?.sentBytes ?? 0) + Number(traffic?.receivedBytes ?? 0),
    text: text.join(" ").toLowerCase(),
  };
}

function unknown(connection: ConnectionJson): string {
  if (connection.direction === "DIRECTION_INCOMING") return "nobody listens";
  return connection.processUnknown ? "unknown program" : "kernel";
}

function weigh(row: Row, sign: 1 | -1) {
  let talker = talkers.get(row.identity);
  if (!talker) {
    talker = { identity: row.identity, program: row.program, connections: 0, live: 0, refused: 0, octets: 0 };
    talkers.set(row.identity, talker);
  }
  talker.connections += sign;
  talker.octets += sign * row.octets;
  if (row.live) talker.live += sign;
  if (row.refused) talker.refused += sign;
}

/** Takes in one connection. */
export function put(connection: ConnectionJson) {
  const made = row(connection);
  const place = places.get(made.id);
  const before = place === undefined ? undefined : rows[place];
  if (before !== undefined && place !== undefined) {
    weigh(before, -1);
    rows[place] = made;
  } else {
    places.set(made.id, rows.length);
    rows.push(made);
  }
  weigh(made, 1);
  if (rows.length > KEPT + SLACK) forget();
  redraw();
}

/** The oldest that ended. What they did stays told with their programs. */
function forget() {
  let most = rows.length - KEPT;
  rows = rows.filter((row) => {
    const goes = most > 0 && !row.live;
    if (goes) most -= 1;
    return !goes;
  });
  if (most > 0) rows = rows.slice(most);
  places = new Map(rows.map((row, place) => [row.id, place]));
}

function beat(verdict: VerdictJson, time: number) {
  const at = Math.floor(time / BEAT);
  let now = beats.get(at);
  if (!now) {
    now = { allowed: 0, refused: 0, tunnelled: 0 };
    beats.set(at, now);
    for (const old of beats.keys()) if (old < at - 2 * BEATS) beats.delete(old);
  }
  if (verdict === "VERDICT_TUNNEL") now.tunnelled += 1;
  else if (verdict === "VERDICT_BLOCK" || verdict === "VERDICT_DROP") now.refused += 1;
  else now.allowed += 1;
}

/** Takes in what the stream tells. */
export function take(message: Output<"Connections", "watch">) {
  const missed = Number(message.dropped ?? 0);
  if (missed > 0) {
    lost.value += missed;
    void settle();
  }
  place = message.eventId || place;
  for (const event of message.events ?? []) {
    if (!event.connection) continue;
    put(event.connection);
    if (event.kind === "CONNECTION_EVENT_KIND_DECIDED") {
      beat(event.connection.decision?.verdict ?? "VERDICT_UNSPECIFIED", event.time ? Date.parse(event.time) : Date.now());
    }
  }
}

/** Events were missed: what is not among the live ones any more has ended. */
async function settle() {
  const live = new Set<string>();
  let pageToken = "";
  do {
    const page = await call("Connections", "list", { pageSize: 10_000, pageToken, readMask: "id" });
    for (const connection of page.connections ?? []) live.add(connection.id ?? "0");
    pageToken = page.nextPageToken ?? "";
  } while (pageToken);
  for (const row of rows) if (row.live && !live.has(row.id)) put({ ...row.connection, lasted: "0s" });
}

/** Follows the stream until it is told to stop; goes on where the last one was. */
export function follow(): () => void {
  const ask = () => (place ? { resumeAfter: place } : { includeLive: true });
  return watch("Connections", "watch", ask, {
    message: take,
    state(problem) {
      trouble.value = problem;
    },
  });
}

/** How long it lasted, in seconds. */
export function lasted(row: Row): number | undefined {
  return seconds(row.connection.lasted);
}

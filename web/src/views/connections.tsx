// Every connection with its verdict and reason: filter, sort, look closer, make a rule.

import { signal } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { clock, count, number, size } from "../api/words";
import { type Column, List } from "../parts/list";
import { Trouble, Verdict } from "../parts/small";
import { type Row, all, changed, find, loudest, lost, trouble } from "../state/connections";
import { narrow } from "../state/page";
import { Details } from "./details";
import { making } from "./rule-maker";

type Which = "all" | "allowed" | "refused" | "tunnelled";
type Order = "newest" | "traffic" | "program";

export const filter = signal("");
/** Identity of the program whose connections alone are shown. */
export const program = signal<string | undefined>(undefined);
const which = signal<Which>("all");
const liveOnly = signal(false);
const order = signal<Order>("newest");
export const chosen = signal<string | undefined>(undefined);
/** New rows are shown as they come; else the rows stay as they are. */
const flowing = signal(true);

const WHICH: Record<Which, { label: string; holds: (row: Row) => boolean }> = {
  all: { label: "All", holds: () => true },
  allowed: { label: "Allowed", holds: (row) => row.verdict === "VERDICT_ALLOW" || row.verdict === "VERDICT_REDIRECT_DNS" },
  refused: { label: "Refused", holds: (row) => row.refused },
  tunnelled: { label: "Tunnelled", holds: (row) => row.verdict === "VERDICT_TUNNEL" },
};

const ORDERS: Record<Order, { label: string; compare: (a: Row, b: Row) => number }> = {
  newest: { label: "Newest first", compare: (a, b) => b.started - a.started || (BigInt(b.id) > BigInt(a.id) ? 1 : -1) },
  traffic: { label: "Most traffic", compare: (a, b) => b.octets - a.octets || b.started - a.started },
  program: { label: "By program", compare: (a, b) => a.program.localeCompare(b.program) || b.started - a.started },
};

const COLUMNS: Column[] = [
  { name: "verdict", label: "Verdict" },
  { name: "program", label: "Program" },
  { name: "where", label: "Other end" },
  { name: "reason", label: "Reason" },
  { name: "time", label: "Time" },
  { name: "size", label: "Traffic" },
  { name: "rule", label: "Rule" },
];

/** Ids of what is to be shown, in order. */
function select(): string[] {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const { holds } = WHICH[which.value];
  const only = program.value;
  const fits = (row: Row) =>
    holds(row) && (!liveOnly.value || row.live) && (only === undefined || row.identity === only) && words.every((word) => row.text.includes(word));
  const rows = all().filter(fits);
  // they come in order
  if (order.value === "newest") rows.reverse();
  else rows.sort(ORDERS[order.value].compare);
  return rows.map((row) => row.id);
}

/** The ids, standing still while somebody reads further down. */
function useSelection(): { ids: string[]; waiting: number } {
  const frozen = useRef<string[] | undefined>(undefined);
  const key = [filter.value, program.value, which.value, liveOnly.value, order.value].join("\0");
  const before = useRef(key);
  const fresh = useMemo(select, [changed.value, key]);
  if (flowing.value || before.current !== key) frozen.current = fresh;
  before.current = key;
  const ids = frozen.current ?? fresh;
  return { ids, waiting: Math.max(0, fresh.length - ids.length) };
}

export function Connections() {
  const { ids, waiting } = useSelection();
  const search = useRef<HTMLInputElement>(null);
  const row = chosen.value === undefined ? undefined : find(chosen.value);
  useEffect(() => {
    const key = (event: KeyboardEvent) => {
      if (event.key === "/" && !(event.target instanceof HTMLInputElement)) {
        event.preventDefault();
        search.current?.focus();
      }
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  }, []);
  const at = (place: number) => find(ids[place] ?? "");
  return (
    <div class={`connections${row ? " with-details" : ""}`}>
      <h1 class="unseen">Connections</h1>
      <Toolbar search={search} shown={ids.length} />
      {trouble.value && <Trouble problem={trouble.value} />}
      <Programs />
      <div class="list-place">
        {waiting > 0 && !flowing.value && (
          <button
            type="button"
            class="waiting"
            onClick={() => {
              flowing.value = true;
              document.querySelector(".list-connections")?.scrollTo({ top: 0 });
            }}
          >
            ↑ {count(waiting, "new connection")}
          </button>
        )}
        <List
          kind="connections"
          label="Connections"
          columns={COLUMNS}
          count={ids.length}
          height={narrow.value ? 62 : 34}
          identity={(place) => ids[place] ?? ""}
          chosen={chosen.value}
          tone={(place) => (at(place)?.live ? "is-live" : "is-over")}
          open={(place) => {
            chosen.value = ids[place];
          }}
          keyed={(place, key) => {
            if (key !== "r") return false;
            making.value = at(place);
            return true;
          }}
          attop={(is) => {
            flowing.value = is;
          }}
          cells={(place) => cells(at(place))}
          empty={trouble.value === null ? "Asking the gateway…" : "Nothing here. What programs connect to from now on is shown at once."}
        />
      </div>
      {row && <Details row={row} />}
    </div>
  );
}

function cells(row: Row | undefined) {
  if (!row) return COLUMNS.map(() => "");
  return [
    <Verdict verdict={row.verdict} />,
    <span title={row.identity}>{row.program}</span>,
    <>
      {row.incoming && <span class="quiet">from </span>}
      <span class="name" title={row.connection.remote?.address}>
        {row.where}
      </span>
      <span class="port">{row.port}</span>
    </>,
    <span title={row.connection.decision?.rule}>{row.reason}</span>,
    <time>{clock(row.started)}</time>,
    row.octets > 0 ? size(row.octets) : row.live ? <span class="now">open</span> : "",
    <button
      type="button"
      class="small"
      tabIndex={-1}
      aria-label={`Make a rule from ${row.program} to ${row.where}`}
      onClick={(event) => {
        event.stopPropagation();
        making.value = row;
      }}
    >
      Rule…
    </button>,
  ];
}

function Toolbar({ search, shown }: { search: { current: HTMLInputElement | null }; shown: number }) {
  const only = program.value === undefined ? undefined : loudest("connections").find((talker) => talker.identity === program.value);
  return (
    <div class="toolbar" role="search" aria-label="Filter connections">
      <input
        ref={search}
        type="search"
        placeholder="Program, name, address, port, rule…  ( / )"
        aria-label="Filter"
        value={filter.value}
        onInput={(event) => {
          filter.value = event.currentTarget.value;
        }}
      />
      <div class="chips" role="group" aria-label="Verdict">
        {(Object.keys(WHICH) as Which[]).map((name) => (
          <button type="button" key={name} aria-pressed={which.value === name} onClick={() => (which.value = name)}>
            {WHICH[name].label}
          </button>
        ))}
      </div>
      <button type="button" class="chip" aria-pressed={liveOnly.value} onClick={() => (liveOnly.value = !liveOnly.value)}>
        Open only
      </button>
      <select aria-label="Order" value={order.value} onChange={(event) => (order.value = event.currentTarget.value as Order)}>
        {(Object.keys(ORDERS) as Order[]).map((name) => (
          <option key={name} value={name}>
            {ORDERS[name].label}
          </option>
        ))}
      </select>
      {program.value !== undefined && (
        <button type="button" class="chip" aria-pressed={true} onClick={() => (program.value = undefined)}>
          {only?.program ?? program.value} ✕
        </button>
      )}
      <p class="count" role="status">
        {number(shown)} of {number(all().length)}
        {lost.value > 0 && ` · ${number(lost.value)} missed`}
      </p>
    </div>
  );
}

/** Who talks: a click shows his alone. */
function Programs() {
  const talkers = loudest("connections").slice(0, 200);
  const most = Math.max(1, ...talkers.map((talker) => talker.connections));
  return (
    <nav class="programs" aria-label="Programs">
      <h2>Programs</h2>
      <ul>
        {talkers.map((talker) => (
          <li key={talker.identity}>
            <button
              type="button"
              aria-pressed={program.value === talker.identity}
              title={talker.identity}
              onClick={() => {
                program.value = program.value === talker.identity ? undefined : talker.identity;
              }}
            >
              <span class="name">{talker.program}</span>
              <span class="numbers">
                {talker.refused > 0 && <span class="tone-bad">{number(talker.refused)} refused</span>}
                <span>{number(talker.connections)}</span>
              </span>
              <meter min={0} max={most} value={talker.connections} aria-hidden="true" />
            </button>
          </li>
        ))}
      </ul>
    </nav>
  );
}

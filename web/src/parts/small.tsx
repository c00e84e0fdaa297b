// Small things that views are made of.

import type { ComponentChildren } from "preact";
import type { Failure } from "../api/client";
import { ACCESSES, VERDICTS, type Tone } from "../api/words";
import type { VerdictJson } from "../generated/portmaster/flow/v1/flow_pb";
import { loginOpen, me } from "../state/me";

const SIGNS: Record<Tone, string> = {
  good: "M3.5 8.5 6.5 11.5 12.5 4.5",
  bad: "M4.5 4.5 11.5 11.5 M11.5 4.5 4.5 11.5",
  warn: "M8 3.5V9 M8 11.8v.4",
  tunnel: "M3 12V8a5 5 0 0 1 10 0v4 M6.5 12V8.500a1.5 1.5 0 0 1 3 0V12",
  plain: "M4 8H12",
};

/** A drawn sign; a word stands beside it always. */
export function Sign({ tone }: { tone: Tone }) {
  return (
    <svg class={`sign tone-${tone}`} viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={SIGNS[tone]} />
    </svg>
  );
}

export function Mark({ tone, children }: { tone: Tone; children: ComponentChildren }) {
  return (
    <span class={`mark tone-${tone}`}>
      <Sign tone={tone} />
      {children}
    </span>
  );
}

export function Verdict({ verdict }: { verdict: VerdictJson | undefined }) {
  const { word, tone } = VERDICTS[verdict ?? "VERDICT_UNSPECIFIED"];
  return <Mark tone={tone}>{word}</Mark>;
}

/** What went wrong, and what helps. */
export function Trouble({ problem }: { problem: Failure | undefined }) {
  if (!problem) return null;
  return (
    <div class="trouble" role="alert">
      <Sign tone="warn" />
      <p>{problem.message}</p>
      {problem.needsLogin && (
        <button type="button" class="small" onClick={() => (loginOpen.value = true)}>
          Use a token…
        </button>
      )}
    </div>
  );
}

/** `wide`: as the page; `double`: as two others; `tall`: as high as two others. */
export function Card({ title, children, more, shape }: { title: string; children: ComponentChildren; more?: ComponentChildren; shape?: "wide" | "double" | "tall" }) {
  const id = `card-${title.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`;
  return (
    <section class={`card ${shape ?? ""}`} aria-labelledby={id}>
      <header>
        <h2 id={id}>{title}</h2>
        {more}
      </header>
      {children}
    </section>
  );
}

/** Names and values. Those without a value are left out. */
export function Facts({ facts }: { facts: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {facts
        .filter(([, value]) => value !== undefined && value !== "" && value !== null && value !== false)
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

/** A table of few rows, which may be wider than the screen by itself. */
export function Table({ label, heads, rows, empty }: { label: string; heads: string[]; rows: ComponentChildren[][]; empty: string }) {
  if (rows.length === 0) return <p class="quiet">{empty}</p>;
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label={`${label}, table`}>
      <table>
        <thead>
          <tr>
            {heads.map((head) => (
              <th key={head} scope="col">
                {head}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((cells, at) => (
            <tr key={at}>
              {cells.map((cell, place) => (place === 0 ? <th key={place} scope="row">{cell}</th> : <td key={place}>{cell}</td>))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** `root`, `user 1000`; and what he may. */
export function whoami(): string {
  const caller = me.value;
  if (!caller) return "";
  const user = caller.uid === undefined ? "unknown" : caller.uid === 0 ? "root" : `user ${caller.uid}`;
  const name = caller.token ? `${user}, token ${caller.token}` : user;
  return `${name}: ${ACCESSES[caller.access ?? "ACCESS_UNSPECIFIED"]}`;
}

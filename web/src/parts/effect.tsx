// What a change does, before it is done.

import { count } from "../api/words";
import { row } from "../state/connections";
import type { Change } from "../state/rule";
import { Sign, Verdict } from "./small";

type Explained = Change["explainedBefore"];

function Fate({ title, explained }: { title: string; explained: Explained }) {
  const decision = explained?.decision;
  if (!decision) return null;
  return (
    <div class="fate">
      <dt>{title}</dt>
      <dd>
        <Verdict verdict={decision.verdict} />
        <span class="quiet">{[decision.reason?.replaceAll("-", " "), decision.rule].filter(Boolean).join(" · ")}</span>
      </dd>
    </div>
  );
}

export function Effect({ change }: { change: Change }) {
  const changedCount = change.connectionsChanged ?? 0;
  const file = change.after?.id ? `${change.after.id}.toml` : "the file";
  return (
    <div class="effect">
      <dl class="fates">
        <Fate title="Now" explained={change.explainedBefore} />
        <Fate title="Then" explained={change.explainedAfter} />
      </dl>
      {(change.lockOuts ?? []).map((out) => (
        <p class="trouble" key={out.what}>
          <Sign tone="warn" />
          <span>This locks you out: {out.what}</span>
        </p>
      ))}
      {(change.warnings ?? []).map((warning) => (
        <p class="trouble" key={warning}>
          <Sign tone="warn" />
          <span>{warning}</span>
        </p>
      ))}
      <p class="quiet">
        {changedCount === 0 ? "No other connection that is open now is decided otherwise." : `${count(changedCount, "open connection is", "open connections are")} decided otherwise:`}
      </p>
      {changedCount > 0 && (
        <ul class="touched">
          {(change.connections ?? []).slice(0, 4).map((touched) => {
            const shown = row(touched.connection ?? {});
            return (
              <li key={shown.id}>
                <span>
                  {shown.program} → {shown.where}
                </span>
                <Verdict verdict={touched.after?.verdict} />
              </li>
            );
          })}
          {changedCount > 4 && <li class="quiet">and {changedCount - 4} more</li>}
        </ul>
      )}
      {change.diff && (
        <details>
          <summary>What changes in {file}</summary>
          <pre tabIndex={0}>
            {change.diff.split("\n").map((line, at) => (
              <span key={at} class={line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : ""}>
                {line}
                {"\n"}
              </span>
            ))}
          </pre>
        </details>
      )}
    </div>
  );
}

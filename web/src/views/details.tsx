// One connection, all that is known of it.

import { useEffect, useRef, useState } from "preact/hooks";
import { type Failure, type Output, call, failure } from "../api/client";
import { SCOPES, clock, duration, endpoint, number, protocol, size } from "../api/words";
import { Facts, Trouble, Verdict } from "../parts/small";
import { type Row, lasted } from "../state/connections";
import { say } from "../state/page";
import { question } from "../state/rule";
import { chosen } from "./connections";
import { making } from "./rule-maker";

/** Why it was decided so, step by step, by what is in force now. */
function useExplained(row: Row) {
  const [said, setSaid] = useState<Output<"Policy", "explain"> | undefined>(undefined);
  useEffect(() => {
    const stop = new AbortController();
    call("Policy", "explain", question(row.connection), stop.signal)
      .then(setSaid)
      .catch(() => setSaid(undefined));
    return () => stop.abort();
  }, [row.id, row.verdict]);
  return said;
}

export function Details({ row }: { row: Row }) {
  const head = useRef<HTMLHeadingElement>(null);
  const [problem, setProblem] = useState<Failure | undefined>(undefined);
  const explained = useExplained(row);
  const close = () => {
    chosen.value = undefined;
    requestAnimationFrame(() => document.querySelector<HTMLElement>(".list-connections [data-active]")?.focus());
  };
  useEffect(() => {
    head.current?.focus();
    setProblem(undefined);
  }, [row.id]);
  const end = () => {
    call("Connections", "close", { id: row.id })
      .then(() => say({ text: `Ended: ${row.program} → ${row.where}` }))
      .catch((error: unknown) => setProblem(failure(error)));
  };
  return (
    <aside
      class="details"
      aria-label="Connection"
      onKeyDown={(event) => {
        if (event.key === "Escape") close();
      }}
    >
      <header>
        <h2 ref={head} tabIndex={-1}>
          {row.program} <span class="quiet">{row.incoming ? "←" : "→"}</span> {row.where}
        </h2>
        <button type="button" class="plain close" aria-label="Close details" onClick={close}>
          ✕
        </button>
      </header>
      <p class="fate-line">
        <Verdict verdict={row.verdict} /> <span>{row.reason}</span>
      </p>
      <div class="actions">
        <button type="button" class="primary" onClick={() => (making.value = row)}>
          Make a rule…
        </button>
        {row.live && (
          <button type="button" onClick={end}>
            End it
          </button>
        )}
      </div>
      <Trouble problem={problem} />
      <Connection row={row} />
      <Program row={row} />
      {explained && (
        <details>
          <summary>Why, step by step</summary>
          <ol class="steps">
            {(explained.steps ?? []).map((step, at) => (
              <li key={at}>{step}</li>
            ))}
            <li>
              <Verdict verdict={explained.decision?.verdict} /> {explained.decision?.rule}
            </li>
          </ol>
        </details>
      )}
    </aside>
  );
}

function Connection({ row }: { row: Row }) {
  const { remote, local, domain, scope, traffic, hops, tunnelProblem, decision } = row.connection;
  return (
    <Facts
      facts={[
        ["Name", domain],
        ["Other end", <span class="mono">{endpoint(remote)}</span>],
        ["This end", <span class="mono">{endpoint(local)}</span>],
        ["Protocol", protocol(row.connection.protocol)],
        ["Where", SCOPES[scope ?? "SCOPE_UNSPECIFIED"]],
        ["Rule", decision?.rule],
        ["Profile", decision?.profile],
        ["Began", clock(row.started)],
        ["State", row.live ? "open" : row.refused ? "refused" : "ended"],
        ["Lasted", duration(lasted(row))],
        ["Sent", traffic && `${size(Number(traffic.sentBytes ?? 0))} in ${number(Number(traffic.sentPackets ?? 0))} packets`],
        ["Received", traffic && `${size(Number(traffic.receivedBytes ?? 0))} in ${number(Number(traffic.receivedPackets ?? 0))} packets`],
        ["Gate17", hops?.join(" → ")],
        ["Not tunnelled", tunnelProblem],
      ]}
    />
  );
}

function Program({ row }: { row: Row }) {
  const { process, processUnknown, uid } = row.connection;
  const owner = process?.uid ?? uid;
  return (
    <Facts
      facts={[
        ["Program", process?.executable && <span class="mono">{process.executable}</span>],
        ["Says it is", process && !process.executable && <span class="mono">{process.claimedExecutable}</span>],
        ["Replaced", process?.executableDeleted && "its file was unlinked or replaced since it was started"],
        ["Script", process?.script && <span class="mono">{process.script}</span>],
        ["Command", process?.commandLine?.length ? <span class="mono">{process.commandLine.join(" ")}</span> : undefined],
        ["Process", process?.pid],
        ["User", owner === undefined ? undefined : String(owner)],
        ["Unit", process?.unit],
        ["User's unit", process?.userUnit],
        ["Container", process?.container],
        ["Flatpak", process?.flatpak],
        ["Snap", process?.snap],
        ["Started by", process?.parents?.length ? <span class="mono">{process.parents.join(" ← ")}</span> : undefined],
        ["Not known", processUnknown],
      ]}
    />
  );
}

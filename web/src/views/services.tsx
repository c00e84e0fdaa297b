// The services of the mesh: how they are, and a way to start them anew.

import { useState } from "preact/hooks";
import { type Failure, type Output, call, failure } from "../api/client";
import { HEALTHS, duration, number } from "../api/words";
import { Dialog } from "../parts/dialog";
import { Card, Facts, Mark, Sign, Trouble } from "../parts/small";
import { say } from "../state/page";
import { usePolled } from "../state/poll";

type One = NonNullable<Output<"System", "listServices">["services"]>[number];

export function Services() {
  const { value, problem, again } = usePolled("System", "listServices", 3_000);
  const [asked, ask] = useState<string | undefined>(undefined);
  return (
    <div class="services">
      <h1 class="unseen">Services</h1>
      <Trouble problem={problem} />
      {(value?.services ?? []).map((service) => (
        <One key={service.name} service={service} restart={ask} />
      ))}
      {asked && (
        <Restart
          name={asked}
          close={() => {
            ask(undefined);
            again();
          }}
        />
      )}
    </div>
  );
}

function One({ service, restart }: { service: One; restart: (name: string) => void }) {
  const { state, problem } = service;
  const name = service.name ?? "";
  const { word, tone } = state ? HEALTHS[state.health ?? "HEALTH_UNSPECIFIED"] : { word: "Not there", tone: "bad" as const };
  const counters = Object.entries(state?.counters ?? {}).sort(([a], [b]) => a.localeCompare(b));
  return (
    <Card title={name} more={<Mark tone={tone}>{word}</Mark>}>
      {problem && <p class="quiet">{problem}</p>}
      {(state?.problems ?? []).map((one) => (
        <p class="trouble" key={one.code}>
          <Sign tone="warn" />
          <span>{one.text}</span>
        </p>
      ))}
      <Facts
        facts={[
          ["Version", state?.version],
          ["Process", state?.pid],
          ["Runs for", state?.started && duration((Date.now() - Date.parse(state.started)) / 1000)],
          ["Policy", state?.policyVersion && state.policyVersion !== "0" ? `number ${state.policyVersion}` : undefined],
        ]}
      />
      {counters.length > 0 && (
        <details>
          <summary>{counters.length} counters</summary>
          <dl class="counters">
            {counters.map(([counter, value]) => (
              <div key={counter}>
                <dt>{counter.replaceAll("_", " ")}</dt>
                <dd>{number(Number(value))}</dd>
              </div>
            ))}
          </dl>
        </details>
      )}
      <button type="button" class="small" aria-label={`Restart ${name}`} onClick={() => restart(name)}>
        Restart…
      </button>
    </Card>
  );
}

function Restart({ name, close }: { name: string; close: () => void }) {
  const [problem, setProblem] = useState<Failure | undefined>(undefined);
  const [busy, setBusy] = useState(false);
  const restart = () => {
    setBusy(true);
    call("System", "restartService", { name })
      .then(() => {
        say({ text: `${name} is started anew.` });
        close();
      })
      .catch((error: unknown) => setProblem(failure(error)))
      .finally(() => setBusy(false));
  };
  return (
    <Dialog title={`Restart ${name}?`} close={close}>
      <p>Connections that are open go on. New ones wait until it is back; none is lost.</p>
      <Trouble problem={problem} />
      <footer>
        <button type="button" onClick={close}>
          Cancel
        </button>
        <button type="button" class="primary" autofocus disabled={busy} onClick={restart}>
          Restart
        </button>
      </footer>
    </Dialog>
  );
}

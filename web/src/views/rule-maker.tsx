// A rule from a connection: opened by one click with what is likely meant, saved by another. What it does is shown between.

import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { type Failure, call, failure } from "../api/client";
import { ACTIONS } from "../api/words";
import { Dialog } from "../parts/dialog";
import { Effect } from "../parts/effect";
import { Sign, Trouble, Verdict } from "../parts/small";
import type { Row } from "../state/connections";
import { say } from "../state/page";
import { type Action, type Change, type Draft, draft as likely, matcher, reaches, request, saving } from "../state/rule";

/** The connection that a rule is made of. */
export const making = signal<Row | undefined>(undefined);

const CHOICES: Action[] = ["ACTION_ALLOW", "ACTION_BLOCK", "ACTION_DROP", "ACTION_TUNNEL"];

/** A dry run of what is chosen, a moment after the last choice. */
function useEffectOf(row: Row, chosen: Draft) {
  const [change, setChange] = useState<Change | undefined>(undefined);
  const [problem, setProblem] = useState<Failure | undefined>(undefined);
  useEffect(() => {
    const stop = new AbortController();
    const asked = { ...request(row, chosen), dryRun: true };
    call("Policy", "addRule", asked, stop.signal)
      .then((said) => {
        setChange(said);
        setProblem(undefined);
      })
      .catch((error: unknown) => {
        if (stop.signal.aborted) return;
        setChange(undefined);
        setProblem(failure(error));
      });
    return () => stop.abort();
  }, [row.id, chosen.action, chosen.reach.id, chosen.onlyPort, chosen.everyone]);
  return { change, problem, setProblem };
}

/** Takes a rule away that was made just now. */
async function undo(saved: Change) {
  await call("Policy", "removeRule", { id: saved.after?.id ?? "", number: 1, expectedRevision: saved.after?.revision ?? "" });
}

export function RuleMaker() {
  const row = making.value;
  return row ? <Maker key={row.id} row={row} /> : null;
}

function Maker({ row }: { row: Row }) {
  const [chosen, choose] = useState<Draft>(() => likely(row));
  const [force, setForce] = useState(false);
  const [busy, setBusy] = useState(false);
  const { change, problem, setProblem } = useEffectOf(row, chosen);
  const close = () => {
    making.value = undefined;
  };
  const locksOut = (change?.lockOuts ?? []).length > 0;
  const save = async () => {
    if (!change) return;
    setBusy(true);
    try {
      const saved = await call("Policy", "addRule", saving(request(row, chosen), change, force));
      close();
      const what = `${ACTIONS[chosen.action].word}: ${chosen.everyone ? "everyone" : row.program} → ${chosen.reach.label}`;
      say({ text: `Saved. ${what}`, undo: () => undo(saved) });
    } catch (error) {
      setProblem(failure(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <Dialog title={`New rule for ${chosen.everyone ? "every program" : row.program}`} close={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void save();
        }}
      >
        <Choices row={row} chosen={chosen} choose={choose} />
        <section class="preview" aria-label="Effect" aria-live="polite">
          <h3>Effect</h3>
          <Trouble problem={problem} />
          {change ? <Effect change={change} /> : !problem && <p class="quiet">Asking…</p>}
        </section>
        {locksOut && (
          <label class="tick">
            <input type="checkbox" checked={force} onChange={(event) => setForce(event.currentTarget.checked)} />
            Save it all the same
          </label>
        )}
        <footer>
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class="primary" autofocus disabled={!change || busy || (locksOut && !force)}>
            Save rule
          </button>
        </footer>
      </form>
    </Dialog>
  );
}

function Choices({ row, chosen, choose }: { row: Row; chosen: Draft; choose: (draft: Draft) => void }) {
  const known = matcher(row.connection);
  return (
    <>
      <p class="subject">
        <b>{row.program}</b> {row.incoming ? "←" : "→"} <span class="mono">{row.where}</span> <span class="quiet">{row.port}</span>
        <Verdict verdict={row.verdict} />
      </p>
      <fieldset class="segments">
        <legend>From now on</legend>
        {CHOICES.map((action) => (
          <label key={action} class={`tone-${ACTIONS[action].tone}`}>
            <input type="radio" name="action" checked={chosen.action === action} onChange={() => choose({ ...chosen, action })} />
            <span>
              <Sign tone={ACTIONS[action].tone} />
              {ACTIONS[action].word}
            </span>
          </label>
        ))}
      </fieldset>
      <fieldset class="ticks">
        <legend>{row.incoming ? "Who connects" : "Where to"}</legend>
        {reaches(row.connection).map((reach) => (
          <label class="tick" key={reach.id}>
            <input type="radio" name="reach" checked={chosen.reach.id === reach.id} onChange={() => choose({ ...chosen, reach })} />
            {reach.label}
          </label>
        ))}
      </fieldset>
      <fieldset class="ticks">
        <legend>Only, or also</legend>
        {row.port.includes("/") && (
          <label class="tick">
            <input type="checkbox" checked={chosen.onlyPort} onChange={(event) => choose({ ...chosen, onlyPort: event.currentTarget.checked })} />
            Only port {row.port}
          </label>
        )}
        <label class="tick">
          <input
            type="checkbox"
            checked={chosen.everyone}
            disabled={!known}
            onChange={(event) => choose({ ...chosen, everyone: event.currentTarget.checked })}
          />
          For every program
        </label>
      </fieldset>
    </>
  );
}

// What the owner wants, file by file: read, changed with its effect shown first, taken away rule by rule.

import { useEffect, useState } from "preact/hooks";
import { type Failure, type Output, call, failure } from "../api/client";
import { ACTIONS, count } from "../api/words";
import { Dialog } from "../parts/dialog";
import { Effect } from "../parts/effect";
import { Card, Mark, Trouble } from "../parts/small";
import { say } from "../state/page";
import { usePolled } from "../state/poll";
import type { Change } from "../state/rule";
import type { RuleJson } from "../generated/portmaster/policy/v1/policy_pb";

/** A change that is looked at: how to ask for it, and its name. */
interface Proposal {
  title: string;
  ask: (dryRun: boolean, seen: Change | undefined, force: boolean) => Promise<Change>;
}

export function Rules() {
  const files = usePolled("Policy", "listProfiles", 5_000);
  const policy = usePolled("Policy", "get", 5_000);
  const [edited, edit] = useState<string | undefined>(undefined);
  const [proposal, propose] = useState<Proposal | undefined>(undefined);
  const done = () => {
    propose(undefined);
    edit(undefined);
    files.again();
    policy.again();
  };
  const rulesOf = (id: string): RuleJson[] =>
    (id === "global" ? policy.value?.global?.rules : policy.value?.profiles?.find((profile) => profile.id === id)?.rules) ?? [];
  const shown = files.value?.profiles ?? [];
  // what holds where the owner says nothing
  const shipped = files.value && !shown.some((file) => file.id === "global") ? rulesOf("global") : [];
  return (
    <div class="rules">
      <h1 class="unseen">Rules</h1>
      <Trouble problem={files.problem ?? policy.problem} />
      {files.value && shown.length === 0 && <p class="quiet wide">There is no rule of yours yet. Make one from a connection.</p>}
      {shown.map((file) => {
        const id = file.id ?? "";
        return (
          <Card
            key={id}
            title={id === "global" ? "For every program" : file.name || id}
            more={
              <button type="button" class="small" aria-label={`Edit ${id}.toml`} onClick={() => edit(id)}>
                {id}.toml…
              </button>
            }
          >
            {file.problem && <p class="trouble">{file.problem}</p>}
            <ol class="rule-list">
              {rulesOf(id).map((rule, at) => (
                <li key={at}>
                  <RuleLine rule={rule} />
                  <TakeAway id={id} rule={rule} propose={(number) => propose(removal(id, number, file.revision ?? ""))} />
                </li>
              ))}
            </ol>
            {rulesOf(id).length === 0 && !file.problem && <p class="quiet">No rules; its settings alone.</p>}
          </Card>
        );
      })}
      {shipped.length > 0 && (
        <Card title="For every program, as shipped" shape="wide">
          <ol class="rule-list">
            {shipped.map((rule, at) => (
              <li key={at}>
                <RuleLine rule={rule} />
              </li>
            ))}
          </ol>
        </Card>
      )}
      {edited !== undefined && <Editor id={edited} close={() => edit(undefined)} propose={propose} />}
      {proposal && <Proposed proposal={proposal} close={() => propose(undefined)} done={done} />}
    </div>
  );
}

function removal(id: string, number: number, revision: string): Proposal {
  return {
    title: `Take away rule ${number} of ${id}?`,
    ask: (dryRun, _, force) => call("Policy", "removeRule", { id, number, expectedRevision: revision, dryRun, force }),
  };
}

/** Only what stands in the file itself can be taken out of it. */
function TakeAway({ id, rule, propose }: { id: string; rule: RuleJson; propose: (number: number) => void }) {
  const [source, number] = (rule.source ?? "").split("#");
  if (source !== id || !number) return null;
  return (
    <button type="button" class="small" aria-label={`Take away rule ${number} of ${id}`} onClick={() => propose(Number(number))}>
      Take away…
    </button>
  );
}

/** `Block · outgoing · example.org · 443/tcp` */
function RuleLine({ rule }: { rule: RuleJson }) {
  const { word, tone } = ACTIONS[rule.action ?? "ACTION_UNSPECIFIED"];
  const remotes = (rule.remotes ?? []).map((remote) => {
    if (remote.domain) return remote.domain;
    if (remote.zone) return `*.${remote.zone}`;
    if (remote.scope) return remote.scope.replace("SCOPE_", "").toLowerCase();
    return remote.network ? network(remote.network.address ?? "", remote.network.prefixLength ?? 0) : "addresses";
  });
  const ports = (rule.remotePorts ?? rule.localPorts ?? []).map((range) => (range.first === range.last ? `${range.first}` : `${range.first}–${range.last}`));
  const direction = rule.direction === "DIRECTION_INCOMING" ? "incoming" : rule.direction === "DIRECTION_OUTGOING" ? "outgoing" : "";
  const parts = [direction, remotes.join(", ") || "everywhere", ports.length > 0 && `port ${ports.join(", ")}`, rule.note];
  return (
    <span class="rule-line">
      <Mark tone={tone}>{word}</Mark>
      <span>{parts.filter(Boolean).join(" · ")}</span>
      <span class="quiet">{rule.source}</span>
    </span>
  );
}

/** Octets in base64 as an address; IPv6 without the short form's rules but for one. */
function network(text: string, length: number): string {
  const octets = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const full = octets.length * 8 === length;
  const address =
    octets.length === 4
      ? octets.join(".")
      : Array.from({ length: 8 }, (_, at) => (((octets[2 * at] ?? 0) << 8) | (octets[2 * at + 1] ?? 0)).toString(16))
          .join(":")
          .replace(/\b(0(:0)+)\b/, ":")
          .replace(/:{3,}/, "::");
  return full ? address : `${address}/${length}`;
}

function Editor({ id, close, propose }: { id: string; close: () => void; propose: (proposal: Proposal) => void }) {
  const [file, setFile] = useState<Output<"Policy", "getProfile"> | undefined>(undefined);
  const [text, setText] = useState("");
  const [problem, setProblem] = useState<Failure | undefined>(undefined);
  useEffect(() => {
    call("Policy", "getProfile", { id })
      .then((said) => {
        setFile(said);
        setText(said.toml ?? "");
      })
      .catch((error: unknown) => setProblem(failure(error)));
  }, [id]);
  const show = () => {
    const expectedRevision = file?.revision ?? "";
    propose({
      title: `Save ${id}.toml?`,
      ask: (dryRun, _, force) => call("Policy", "setProfile", { id, toml: text, expectedRevision, dryRun, force }),
    });
  };
  return (
    <Dialog title={`${id}.toml`} close={close} wide>
      <Trouble problem={problem} />
      <textarea aria-label={`Text of ${id}.toml`} spellcheck={false} rows={18} value={text} onInput={(event) => setText(event.currentTarget.value)} />
      <footer>
        <button type="button" onClick={close}>
          Cancel
        </button>
        <button type="button" class="primary" disabled={!file || text === (file.toml ?? "")} onClick={show}>
          Show what it does…
        </button>
      </footer>
    </Dialog>
  );
}

function Proposed({ proposal, close, done }: { proposal: Proposal; close: () => void; done: () => void }) {
  const [change, setChange] = useState<Change | undefined>(undefined);
  const [problem, setProblem] = useState<Failure | undefined>(undefined);
  const [force, setForce] = useState(false);
  const locksOut = (change?.lockOuts ?? []).length > 0;
  useEffect(() => {
    proposal
      .ask(true, undefined, false)
      .then(setChange)
      .catch((error: unknown) => setProblem(failure(error)));
  }, [proposal]);
  const save = () => {
    proposal
      .ask(false, change, force)
      .then((saved) => {
        say({ text: `Saved: ${count(saved.connectionsChanged ?? 0, "open connection is", "open connections are")} decided otherwise.` });
        done();
      })
      .catch((error: unknown) => setProblem(failure(error)));
  };
  return (
    <Dialog title={proposal.title} close={close}>
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
        <button type="button" class="primary" disabled={!change || (locksOut && !force)} onClick={save}>
          Save
        </button>
      </footer>
    </Dialog>
  );
}

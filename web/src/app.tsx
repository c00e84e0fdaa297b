// The frame around every view: what it is, how it stands, where to go.

import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { type Failure, failure } from "./api/client";
import { clock } from "./api/words";
import { Dialog } from "./parts/dialog";
import { Mark, Sign, Trouble, whoami } from "./parts/small";
import { follow, trouble } from "./state/connections";
import { logIn, loginOpen, me, pause, pausedUntil, refresh, refused, resume, version } from "./state/me";
import { VIEWS, type View, current, notice, say, whileSeen } from "./state/page";
import { Connections } from "./views/connections";
import { Dns } from "./views/dns";
import { Gate17 } from "./views/gate17";
import { Overview } from "./views/overview";
import { RuleMaker } from "./views/rule-maker";
import { Rules } from "./views/rules";
import { Services } from "./views/services";

const SHOWN: Record<View, ComponentType> = { overview: Overview, connections: Connections, dns: Dns, gate17: Gate17, rules: Rules, services: Services };
const PAUSES: [string, number][] = [
  ["5 minutes", 300],
  ["15 minutes", 900],
  ["1 hour", 3_600],
];

/** The connections' stream, for whom may see it. */
function useStream(access: string | undefined) {
  useEffect(() => {
    if (access === undefined || access.startsWith("ACCESS_ANYBODY")) return;
    return whileSeen(follow);
  }, [access]);
}

export function App() {
  useEffect(() => {
    void refresh();
    const timer = setInterval(() => document.hidden || void refresh(), 10_000);
    return () => clearInterval(timer);
  }, []);
  useStream(me.value && `${me.value.access} ${me.value.token ?? ""}`);
  const Shown = SHOWN[current.value];
  const stranger = me.value?.access === "ACCESS_ANYBODY";
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => {
        event.preventDefault();
        document.getElementById("main")?.focus();
      }}>
        To the content
      </a>
      <Header />
      <main id="main" tabIndex={-1} class={`view-${current.value}`}>
        {stranger ? <Stranger /> : <Shown />}
      </main>
      <RuleMaker />
      {loginOpen.value && <Login />}
      <Notice />
    </>
  );
}

function Header() {
  return (
    <header class="top">
      <span class="brand">
        <svg viewBox="0 0 32 32" aria-hidden="true" focusable="false">
          <path class="shield" d="M16 1.500 3.500 6v9.200c0 7.400 5.200 12.700 12.500 15.300 7.300-2.600 12.500-7.900 12.500-15.300V6z" />
          <path class="tick-sign" d="m10 16 4.300 4.300L22.500 12" />
        </svg>
        Portmaster
      </span>
      <nav aria-label="Views">
        <ul>
          {(Object.keys(VIEWS) as View[]).map((view) => (
            <li key={view}>
              <a href={`#/${view}`} aria-current={current.value === view ? "page" : undefined}>
                {VIEWS[view]}
              </a>
            </li>
          ))}
        </ul>
      </nav>
      <State />
      <button type="button" class="plain account" onClick={() => (loginOpen.value = true)} title={whoami()}>
        {me.value?.token ?? (me.value?.uid === 0 ? "root" : me.value?.uid === undefined ? "Account" : `user ${me.value.uid}`)}
      </button>
    </header>
  );
}

/** Protects, is paused, or is not there. */
function State() {
  const [problem, setProblem] = useState<Failure | undefined>(undefined);
  const act = (what: Promise<void>) => what.then(() => setProblem(undefined)).catch((error: unknown) => setProblem(failure(error)));
  useEffect(() => {
    if (problem) say({ text: problem.message });
  }, [problem]);
  const until = pausedUntil.value;
  if (refused.value && refused.value.code === "unreachable") return <p class="state" role="status"><Mark tone="bad">Gateway not there</Mark></p>;
  if (until !== undefined) {
    return (
      <div class="state">
        <p role="status">
          <Mark tone="warn">Paused until {clock(until)}</Mark>
        </p>
        <button type="button" class="small" onClick={() => void act(resume())}>
          Resume
        </button>
      </div>
    );
  }
  return (
    <div class="state">
      <p role="status">{trouble.value ? <Mark tone="warn">Out of touch</Mark> : <Mark tone="good">Protecting</Mark>}</p>
      <button type="button" class="small" popovertarget="pauses" aria-haspopup="true">
        Pause
      </button>
      <div id="pauses" popover="auto" role="group" aria-label="Pause">
        <p>Let pass what would be refused, for</p>
        {PAUSES.map(([label, seconds]) => (
          <button
            type="button"
            key={seconds}
            onClick={() => {
              document.getElementById("pauses")?.hidePopover();
              void act(pause(seconds));
            }}
          >
            {label}
          </button>
        ))}
      </div>
    </div>
  );
}

function Stranger() {
  return (
    <section class="stranger" aria-labelledby="stranger-title">
      <h1 id="stranger-title">This user may not look</h1>
      <p>
        Members of group <code>portmaster</code> may, and whoever has a token: <code>portmaster token create --name browser --scope decide --ttl 90d</code>
      </p>
      <button type="button" class="primary" onClick={() => (loginOpen.value = true)}>
        Use a token…
      </button>
    </section>
  );
}

function Login() {
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState<Failure | undefined>(refused.value);
  const close = () => {
    loginOpen.value = false;
  };
  const send = (what: string | undefined) =>
    logIn(what)
      .then(close)
      .catch((error: unknown) => setProblem(failure(error)));
  return (
    <Dialog title="Who looks" close={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void send(token);
        }}
      >
        {me.value && <p>{whoami()}.</p>}
        <p class="quiet">
          A token lets do more. As root: <code>portmaster token create --name browser --scope decide --ttl 90d</code>. It is kept as a cookie that no script reads and no other user can use.
        </p>
        <Trouble problem={problem} />
        <label class="field">
          Token
          <input type="password" autocomplete="off" autofocus value={token} onInput={(event) => setToken(event.currentTarget.value)} />
        </label>
        <footer>
          {(me.value?.token || refused.value?.needsLogin) && (
            <button type="button" onClick={() => void send(undefined)}>
              Forget the token
            </button>
          )}
          <button type="submit" class="primary" disabled={token.trim() === ""}>
            Use it
          </button>
        </footer>
        <p class="quiet">
          Portmaster {version.value} · <a href="/openapi.json">what can be called</a> · <a href="/licences.txt">licences</a>
        </p>
      </form>
    </Dialog>
  );
}

function Notice() {
  const said = notice.value;
  return (
    <div class="notice" role="status" aria-live="polite">
      {said && (
        <p>
          <Sign tone="plain" />
          <span>{said.text}</span>
          {said.undo && (
            <button
              type="button"
              class="small"
              onClick={() => {
                said
                  .undo?.()
                  .then(() => say({ text: "Taken back." }))
                  .catch((error: unknown) => say({ text: failure(error).message }));
              }}
            >
              Undo
            </button>
          )}
        </p>
      )}
    </div>
  );
}

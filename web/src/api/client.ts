// Calls and streams of the gateway, typed by the contracts: `call("System", "whoAmI", {})`.

import type { DescMessage, MessageJsonType } from "@bufbuild/protobuf";

/** The public services, as the generated types have them. */
type Services = {
  Connections: typeof import("../generated/portmaster/api/v1/connections_pb").Connections;
  Dns: typeof import("../generated/portmaster/api/v1/dns_pb").Dns;
  Gate17: typeof import("../generated/portmaster/api/v1/gate17_pb").Gate17;
  Policy: typeof import("../generated/portmaster/api/v1/policy_pb").Policy;
  System: typeof import("../generated/portmaster/api/v1/system_pb").System;
};
export type Service = keyof Services;
type Methods<S extends Service> = Services[S]["method"];
export type Method<S extends Service> = keyof Methods<S> & string;
type Part<S extends Service, M extends Method<S>, P extends "input" | "output"> = Methods<S>[M] extends Record<P, infer Desc extends DescMessage> ? Desc : never;
export type Input<S extends Service, M extends Method<S>> = MessageJsonType<Part<S, M, "input">>;
export type Output<S extends Service, M extends Method<S>> = MessageJsonType<Part<S, M, "output">>;

/** What the gateway refused, in its words. */
export class Failure extends Error {
  /** `permission_denied`, `unavailable`, …; `unreachable` where nobody answered. */
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }

  /** A token would help. */
  get needsLogin(): boolean {
    return this.code === "unauthenticated" || this.code === "permission_denied";
  }
}

/** Anything thrown, as something to show. */
export function failure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  return new Failure("unreachable", "The gateway does not answer. `systemctl status portmaster-api-gateway` says why.");
}

function path(service: string, method: string): string {
  return `/portmaster.api.v1.${service}/${method.charAt(0).toUpperCase()}${method.slice(1)}`;
}

async function post(where: string, message: unknown, headers: Record<string, string>, signal?: AbortSignal): Promise<Response> {
  const response = await fetch(where, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(message),
    signal: signal ?? null,
    credentials: "same-origin",
  });
  if (response.ok) return response;
  const said = (await response.json().catch(() => ({}))) as { code?: string; message?: string };
  throw new Failure(said.code ?? "unknown", said.message ?? `The gateway answered ${response.status}.`);
}

/** One question, one answer. */
export async function call<S extends Service, M extends Method<S>>(
  service: S,
  method: M,
  message: Input<S, M>,
  signal?: AbortSignal,
): Promise<Output<S, M>> {
  try {
    const response = await post(path(service, method), message, {}, signal);
    return (await response.json()) as Output<S, M>;
  } catch (error) {
    throw error instanceof DOMException ? error : failure(error);
  }
}

/** Keeps a token as a cookie that scripts cannot read; undefined forgets it. */
export async function session(token?: string): Promise<void> {
  try {
    if (token === undefined) await fetch("/session", { method: "DELETE" });
    else await post("/session", { token }, {});
  } catch (error) {
    throw failure(error);
  }
}

/** What a stream tells. */
export interface Listener<T> {
  message(message: T): void;
  /** It stands (undefined), or broke and is tried again. */
  state(problem: Failure | undefined): void;
}

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;

/**
 * Follows a stream until it is told to stop; goes on behind the last message where the stream has places. `ask` is asked anew for
 * every attempt: `place` is set where there is one to go on from.
 */
export function watch<S extends Service, M extends Method<S>>(
  service: S,
  method: M,
  ask: (place: string | undefined) => Input<S, M>,
  listener: Listener<Output<S, M>>,
): () => void {
  const stop = new AbortController();
  let place: string | undefined;
  let pause = FIRST_PAUSE;
  const once = async () => {
    const accept = { accept: "text/event-stream" };
    const response = await post(path(service, method), ask(place), accept, stop.signal);
    listener.state(undefined);
    for await (const event of events(response)) {
      if (event.kind === "error") {
        const said = JSON.parse(event.data) as { code: string; message: string };
        throw new Failure(said.code, said.message);
      }
      place = event.id ?? place;
      pause = FIRST_PAUSE;
      listener.message(JSON.parse(event.data) as Output<S, M>);
    }
  };
  const run = async () => {
    while (!stop.signal.aborted) {
      try {
        await once();
        listener.state(new Failure("unreachable", "The stream ended."));
      } catch (error) {
        if (stop.signal.aborted) return;
        listener.state(failure(error));
      }
      await new Promise((resolve) => setTimeout(resolve, pause * (0.5 + Math.random())));
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    }
  };
  void run();
  return () => stop.abort();
}

interface Event {
  id: string | undefined;
  kind: string;
  data: string;
}

/** Server-sent events (HTML standard, 9.2), as our gateway writes them: one line of data each. */
async function* events(response: Response): AsyncGenerator<Event> {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  if (!reader) return;
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop() ?? "";
    for (const part of parts) {
      const event: Event = { id: undefined, kind: "message", data: "" };
      for (const line of part.split("\n")) {
        if (line.startsWith("data: ")) event.data = line.slice(6);
        else if (line.startsWith("id: ")) event.id = line.slice(4);
        else if (line.startsWith("event: ")) event.kind = line.slice(7);
      }
      if (event.data) yield event;
    }
  }
}

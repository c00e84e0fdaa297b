// Who looks, what he may, and whether the firewall is paused.

import { signal } from "@preact/signals";
import { type Failure, type Output, call, failure, session } from "../api/client";

export const me = signal<Output<"System", "whoAmI"> | undefined>(undefined);
export const version = signal("");
/** Until when, in milliseconds since 1970; undefined: not paused. */
export const pausedUntil = signal<number | undefined>(undefined);
/** Why the page knows nothing: refused, or unreachable. */
export const refused = signal<Failure | undefined>(undefined);
/** The dialog for a token is open. */
export const loginOpen = signal(false);

function setPause(state: Output<"System", "getPause">) {
  pausedUntil.value = state.until ? Date.parse(state.until) : undefined;
}

/** Asks all of it anew. */
export async function refresh(): Promise<void> {
  try {
    const [caller, said] = await Promise.all([call("System", "whoAmI", {}), call("System", "getVersion", {})]);
    me.value = caller;
    version.value = said.version ?? "";
    setPause(await call("System", "getPause", {}));
    refused.value = undefined;
  } catch (error) {
    refused.value = failure(error);
  }
}

export async function pause(seconds: number): Promise<void> {
  setPause(await call("System", "pause", { seconds: String(seconds) }));
}

export async function resume(): Promise<void> {
  setPause(await call("System", "resume", {}));
}

/** With a token, or (undefined) without one from now on. */
export async function logIn(token: string | undefined): Promise<void> {
  await session(token);
  await refresh();
}

/** What a level of access lets do. */
export function may(what: "read" | "decide" | "admin"): boolean {
  const levels = ["ACCESS_UNSPECIFIED", "ACCESS_ANYBODY", "ACCESS_READ", "ACCESS_DECIDE", "ACCESS_ADMIN"];
  const wanted = { read: 2, decide: 3, admin: 4 }[what];
  return levels.indexOf(me.value?.access ?? "ACCESS_UNSPECIFIED") >= wanted;
}

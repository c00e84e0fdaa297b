// A rule made from a connection: what it may be about, and the change that it is.

import type { Input, Output } from "../api/client";
import { protocol } from "../api/words";
import type { ConnectionJson } from "../generated/portmaster/api/v1/connections_pb";
import type { NewMatchJson } from "../generated/portmaster/policy/v1/policy_pb";
import type { Row } from "./connections";

export type Action = "ACTION_ALLOW" | "ACTION_BLOCK" | "ACTION_DROP" | "ACTION_TUNNEL";
export type Change = Output<"Policy", "addRule">;

/** What a rule is about, the narrowest first. */
export interface Reach {
  id: string;
  label: string;
  remotes: string[];
}

/** What has been chosen. */
export interface Draft {
  action: Action;
  reach: Reach;
  onlyPort: boolean;
  everyone: boolean;
}

/** The connection for the dialog; undefined: it is closed. */
export interface Subject {
  row: Row;
}

export function reaches(connection: ConnectionJson): Reach[] {
  const { domain, remote, direction } = connection;
  const out: Reach[] = [];
  if (domain) {
    out.push({ id: "name", label: domain, remotes: [domain] });
    const labels = domain.split(".");
    // of `a.b.example.org` all of `b.example.org`; of `example.org` all below itself
    const zone = labels.length > 2 ? labels.slice(1).join(".") : domain;
    out.push({ id: "zone", label: `${zone} and all below`, remotes: [`*.${zone}`] });
  }
  if (remote?.address) out.push({ id: "address", label: remote.address, remotes: [remote.address] });
  out.push({ id: "any", label: direction === "DIRECTION_INCOMING" ? "Anybody" : "Everywhere", remotes: [] });
  return out;
}

/** By what a profile knows this program again; undefined where nothing does. */
export function matcher(connection: ConnectionJson): NewMatchJson | undefined {
  const process = connection.process;
  if (!process) return connection.processUnknown ? { unknown: true } : undefined;
  if (process.flatpak) return { flatpak: process.flatpak };
  if (process.snap) return { snap: process.snap };
  if (process.script) return { script: process.script };
  if (process.executable) return { path: process.executable };
  if (process.container) return { container: process.container };
  if (process.unit) return { unit: process.unit };
  return undefined;
}

/** The opposite of what was decided, for the narrowest that there is. */
export function draft(row: Row): Draft {
  const [first] = reaches(row.connection);
  return {
    action: row.refused ? "ACTION_ALLOW" : "ACTION_BLOCK",
    reach: first ?? { id: "any", label: "Everywhere", remotes: [] },
    onlyPort: false,
    everyone: matcher(row.connection) === undefined,
  };
}

/** The question "what would become of this connection?". */
export function question(connection: ConnectionJson): Input<"Policy", "explain"> {
  const process = connection.process;
  const uid = process?.uid ?? connection.uid;
  return {
    executable: process?.executable ?? "",
    script: process?.script ?? "",
    unit: process?.unit ?? "",
    cgroup: process?.cgroup ?? "",
    flatpak: process?.flatpak ?? "",
    snap: process?.snap ?? "",
    container: process?.container ?? "",
    direction: connection.direction ?? "DIRECTION_OUTGOING",
    protocol: connection.protocol ?? 6,
    domain: connection.domain ?? "",
    ...(uid === undefined ? {} : { uid }),
    ...(connection.local ? { local: connection.local } : {}),
    ...(connection.remote ? { remote: connection.remote } : {}),
  };
}

/** The call that makes it so; as the first rule, since the first that fits decides. */
export function request(row: Row, draft: Draft): Input<"Policy", "addRule"> {
  const { connection } = row;
  const port = (row.incoming ? connection.local : connection.remote)?.port;
  const ports = draft.onlyPort && port ? [String(port)] : [];
  const match = matcher(connection);
  return {
    ...(draft.everyone || !match ? { id: "global" } : { match }),
    rule: {
      action: draft.action,
      direction: connection.direction ?? "DIRECTION_OUTGOING",
      remotes: draft.reach.remotes,
      ...(ports.length > 0 ? { protocols: [protocol(connection.protocol)] } : {}),
      ...(row.incoming ? { localPorts: ports } : { remotePorts: ports }),
    },
    explain: question(connection),
  };
}

/** The same, of the very file that the dry run saw. */
export function saving(asked: Input<"Policy", "addRule">, seen: Change, force: boolean): Input<"Policy", "addRule"> {
  return { ...asked, id: seen.after?.id ?? asked.id ?? "", expectedRevision: seen.before?.revision ?? "", force };
}

// Words for what the contracts number. Each table is complete by its type: what a contract adds, the type check asks for.

import type { VerdictJson, WhyJson, ScopeJson } from "../generated/portmaster/flow/v1/flow_pb";
import type { OriginJson } from "../generated/portmaster/dns/v1/dns_pb";
import type { HealthJson } from "../generated/portmaster/common/v1/common_pb";
import type { AccessJson } from "../generated/portmaster/api/v1/access_pb";
import type { CircuitStateJson } from "../generated/portmaster/gate17/v1/gate17_pb";
import type { ActionJson } from "../generated/portmaster/policy/v1/policy_pb";

/** How something looks: colour and sign, always beside a word. */
export type Tone = "good" | "bad" | "warn" | "tunnel" | "plain";

export const VERDICTS: Record<VerdictJson, { word: string; tone: Tone }> = {
  VERDICT_UNSPECIFIED: { word: "Undecided", tone: "plain" },
  VERDICT_ALLOW: { word: "Allowed", tone: "good" },
  VERDICT_BLOCK: { word: "Blocked", tone: "bad" },
  VERDICT_DROP: { word: "Dropped", tone: "warn" },
  VERDICT_TUNNEL: { word: "Tunnelled", tone: "tunnel" },
  VERDICT_REDIRECT_DNS: { word: "Own DNS", tone: "plain" },
};

export const WHYS: Record<WhyJson, string> = {
  WHY_UNSPECIFIED: "no reason given",
  WHY_RULE: "rule",
  WHY_GLOBAL_RULE: "rule for all",
  WHY_BLOCK_INCOMING: "incoming is blocked",
  WHY_BLOCK_LAN: "the local network is blocked",
  WHY_BLOCK_INTERNET: "the internet is blocked",
  WHY_BLOCK_DIRECT: "addresses without a name are blocked",
  WHY_DEFAULT_ACTION: "default",
  WHY_ASK_TIMEOUT: "nobody answered the question",
  WHY_TUNNEL_UNSUPPORTED: "Gate17 cannot carry this protocol",
  WHY_UNPARSABLE: "the packet could not be read",
  WHY_OVERLOAD: "too many questions at once",
  WHY_NAME_WANTED: "its name is looked for first",
  WHY_DNS_REDIRECT: "DNS goes to the own server",
  WHY_MESH: "Portmaster itself",
  WHY_PAUSED: "paused",
  WHY_DNS_LIST: "on a block list",
  WHY_DNS_REBINDING: "an internet name with a local address",
  WHY_DNS_SPECIAL: "a special name",
  WHY_ENCRYPTED_DNS: "somebody else's encrypted DNS",
  WHY_TUNNEL_REFUSED: "the far end refused",
  WHY_TUNNEL_UNAVAILABLE: "no way through Gate17",
  WHY_TUNNEL_LATE: "was open before it was to be tunnelled",
  WHY_TUNNEL_UNSURE: "could be a tunnelled program's",
};

export const SCOPES: Record<ScopeJson, string> = {
  SCOPE_UNSPECIFIED: "",
  SCOPE_LOCALHOST: "this host",
  SCOPE_LAN: "local network",
  SCOPE_INTERNET: "internet",
  SCOPE_MULTICAST: "multicast",
};

export const ORIGINS: Record<OriginJson, { word: string; tone: Tone }> = {
  ORIGIN_UNSPECIFIED: { word: "–", tone: "plain" },
  ORIGIN_REFUSED: { word: "Refused", tone: "bad" },
  ORIGIN_CACHE: { word: "Cache", tone: "good" },
  ORIGIN_STALE: { word: "Old cache", tone: "warn" },
  ORIGIN_UPSTREAM: { word: "Upstream", tone: "good" },
  ORIGIN_SPECIAL: { word: "Own answer", tone: "plain" },
  ORIGIN_FAILED: { word: "Failed", tone: "warn" },
};

export const HEALTHS: Record<HealthJson, { word: string; tone: Tone }> = {
  HEALTH_UNSPECIFIED: { word: "Unknown", tone: "plain" },
  HEALTH_STARTING: { word: "Starting", tone: "warn" },
  HEALTH_OK: { word: "Running", tone: "good" },
  HEALTH_DEGRADED: { word: "Degraded", tone: "warn" },
  HEALTH_FAILED: { word: "Failed", tone: "bad" },
};

export const ACCESSES: Record<AccessJson, string> = {
  ACCESS_UNSPECIFIED: "may nothing",
  ACCESS_ANYBODY: "may see the version alone",
  ACCESS_READ: "may look, not change",
  ACCESS_DECIDE: "may decide about connections",
  ACCESS_ADMIN: "may change everything",
};

export const CIRCUITS: Record<CircuitStateJson, { word: string; tone: Tone }> = {
  CIRCUIT_STATE_UNSPECIFIED: { word: "–", tone: "plain" },
  CIRCUIT_STATE_BUILDING: { word: "Building", tone: "warn" },
  CIRCUIT_STATE_READY: { word: "Ready", tone: "good" },
  CIRCUIT_STATE_DRAINING: { word: "Draining", tone: "plain" },
  CIRCUIT_STATE_CLOSED: { word: "Closed", tone: "bad" },
};

export const ACTIONS: Record<ActionJson, { word: string; tone: Tone }> = {
  ACTION_UNSPECIFIED: { word: "–", tone: "plain" },
  ACTION_ALLOW: { word: "Allow", tone: "good" },
  ACTION_BLOCK: { word: "Block", tone: "bad" },
  ACTION_DROP: { word: "Drop", tone: "warn" },
  ACTION_ASK: { word: "Ask", tone: "plain" },
  ACTION_TUNNEL: { word: "Tunnel", tone: "tunnel" },
};

const PROTOCOLS: Record<number, string> = { 1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 58: "icmpv6", 132: "sctp", 136: "udplite" };

/** `tcp`; the number where it has no name here. */
export function protocol(number: number | undefined): string {
  return PROTOCOLS[number ?? 0] ?? String(number ?? 0);
}

const TYPES: Record<number, string> = { 1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 43: "DS", 48: "DNSKEY", 64: "SVCB", 65: "HTTPS", 255: "ANY" };

/** `AAAA`; `TYPE4711` (RFC 3597) where it has no name here. */
export function recordType(number: number | undefined): string {
  return TYPES[number ?? 0] ?? `TYPE${number ?? 0}`;
}

const CODES: Record<number, string> = { 0: "answered", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED" };

export function responseCode(number: number | undefined): string {
  return CODES[number ?? 0] ?? `RCODE ${number ?? 0}`;
}

const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** `1.4 MB`; of 1,000. */
export function size(octets: number): string {
  let unit = 0;
  let value = octets;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit] ?? ""}`;
}

const NUMBERS = new Intl.NumberFormat("en");

export function number(value: number): string {
  return NUMBERS.format(value);
}

/** `3 connections`. */
export function count(value: number, one: string, many = `${one}s`): string {
  return `${number(value)} ${value === 1 ? one : many}`;
}

/** A duration of protobuf's JSON (`3.5s`) in seconds. */
export function seconds(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Number.parseFloat(text);
}

/** `340 µs`, `12 ms`, `3.2 s`, `5 min`, `2 h`, `3 d`. */
export function duration(value: number | undefined): string {
  if (value === undefined || Number.isNaN(value)) return "";
  if (value < 0.001) return `${Math.round(value * 1e6)} µs`;
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 60) return `${value < 10 ? value.toFixed(1) : Math.round(value)} s`;
  if (value < 3600) return `${Math.round(value / 60)} min`;
  if (value < 86_400) return `${Math.round(value / 3600)} h`;
  return `${Math.round(value / 86_400)} d`;
}

const two = (value: number) => String(value).padStart(2, "0");

/** `14:05:09` here. */
export function clock(time: number): string {
  const date = new Date(time);
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** An address with its port: `192.0.2.1:443`, `[2001:db8::1]:443`. */
export function endpoint(end: { address?: string; port?: number } | undefined): string {
  if (!end?.address) return "";
  const address = end.address.includes(":") && end.port ? `[${end.address}]` : end.address;
  return end.port ? `${address}:${end.port}` : address;
}

/** The last part of a path. */
export function base(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

// How the DNS server's configuration is written in the ConfigMap `kube-system/fairlead-dns`: the settings that users of CoreDNS
// know (zones, forward, stub domains, TTL, cache, autopath), typed, each a key of `data` with a YAML value. Not a Corefile:
// there are no plugins to put in order.

import { parse } from "yaml";
import { messageOf } from "../base/errors.ts";
import { type CacheConfig, type DnsConfig, defaultConfig, type Forward } from "./config.ts";
import { parseUpstream } from "./upstreams.ts";

export interface ConfigProblem {
  /** `data.forward`. */
  readonly field: string;
  readonly message: string;
}

export type ParsedConfig =
  | { readonly config: DnsConfig; readonly problems?: undefined }
  | { readonly config?: undefined; readonly problems: readonly ConfigProblem[] };

/** Reads the ConfigMap's `data` over `base`. Either all of it is right, or every problem is named and nothing is taken. */
export function parseConfig(data: Readonly<Record<string, string>>, base: DnsConfig = defaultConfig): ParsedConfig {
  const problems: ConfigProblem[] = [];
  const read = <T>(key: string, otherwise: T, reading: (value: unknown) => T): T => {
    const text = data[key];
    if (text === undefined) return otherwise;
    try {
      return reading(parse(text, { maxAliasCount: 10 }));
    } catch (error) {
      problems.push({ field: `data.${key}`, message: messageOf(error).split("\n")[0]! });
      return otherwise;
    }
  };
  const config: DnsConfig = {
    zones: read("zones", base.zones, zoneList),
    ttl: read("ttl", base.ttl, (value) => numberIn(value, 0, 3600, "seconds")),
    pods: read("pods", base.pods, (value) => oneOf(value, ["insecure", "verified", "disabled"])),
    forward: read("forward", base.forward, forwardOf),
    stubDomains: read("stubDomains", base.stubDomains, stubDomainsOf),
    cache: read("cache", base.cache, (value) => cacheOf(value, base.cache)),
    autopath: read("autopath", base.autopath, booleanOf),
  };
  const known = Object.keys(config);
  for (const key of Object.keys(data)) {
    if (known.includes(key)) continue;
    problems.push({ field: `data.${key}`, message: `there is no such setting; there are ${known.join(", ")}` });
  }
  return problems.length > 0 ? { problems } : { config };
}

/** `/etc/resolv.conf` (the host's own resolvers), `none`, or addresses, as of `--dns-upstream`. Throws an Error. */
export function forwardOf(value: unknown): Forward {
  const words = wordsOf(value);
  if (words.length === 1 && words[0] === "none") return { to: "nobody" };
  if (words.length === 1 && (words[0] === "/etc/resolv.conf" || words[0] === "host")) return { to: "host" };
  if (words.length === 0) throw new Error("write addresses of DNS servers, /etc/resolv.conf, or none");
  if (words.length > 15) throw new Error(`${words.length} servers are given; 15 are taken at most`);
  return { to: "servers", upstreams: words.map(parseUpstream) };
}

function zoneList(value: unknown): readonly string[] {
  const zones = wordsOf(value).map(domainName);
  if (zones.length === 0) throw new Error("at least one zone is needed, for example cluster.local");
  const reverse = zones.find((zone) => zone.endsWith(".arpa"));
  if (reverse) throw new Error(`${reverse}: addresses are looked up without being named as a zone; leave it out`);
  return [...new Set(zones)];
}

function stubDomainsOf(value: unknown): DnsConfig["stubDomains"] {
  if (value === null) return [];
  if (typeof value !== "object" || Array.isArray(value))
    throw new Error("write domains with their servers: corp.example: [10.0.0.53]");
  return Object.entries(value).map(([domain, servers]) => {
    const upstreams = wordsOf(servers).map(parseUpstream);
    if (upstreams.length === 0) throw new Error(`${domain}: no servers are given`);
    return { domain: domainName(domain), upstreams };
  });
}

function cacheOf(value: unknown, base: CacheConfig): CacheConfig {
  if (typeof value === "number") {
    const ttl = numberIn(value, 0, 86_400, "seconds");
    return { ...base, success: { ...base.success, ttl }, denial: { ...base.denial, ttl } };
  }
  const given = tableOf(value, "cache", ["success", "denial", "prefetch"]);
  const part = (name: "success" | "denial") => {
    const table = tableOf(given[name] ?? {}, name, ["capacity", "ttl"]);
    return {
      capacity: optional(table["capacity"], base[name].capacity, (one) => numberIn(one, 0, 1_000_000, "answers")),
      ttl: optional(table["ttl"], base[name].ttl, (one) => numberIn(one, 0, 86_400, "seconds")),
    };
  };
  const prefetch = tableOf(given["prefetch"] ?? {}, "prefetch", ["amount", "duration", "percentage"]);
  return {
    success: part("success"),
    denial: part("denial"),
    prefetch: {
      amount: optional(prefetch["amount"], base.prefetch.amount, (one) => numberIn(one, 0, 1_000_000, "questions")),
      duration: optional(prefetch["duration"], base.prefetch.duration, secondsOf),
      percentage: optional(prefetch["percentage"], base.prefetch.percentage, (one) => numberIn(one, 1, 100, "percent")),
    },
  };
}

function tableOf(value: unknown, name: string, keys: readonly string[]): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new Error(`${name}: a table with ${keys.join(", ")} is wanted`);
  const wrong = Object.keys(value).find((key) => !keys.includes(key));
  if (wrong !== undefined) throw new Error(`${name}: there is no "${wrong}"; there are ${keys.join(", ")}`);
  return value as Record<string, unknown>;
}

function optional<T>(value: unknown, otherwise: T, reading: (value: unknown) => T): T {
  return value === undefined ? otherwise : reading(value);
}

function secondsOf(value: unknown): number {
  const match = typeof value === "string" ? /^(\d+)(s|m)$/.exec(value) : undefined;
  if (match) return Number(match[1]) * (match[2] === "m" ? 60 : 1);
  return numberIn(value, 1, 3600, "seconds (60, 60s or 1m)");
}

function numberIn(value: unknown, least: number, most: number, unit: string): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= least && value <= most) return value;
  throw new Error(`${JSON.stringify(value)}: a whole number of ${unit} from ${least} to ${most} is wanted`);
}

function booleanOf(value: unknown): boolean {
  if (typeof value === "boolean") return value;
  throw new Error(`${JSON.stringify(value)}: true or false is wanted`);
}

function oneOf<T extends string>(value: unknown, allowed: readonly T[]): T {
  const found = allowed.find((one) => one === value);
  if (found !== undefined) return found;
  throw new Error(`${JSON.stringify(value)}: one of ${allowed.join(", ")} is wanted`);
}

/** Words of a text, or the texts of a list. */
function wordsOf(value: unknown): readonly string[] {
  if (typeof value === "string") return value.split(/[\s,]+/).filter(Boolean);
  if (value === null || value === undefined) return [];
  if (Array.isArray(value) && value.every((one) => typeof one === "string")) return value;
  throw new Error(`${JSON.stringify(value)}: a text or a list of texts is wanted`);
}

function domainName(text: string): string {
  const name = text.replace(/\.$/, "").toLowerCase();
  if (name.length <= 253 && name.split(".").every((label) => /^[a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?$/.test(label)))
    return name;
  throw new Error(`"${text}" is no domain name`);
}

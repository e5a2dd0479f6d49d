// What the model can say and this proxy does not do yet. A resource that asks for it is refused with the words given here, so
// that no policy is ever silently left out. Who builds one of them takes its line away.

import type { Backend, FilterChain, Listener, RouteTable, WeightedBackend } from "../model/model.ts";
import { isKnownFilter } from "./filters/order.ts";

type Names<T> = readonly (keyof T)[];

const ofBackend: Names<Backend> = [
  "tls",
  "retryBudget",
  "outlierDetection",
  "failureAccrual",
  "healthCheck",
  "proxyProtocol",
];
const ofLimits: Names<NonNullable<Backend["limits"]>> = [
  "requests",
  "retries",
  "requestsPerConnection",
  "connectionDuration",
  "idleTimeout",
];
const balances: readonly Backend["balance"]["kind"][] = ["peakEwma"];

/** Why a backend cannot be taken; undefined when it can. */
export function unsupportedBackend(backend: Backend): string | undefined {
  if (balances.includes(backend.balance.kind)) return said(`balance ${backend.balance.kind}`);
  if ("slowStart" in backend.balance && backend.balance.slowStart) return said("balance.slowStart");
  if (backend.locality?.zonePreference) return said("locality.zonePreference");
  return firstOf(backend, ofBackend, "") ?? firstOf(backend.limits, ofLimits, "limits.");
}

/** Why a route table cannot be taken. */
export function unsupportedTable(table: RouteTable): string | undefined {
  for (const { rules } of table.hosts) {
    for (const rule of rules) {
      const to: readonly WeightedBackend[] = rule.action.kind === "forward" ? rule.action.to : [];
      const filters = [...rule.filters, ...to.flatMap((one) => one.filters)];
      const filter = filters.find(({ kind }) => !isKnownFilter(kind));
      const problem =
        (filter && said(`filter ${filter.kind}`)) ??
        firstOf(rule, ["retry", "hash", "persistence"], "") ??
        firstOf(rule.timeouts, ["idle"], "timeouts.");
      if (problem) return `${rule.name}: ${problem}`;
    }
  }
  return undefined;
}

/** Why a listener cannot be taken, beside what its sockets cannot do. */
export function unsupportedListener(listener: Listener): string | undefined {
  const ofChain = ({ tls, serve }: FilterChain) =>
    firstOf(tls, ["ciphers", "clients"], "tls.") ?? ("tcp" in serve ? firstOf(serve, ["idleTimeout"], "") : undefined);
  return firstOf(listener, ["proxyProtocol"], "") ?? listener.chains.map(ofChain).find(Boolean);
}

function firstOf<T extends object>(of: T | undefined, names: Names<T>, prefix: string): string | undefined {
  const name = names.find((one) => of?.[one] !== undefined);
  return name === undefined ? undefined : said(`${prefix}${String(name)}`);
}

function said(what: string): string {
  return `${what} is not supported by this proxy yet`;
}

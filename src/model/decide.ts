// What the model means: `decide` answers what becomes of one request, and keeps the trail that led to it. It is the reference:
// slow, clear, in the order of the specifications (Gateway API HTTPRoute, GEP-1364 and the comments in model.ts), and it
// fails closed. The proxy's compiled router must answer the same.

import { type Arrival, chainRefusal, describeCondition, quotedServerName } from "./chain-condition.ts";
import { isNamedOnly, methodRefusal, parseConnectTarget } from "./connect.ts";
import { answerOfFilters, sentRequest } from "./decide-filters.ts";
import type { BackendShare, DecideRequest, Decision, TrailStep } from "./decision.ts";
import { compareHostPatterns, hostMatches, parseAuthority } from "./host-pattern.ts";
import { describeMatch, matchProblem, type RequestParts } from "./match.ts";
import type {
  FilterChain,
  Forward,
  HostPattern,
  Listener,
  Model,
  RouteTable,
  Rule,
  VirtualHost,
  WeightedBackend,
} from "./model.ts";
import { parseTarget, type Target } from "./path.ts";
import { normalizedPath } from "./path-normalization.ts";
import { redirectLocation } from "./redirect.ts";

/** Decides one request against a model. Pure; costs time proportional to the rules of the host. */
export function decide(model: Model, request: DecideRequest): Decision {
  const trail: TrailStep[] = [];

  const listener = findListener(model, request, trail);
  if (!listener) {
    return { ...closed(`nothing listens on ${request.address}:${request.port}`), filters: [], trail };
  }

  const chain = findChain(listener, request, trail);
  if (!chain) {
    const what = request.tls ? `TLS with ${quotedServerName(request.tls)}` : "a connection without TLS";
    return { ...closed(`${listener.name} has no chain for ${what}`), listener, filters: [], trail };
  }
  if ("tcp" in chain.serve && chain.serve.original) {
    return { outcome: original(listener, arrivalOf(request)), listener, chain, filters: [], trail };
  }
  if ("tcp" in chain.serve) {
    const to = chain.serve.tcp.map((one) => ({ ...one, filters: [] }));
    const parts = partsOf(request, request.authority, targetOf(request));
    const forwarded = forward(model, { kind: "forward", to }, undefined, parts, trail);
    return { ...forwarded, listener, chain, filters: [], trail };
  }

  const table = model.routeTables.get(chain.serve.routes);
  if (!table) {
    const reason = `route table ${chain.serve.routes} is not known`;
    return { outcome: { kind: "respond", status: 503, reason }, listener, chain, filters: [], trail };
  }

  const connects = asksForTunnel(request);
  const came = targetOf(request);
  const path = normalizedPath(came.path, listener.pathNormalization ?? "NONE");
  if (path === undefined) {
    const reason = `path ${came.path} leads above the root, or has a zero byte in it`;
    return { outcome: { kind: "respond", status: 400, reason }, listener, chain, filters: [], trail };
  }
  if (path !== came.path) {
    const reason = `takes path ${came.path} for ${path} (${listener.pathNormalization})`;
    trail.push({ what: "listener", taken: true, from: listener.from, name: listener.name, reason });
  }
  const target = { ...came, path };
  const authority = target.authority ?? request.authority;
  const parsed = connects ? parseConnectTarget(authority) : parseAuthority(authority);
  if (!parsed) {
    const reason = connects ? `"${authority}" is no host with a port` : `"${authority}" is no host`;
    return { outcome: { kind: "respond", status: 400, reason }, listener, chain, filters: [], trail };
  }

  const found = findHost(table, parsed.host, trail);
  if (!found) {
    const reason = `no route has a host that takes "${parsed.host}"`;
    return { outcome: { kind: "respond", status: notFound(request), reason }, listener, chain, filters: [], trail };
  }
  const { host, pattern } = found;

  const parts = partsOf(request, authority, target);
  const rule = findRule(host, parts, trail);
  if (!rule) {
    const reason = `no rule of host "${pattern}" takes ${request.method} ${connects ? authority : target.path}`;
    const outcome = { kind: "respond", status: notFound(request), reason } as const;
    return { outcome, listener, chain, host, pattern, filters: [], trail };
  }

  const taken = { listener, chain, host, pattern, rule, match: rule.match, action: rule.action };
  const refused = answerOfFilters(rule.filters, parts, trail);
  if (refused) return { outcome: { kind: "respond", ...refused }, ...taken, filters: rule.filters, trail };
  switch (rule.action.kind) {
    case "redirect": {
      const location = redirectLocation(rule.action, {
        scheme: schemeOf(request),
        authority,
        path: target.path,
        query: target.query,
        port: listener.port,
        match: rule.match.path,
      });
      return {
        outcome: { kind: "redirect", status: rule.action.status, location },
        ...taken,
        filters: rule.filters,
        trail,
      };
    }
    case "respond": {
      const { status, reason } = rule.action;
      return { outcome: { kind: "respond", status, reason }, ...taken, filters: rule.filters, trail };
    }
    case "forward": {
      const forwarded = forward(model, rule.action, rule, parts, trail);
      return { ...forwarded, ...taken, filters: rule.filters, trail };
    }
  }
}

function targetOf(request: DecideRequest): Target {
  return asksForTunnel(request) ? { authority: request.target, path: "" } : parseTarget(request.target);
}

function partsOf(request: DecideRequest, authority: string, { path, query }: Target): RequestParts {
  const { method, headers, source } = request;
  return { method, scheme: schemeOf(request), authority, path, query, headers, source };
}

/** Of hops in front that are believed nothing is known here. */
function schemeOf({ tls }: DecideRequest): "http" | "https" {
  return tls ? "https" : "http";
}

/** A CONNECT to a place; one with a path (RFC 8441) is for a protocol. */
function asksForTunnel({ method, target }: DecideRequest): boolean {
  return method === "CONNECT" && !target.startsWith("/");
}

function notFound({ method }: DecideRequest): number {
  return isNamedOnly(method) ? 501 : 404;
}

// ------------------------------------------------------------------------------------------------ Listener and chain

/** The listener on the address itself stands above the one on all addresses of the same port. */
function findListener(model: Model, request: DecideRequest, trail: TrailStep[]): Listener | undefined {
  const wildcard = request.address.includes(":") ? "::" : "0.0.0.0";
  const onPort = [...model.listeners.values()].filter(
    (listener) => listener.transport === "tcp" && listener.port === request.port,
  );
  const taken =
    onPort.find((listener) => listener.address === request.address) ??
    onPort.find((listener) => listener.address === wildcard);
  if (taken) {
    trail.push({
      what: "listener",
      taken: true,
      from: taken.from,
      name: taken.name,
      reason: `listens on ${taken.address}:${taken.port}`,
    });
  }
  return taken;
}

function arrivalOf({ tls, source, destination, address, port }: DecideRequest): Arrival {
  return { tls, source, destination: destination ?? { address, port } };
}

/** A connection that wanted to come here would go round in circles. */
function original({ address, port }: Listener, { destination }: Arrival): Decision["outcome"] {
  const here = destination.port === port && (destination.address === address || isAny(address));
  return here ? { kind: "closed", reason: "it wanted to go nowhere else" } : { kind: "original", ...destination };
}

const isAny = (address: string) => address === "0.0.0.0" || address === "::";

function findChain(listener: Listener, request: DecideRequest, trail: TrailStep[]): FilterChain | undefined {
  for (const chain of listener.chains) {
    const refusal = chainRefusal(chain.when, arrivalOf(request));
    trail.push({
      what: "chain",
      taken: refusal === undefined,
      from: chain.from,
      name: describeCondition(chain.when),
      reason:
        refusal ?? `takes ${request.tls ? `TLS with ${quotedServerName(request.tls)}` : "connections without TLS"}`,
    });
    if (refusal === undefined) return chain;
  }
  return undefined;
}

// ----------------------------------------------------------------------------------------------------- Host and rule

/** The most specific pattern that takes the host; there is no falling through to a less specific one. */
function findHost(
  table: RouteTable,
  host: string,
  trail: TrailStep[],
): { host: VirtualHost; pattern: HostPattern } | undefined {
  const fitting = table.hosts
    .flatMap((entry) => entry.names.map((pattern) => ({ host: entry, pattern })))
    .filter(({ pattern }) => hostMatches(pattern, host))
    .sort((a, b) => compareHostPatterns(a.pattern, b.pattern));
  const [taken] = fitting;
  for (const entry of fitting) {
    trail.push({
      what: "host",
      taken: entry === taken,
      from: entry.host.rules[0]?.from ?? table.from,
      name: entry.pattern,
      reason:
        entry === taken
          ? `"${entry.pattern}" is the most specific that takes "${host}"`
          : `"${entry.pattern}" takes it too, and is less specific`,
    });
  }
  return taken;
}

function findRule(host: VirtualHost, request: RequestParts, trail: TrailStep[]): Rule | undefined {
  for (const rule of host.rules) {
    const problem =
      (isNamedOnly(request.method) ? methodRefusal(rule, request.method) : undefined) ??
      matchProblem(rule.match, request);
    trail.push({
      what: "rule",
      taken: problem === undefined,
      from: rule.match.from ?? rule.from,
      name: rule.name,
      reason: problem ?? `takes ${describeMatch(rule.match)}`,
    });
    if (problem === undefined) return rule;
  }
  return undefined;
}

// ----------------------------------------------------------------------------------------------------------- Backends

function forward(
  model: Model,
  action: Forward,
  rule: Rule | undefined,
  request: RequestParts,
  trail: TrailStep[],
): Pick<Decision, "outcome"> {
  const total = action.to.reduce((sum, to) => sum + to.weight, 0);
  if (total === 0) {
    const reason = action.to.length === 0 ? "the rule has no backend" : "all backends have weight 0";
    return { outcome: { kind: "respond", status: 500, reason } };
  }
  const shares = action.to.map((to): BackendShare => {
    const sends = sentRequest(request, [rule?.filters ?? [], to.filters], rule?.match.path);
    const share = to.weight / total;
    const refused = answerOfFilters(to.filters, request, trail);
    const reached = { ...reach(model, to), ...(refused ? { answer: refused } : {}) };
    const answered = reached.answer ? `: answered ${reached.answer.status}, ${reached.answer.reason}` : "";
    trail.push({
      what: "backend",
      taken: share > 0,
      from: to.from,
      name: "backend" in to.target ? to.target.backend : `respond ${to.target.respond.status}`,
      reason: `weight ${to.weight} of ${total}${answered}`,
    });
    return { to, share, ...reached, sends };
  });
  return { outcome: { kind: "forward", shares } };
}

function reach(model: Model, to: WeightedBackend): Pick<BackendShare, "backend" | "endpoints" | "answer"> {
  if ("respond" in to.target) {
    const { status, reason } = to.target.respond;
    return { backend: undefined, endpoints: [], answer: { status, reason } };
  }
  const name = to.target.backend;
  const backend = model.backends.get(name);
  if (!backend) return { backend, endpoints: [], answer: { status: 503, reason: `backend ${name} is not known` } };
  const endpoints = (model.endpoints.get(name)?.endpoints ?? []).filter((endpoint) => endpoint.weight > 0);
  if (endpoints.length > 0) return { backend, endpoints };
  return { backend, endpoints, answer: { status: 503, reason: `backend ${name} has no endpoints` } };
}

function closed(reason: string): Pick<Decision, "outcome"> {
  return { outcome: { kind: "closed", reason } };
}

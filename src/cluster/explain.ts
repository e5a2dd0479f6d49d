// `explain`: one request, decided by the reference evaluator on the model in force (or on the model of some files), told with
// the object, field and line that each step came from. Pure: the model and the look-ups are given.

import { UserError } from "../base/errors.ts";
import { ipFamily } from "../base/ip.ts";
import { decide } from "../model/decide.ts";
import type { DecideRequest, Decision, TrailStep } from "../model/decision.ts";
import type { Endpoint, Filter, Listener, Model } from "../model/model.ts";
import type { Provenance } from "../model/provenance.ts";
import type { Finding } from "../model/status-update.ts";
import { filterInWords } from "./filter-in-words.ts";

export interface ExplainRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: readonly (readonly [string, string])[];
  /** `namespace/pod` of the client. */
  readonly from?: string;
  /** `namespace/name` of the Gateway to ask, when several take the URL. */
  readonly gateway?: string;
}

export interface ExplainedStep {
  readonly what: string;
  readonly taken: boolean;
  readonly reason: string;
  readonly from: Provenance;
}

export interface ExplainedShare {
  /** `orders-team/orders-v2:80`, or the answer given in its place. */
  readonly name: string;
  /** 0 to 1. */
  readonly share: number;
  readonly from: Provenance;
  readonly filters: readonly ExplainedFilter[];
  readonly endpoints: readonly Endpoint[];
}

export interface ExplainedFilter {
  readonly kind: string;
  readonly what: string;
  readonly from: Provenance;
}

export interface Explanation {
  readonly request: ExplainRequest;
  /** In one line: `forwarded`, `302 to https://…`, `404: no rule matches`. */
  readonly answer: string;
  readonly outcome: Decision["outcome"]["kind"];
  readonly status?: number;
  readonly listener?: {
    readonly name: string;
    readonly address: string;
    readonly port: number;
    readonly from: Provenance;
  };
  readonly rule?: { readonly name: string; readonly from: Provenance; readonly match?: Provenance };
  readonly filters: readonly ExplainedFilter[];
  readonly shares: readonly ExplainedShare[];
  readonly steps: readonly ExplainedStep[];
  /** Other listeners that take the URL, when the first that fits was not the only one. */
  readonly otherListeners: readonly string[];
  /** What is wrong with objects that could have taken the request, when nothing did. */
  readonly findings?: readonly string[];
  /** Decided by files alone: pods do not exist, so no endpoints are known. */
  readonly filesOnly?: boolean;
}

/** What `explain` looks up beside the model. */
export interface ExplainContext {
  /** All that dialects found wrong. */
  findings(): Iterable<Finding>;
  /** Adds file and line where they are known. */
  locate(from: Provenance): Provenance;
  /** The Service port that a name or address in a URL means for a client in `namespace`. */
  service(host: string, port: number, namespace: string): ServiceAnswer | undefined;
  podAddress(namespace: string, name: string): string | undefined;
}

/** A Service port as clients inside the cluster reach it. */
export interface ServiceAnswer {
  readonly name: string;
  readonly from: Provenance;
  readonly address: string;
  readonly endpoints: readonly Endpoint[];
}

/** Explains one request. Throws a UserError for a URL, a pod or a Gateway that is none. */
export function explain(model: Model, request: ExplainRequest, context: ExplainContext): Explanation {
  const explanation = explainByModel(model, request, context);
  if (explanation.outcome !== "closed" && !(explanation.outcome === "respond" && (explanation.status ?? 0) >= 400))
    return explanation;
  const findings = [...context.findings()].filter(({ severity }) => severity !== "info").map(findingInWords);
  return findings.length > 0 ? { ...explanation, findings } : explanation;
}

/** The message names object and field already; the remedy follows it. */
export function findingInWords({ message, remedy }: Finding): string {
  return remedy ? `${message} (${remedy})` : message;
}

function explainByModel(model: Model, request: ExplainRequest, context: ExplainContext): Explanation {
  const url = parseUrl(request.url);
  const port = portOf(url);
  const source = request.from === undefined ? undefined : clientOf(request.from, context);
  const listening = candidates(model, url, port, request.gateway);
  const service = request.gateway ? undefined : context.service(url.hostname, port, source?.namespace ?? "default");
  const listeners = listening.length > 0 || service ? listening : capturing(model, url, request.gateway);
  if (service && (listeners.length === 0 || source)) return explainService(request, service, context);
  if (listeners.length === 0) return nobodyListens(request, url, port);

  const decisions = listeners.map((listener) => {
    const decision = decide(model, questionFor(listener, url, request, source?.address));
    return { listener, decision };
  });
  decisions.sort((a, b) => rank(a.decision) - rank(b.decision));
  const [{ listener, decision }] = decisions as [{ listener: Listener; decision: Decision }];
  return {
    ...told(request, listener, decision, context),
    otherListeners: decisions.slice(1).map((other) => other.listener.name),
  };
}

const portOf = (url: URL) => Number(url.port || (url.protocol === "https:" ? 443 : 80));

/** Throws a UserError unless `text` is an absolute http or https URL. */
export function parseUrl(text: string): URL {
  const parsed = URL.parse(text);
  if (parsed && (parsed.protocol === "http:" || parsed.protocol === "https:")) return parsed;
  throw new UserError(`"${text}" is not an http or https URL`, {
    remedy: "For example: fairlead explain GET https://api.example.com/orders",
    exitCode: 2,
  });
}

function clientOf(from: string, context: ExplainContext): { namespace: string; address: string } {
  const [namespace, name] = from.split("/");
  if (!namespace || !name) throw new UserError(`--from ${from}: not NAMESPACE/POD`, { exitCode: 2 });
  const address = context.podAddress(namespace, name);
  if (address) return { namespace, address };
  throw new UserError(`--from ${from}: there is no such pod with an address`, {
    remedy: `List the pods with: fairlead get pods -n ${namespace}`,
  });
}

function candidates(model: Model, url: URL, port: number, gateway: string | undefined): Listener[] {
  const host = hostOf(url);
  const literal = /^[\d.]+$/.test(host) || host.includes(":");
  const found = [...model.listeners.values()].filter(
    (listener) =>
      listener.transport === "tcp" &&
      listener.port === port &&
      (!literal || listener.address === host) &&
      (gateway === undefined || `${listener.from.namespace}/${listener.from.name}` === gateway),
  );
  if (gateway !== undefined && found.length === 0) {
    throw new UserError(`Gateway ${gateway} has no listener on port ${port}`, {
      remedy: "See its listeners with: fairlead get gateways -A -o yaml",
    });
  }
  return found;
}

/** Listeners to which the kernel sends what wants to go to addresses: asked where nobody listens on one. */
function capturing(model: Model, url: URL, gateway: string | undefined): Listener[] {
  if (gateway !== undefined || ipFamily(hostOf(url)) === undefined) return [];
  return [...model.listeners.values()].filter(
    ({ transport, originalDestination, transparent }) => transport === "tcp" && (originalDestination || transparent),
  );
}

const hostOf = (url: URL) => url.hostname.replace(/^\[|\]$/g, "");

function questionFor(listener: Listener, url: URL, request: ExplainRequest, source: string | undefined): DecideRequest {
  const given = request.headers.find(([name]) => name.toLowerCase() === "host");
  const authority = given?.[1] ?? url.host;
  const method = request.method.toUpperCase();
  // The target of a CONNECT is a host and port; no URL can say that one has neither path nor scheme.
  const connects = method === "CONNECT" && url.pathname === "/" && url.search === "";
  return {
    address: listener.address,
    port: listener.port,
    ...(url.protocol === "https:" ? { tls: { serverName: authority.replace(/:\d+$/, "") } } : {}),
    method,
    authority,
    target: connects ? authority : url.pathname + url.search,
    headers: request.headers.filter(([name]) => name.toLowerCase() !== "host"),
    ...(source ? { source } : {}),
    ...(ipFamily(hostOf(url)) === undefined ? {} : { destination: { address: hostOf(url), port: portOf(url) } }),
  };
}

/** Listeners that do something with the request come before those that know nothing of it. */
function rank({ outcome, rule }: Decision): number {
  if (outcome.kind === "closed") return 3;
  return rule ? (outcome.kind === "respond" ? 1 : 0) : 2;
}

function told(
  request: ExplainRequest,
  listener: Listener,
  decision: Decision,
  context: ExplainContext,
): Omit<Explanation, "otherListeners"> {
  const { outcome, rule } = decision;
  const match = decision.match?.from;
  return {
    request,
    answer: answerOf(decision),
    outcome: outcome.kind,
    ...("status" in outcome ? { status: outcome.status } : {}),
    listener: {
      name: listener.name,
      address: listener.address,
      port: listener.port,
      from: context.locate(listener.from),
    },
    ...(rule
      ? {
          rule: {
            name: rule.name,
            from: context.locate(rule.from),
            ...(match ? { match: context.locate(match) } : {}),
          },
        }
      : {}),
    filters: decision.filters.map((filter) => explainFilter(filter, context)),
    shares:
      outcome.kind === "forward"
        ? outcome.shares.map(({ to, share, endpoints }) => ({
            name:
              "backend" in to.target
                ? serviceName(to.target.backend)
                : `${to.target.respond.status}: ${to.target.respond.reason}`,
            share,
            from: context.locate(to.from),
            filters: to.filters.map((filter) => explainFilter(filter, context)),
            endpoints,
          }))
        : [],
    steps: decision.trail.map((step) => ({ ...step, from: context.locate(placeOf(step)) })),
  };
}

/** A host entry is known by its first rule; a route writes its hosts in one field. */
function placeOf({ what, from }: TrailStep): Provenance {
  return what === "host" && from.kind === "HTTPRoute" ? { ...from, field: "spec.hostnames" } : from;
}

function answerOf({ outcome, action }: Decision): string {
  switch (outcome.kind) {
    case "forward": {
      const connect = action?.kind === "forward" ? action.connect : undefined;
      const what = { terminate: "tunnelled", pass: "passed on as CONNECT" };
      const done = connect ? what[connect] : "forwarded";
      return outcome.shares.length === 1 ? done : `${done}, split over ${outcome.shares.length} backends`;
    }
    case "original":
      return `passed on to where it wanted to go, port ${outcome.port} of ${outcome.address}`;
    case "redirect":
      return `${outcome.status} to ${outcome.location}`;
    case "respond":
      return `${outcome.status}: ${outcome.reason}`;
    case "closed":
      return `connection closed: ${outcome.reason}`;
  }
}

/** `service/shop/cart/80` as people write it: `shop/cart:80`. */
function serviceName(backend: string): string {
  const [kind, namespace, name, port] = backend.split("/");
  return kind === "service" && port ? `${namespace}/${name}:${port}` : backend;
}

function explainFilter(filter: Filter, context: ExplainContext): ExplainedFilter {
  return { kind: filter.kind, what: filterInWords(filter), from: context.locate(filter.from) };
}

function explainService(request: ExplainRequest, service: ServiceAnswer, context: ExplainContext): Explanation {
  const count = service.endpoints.length;
  return {
    request,
    answer: count > 0 ? "forwarded by the node's Service rules" : "refused: the Service has no ready endpoints",
    outcome: count > 0 ? "forward" : "closed",
    filters: [],
    shares: [
      { name: service.name, share: 1, from: context.locate(service.from), filters: [], endpoints: service.endpoints },
    ],
    steps: [
      {
        what: "service",
        taken: true,
        reason: `${service.address}: each of ${count} endpoints takes ${count > 0 ? `1/${count}` : "nothing"} of new connections`,
        from: context.locate(service.from),
      },
    ],
    otherListeners: [],
  };
}

function nobodyListens(request: ExplainRequest, url: URL, port: number): Explanation {
  return {
    request,
    answer: `nobody listens: no Gateway has a listener on port ${port}${url.hostname ? ` that ${url.hostname} could mean` : ""}`,
    outcome: "closed",
    filters: [],
    shares: [],
    steps: [],
    otherListeners: [],
  };
}

// Golden cases: Kubernetes objects in, decisions, conditions and findings out, as lines that a reviewer can read. What a case
// may say is described in docs/gateway-api.md. For tests only.

import { parse } from "yaml";
import { type KubeObject, nameOf, objectName } from "../../../api/object.ts";
import type { ComputeError } from "../../../collections/collection.ts";
import { createGraph } from "../../../collections/graph.ts";
import { type Source, source } from "../../../collections/source.ts";
import { decide } from "../../../model/decide.ts";
import type { BackendShare, DecideRequest, Decision } from "../../../model/decision.ts";
import type { Backend, Endpoints, Filter, Model } from "../../../model/model.ts";
import { serviceBackendName } from "../../../model/names.ts";
import type { Condition, ListenerState, StatusUpdate } from "../../../model/status-update.ts";
import { type GatewayApi, gatewayApi } from "../translate.ts";
import { tlsSecret } from "./certificate.ts";

export interface GoldenCase {
  readonly about: string;
  readonly objects: readonly KubeObject[];
  /** `namespace/name:port[,port]`: Services with one endpoint. */
  readonly services?: readonly string[];
  /** Namespaces with labels; those of objects are there without. */
  readonly namespaces?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** TLS Secrets by `namespace/name`, with the names they are for. */
  readonly certificates?: Readonly<Record<string, readonly string[]>>;
  /** Addresses of the pool by `namespace/name` of Gateways; each has one of its own unless this says otherwise (null: none). */
  readonly addresses?: Readonly<Record<string, string | null>>;
  /** What the pool says of Gateways that get no address, by `namespace/name`. */
  readonly addressFailures?: Readonly<Record<string, string>>;
  /** What the proxies say of listeners: `rejected` with this message; all others are open. */
  readonly rejected?: Readonly<Record<string, string>>;
  readonly adopt?: "any" | readonly string[];
  /** `GET http://host/path name=value @namespace/gateway sni=host → outcome` */
  readonly requests?: readonly string[];
  /** `HTTPRoute ns/name [parent ns/gateway[/section][:port]] Type=Status/Reason…`, `Gateway ns/name [listener NAME] …` */
  readonly conditions?: readonly string[];
  /** All of them, in any order. */
  readonly findings?: readonly string[];
}

export function readGolden(text: string): GoldenCase {
  return parse(text) as GoldenCase;
}

export interface World {
  readonly api: GatewayApi;
  readonly objects: Source<KubeObject>[];
  readonly inputs: {
    readonly [kind in
      | "gatewayClasses"
      | "gateways"
      | "httpRoutes"
      | "services"
      | "secrets"
      | "namespaces"
      | "referenceGrants"]: Source<KubeObject>;
  };
  readonly addresses: Source<{ owner: string; address: string }>;
  readonly addressFailures: Source<{ owner: string; message: string }>;
  readonly states: Source<ListenerState>;
  /** Computations so far, by collection. */
  readonly metrics: () => ReadonlyMap<string, number>;
  readonly errors: () => readonly ComputeError[];
}

/** The dialect over writable collections of a graph of its own. */
export function createWorld(adopt: "any" | readonly string[] = "any"): World {
  const graph = createGraph({ sliceComputations: Number.POSITIVE_INFINITY });
  const make = (name: string) => source<KubeObject>(name, { graph });
  const inputs = {
    gatewayClasses: make("gatewayclasses"),
    gateways: make("gateways"),
    httpRoutes: make("httproutes"),
    services: make("services"),
    secrets: make("secrets"),
    namespaces: make("namespaces"),
    referenceGrants: make("referencegrants"),
  };
  const addresses = source<{ owner: string; address: string }>("addresses", { graph });
  const addressFailures = source<{ owner: string; message: string }>("address failures", { graph });
  const states = source<ListenerState>("states", { graph });
  const api = gatewayApi({ ...inputs, addresses, addressFailures, listenerStates: states, adopt });
  return {
    api,
    objects: Object.values(inputs),
    inputs,
    addresses,
    addressFailures,
    states,
    errors: () => graph.errors(),
    metrics: () => new Map(graph.metrics().map((one) => [one.name, one.computations])),
  };
}

const inputOfKind: Readonly<Record<string, keyof World["inputs"]>> = {
  GatewayClass: "gatewayClasses",
  Gateway: "gateways",
  HTTPRoute: "httpRoutes",
  Service: "services",
  Secret: "secrets",
  Namespace: "namespaces",
  ReferenceGrant: "referenceGrants",
};

/** Sets an object into its collection. */
export function put(world: World, object: KubeObject): void {
  const input = inputOfKind[object.kind];
  if (!input) throw new Error(`golden cases have no ${object.kind}`);
  world.inputs[input].set(objectName(object), object);
}

export async function runGolden(golden: GoldenCase): Promise<{ world: World; model: Model }> {
  const world = createWorld(golden.adopt ?? "any");
  const objects = [...golden.objects];
  for (const text of golden.services ?? []) objects.push(serviceOf(text));
  for (const [key, names] of Object.entries(golden.certificates ?? {})) {
    const [namespace, name] = key.split("/");
    objects.push(await tlsSecret(namespace!, name!, names));
  }
  const namespaces = new Map<string, Readonly<Record<string, string>>>();
  for (const object of objects) if (object.metadata.namespace) namespaces.set(object.metadata.namespace, {});
  for (const [name, labels] of Object.entries(golden.namespaces ?? {})) namespaces.set(name, labels);
  for (const [name, labels] of namespaces) {
    objects.push({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels } });
  }

  let next = 1;
  for (const object of objects) {
    put(world, object);
    if (object.kind !== "Gateway") continue;
    const key = objectName(object);
    const given = golden.addresses?.[key];
    if (given === null) continue;
    world.addresses.set(`gateway/${key}`, { owner: `gateway/${key}`, address: given ?? `10.97.0.${next++}` });
  }
  for (const [key, message] of Object.entries(golden.addressFailures ?? {})) {
    world.addressFailures.set(`gateway/${key}`, { owner: `gateway/${key}`, message });
  }
  for (const listener of world.api.listeners.values()) {
    const message = golden.rejected?.[listener.name];
    const state = message === undefined ? ("applied" as const) : ("rejected" as const);
    world.states.set(listener.name, { listener: listener.name, state, message: message ?? "" });
  }
  return { world, model: modelOf(world, objects) };
}

function serviceOf(text: string): KubeObject {
  const [, namespace, name, ports] = /^([^/]+)\/([^:]+):(.+)$/.exec(text) ?? [];
  if (!namespace) throw new Error(`no service: ${text}`);
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { namespace, name: name! },
    spec: { ports: ports!.split(",").map((port) => ({ port: Number(port), protocol: "TCP" })) },
  };
}

/** The dialect's output with the backends that the services room would make. */
function modelOf(world: World, objects: readonly KubeObject[]): Model {
  const backends = new Map<string, Backend>();
  const endpoints = new Map<string, Endpoints>();
  for (const object of objects) {
    if (object.kind !== "Service") continue;
    const { namespace = "default", name } = object.metadata;
    const from = { kind: "Service", namespace, name, field: "" };
    for (const { port } of (object.spec?.ports ?? []) as readonly { port: number }[]) {
      const backend = serviceBackendName(namespace, name, port);
      backends.set(backend, {
        name: backend,
        from,
        protocol: "http1",
        balance: { kind: "roundRobin" },
        connectTimeout: 5000,
      });
      endpoints.set(backend, { backend, from, endpoints: [{ address: "10.244.0.9", port: 8080, weight: 1 }] });
    }
  }
  return {
    secrets: new Map(world.api.secrets.entries()),
    routeTables: new Map(world.api.routeTables.entries()),
    listeners: new Map(world.api.listeners.entries()),
    backends,
    endpoints,
  };
}

// ------------------------------------------------------------------------------------------------------------ Requests

/** Runs a request line's left side and returns the line as it should read. */
export function answerLine(line: string, world: World, model: Model): string {
  const asked = line.split("→")[0]!.trim();
  const [method, url, ...rest] = asked.split(/\s+/);
  const [, scheme, authority, target] = /^(https?):\/\/([^/?]*)(.*)$/.exec(url ?? "") ?? [];
  if (!scheme || authority === undefined) throw new Error(`no request: ${line}`);
  const [, host = "", port] = /^(.*?)(?::([0-9]+))?$/.exec(authority) ?? [];
  let gateway: string | undefined;
  let serverName: string | undefined = host;
  const headers: [string, string][] = [];
  for (const word of rest) {
    if (word.startsWith("@")) gateway = word.slice(1);
    else if (word.startsWith("sni=")) serverName = word.slice(4) || undefined;
    else {
      const equals = word.indexOf("=");
      headers.push([word.slice(0, equals), word.slice(equals + 1)]);
    }
  }
  const owner = gateway === undefined ? [...world.addresses.keys()][0] : `gateway/${gateway}`;
  const address = world.addresses.get(owner ?? "")?.address ?? "192.0.2.1";
  const request: DecideRequest = {
    address,
    port: Number(port ?? (scheme === "https" ? 443 : 80)),
    ...(scheme === "https" ? { tls: serverName === undefined ? {} : { serverName } } : {}),
    method: method!,
    authority,
    target: target!,
    headers,
  };
  return `${asked} → ${describeOutcome(decide(model, request), request)}`;
}

function describeOutcome(decision: Decision, request: DecideRequest): string {
  const { outcome } = decision;
  const response = describeResponseFilters(decision.filters);
  switch (outcome.kind) {
    case "closed":
      return "closed";
    case "original":
      return `${outcome.address}:${outcome.port}`;
    case "redirect":
      return `${outcome.status} ${outcome.location}${response}`;
    case "respond":
      return `${outcome.status}`;
    case "forward":
      return outcome.shares
        .filter((share) => share.share > 0)
        .map(
          (share) =>
            describeShare(share, request) + describeResponseFilters([...decision.filters, ...share.to.filters]),
        )
        .join(", ");
  }
}

function describeShare(share: BackendShare, request: DecideRequest): string {
  const percent = share.share === 1 ? "" : ` ${Number((share.share * 100).toFixed(1))}%`;
  if (share.answer) return `${share.answer.status}${percent}`;
  const [, namespace, name, port] = share.backend!.name.split("/");
  const before = new Set(request.headers.map(([field, value]) => `${field}=${value}`));
  const after = share.sends.headers.map(([field, value]) => `${field}=${value}`);
  const changes = [
    ...(share.sends.authority === request.authority ? [] : [`host=${share.sends.authority}`]),
    ...(share.sends.target === request.target ? [] : [`target=${share.sends.target}`]),
    ...after.filter((field) => !before.has(field)).map((field) => `+${field}`),
    ...[...before].filter((field) => !after.includes(field)).map((field) => `-${field}`),
  ];
  return `${namespace}/${name}:${port}${percent}${changes.length > 0 ? ` [${changes.join(" ")}]` : ""}`;
}

function describeResponseFilters(filters: readonly Filter[]): string {
  const words = filters.flatMap((filter) =>
    filter.kind === "responseHeaders"
      ? [
          ...filter.change.set.map(({ name, value }) => `${name}=${value}`),
          ...filter.change.add.map(({ name, value }) => `+${name}=${value}`),
          ...filter.change.remove.map((name) => `-${name}`),
        ]
      : [],
  );
  return words.length > 0 ? ` (response ${words.join(" ")})` : "";
}

// ---------------------------------------------------------------------------------------------------------- Conditions

const plurals: Readonly<Record<string, string>> = {
  GatewayClass: "gatewayclasses",
  Gateway: "gateways",
  HTTPRoute: "httproutes",
};

interface StatusPart {
  readonly conditions?: readonly Condition[];
  readonly [field: string]: unknown;
}

/** A condition line as it should read: what it names is looked up, what it claims is replaced by what is. */
export function conditionLine(line: string, world: World): string {
  const words = line.split(/\s+/);
  const [kind, name] = words;
  const update = world.api.statuses.get(`${plurals[kind!]}.gateway.networking.k8s.io ${name}`);
  const claims = words.filter((word) => word.includes("="));
  const subject = words.filter((word) => !word.includes("="));
  const part = update && findPart(update, subject.slice(2));
  if (!part) return `${subject.join(" ")} status=none`;
  return [...subject, ...claims.map((claim) => actual(part, claim.slice(0, claim.indexOf("="))))].join(" ");
}

function findPart(update: StatusUpdate, [what, name]: readonly string[]): StatusPart | undefined {
  const status = update.status as { listeners?: readonly StatusPart[]; parents?: readonly StatusPart[] } & StatusPart;
  if (what === undefined) return status;
  if (what === "listener") return status.listeners?.find((listener) => listener["name"] === name);
  return status.parents?.find((parent) => {
    const ref = parent["parentRef"] as { namespace?: string; name: string; sectionName?: string; port?: number };
    const section = ref.sectionName === undefined ? "" : `/${ref.sectionName}`;
    const port = ref.port === undefined ? "" : `:${ref.port}`;
    return `${nameOf(ref.namespace ?? update.namespace, ref.name)}${section}${port}` === name;
  });
}

function actual(part: StatusPart, type: string): string {
  if (type === "parents" || type === "listeners")
    return `${type}=${(part[type] as readonly unknown[] | undefined)?.length ?? 0}`;
  if (type === "attachedRoutes" || type === "controllerName") return `${type}=${part[type]}`;
  if (type === "supportedKinds") {
    return `${type}=${(part[type] as readonly { kind: string }[]).map(({ kind }) => kind).join(",")}`;
  }
  if (type === "addresses") {
    return `${type}=${((part[type] ?? []) as readonly { value: string }[]).map(({ value }) => value).join(",")}`;
  }
  const found = part.conditions?.find((condition) => condition.type === type);
  return found ? `${type}=${found.status}/${found.reason}` : `${type}=absent`;
}

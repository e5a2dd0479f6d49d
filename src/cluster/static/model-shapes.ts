// The documents that a proxy can be run from: one for each resource of the model, with the model's own fields. What may be left out
// is filled in here: `from` always, weights of 1, empty matches and lists of filters, plain chains over TCP.

import { createHash } from "node:crypto";
import type {
  Action,
  FilterChain,
  Forward,
  Listener,
  Match,
  PathMatch,
  Redirect,
  ResourceOf,
  ResourceType,
  RouteTable,
  Rule,
  Secret,
  TlsContext,
  VirtualHost,
  WeightedBackend,
} from "../../model/model.ts";
import { pathNormalizations } from "../../model/path-normalization.ts";
import { Redacted } from "../../model/redacted.ts";
import { filter, respond, rewritePath, stringMatch, valueMatch, withCase } from "./filter-shapes.ts";
import {
  byField,
  byKind,
  flag,
  list,
  listOrNone,
  mapped,
  may,
  number,
  object,
  oneOf,
  or,
  provenance,
  type Shape,
  text,
  textOrFile,
} from "./shape.ts";
import { accessLog, tracing } from "./telemetry-shapes.ts";
import {
  attemptCount,
  backend,
  endpoints,
  hashKey,
  originalSource,
  peerDemands,
  persistence,
  retry,
  timeouts,
  tlsVersion,
} from "./upstream-shapes.ts";

/** The scope that all listeners of files are in. */
export const staticScope = "static";

const from = provenance;

const weighted = object<WeightedBackend>({
  from,
  weight: or(number, 1),
  target: byField<WeightedBackend["target"]>({
    backend: object<{ backend: string }>({ backend: text }),
    respond: object<{ respond: typeof respond extends Shape<infer R> ? R : never }>({ respond }),
  }),
  filters: listOrNone(filter),
});

type ClientName = NonNullable<NonNullable<TlsContext["clients"]>["names"]>[number];

const tls = object<TlsContext>({
  certificates: list(text),
  minVersion: may(tlsVersion),
  maxVersion: may(tlsVersion),
  alpn: or(list(text), ["h2", "http/1.1"]),
  ciphers: may(list(text)),
  clients: may(
    object<NonNullable<TlsContext["clients"]>>({
      mode: or(oneOf("require", "optional", "unverified"), "require"),
      authorities: may(text),
      names: may(list(object<ClientName>({ kind: oneOf("dns", "uri", "cn"), match: stringMatch }))),
      ...peerDemands,
      tell: may(list(oneOf("hash", "subject", "uri", "dns", "cert"))),
    }),
  ),
});

type Condition = FilterChain["when"];
type Serve = FilterChain["serve"];

const condition = {
  destination: may(list(text)),
  destinationPorts: may(list(number)),
  source: may(list(text)),
  protocols: may(list(text)),
};

const connections = object<Extract<Serve, { tcp: unknown }>>({
  tcp: listOrNone(weighted),
  idleTimeout: may(number),
  original: may(flag),
  originalSource: may(originalSource),
});

const chain = object<FilterChain>({
  from,
  when: or(
    byKind<Condition>({
      sni: object<Extract<Condition, { kind: "sni" }>>({ kind: oneOf("sni"), names: list(text), ...condition }),
      tls: object<Extract<Condition, { kind: "tls" }>>({ kind: oneOf("tls"), ...condition }),
      plain: object<Extract<Condition, { kind: "plain" }>>({ kind: oneOf("plain"), ...condition }),
    }),
    { kind: "plain" },
  ),
  tls: may(tls),
  serve: byField<Serve>({
    routes: object<{ routes: string }>({ routes: text }),
    tcp: connections,
    original: connections,
  }),
});

const listener = object<Listener & { kind: "Listener" }>({
  kind: oneOf("Listener"),
  name: text,
  from,
  scope: { take: notWritten, absent: () => staticScope },
  address: or(text, "127.0.0.1"),
  port: number,
  transport: or(oneOf("tcp", "udp"), "tcp"),
  namespace: may(text),
  originalDestination: may(flag),
  transparent: may(flag),
  proxyProtocol: may(flag),
  trusted: may(list(text)),
  pathNormalization: may(oneOf(...pathNormalizations)),
  accessLog: may(accessLog),
  tracing: may(tracing),
  chains: list(chain),
});

function notWritten(value: unknown, field: string, reading: Parameters<Shape<string>["take"]>[2]): string {
  if (value !== staticScope) reading.problem(field, "is for proxies of a stack: leave it out");
  return staticScope;
}

const path: Shape<PathMatch> = byKind<PathMatch>({
  exact: withCase("exact"),
  segments: withCase("segments"),
  prefix: withCase("prefix"),
  regex: withCase("regex"),
});

const match: Shape<Match> = object<Match>({
  from,
  path: may(path),
  method: may(text),
  scheme: may(oneOf("http", "https")),
  headers: may(list(valueMatch)),
  query: may(list(valueMatch)),
  cookies: may(list(valueMatch)),
  source: may(list(text)),
  // A match inside of a match; made when it is needed.
  not: may(list({ take: (value, field, reading): Match => match.take(value, field, reading) })),
});

const action: Shape<Action> = byKind<Action>({
  forward: object<Forward>({
    kind: oneOf("forward"),
    to: list(weighted),
    connect: may(oneOf("terminate", "pass")),
  }),
  redirect: object<Redirect>({
    kind: oneOf("redirect"),
    scheme: may(oneOf("http", "https")),
    host: may(text),
    port: may(number),
    path: may(rewritePath),
    query: may(text),
    status: or(oneOf(300, 301, 302, 303, 307, 308), 302),
  }),
  respond,
});

const rule = object<Rule>({
  from,
  name: text,
  match: { take: match.take, absent: () => ({}) },
  filters: listOrNone(filter),
  action,
  timeouts: may(timeouts),
  retry: may(retry),
  hash: may(list(hashKey)),
  persistence: may(persistence),
  attemptCount: may(attemptCount),
});

const routeTable = object<RouteTable & { kind: "RouteTable" }>({
  kind: oneOf("RouteTable"),
  name: text,
  from,
  hosts: list(object<VirtualHost>({ names: or(list(text), ["*"]), rules: list(rule) })),
});

type Content = Secret["content"];

const hidden = mapped(textOrFile, (value) => new Redacted(value ?? ""));

const secretFields = object<Omit<Secret, "fingerprint"> & { kind: "Secret" }>({
  kind: oneOf("Secret"),
  name: text,
  from,
  content: byKind<Content>({
    certificate: object<Extract<Content, { kind: "certificate" }>>({
      kind: oneOf("certificate"),
      certificate: textOrFile,
      privateKey: hidden,
    }),
    authorities: object<Extract<Content, { kind: "authorities" }>>({
      kind: oneOf("authorities"),
      certificates: textOrFile,
      revocationLists: may(textOrFile),
    }),
    users: object<Extract<Content, { kind: "users" }>>({ kind: oneOf("users"), lines: hidden }),
  }),
});

const secret: Shape<Secret> = mapped(secretFields, (fields) => ({ ...fields, fingerprint: secretDigest(fields) }));

function secretDigest({ content }: Pick<Secret, "content">): string {
  const parts = Object.values(content ?? {}).map((part) => (part instanceof Redacted ? part.reveal() : part));
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

/** The documents by their `kind`. */
export const documents: Readonly<Record<string, { readonly type: ResourceType; readonly shape: Shape<unknown> }>> = {
  Listener: document("listeners", listener),
  RouteTable: document("routeTables", routeTable),
  Backend: document("backends", backend),
  Endpoints: document("endpoints", endpoints),
  Secret: document("secrets", secret),
};

/** The resource is the document without its `kind`. */
function document<T extends ResourceType>(type: T, shape: Shape<ResourceOf[T]>) {
  return {
    type,
    shape: mapped(shape, (value) => {
      const { kind: _, ...resource } = (value ?? {}) as unknown as Record<string, unknown>;
      return resource;
    }),
  };
}

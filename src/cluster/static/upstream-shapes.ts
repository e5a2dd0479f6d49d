// Backends, Endpoints, and what a rule says of them, as people write them.

import type { Backend, Endpoint, Endpoints, OriginalSource, Rule, StringMatch, Timeouts } from "../../model/model.ts";
import type { CertificatePin } from "../../model/peer-demands.ts";
import type * as policies from "../../model/upstream-policies.ts";
import { header, statusRange, stringMatch, valueMatch } from "./filter-shapes.ts";
import {
  byKind,
  flag,
  list,
  listOrNone,
  may,
  number,
  object,
  oneOf,
  or,
  provenance,
  type Shape,
  text,
} from "./shape.ts";

const slowStart = object<policies.SlowStart>({ window: number, minPercent: may(number), aggression: may(number) });

type Kind<T, K> = Extract<T, { readonly kind: K }>;

const balance: Shape<policies.Balance> = byKind<policies.Balance>({
  roundRobin: object<Kind<policies.Balance, "roundRobin">>({ kind: oneOf("roundRobin"), slowStart: may(slowStart) }),
  random: object<Kind<policies.Balance, "random">>({ kind: oneOf("random") }),
  leastRequest: object<Kind<policies.Balance, "leastRequest">>({
    kind: oneOf("leastRequest"),
    choices: may(number),
    slowStart: may(slowStart),
  }),
  peakEwma: object<Kind<policies.Balance, "peakEwma">>({
    kind: oneOf("peakEwma"),
    decay: may(number),
    startAt: may(number),
  }),
  ringHash: object<Kind<policies.Balance, "ringHash">>({
    kind: oneOf("ringHash"),
    minSize: may(number),
    maxSize: may(number),
  }),
  maglev: object<Kind<policies.Balance, "maglev">>({ kind: oneOf("maglev"), tableSize: may(number) }),
});

/** Values that are left out are Envoy's. */
const outlierDetection = object<policies.OutlierDetection>({
  consecutive5xx: or(number, 5),
  consecutiveGatewayErrors: or(number, 5),
  consecutiveLocalFailures: may(number),
  interval: or(number, 10_000),
  baseEjection: or(number, 30_000),
  maxEjection: or(number, 300_000),
  ejectionJitter: may(number),
  maxEjectionPercent: or(number, 10),
  alwaysEjectOne: or(flag, true),
  successRate: may(
    object<NonNullable<policies.OutlierDetection["successRate"]>>({
      minimumHosts: number,
      requestVolume: number,
      deviationFactor: number,
    }),
  ),
  failurePercentage: may(
    object<NonNullable<policies.OutlierDetection["failurePercentage"]>>({
      threshold: number,
      minimumHosts: number,
      requestVolume: number,
    }),
  ),
});

type Check = policies.HealthCheck["check"];

const healthCheck = object<policies.HealthCheck>({
  check: byKind<Check>({
    http: object<Kind<Check, "http">>({
      kind: oneOf("http"),
      path: text,
      host: may(text),
      method: may(text),
      headers: may(list(header)),
      expected: may(list(statusRange)),
    }),
    grpc: object<Kind<Check, "grpc">>({ kind: oneOf("grpc"), service: or(text, "") }),
    tcp: object<Kind<Check, "tcp">>({ kind: oneOf("tcp") }),
  }),
  interval: number,
  timeout: number,
  unhealthyThreshold: or(number, 3),
  healthyThreshold: or(number, 1),
  jitter: may(number),
});

const limits = object<policies.Limits>({
  connections: may(number),
  pending: may(number),
  requests: may(number),
  retries: may(number),
  requestsPerConnection: may(number),
  streamsPerConnection: may(number),
  connectionDuration: may(number),
  idleTimeout: may(number),
  idleConnections: may(number),
});

const retryBudget: Shape<policies.RetryBudget> = byKind<policies.RetryBudget>({
  concurrent: object<Kind<policies.RetryBudget, "concurrent">>({
    kind: oneOf("concurrent"),
    percent: number,
    minimum: number,
  }),
  ratio: object<Kind<policies.RetryBudget, "ratio">>({
    kind: oneOf("ratio"),
    ratio: number,
    minPerSecond: number,
    ttl: number,
  }),
});

export const tlsVersion = oneOf("1.2", "1.3");

/** Of what is demanded of a peer's certificate, of clients and backends alike. */
export const peerDemands = {
  pins: may(list(object<CertificatePin>({ kind: oneOf("certificate", "key"), sha256: text }))),
  maxIntermediates: may(number),
};

const certificateName = object<{ kind: "dns" | "uri"; match: StringMatch }>({
  kind: oneOf("dns", "uri"),
  match: stringMatch,
});

export const originalSource = object<OriginalSource>({ mark: may(number) });

export const backend = object<Backend & { kind: "Backend" }>({
  kind: oneOf("Backend"),
  name: text,
  from: provenance,
  protocol: or(oneOf("http1", "h2c", "tcp"), "http1"),
  useClientProtocol: may(flag),
  balance: or(balance, { kind: "roundRobin" }),
  tls: may(
    object<policies.UpstreamTls>({
      serverName: may(text),
      authorities: text,
      names: may(list(certificateName)),
      certificate: may(text),
      minVersion: may(tlsVersion),
      maxVersion: may(tlsVersion),
      ciphers: may(list(text)),
      ...peerDemands,
    }),
  ),
  connectTimeout: or(number, 5_000),
  limits: may(limits),
  tcpKeepalive: may(object<policies.TcpKeepalive>({ time: may(number), interval: may(number), probes: may(number) })),
  http2Keepalive: may(object<policies.Http2Keepalive>({ interval: number, timeout: number })),
  warm: may(object<policies.Warm>({ connections: may(number), ratio: may(number) })),
  retryBudget: may(retryBudget),
  locality: may(
    object<policies.Locality>({
      zonePreference: may(object<{ minimum?: number }>({ minimum: may(number) })),
      overprovisioningPercent: may(number),
    }),
  ),
  outlierDetection: may(outlierDetection),
  failureAccrual: may(
    object<policies.FailureAccrual>({
      maxFailures: number,
      minPenalty: number,
      maxPenalty: number,
      jitterRatio: or(number, 0.5),
      successRate: may(
        object<NonNullable<policies.FailureAccrual["successRate"]>>({
          percent: number,
          window: number,
          minimumRequests: number,
        }),
      ),
    }),
  ),
  failureStatuses: may(list(statusRange)),
  healthCheck: may(healthCheck),
  panicPercent: may(number),
  proxyProtocol: may(oneOf(1, 2)),
  originalSource: may(originalSource),
});

export const endpoints = object<Endpoints & { kind: "Endpoints" }>({
  kind: oneOf("Endpoints"),
  backend: text,
  from: provenance,
  endpoints: list(
    object<Endpoint>({
      address: text,
      port: number,
      weight: or(number, 1),
      priority: may(number),
      zone: may(text),
      node: may(text),
      target: may(object<NonNullable<Endpoint["target"]>>({ kind: text, namespace: or(text, ""), name: text })),
    }),
  ),
});

export const timeouts = object<Timeouts>({
  request: may(number),
  response: may(number),
  perTry: may(number),
  idle: may(number),
  stream: may(number),
});

/** The condition's words are checked by `validate`. */
export const retry = object<policies.Retry>({
  attempts: or(number, 1),
  on: listOrNone(text as Shape<policies.RetryCondition>),
  statuses: listOrNone(number),
  headers: may(list(valueMatch)),
  backoff: or(object<{ base: number; max: number }>({ base: number, max: number }), { base: 25, max: 250 }),
  retryAfter: may(number),
  elsewhere: or(flag, false),
  within: may(number),
  otherPriorities: may(number),
  methods: may(list(text)),
  hedge: may(flag),
});

export const attemptCount = object<NonNullable<Rule["attemptCount"]>>({ request: may(flag), response: may(flag) });

const namedHeader = object<{ kind: "header"; name: string }>({ kind: oneOf("header"), name: text });
const bare = <K extends string>(kind: K) => object<{ kind: K }>({ kind: oneOf(kind) });

const hashParts = {
  header: namedHeader,
  query: object<{ kind: "query"; name: string }>({ kind: oneOf("query"), name: text }),
  source: bare("source"),
  host: bare("host"),
  method: bare("method"),
  path: bare("path"),
  uri: bare("uri"),
};

const hashPart: Shape<policies.HashPart> = byKind<policies.HashPart>({
  ...hashParts,
  cookie: object<{ kind: "cookie"; name: string }>({ kind: oneOf("cookie"), name: text }),
});

const sessionCookie = object<{ kind: "cookie" } & policies.SessionCookie>({
  kind: oneOf("cookie"),
  name: text,
  path: may(text),
  ttl: may(number),
  domain: may(text),
  secure: may(flag),
  httpOnly: may(flag),
  sameSite: may(oneOf("Strict", "Lax", "None")),
});

export const hashKey: Shape<policies.HashKey> = byKind<policies.HashKey>({
  ...hashParts,
  cookie: sessionCookie,
  joined: object<Kind<policies.HashKey, "joined">>({ kind: oneOf("joined"), parts: list(hashPart) }),
});

export const persistence = object<policies.Persistence>({
  carrier: byKind<policies.Persistence["carrier"]>({ cookie: sessionCookie, header: namedHeader }),
  keeps: or(oneOf("backend", "endpoint"), "endpoint"),
  fallback: may(flag),
});

// Resources that say everything the model can say, as they travel, as seeds of fuzzers; and changes of JSON values that keep most
// of their shape. Nothing in them listens outside 127.0.0.1 or writes a file.

import { makeAuthority, makeSecret } from "../e2e/proxy-secrets.ts";
import type { Random } from "./mutate.ts";

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

const from = { kind: "Test", name: "test", field: "" };
const change = { set: [{ name: "x-a", value: "b" }], add: [{ name: "x-b", value: "" }], remove: ["x-c"] };
const exact = { kind: "exact", value: "v", ignoreCase: true };
const regex = { kind: "regex", value: "(?i)v[0-9]+" };
const check = { interval: 1_000, timeout: 500, unhealthyThreshold: 2, healthyThreshold: 1, jitter: 10 };
const respond = { kind: "respond", status: 418, reason: "r", headers: [{ name: "x-r", value: "1" }], body: "b" };

/** A public key of RFC 8037, appendix A.2. */
const key = { kty: "OKP", crv: "Ed25519", x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" };

/** One of each kind. */
const filters: readonly object[] = [
  { kind: "requestHeaders", change },
  { kind: "responseHeaders", change },
  { kind: "rewrite", host: "rewritten.example", path: { kind: "regex", pattern: "^/(.*)", value: "/n/\\1" } },
  { kind: "query", change },
  { kind: "cookies", name: regex, domain: { to: "a.b" }, path: { from: "/", to: "" }, secure: true, sameSite: "Lax" },
  { kind: "addresses", allow: ["10.0.0.0/8", "::/0"], deny: ["10.1.2.3/32"] },
  { kind: "basicAuth", realm: 'a "b"', users: "secret/test/users", userHeader: "x-user" },
  {
    kind: "jwt",
    providers: [
      {
        ...{ name: "p", issuer: "i", audiences: ["a"], forward: true, payloadHeader: "x-payload" },
        keys: { backend: "one", authority: "a.example:8080", path: "/jwks?x=1", keep: 60_000 },
        places: [
          { kind: "header", name: "x-token", prefix: "Bearer " },
          { kind: "cookie", name: "t" },
        ],
        claimHeaders: [{ claim: "sub", header: "x-sub" }],
      },
      {
        ...{ name: "q", issuer: "j", audiences: [], forward: false, places: [], claimHeaders: [] },
        keys: { inline: JSON.stringify({ keys: [key] }) },
      },
    ],
    optional: false,
  },
  {
    ...{ kind: "externalAuth", service: "one", sends: ["*", "cookie"], adds: [{ name: "x", value: "y" }] },
    protocol: { kind: "http", authority: "a", path: "/auth", prefix: true, method: "GET" },
    ...{ body: { bytes: 10, partial: true }, toBackend: ["x-user"], toClient: ["*"], timeout: 100 },
    ...{ whenFailing: { status: 403 }, signIn: "https://sign.example/in?rd=1" },
  },
  {
    ...{
      kind: "localRateLimit",
      bucket: "b",
      requests: 5,
      per: 1_000,
      burst: 10,
      status: 429,
      tell: true,
      shared: false,
    },
    key: [{ kind: "source" }, { kind: "header", name: "x-a" }, { kind: "constant", value: "c" }],
    when: [{ name: "x-a", match: exact }],
  },
  {
    ...{
      kind: "globalRateLimit",
      service: "two",
      authority: "a",
      domain: "d",
      timeout: 100,
      status: 429,
      whenFailing: "pass",
    },
    descriptors: [[{ key: "k", value: { kind: "path" } }], [{ key: "l", value: { kind: "cookie", name: "c" } }]],
  },
  {
    ...{ kind: "cors", allowMethods: ["GET", "*"], allowHeaders: ["x-a"], exposeHeaders: [], maxAge: 5 },
    ...{ allowOrigins: [exact, regex], allowCredentials: false, otherPreflights: "answer" },
  },
  { kind: "fault", delay: { perMillion: 1, time: 10 }, abort: { perMillion: 1, grpcStatus: 16 } },
  { kind: "fault", when: [{ name: "x-a", match: exact }], abort: { perMillion: 1_000_000, status: 503 } },
  { kind: "grpcWeb" },
  { kind: "mirror", backend: "two", perMillion: 500_000, hostSuffix: "-shadow" },
  { kind: "bodyLimit", bytes: 1_000 },
  { kind: "buffering", request: 1_000, response: 1_000 },
  { kind: "compression", codings: ["gzip", "zstd", "br"], minBytes: 0, types: ["text/*", "image/svg+xml"], level: 3 },
  {
    kind: "errorPages",
    pages: [
      { statuses: [{ first: 500, last: 599 }], answer: { backend: "one", path: "/x?y", keepStatus: true } },
      { statuses: [{ first: 404, last: 404 }], answer: { respond } },
    ],
  },
];

const share = (backend: string, more: readonly object[] = []) => ({
  from,
  weight: 1,
  target: { backend },
  filters: more,
});

const rules: readonly object[] = [
  ...filters.map((filter, index) => ({
    ...{ from, name: `filter-${index}`, match: { path: { kind: "segments", value: `/f/${index}` } } },
    ...{ filters: [{ from, ...filter }], action: { kind: "forward", to: [share("one")] } },
  })),
  {
    ...{ from, name: "conditions", filters: [], action: { kind: "forward", to: [share("one"), share("two")] } },
    match: {
      ...{
        method: "GET",
        headers: [{ name: "x-a", match: regex }],
        query: [{ name: "q", match: { kind: "present" } }],
      },
      ...{ cookies: [{ name: "c", match: exact }], source: ["10.0.0.0/8"] },
      not: [{ path: { kind: "regex", value: "/a(/b)?" } }, { headers: [{ name: "x-b", match: exact }] }],
    },
  },
  {
    ...{ from, name: "policies", match: { path: { kind: "prefix", value: "/p", ignoreCase: true } }, filters: [] },
    action: { kind: "forward", to: [share("one", [{ from, kind: "requestHeaders", change }])] },
    timeouts: { request: 1_000, response: 900, perTry: 100, idle: 50, stream: 2_000 },
    retry: {
      ...{ attempts: 2, on: ["5xx", "connect-failure"], statuses: [429], backoff: { base: 25, max: 250 } },
      ...{ retryAfter: 100, elsewhere: true, methods: ["GET"], hedge: true, within: 1_000, otherPriorities: 2 },
    },
    hash: [{ kind: "header", name: "x-a" }, { kind: "cookie", name: "h", path: "/", ttl: 60 }, { kind: "source" }],
    persistence: { carrier: { kind: "cookie", name: "s", ttl: 60 }, keeps: "endpoint", fallback: false },
    attemptCount: { request: true, response: true },
  },
  {
    ...{ from, name: "redirect", match: { path: { kind: "segments", value: "/r" } }, filters: [] },
    action: { kind: "redirect", scheme: "https", port: 8443, path: { kind: "prefix", value: "/n" }, status: 308 },
  },
  { from, name: "respond", match: { path: { kind: "exact", value: "/x" } }, filters: [], action: respond },
];

const backends: readonly object[] = [
  { name: "one", from, protocol: "http1", balance: { kind: "roundRobin" }, connectTimeout: 1_000 },
  {
    ...{ name: "two", from, protocol: "h2c", connectTimeout: 1_000, panicPercent: 50 },
    balance: { kind: "leastRequest", choices: 3, slowStart: { window: 30_000, minPercent: 10, aggression: 1.5 } },
    limits: {
      connections: 1,
      pending: 0,
      requests: 1,
      retries: 0,
      requestsPerConnection: 1,
      idleTimeout: 1,
      streamsPerConnection: 9,
    },
    tcpKeepalive: { time: 60_000, interval: 5_000, probes: 3 },
    http2Keepalive: { interval: 10_000, timeout: 5_000 },
    retryBudget: { kind: "concurrent", percent: 20, minimum: 3 },
    locality: { zonePreference: { minimum: 0 }, overprovisioningPercent: 140 },
    failureStatuses: [{ first: 500, last: 599 }],
    outlierDetection: {
      ...{ consecutive5xx: 5, consecutiveGatewayErrors: 0, interval: 10_000, baseEjection: 30_000 },
      ...{ maxEjection: 300_000, maxEjectionPercent: 10, alwaysEjectOne: true, ejectionJitter: 1_000 },
      successRate: { minimumHosts: 5, requestVolume: 100, deviationFactor: 1.9 },
      failurePercentage: { threshold: 85, minimumHosts: 5, requestVolume: 50 },
    },
    failureAccrual: {
      ...{ maxFailures: 7, minPenalty: 1_000, maxPenalty: 60_000, jitterRatio: 0.5 },
      successRate: { percent: 80, window: 10_000, minimumRequests: 5 },
    },
  },
  {
    ...{ name: "three", from, protocol: "http1", balance: { kind: "ringHash", minSize: 16, maxSize: 64 } },
    ...{ warm: { connections: 2, ratio: 1.5 }, limits: { idleConnections: 4 } },
    ...{ connectTimeout: 1_000, retryBudget: { kind: "ratio", ratio: 0.2, minPerSecond: 1, ttl: 10_000 } },
    tls: {
      ...{ authorities: "secret/test/authority", serverName: "one.example", certificate: "secret/test/certificate" },
      ...{ names: [{ kind: "uri", match: exact }], minVersion: "1.2", maxVersion: "1.3" },
    },
  },
  {
    ...{ name: "four", from, protocol: "http1", balance: { kind: "maglev", tableSize: 251 }, connectTimeout: 1 },
    ...{ proxyProtocol: 2, healthCheck: { check: { kind: "tcp" }, ...check } },
  },
  {
    ...{
      name: "five",
      from,
      protocol: "h2c",
      balance: { kind: "peakEwma", decay: 10_000, startAt: 30 },
      connectTimeout: 1,
    },
    healthCheck: { check: { kind: "grpc", service: "s" }, ...check },
  },
  {
    ...{ name: "six", from, protocol: "http1", balance: { kind: "random" }, connectTimeout: 1 },
    healthCheck: {
      ...{ ...check, check: { kind: "http", path: "/h", host: "h", expected: [{ first: 200, last: 299 }] } },
    },
  },
];

/** Resources by type; the listeners use these ports of 127.0.0.1. Needs openssl. */
export function everything(folder: string, ports: readonly [number, number, number]): Record<string, Json[]> {
  const certificate = makeSecret(folder, "certificate", "one.example", "localhost");
  const authority = makeAuthority(folder, "authority").secret;
  const users = {
    name: "secret/test/users",
    from,
    fingerprint: "00".repeat(32),
    content: { kind: "users", lines: "ann:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=" },
  };
  const tls = { certificates: [certificate.name], alpn: ["h2", "http/1.1"] };
  const tcp = [share("one")];
  const on = (name: string, port: number) => ({
    name,
    from,
    scope: "gateway",
    address: "127.0.0.1",
    port,
    transport: "tcp",
  });
  const all = {
    secrets: [certificate, authority, users],
    backends,
    endpoints: backends.map((one) => ({
      ...{ backend: (one as { name: string }).name, from },
      endpoints: [
        { address: "127.0.0.1", port: 1, weight: 1 },
        { address: "127.0.0.1", port: 2, weight: 3, priority: 1, zone: "a", node: "n" },
        { address: "::1", port: 3, weight: 0, target: { kind: "Pod", namespace: "test", name: "p" } },
      ],
    })),
    routeTables: [
      {
        name: "main",
        from,
        hosts: [
          { names: ["*.example.com", "example.com"], rules },
          { names: ["*"], rules: [] },
        ],
      },
      ...rules.map((rule, index) => ({ name: `table-${index}`, from, hosts: [{ names: ["*"], rules: [rule] }] })),
    ],
    listeners: [
      {
        ...{ ...on("plain", ports[0]), trusted: ["10.0.0.0/8"], proxyProtocol: true },
        chains: [{ from, when: { kind: "plain" }, serve: { routes: "main" } }],
        accessLog: { path: "/dev/null", format: { json: { a: "%REQ(:PATH)% %RESPONSE_CODE%" } }, sample: 0.5 },
        tracing: { backend: "one", service: "s", sample: 0.1, formats: ["w3c", "b3"] },
      },
      {
        ...on("secure", ports[1]),
        chains: [
          {
            ...{ from, when: { kind: "sni", names: ["*.example.com"] }, serve: { routes: "main" } },
            tls: {
              ...{ ...tls, minVersion: "1.2", maxVersion: "1.2", ciphers: ["ECDHE-ECDSA-AES128-GCM-SHA256"] },
              clients: {
                ...{ mode: "optional", authorities: authority.name, tell: ["hash", "uri"] },
                names: [{ kind: "dns", match: exact }],
              },
            },
          },
          { from, when: { kind: "tls" }, tls, serve: { routes: "table-1" } },
          { from, when: { kind: "plain" }, serve: { tcp, idleTimeout: 1_000 } },
        ],
      },
      {
        ...{ ...on("datagrams", ports[2]), transport: "udp" },
        chains: [{ from, when: { kind: "plain" }, serve: { tcp } }],
      },
    ],
  };
  return JSON.parse(JSON.stringify(all)) as Record<string, Json[]>;
}

const odd: readonly Json[] = [
  ...[
    null,
    true,
    false,
    0,
    -1,
    1,
    0.5,
    65_535,
    65_536,
    2 ** 31,
    2 ** 53,
    1e300,
    "",
    "x",
    "0",
    "-",
    "*",
    "a b",
    "\0",
    "é",
  ],
  ...[
    "__proto__",
    "constructor",
    "toString",
    "127.0.0.1",
    "[",
    "(",
    "%",
    "%REQ(",
    "x".repeat(5_000),
    [],
    {},
    [[]],
    [null],
  ],
];

interface Place {
  readonly holder: Json[] | { [name: string]: Json };
  readonly key: string | number;
}

function places(value: Json, found: Place[] = []): Place[] {
  if (value === null || typeof value !== "object") return found;
  for (const key of Array.isArray(value) ? value.keys() : Object.keys(value)) {
    const holder = value as { [name: string]: Json };
    found.push({ holder, key: key as string });
    places(holder[key as string]!, found);
  }
  return found;
}

/** One to three values somewhere in it are others, are gone, stand twice, or have another name. The value itself is changed. */
export function changeValue(random: Random, value: Json, seeds: readonly Json[]): void {
  for (let change = random.below(3); change >= 0; change--) {
    const all = places(value);
    if (all.length === 0) return;
    const { holder, key } = random.of(all);
    const at = holder as { [name: string]: Json };
    const elsewhere = () => {
      const one = random.of(places(random.of(seeds)));
      return structuredClone((one.holder as { [name: string]: Json })[one.key]!);
    };
    switch (random.below(7)) {
      case 0:
        if (Array.isArray(holder)) holder.splice(Number(key), 1);
        else delete holder[key];
        break;
      case 1:
        if (Array.isArray(holder)) holder.push(structuredClone(at[key]!));
        else holder[random.of(["__proto__", "constructor", "kind", "name", "x"])] = at[key]!;
        break;
      case 2:
      case 3:
        at[key] = elsewhere();
        break;
      default:
        at[key] = structuredClone(random.of(odd));
    }
  }
}

/** Nothing may be written but to where nothing is kept. */
export function keepOffFiles(resource: Json): void {
  const log = (resource as { accessLog?: { path?: Json } } | null)?.accessLog;
  if (log && typeof log === "object" && log.path !== "/dev/null") log.path = "/dev/null";
}

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { Backend, Rule, Secret } from "./model.ts";
import { emptyModel } from "./model.ts";
import { Redacted } from "./redacted.ts";
import type { HashPart, HealthCheck, Retry } from "./upstream-policies.ts";
import { validateModel, validateResource, validateRule } from "./validate.ts";

const from = { kind: "Test", name: "test", field: "" };

function backend(more: Partial<Backend> = {}): Backend {
  return { name: "b", from, protocol: "http1", balance: { kind: "roundRobin" }, connectTimeout: 1_000, ...more };
}

const problemsOf = (more: Partial<Backend>) =>
  validateResource("backends", backend(more)).map(({ field, message }) => `${field} ${message}`);

const detection = {
  consecutive5xx: 5,
  consecutiveGatewayErrors: 0,
  interval: 10_000,
  baseEjection: 30_000,
  maxEjection: 300_000,
  maxEjectionPercent: 10,
  alwaysEjectOne: true,
} satisfies Backend["outlierDetection"];

const check = (more: HealthCheck["check"]): HealthCheck => ({
  check: more,
  interval: 1_000,
  timeout: 500,
  unhealthyThreshold: 2,
  healthyThreshold: 1,
});

test("everything that a backend may say is well when it makes sense", () => {
  expect(
    problemsOf({
      protocol: "h2c",
      balance: { kind: "leastRequest", choices: 3, slowStart: { window: 30_000, minPercent: 10, aggression: 1.5 } },
      limits: {
        connections: 1,
        pending: 0,
        requests: 1,
        retries: 0,
        requestsPerConnection: 1,
        idleTimeout: 1,
        streamsPerConnection: 1,
      },
      tcpKeepalive: { time: 60_000, interval: 5_000, probes: 3 },
      http2Keepalive: { interval: 10_000, timeout: 5_000 },
      retryBudget: { kind: "concurrent", percent: 20, minimum: 3 },
      locality: { zonePreference: { minimum: 0 }, overprovisioningPercent: 140 },
      outlierDetection: { ...detection, successRate: { minimumHosts: 5, requestVolume: 100, deviationFactor: 1.9 } },
      failureAccrual: { maxFailures: 7, minPenalty: 1_000, maxPenalty: 60_000, jitterRatio: 0.5 },
      healthCheck: check({ kind: "grpc", service: "" }),
      panicPercent: 50,
      warm: { connections: 1, ratio: 1.5 },
      tls: { authorities: "system", serverName: "orders.example.com", minVersion: "1.2", maxVersion: "1.3" },
    }),
  ).toEqual([]);
});

test("numbers out of their range are named with it", () => {
  const cases: [Partial<Backend>, string][] = [
    [{ connectTimeout: 0 }, "connectTimeout 0 is no number of milliseconds of 1 to 2147483647"],
    [{ limits: { connections: 0 } }, "limits.connections 0 is no whole number of at least 1"],
    [{ originalSource: { mark: 2 ** 32 } }, "originalSource.mark 4294967296 is no mark of packets (1 to 4294967295)"],
    [
      { limits: { streamsPerConnection: 5 } },
      "limits.streamsPerConnection is of HTTP/2, which a backend of protocol http1 does not speak",
    ],
    [
      { http2Keepalive: { interval: 1_000, timeout: 500 } },
      "http2Keepalive is of HTTP/2, which a backend of protocol http1 does not speak",
    ],
    [
      { protocol: "h2c", http2Keepalive: { interval: 1, timeout: 500 } },
      "http2Keepalive.interval 1 is no number of milliseconds of 10 to 2147483647",
    ],
    [
      {
        failureAccrual: {
          ...{ maxFailures: 1, minPenalty: 1, maxPenalty: 1, jitterRatio: 0 },
          successRate: { percent: 101, window: 10_000, minimumRequests: 5 },
        },
      },
      "failureAccrual.successRate.percent 101 is no number of 0 to 100",
    ],
    [
      { protocol: "tcp", useClientProtocol: true },
      "useClientProtocol is of HTTP, which a backend of protocol tcp does not speak",
    ],
    [{ useClientProtocol: true, proxyProtocol: 1 }, "useClientProtocol cannot be with proxyProtocol"],
    [{ tcpKeepalive: { time: 500 } }, "tcpKeepalive.time 500 is no number of 1000 to 32767000"],
    [{ tcpKeepalive: { interval: 1_500 } }, "tcpKeepalive.interval 1500 is no whole number of seconds"],
    [{ tcpKeepalive: { probes: 128 } }, "tcpKeepalive.probes 128 is no whole number of 1 to 127"],
    [{ limits: { retries: -1 } }, "limits.retries -1 is no whole number of at least 0"],
    [{ limits: { idleTimeout: Number.NaN } }, "limits.idleTimeout NaN is no number of milliseconds of 1 to 2147483647"],
    [{ limits: { idleConnections: -1 } }, "limits.idleConnections -1 is no whole number of at least 0"],
    [{ warm: { connections: 0 } }, "warm.connections 0 is no whole number of 1 to 256"],
    [{ warm: { ratio: 3.1 } }, "warm.ratio 3.1 is no number of 1 to 3"],
    [{ warm: {} }, "warm says neither connections nor ratio"],
    [{ warm: { connections: 5 }, limits: { connections: 4 } }, "warm.connections 5 is above limits.connections 4"],
    [
      { warm: { connections: 5 }, limits: { idleConnections: 4 } },
      "warm.connections 5 is above limits.idleConnections 4",
    ],
    [
      { outlierDetection: detection, failureStatuses: [{ first: 500, last: 429 }] },
      "failureStatuses[0] 500 to 429 is no range of statuses (100 to 599)",
    ],
    [
      { outlierDetection: detection, failureStatuses: [] },
      "failureStatuses lists no status; leave it out for 500 to 599",
    ],
    [
      { failureStatuses: [{ first: 500, last: 599 }] },
      "failureStatuses needs outlierDetection or failureAccrual, which go by it",
    ],
    [{ panicPercent: 101 }, "panicPercent 101 is no number of 0 to 100"],
    [{ balance: { kind: "maglev", tableSize: 65_536 } }, "balance.tableSize 65536 is no prime"],
    [{ balance: { kind: "ringHash", minSize: 10, maxSize: 5 } }, "balance.minSize is above maxSize"],
    [{ balance: { kind: "magic" as "random" } }, 'balance.kind "magic" is no way to balance'],
    [
      { retryBudget: { kind: "ratio", ratio: -1, minPerSecond: 0, ttl: 1 } },
      "retryBudget.ratio -1 is no number of 0 to 1000",
    ],
    [
      { outlierDetection: { ...detection, maxEjection: 29_999 } },
      "outlierDetection.baseEjection is above maxEjection, which no ejection may pass",
    ],
    [
      { outlierDetection: { ...detection, ejectionJitter: -1 } },
      "outlierDetection.ejectionJitter -1 is no number of milliseconds of 0 to 2147483647",
    ],
    [
      { outlierDetection: { ...detection, interval: 0 } },
      "outlierDetection.interval 0 is no number of milliseconds of 1 to 2147483647",
    ],
    [
      { failureAccrual: { maxFailures: 1, minPenalty: 2, maxPenalty: 1, jitterRatio: 0 } },
      "failureAccrual.minPenalty is above maxPenalty",
    ],
    [
      { healthCheck: check({ kind: "http", path: "ready" }) },
      'healthCheck.check.path path "ready" does not begin with "/"',
    ],
    [
      { healthCheck: check({ kind: "http", path: "/", expected: [{ first: 300, last: 200 }] }) },
      "healthCheck.check.expected[0] 300 to 200 is no range of statuses (100 to 599)",
    ],
    [
      { healthCheck: check({ kind: "grpc", service: "" }) },
      "healthCheck.check is of gRPC, which needs a backend of protocol h2c",
    ],
    [{ tls: { authorities: "system", serverName: "a b" } }, 'tls.serverName "a b" is no server name'],
    [
      { tls: { authorities: "system", maxVersion: "1.1" as never } },
      'tls.maxVersion "1.1" is no version of TLS that is spoken here: it is "1.2" or "1.3"; leave it out for 1.3',
    ],
    [{ tls: { authorities: "system", ciphers: [] } }, "tls.ciphers lists none"],
    [
      { tls: { authorities: "system", pins: [{ kind: "key", sha256: "x" }] } },
      'tls.pins[0].sha256 "x" is no SHA-256 in base64 (44 characters)',
    ],
    [
      { tls: { authorities: "insecure", maxIntermediates: 1 } },
      "tls.maxIntermediates is of chains, which insecure does not look at: leave one of them out",
    ],
    [{ tls: { authorities: "system", names: [] } }, "tls.names lists no name; leave it out for the server name"],
  ];
  for (const [more, expected] of cases) expect(problemsOf(more)).toEqual([expected]);
});

const retry: Retry = { attempts: 2, on: ["5xx"], statuses: [429], backoff: { base: 25, max: 250 }, elsewhere: true };

function problemsOfRule(more: Partial<Rule>): string[] {
  const rule: Rule = { from, name: "r", match: {}, filters: [], action: { kind: "forward", to: [] }, ...more };
  return validateRule(rule).map(({ field, message }) => `${field} ${message}`);
}

test("a rule's retries, hash and persistence", () => {
  expect(problemsOfRule({ retry, hash: [{ kind: "source" }], timeouts: { idle: 0, stream: 0 } })).toEqual([]);
  expect(problemsOfRule({ retry: { ...retry, hedge: true }, timeouts: { perTry: 1 } })).toEqual([]);
  const cases: [Partial<Rule>, string][] = [
    [{ retry: { ...retry, attempts: 101 } }, "retry.attempts 101 is no whole number of 0 to 100"],
    [{ timeouts: { response: -1 } }, "timeouts.response -1 is no number of milliseconds of 0 to 2147483647"],
    [{ retry: { ...retry, within: -1 } }, "retry.within -1 is no number of milliseconds of 0 to 2147483647"],
    [{ retry: { ...retry, otherPriorities: 0 } }, "retry.otherPriorities 0 is no whole number of 1 to 100"],
    [{ retry: { ...retry, statuses: [99] } }, "retry.statuses[0] 99 is no HTTP status (100 to 599)"],
    [{ retry: { ...retry, backoff: { base: 2, max: 1 } } }, "retry.backoff.base is above max"],
    [
      { retry: { ...retry, headers: [{ name: "X-Again", match: { kind: "present" } }] } },
      'retry.headers[0].name header name "X-Again" must be in lower case',
    ],
    [{ retry: { ...retry, methods: ["GET "] } }, 'retry.methods[0] "GET " is no method'],
    [{ hash: [{ kind: "header", name: "X-User" }] }, 'hash[0].name header name "X-User" must be in lower case'],
    [
      { hash: [{ kind: "joined", parts: [{ kind: "host" }] }] },
      "hash[0].parts joins less than two parts: name the part alone",
    ],
    [
      { hash: [{ kind: "joined", parts: [{ kind: "host" }, { kind: "query", name: "" }] }] },
      "hash[0].parts[1].name is empty",
    ],
    [
      { hash: [{ kind: "joined", parts: [{ kind: "host" }, { kind: "cookie", name: "c", ttl: 1 } as HashPart] }] },
      "hash[0].parts[1].ttl a cookie that is a part of a key is not made: leave it out",
    ],
    [
      { persistence: { carrier: { kind: "cookie", name: "s", path: "/;x" }, keeps: "backend" } },
      'persistence.carrier.path "/;x" is no path',
    ],
    [
      { persistence: { carrier: { kind: "cookie", name: "s", domain: "a.example; x" }, keeps: "backend" } },
      'persistence.carrier.domain "a.example; x" is no domain',
    ],
    [
      { persistence: { carrier: { kind: "cookie", name: "s", sameSite: "lax" as "Lax" }, keeps: "backend" } },
      'persistence.carrier.sameSite "lax" is none of Strict, Lax, None',
    ],
    [
      { persistence: { carrier: { kind: "cookie", name: "s", sameSite: "None", secure: false }, keeps: "backend" } },
      "persistence.carrier.secure false with sameSite None is a cookie that browsers do not take",
    ],
    [{ timeouts: { stream: 0.5 - 1 } }, "timeouts.stream -0.5 is no number of milliseconds of 0 to 2147483647"],
    [{ retry: { ...retry, hedge: true } }, "retry.hedge needs timeouts.perTry, the time after which a try is late"],
    [
      { retry: { ...retry, on: [], statuses: [], hedge: true }, timeouts: { perTry: 1 } },
      "retry.hedge needs a condition in retry.on, a status in retry.statuses or a header in retry.headers: without one there are no other tries",
    ],
    [{ timeouts: { idle: -1 } }, "timeouts.idle -1 is no number of milliseconds of 0 to 2147483647"],
  ];
  for (const [more, expected] of cases) expect(problemsOfRule(more)).toEqual([expected]);
});

test("secrets of TLS must be there and hold what they are named for", () => {
  const own: Secret = {
    ...{ name: "own", from, fingerprint: "0".repeat(64) },
    content: { kind: "certificate", certificate: "", privateKey: new Redacted("") },
  };
  const model = {
    ...emptyModel,
    secrets: new Map([["own", own]]),
    backends: new Map([["b", backend({ tls: { authorities: "own", certificate: "gone" } })]]),
  };
  const problems = validateModel(model).map(({ field, message }) => `${field} ${message}`);
  expect(problems).toContain("tls.authorities secret own holds certificate, not authorities");
  expect(problems).toContain("tls.certificate secret gone is not known");
});

test("connections ahead of requests are for backends that have requests, and connections that anyone may use", () => {
  const warm = { connections: 1 };
  expect(problemsOf({ warm, protocol: "tcp" })).toEqual([
    "warm is for requests, which a backend of protocol tcp does not have",
  ]);
  expect(problemsOf({ warm, proxyProtocol: 2 })).toEqual([
    "warm cannot be with proxyProtocol, where a connection speaks for one client",
  ]);
  expect(problemsOf({ warm, originalSource: {} })).toEqual([
    "warm cannot be with originalSource, where a connection speaks for one client",
  ]);
});

test("numbers that a policy cannot be without are asked for, and no other version of the PROXY header is taken", () => {
  const without = (more: object) => problemsOf(more as Partial<Backend>);
  expect(without({ connectTimeout: undefined })).toEqual(["connectTimeout is absent"]);
  expect(without({ outlierDetection: { ...detection, interval: undefined } })).toEqual([
    "outlierDetection.interval is absent",
  ]);
  const timeless = { ...check({ kind: "tcp" }), interval: undefined, timeout: undefined };
  expect(without({ healthCheck: timeless })).toEqual([
    "healthCheck.interval is absent",
    "healthCheck.timeout is absent",
  ]);
  expect(without({ proxyProtocol: "2" })).toEqual(["proxyProtocol 2 is no whole number of 1 to 2"]);
});

test("docs/policies.md has a row for every field of the policies for endpoints, with its default", () => {
  const read = (path: string) => readFileSync(new URL(path, import.meta.url), "utf8");
  const rows = new Map<string, Set<string>>();
  for (const [table] of read("../../docs/policies.md").matchAll(/^\| `\w+` \|.*\n\| ---.*\n(?:\|.*\n)+/gm)) {
    const [head, , ...lines] = table
      .trimEnd()
      .split("\n")
      .map((line) => line.split(/(?<!\\)\|/).slice(1, -1));
    const name = /`(\w+)`/.exec(head![0]!)![1]!;
    const ofParts = head![1]!.trim() === "part";
    for (const cells of lines) {
      const words = (ofParts ? cells.slice(0, 2) : cells.slice(0, 1)).join(" ").match(/`\w+`/g) ?? [];
      const known = rows.get(name) ?? new Set();
      rows.set(name, known);
      for (const word of words) known.add(word.slice(1, -1));
      expect([name, cells.join("|"), cells.length]).toEqual([name, cells.join("|"), head!.length]);
    }
  }
  const source = read("./upstream-policies.ts") + read("./model.ts");
  const interfaces: Record<string, string> = {
    ...{ limits: "Limits", timeouts: "Timeouts", retry: "Retry", locality: "Locality", persistence: "Persistence" },
    ...{ outlierDetection: "OutlierDetection", failureAccrual: "FailureAccrual", healthCheck: "HealthCheck" },
    ...{ tcpKeepalive: "TcpKeepalive", http2Keepalive: "Http2Keepalive" },
  };
  for (const [table, name] of Object.entries(interfaces)) {
    const body = new RegExp(`export interface ${name} \\{\n([^]*?)\n\\}`).exec(source)![1]!;
    const fields = [...body.matchAll(/^ {2}readonly (\w+)\??:/gm)].map(([, field]) => field!);
    expect(fields.length).toBeGreaterThan(1);
    expect([table, fields.filter((field) => !rows.get(table)?.has(field))]).toEqual([table, []]);
  }
  const unions = [
    ["balance", "Balance"],
    ["hash", "HashKey"],
    ["hash", "HashPart"],
    ["retryBudget", "RetryBudget"],
  ] as const;
  for (const [table, name] of unions) {
    const body = new RegExp(`export type ${name} =\n([^]*?);\n\n`).exec(source)![1]!;
    const kinds = [...body.matchAll(/"(\w+)"/g)].map(([, kind]) => kind!);
    expect(kinds.length).toBeGreaterThan(1);
    expect([table, kinds.filter((kind) => !rows.get(table)?.has(kind))]).toEqual([table, []]);
  }
  for (const part of ["slowStart", "choices", "decay", "startAt", "minSize", "maxSize", "tableSize"])
    expect([...rows.get("balance")!]).toContain(part);
});

// Generators of small models and requests for property tests (fast-check). Names, hosts, paths and values come from small pools
// with near misses, so that rules collide and requests hit; every model is valid (`validateModel` finds nothing in it).
// For tests only: nothing that runs imports it.

import fc from "fast-check";
import type { DecideRequest } from "../decision.ts";
import type {
  Action,
  Backend,
  Endpoints,
  Filter,
  HeaderChange,
  HostPattern,
  Listener,
  Match,
  Model,
  PathMatch,
  PathRewrite,
  RouteTable,
  Rule,
  Secret,
  StringMatch,
  ValueMatch,
  VirtualHost,
  WeightedBackend,
} from "../model.ts";
import type { Provenance } from "../provenance.ts";
import { Redacted } from "../redacted.ts";

const from: Provenance = { kind: "Test", namespace: "test", name: "model", field: "" };

export const hostPool: readonly HostPattern[] = [
  "*",
  "*.com",
  "*.example.com",
  "*.api.example.com",
  "example.com",
  "api.example.com",
  "v1.api.example.com",
  "other.org",
];
const authorityPool = [
  "example.com",
  "api.example.com",
  "API.Example.com",
  "api.example.com:8080",
  "api.example.com.",
  "v1.api.example.com",
  "deep.v1.api.example.com",
  "notexample.com",
  "xapi.example.com",
  "other.org",
  "127.0.0.1:80",
  "[::1]:80",
  "",
  "a b",
];
const valuePool = ["v1", "v2", "V2", "v22", "", "a,b", "xv2"];
const regexPool = ["v[0-9]+", "(?i)v2", ".*", "v2", "[^,]*", "v(1|2)", ".*b"];
const pathPool = ["/", "/a", "/a/", "/a/b", "/A/b", "/ab", "/a/bc", "/a//b", "/a%2Fb", "/a/b/c"];
const targetPool = [
  ...pathPool,
  "",
  "*",
  "/a?x=v2",
  "/a?x=v1&x=v2",
  "/a/b?y=v2&x=V2",
  "/a?x",
  "/a?x=a%2Cb",
  "/a?X=v2",
  "/a/b/?",
  "/b",
  "//",
  "//a",
  "http://api.example.com",
  "http://other.org/a?x=v2",
  "https://EXAMPLE.com:8443/a/b",
];
const pathRegexPool = ["/a.*", "/[a-z]+", "/a(/b)?", "/", ".*/b", "/A/.*"];
const backendPool = [
  "service/test/one/80",
  "service/test/two/80",
  "service/test/empty/80",
  "service/test/weightless/80",
];
/** One that the model does not have. */
const missingBackend = "service/test/missing/80";

export const arbitraryPathMatch: fc.Arbitrary<PathMatch> = fc.oneof(
  fc.record({
    kind: fc.constantFrom("exact" as const, "segments" as const, "prefix" as const),
    value: fc.constantFrom(...pathPool),
    ignoreCase: fc.boolean(),
  }),
  fc.record({
    kind: fc.constant("regex" as const),
    value: fc.constantFrom(...pathRegexPool),
    ignoreCase: fc.boolean(),
  }),
);

export const arbitraryStringMatch: fc.Arbitrary<StringMatch> = fc.oneof(
  fc.record({
    kind: fc.constantFrom("exact" as const, "prefix" as const, "suffix" as const, "contains" as const),
    value: fc.constantFrom(...valuePool),
    ignoreCase: fc.boolean(),
  }),
  fc.record({ kind: fc.constant("regex" as const), value: fc.constantFrom(...regexPool) }),
  fc.constant({ kind: "present" as const }),
);

const valueMatches = (...names: string[]): fc.Arbitrary<readonly ValueMatch[]> =>
  fc.array(fc.record({ name: fc.constantFrom(...names), match: arbitraryStringMatch }), { minLength: 1, maxLength: 2 });

const simpleMatch: fc.Arbitrary<Match> = fc.record(
  {
    path: arbitraryPathMatch,
    method: fc.constantFrom("GET", "POST", "get"),
    headers: valueMatches("x-a", "x-b"),
    query: valueMatches("x", "y"),
    cookies: valueMatches("c"),
    source: fc.constantFrom(["10.0.0.0/8"], ["10.1.0.0/16", "192.168.0.1/32"], ["0.0.0.0/0"]),
  },
  { requiredKeys: [] },
);

/** A match of few conditions (an absent one is likelier than not), sometimes with `not`. */
export const arbitraryMatch: fc.Arbitrary<Match> = fc
  .record({
    match: simpleMatch,
    keep: fc.array(fc.constantFrom("path", "path", "method", "headers", "query", "cookies", "source"), {
      maxLength: 3,
    }),
    not: fc.option(fc.array(simpleMatch, { minLength: 1, maxLength: 2 }), { freq: 5, nil: undefined }),
  })
  .map(({ match, keep, not }) => {
    const kept = Object.fromEntries(
      Object.entries(match).filter(([name]) => keep.some((kept) => kept === name)),
    ) as Match;
    return not ? { ...kept, not } : kept;
  });

const headerChange: fc.Arbitrary<HeaderChange> = fc.record({
  set: fc.array(fc.record({ name: fc.constantFrom("x-a", "x-set"), value: fc.constantFrom("one", "two") }), {
    maxLength: 1,
  }),
  add: fc.array(fc.record({ name: fc.constantFrom("x-a", "x-add"), value: fc.constantFrom("one", "two") }), {
    maxLength: 1,
  }),
  remove: fc.array(fc.constantFrom("x-a", "x-b"), { maxLength: 1 }),
});

const fullRewrite: fc.Arbitrary<PathRewrite> = fc.record({
  kind: fc.constant("full" as const),
  value: fc.constantFrom("/", "/new", "/new/"),
});
const regexRewrite: fc.Arbitrary<PathRewrite> = fc.record({
  kind: fc.constant("regex" as const),
  pattern: fc.constantFrom("/a", "^/(.*)", "b", "([a-z])"),
  value: fc.constantFrom("/n", "/n/\\1", "", "x"),
});
const anywhereRewrite = fc.oneof(fullRewrite, regexRewrite);
const anyRewrite: fc.Arbitrary<PathRewrite> = fc.oneof(
  anywhereRewrite,
  fc.record({ kind: fc.constant("prefix" as const), value: fc.constantFrom("", "/", "/new", "/new/", "/n/m") }),
);

/** `prefix` rewrites only where the match is one of segments: anything else is refused by validation. */
const rewriteFor = (match: Match) => (match.path?.kind === "segments" ? anyRewrite : fullRewrite);
const filterRewriteFor = (match: Match) => (match.path?.kind === "segments" ? anyRewrite : anywhereRewrite);

const queryChange: fc.Arbitrary<HeaderChange> = fc.record({
  set: fc.array(fc.record({ name: fc.constantFrom("x", "a b"), value: fc.constantFrom("one", "&") }), { maxLength: 1 }),
  add: fc.array(fc.record({ name: fc.constantFrom("x", "y"), value: fc.constantFrom("two", "") }), { maxLength: 1 }),
  remove: fc.array(fc.constantFrom("x", "y"), { maxLength: 1 }),
});

/** Filters that answer some requests, always the same ones: what `decide` must know beforehand. */
const decidingFilter: fc.Arbitrary<Filter> = fc.oneof(
  fc
    .record(
      {
        allow: fc.constantFrom(["10.0.0.0/8"], ["192.168.0.0/16", "10.1.0.0/16"], []),
        deny: fc.constantFrom(["10.2.0.0/16"], ["172.16.0.1/32"]),
      },
      { requiredKeys: [] },
    )
    .map((lists) => ({ kind: "addresses" as const, from, ...lists })),
  fc.constantFrom(3, 10).map((bytes) => ({ kind: "bodyLimit" as const, from, bytes })),
  fc
    .record({
      allowOrigins: fc.array(arbitraryStringMatch, { maxLength: 2 }),
      allowCredentials: fc.boolean(),
      otherPreflights: fc.constantFrom("forward" as const, "answer" as const),
    })
    .map((cors) => ({
      kind: "cors" as const,
      from,
      allowMethods: ["GET"],
      allowHeaders: ["*"],
      exposeHeaders: [],
      ...cors,
    })),
  fc.record({ perMillion: fc.constantFrom(0, 1_000_000), status: fc.constantFrom(503, 418) }).map((abort) => ({
    kind: "fault" as const,
    from,
    when: [{ name: "x-a", match: { kind: "exact" as const, value: "v2" } }],
    abort,
  })),
);

const filtersFor = (match: Match): fc.Arbitrary<readonly Filter[]> =>
  fc.array(
    fc.oneof<fc.Arbitrary<Filter>[]>(
      fc.record({
        kind: fc.constantFrom("requestHeaders" as const, "responseHeaders" as const),
        from: fc.constant(from),
        change: headerChange,
      }),
      fc
        .record({ host: fc.constantFrom("rewritten.example"), path: filterRewriteFor(match) }, { requiredKeys: [] })
        .map((rewrite) => ({ kind: "rewrite" as const, from, ...rewrite })),
      queryChange.map((change) => ({ kind: "query" as const, from, change })),
      decidingFilter,
    ),
    { maxLength: 3 },
  );

const weightedFor = (match: Match): fc.Arbitrary<WeightedBackend> =>
  fc.record({
    from: fc.constant(from),
    weight: fc.constantFrom(0, 1, 1, 9, 90),
    target: fc.oneof(
      { weight: 6, arbitrary: fc.constantFrom(...backendPool, missingBackend).map((backend) => ({ backend })) },
      {
        weight: 1,
        arbitrary: fc.constant({ respond: { kind: "respond" as const, status: 500, reason: "unresolved" } }),
      },
    ),
    filters: filtersFor(match),
  });

const actionFor = (match: Match): fc.Arbitrary<Action> =>
  fc.oneof<{ weight: number; arbitrary: fc.Arbitrary<Action> }[]>(
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constant("forward" as const),
        to: fc.array(weightedFor(match), { maxLength: 3 }),
      }),
    },
    {
      weight: 2,
      arbitrary: fc
        .record(
          {
            scheme: fc.constantFrom("http" as const, "https" as const),
            host: fc.constantFrom("redirected.example", "example.com"),
            port: fc.constantFrom(80, 443, 8443),
            path: rewriteFor(match),
          },
          { requiredKeys: [] },
        )
        .chain((parts) =>
          fc.constantFrom(301 as const, 302 as const, 303 as const, 307 as const, 308 as const).map((status) => ({
            kind: "redirect" as const,
            ...parts,
            status,
          })),
        ),
    },
    {
      weight: 1,
      arbitrary: fc
        .constantFrom(200, 404, 500)
        .map((status) => ({ kind: "respond" as const, status, reason: "asked for" })),
    },
  );

/** A valid rule; `name` tells rules of one model apart. */
export function arbitraryRule(name: string): fc.Arbitrary<Rule> {
  return arbitraryMatch.chain((match) =>
    fc.record({ filters: filtersFor(match), action: actionFor(match) }).map(({ filters, action }) => ({
      from: { ...from, field: name },
      name,
      match,
      filters,
      action,
    })),
  );
}

/** A valid route table: every pattern at most once, each entry with up to `maxRules` rules. */
export function arbitraryRouteTable(name: string, options: { maxRules?: number } = {}): fc.Arbitrary<RouteTable> {
  const { maxRules = 6 } = options;
  return fc.uniqueArray(fc.constantFrom(...hostPool), { maxLength: 5 }).chain((patterns) =>
    fc.array(fc.boolean(), { minLength: patterns.length, maxLength: patterns.length }).chain((joined) => {
      const groups: HostPattern[][] = [];
      patterns.forEach((pattern, i) => {
        const last = groups.at(-1);
        if (last && joined[i]) last.push(pattern);
        else groups.push([pattern]);
      });
      const hosts = groups.map(
        (names, h): fc.Arbitrary<VirtualHost> =>
          fc
            .integer({ min: 0, max: maxRules })
            .chain((count) => fc.tuple(...Array.from({ length: count }, (_, r) => arbitraryRule(`${name}/${h}/${r}`))))
            .map((rules) => ({ names, rules })),
      );
      return fc.tuple(...hosts).map((entries) => ({ name, from, hosts: entries }));
    }),
  );
}

const secret: Secret = {
  name: "secret/test/certificate",
  from,
  fingerprint: "00".repeat(32),
  content: {
    kind: "certificate",
    certificate: "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
    privateKey: new Redacted("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"),
  },
};

const backends: readonly Backend[] = backendPool.map((name) => ({
  name,
  from,
  protocol: "http1",
  balance: { kind: "roundRobin" },
  connectTimeout: 1000,
}));
const endpoints: readonly Endpoints[] = [
  { backend: backendPool[0]!, from, endpoints: [{ address: "10.244.0.1", port: 8080, weight: 1 }] },
  {
    backend: backendPool[1]!,
    from,
    endpoints: [
      { address: "10.244.0.2", port: 8080, weight: 1 },
      { address: "10.244.0.3", port: 8080, weight: 2 },
    ],
  },
  { backend: backendPool[2]!, from, endpoints: [] },
  { backend: backendPool[3]!, from, endpoints: [{ address: "10.244.0.4", port: 8080, weight: 0 }] },
];

export const arbitraryAddress = "10.97.0.1";
/** Nothing listens on it but the listener on all addresses of port 80. */
export const otherAddress = "10.97.0.2";

/** A model with a plain and a TLS port on one address, and port 80 on all addresses. Only the missing backend dangles. */
export function arbitraryModel(options: { maxRules?: number } = {}): fc.Arbitrary<Model> {
  const tls = { certificates: [secret.name], alpn: ["http/1.1"] };
  const listeners: readonly Listener[] = [
    {
      name: "plain",
      from,
      scope: "gateway",
      address: arbitraryAddress,
      port: 80,
      transport: "tcp",
      chains: [{ from, when: { kind: "plain" }, serve: { routes: "plain" } }],
    },
    {
      name: "any",
      from,
      scope: "gateway",
      address: "0.0.0.0",
      port: 80,
      transport: "tcp",
      chains: [{ from, when: { kind: "plain" }, serve: { routes: "any" } }],
    },
    {
      name: "tls",
      from,
      scope: "gateway",
      address: arbitraryAddress,
      port: 8443,
      transport: "tcp",
      chains: [
        { from, when: { kind: "sni", names: ["api.example.com"] }, tls, serve: { routes: "exact" } },
        { from, when: { kind: "sni", names: ["*.example.com"] }, tls, serve: { routes: "wildcard" } },
        { from, when: { kind: "tls" }, tls, serve: { routes: "plain" } },
      ],
    },
  ];
  return fc
    .tuple(...["plain", "any", "exact", "wildcard"].map((name) => arbitraryRouteTable(name, options)))
    .map((tables) => ({
      secrets: new Map([[secret.name, secret]]),
      backends: new Map(backends.map((backend) => [backend.name, backend])),
      endpoints: new Map(endpoints.map((entry) => [entry.backend, entry])),
      routeTables: new Map(tables.map((table) => [table.name, table])),
      listeners: new Map(listeners.map((listener) => [listener.name, listener])),
    }));
}

const headers = fc.array(
  fc.oneof(
    fc.tuple(fc.constantFrom("x-a", "X-A", "x-b", "x-c"), fc.constantFrom(...valuePool)),
    fc.constantFrom(["origin", "v2"] as [string, string], ["content-length", "4"], ["content-length", "11"]),
    fc.constant(["access-control-request-method", "GET"] as [string, string]),
    fc.tuple(fc.constantFrom("cookie", "Cookie"), fc.constantFrom("c=v2", "d=1; c=v1", "c=v2; c=v1", "C=v2", "c")),
  ),
  { maxLength: 4 },
);

/** A request that likely hits something in a model of {@link arbitraryModel}. */
export const arbitraryRequest: fc.Arbitrary<DecideRequest> = fc
  .record({
    where: fc.constantFrom(
      { address: arbitraryAddress, port: 80 },
      { address: arbitraryAddress, port: 80 },
      { address: otherAddress, port: 80 },
      { address: arbitraryAddress, port: 8443, tls: { serverName: "api.example.com" } },
      { address: arbitraryAddress, port: 8443, tls: { serverName: "v1.api.example.com" } },
      { address: arbitraryAddress, port: 8443, tls: { serverName: "other.org" } },
      { address: arbitraryAddress, port: 8443, tls: {} },
      { address: arbitraryAddress, port: 8443 },
      { address: arbitraryAddress, port: 81 },
    ),
    method: fc.constantFrom("GET", "GET", "POST", "OPTIONS", "get"),
    authority: fc.constantFrom(...authorityPool),
    target: fc.constantFrom(...targetPool),
    headers,
    source: fc.constantFrom("10.1.2.3", "10.2.0.1", "192.168.0.1", "172.16.0.1"),
  })
  .map(({ where, ...rest }) => ({ ...where, ...rest }));

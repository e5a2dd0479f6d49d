// Generators of small rules and route tables for property tests (fast-check). Names, hosts, paths and values come from small pools
// with near misses, so that rules collide. For tests only: nothing that runs imports it.

import fc from "fast-check";
import type {
  Action,
  Filter,
  HeaderChange,
  HostPattern,
  Match,
  PathMatch,
  PathRewrite,
  RouteTable,
  Rule,
  StringMatch,
  ValueMatch,
  VirtualHost,
  WeightedBackend,
} from "../model.ts";
import type { Provenance } from "../provenance.ts";

export const from: Provenance = { kind: "Test", namespace: "test", name: "model", field: "" };

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
export const valuePool = ["v1", "v2", "V2", "v22", "", "a,b", "xv2"];
const regexPool = ["v[0-9]+", "(?i)v2", ".*", "v2", "[^,]*", "v(1|2)", ".*b"];
export const pathPool = ["/", "/a", "/a/", "/a/b", "/A/b", "/ab", "/a/bc", "/a//b", "/a%2Fb", "/a/b/c"];
const pathRegexPool = ["/a.*", "/[a-z]+", "/a(/b)?", "/", ".*/b", "/A/.*"];
export const backendPool = [
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
    method: fc.constantFrom("GET", "POST", "get", "CONNECT", "TRACE"),
    scheme: fc.constantFrom("http", "https"),
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
    keep: fc.array(fc.constantFrom("path", "path", "method", "scheme", "headers", "query", "cookies", "source"), {
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
        ...(match.method === "CONNECT" ? { connect: fc.constantFrom("terminate" as const, "pass", undefined) } : {}),
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
        .constantFrom(...(match.method === "CONNECT" ? [404, 500] : [200, 404, 500]))
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

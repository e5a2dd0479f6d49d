// The dialect and `decide` together against the specification's own words, evaluated naively: among all matches of all routes
// that the owning listener serves for the host, the one that the rules of precedence name.

import { expect, test } from "bun:test";
import fc from "fast-check";
import type { HTTPRoute, HTTPRouteRuleMatch } from "../../api/kinds.ts";
import type { KubeObject } from "../../api/object.ts";
import { decide } from "../../model/decide.ts";
import { emptyModel } from "../../model/model.ts";
import { createWorld, put } from "./testing/golden.ts";

const group = "gateway.networking.k8s.io/v1";
const hosts = ["*.com", "*.example.com", "a.example.com", "b.example.com", "*.b.example.com", "c.org"];
const listenerHosts = ["", "*.com", "*.example.com", "a.example.com", "*.b.example.com"];

const sometimes = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { freq: 1, nil: undefined });
const values = (...names: string[]) =>
  sometimes(
    fc.uniqueArray(fc.record({ name: fc.constantFrom(...names), value: fc.constantFrom("1", "2") }), {
      selector: ({ name }) => name,
      minLength: 1,
      maxLength: 2,
    }),
  );

const match: fc.Arbitrary<HTTPRouteRuleMatch> = fc
  .record({
    path: fc.record({
      type: fc.constantFrom("Exact" as const, "PathPrefix" as const, "PathPrefix" as const),
      value: fc.constantFrom("/", "/a", "/a", "/a/b", "/ab", "/a/"),
    }),
    only: fc.constantFrom("nothing", "nothing", "method", "headers", "queryParams", "both"),
    method: fc.constantFrom("GET" as const, "POST" as const),
    headers: values("x", "y"),
    queryParams: values("q", "r"),
  })
  .map(({ path, only, method, headers, queryParams }) => ({
    path,
    ...(only === "method" ? { method } : {}),
    ...(headers && (only === "headers" || only === "both") ? { headers } : {}),
    ...(queryParams && (only === "queryParams" || only === "both") ? { queryParams } : {}),
  }));

interface Case {
  readonly listeners: readonly string[];
  readonly routes: readonly HTTPRoute[];
}

const cases: fc.Arbitrary<Case> = fc
  .record({
    listeners: fc.uniqueArray(fc.constantFrom(...listenerHosts), { minLength: 1, maxLength: 3 }),
    routes: fc.array(
      fc.record({
        hostnames: fc.uniqueArray(fc.constantFrom(...hosts), { maxLength: 2 }),
        section: fc.option(fc.nat({ max: 2 }), { nil: undefined }),
        created: fc.constantFrom("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        rules: fc.array(fc.array(match, { minLength: 1, maxLength: 2 }), { minLength: 1, maxLength: 2 }),
      }),
      { minLength: 2, maxLength: 5 },
    ),
  })
  .map(({ listeners, routes }) => ({
    listeners,
    routes: routes.map(
      ({ hostnames, section, created, rules }, i): HTTPRoute => ({
        apiVersion: group,
        kind: "HTTPRoute",
        metadata: { namespace: "infra", name: `r${(i * 3) % 5}`, creationTimestamp: created },
        spec: {
          parentRefs: [{ name: "edge", ...(section === undefined ? {} : { sectionName: `l${section}` }) }],
          ...(hostnames.length > 0 ? { hostnames } : {}),
          rules: rules.map((matches) => ({ matches })),
        },
      }),
    ),
  }));

const requests = fc.record({
  host: fc.constantFrom(
    "a.example.com",
    "b.example.com",
    "x.b.example.com",
    "x.example.com",
    "x.com",
    "c.org",
    "d.org",
  ),
  path: fc.constantFrom("/", "/a", "/a", "/a/", "/a/b", "/a/b", "/a/b/c", "/ab", "/c"),
  query: fc.constantFrom("", "?q=1", "?q=1&r=2", "?r=2"),
  method: fc.constantFrom("GET", "POST"),
  headers: fc.subarray([["x", "1"] as const, ["y", "2"] as const]),
});

type Request = typeof requests extends fc.Arbitrary<infer T> ? T : never;

// ----------------------------------------------------------------------------------------------- the naive evaluation

function fits(pattern: string, host: string): boolean {
  return pattern === "" || pattern === host || (pattern.startsWith("*.") && host.endsWith(pattern.slice(1)));
}

/** Characters of a matching hostname; a name without a wildcard stands above all with one. */
function hostRank(pattern: string): number {
  return pattern.startsWith("*") || pattern === "" ? pattern.length : 1000 + pattern.length;
}

function matchHolds(match: HTTPRouteRuleMatch, request: Request): boolean {
  const value = match.path?.value ?? "/";
  const bare = value.length > 1 && value.endsWith("/") ? value.slice(0, -1) : value;
  const pathHolds =
    match.path?.type === "Exact"
      ? request.path === value
      : bare === "/" || request.path === bare || request.path.startsWith(`${bare}/`);
  const query = new URLSearchParams(request.query);
  return (
    pathHolds &&
    (match.method === undefined || match.method === request.method) &&
    (match.headers ?? []).every((wanted) =>
      request.headers.some(([name, value]) => name === wanted.name && value === wanted.value),
    ) &&
    (match.queryParams ?? []).every((wanted) => query.get(wanted.name) === wanted.value)
  );
}

/** The match that should decide, as `route rule match`; undefined for 404. */
function expected({ listeners, routes }: Case, request: Request): string | undefined {
  const owner = listeners
    .filter((hostname) => fits(hostname, request.host))
    .sort((a, b) => hostRank(b) - hostRank(a))[0];
  if (owner === undefined) return undefined;
  const candidates: { key: readonly (number | string)[]; name: string }[] = [];
  for (const route of routes) {
    const section = route.spec!.parentRefs![0]!.sectionName;
    if (section !== undefined && section !== `l${listeners.indexOf(owner)}`) continue;
    const names = route.spec!.hostnames ?? [""];
    // What matches is the intersection with the listener's hostname: the more specific of the two.
    const ranks = names
      .filter((name) => fits(name, request.host))
      .map((name) => Math.max(hostRank(name), hostRank(owner)));
    if (ranks.length === 0) continue;
    route.spec!.rules!.forEach((rule, r) => {
      rule.matches!.forEach((one, m) => {
        if (!matchHolds(one, request)) return;
        candidates.push({
          key: [
            -Math.max(...ranks),
            one.path?.type === "Exact" ? 0 : 1,
            -(one.path?.value ?? "/").length,
            one.method === undefined ? 1 : 0,
            -(one.headers?.length ?? 0),
            -(one.queryParams?.length ?? 0),
            route.metadata.creationTimestamp!,
            route.metadata.name,
            r,
            m,
          ],
          name: `${route.metadata.name} spec.rules[${r}].matches[${m}]`,
        });
      });
    });
  }
  candidates.sort((a, b) => {
    const at = a.key.findIndex((part, i) => part !== b.key[i]);
    return at < 0 ? 0 : a.key[at]! < b.key[at]! ? -1 : 1;
  });
  return candidates[0]?.name;
}

test("routes, listeners and precedence agree with a naive reading of the specification", () => {
  let found = 0;
  fc.assert(
    fc.property(cases, fc.array(requests, { minLength: 15, maxLength: 15 }), (given, asked) => {
      const world = createWorld();
      const objects: KubeObject[] = [
        { apiVersion: group, kind: "GatewayClass", metadata: { name: "c" }, spec: { controllerName: "a.b/c" } },
        {
          apiVersion: group,
          kind: "Gateway",
          metadata: { namespace: "infra", name: "edge" },
          spec: {
            gatewayClassName: "c",
            listeners: given.listeners.map((hostname, i) => ({
              name: `l${i}`,
              protocol: "HTTP",
              port: 80,
              ...(hostname === "" ? {} : { hostname }),
            })),
          },
        },
        ...given.routes,
      ];
      world.addresses.set("gateway/infra/edge", { owner: "gateway/infra/edge", address: "10.97.0.1" });
      for (const object of objects) put(world, object);
      const model = {
        ...emptyModel,
        listeners: new Map(world.api.listeners.entries()),
        routeTables: new Map(world.api.routeTables.entries()),
      };
      for (const request of asked) {
        const { rule } = decide(model, {
          address: "10.97.0.1",
          port: 80,
          method: request.method,
          authority: request.host,
          target: request.path + request.query,
          headers: request.headers,
        });
        const name = rule && `${rule.from.name} ${rule.match.from?.field}`;
        if (name) found++;
        expect(name).toBe(expected(given, request));
      }
    }),
    { numRuns: 200 },
  );
  expect(found).toBeGreaterThan(500);
});

import { describe, expect, test } from "bun:test";
import { decide } from "./decide.ts";
import type { DecideRequest } from "./decision.ts";
import type { Filter, Match, Model, Rule, WeightedBackend } from "./model.ts";
import type { Provenance } from "./provenance.ts";

const at = (field: string): Provenance => ({ kind: "HTTPRoute", namespace: "shop", name: "orders", field });
const backend = (name: string, weight: number, filters: readonly Filter[] = []): WeightedBackend => ({
  from: at(`spec.rules[0].backendRefs(${name})`),
  weight,
  target: { backend: name },
  filters,
});
const rule = (i: number, match: Match, action: Rule["action"], filters: readonly Filter[] = []): Rule => ({
  from: at(`spec.rules[${i}]`),
  name: "shop/orders",
  match,
  filters,
  action,
});
const found = { kind: "respond", status: 200, reason: "found" } as const;

function model(rules: readonly Rule[], names: readonly string[] = ["*"]): Model {
  const from: Provenance = { kind: "Gateway", namespace: "infra", name: "edge", field: "spec.listeners[0]" };
  const base = { from, protocol: "http1", balance: { kind: "roundRobin" }, connectTimeout: 1000 } as const;
  return {
    secrets: new Map(),
    backends: new Map(["one", "idle"].map((name) => [name, { ...base, name }])),
    endpoints: new Map([
      ["one", { backend: "one", from, endpoints: [{ address: "10.0.0.1", port: 80, weight: 1 }] }],
      ["idle", { backend: "idle", from, endpoints: [{ address: "10.0.0.2", port: 80, weight: 0 }] }],
    ]),
    routeTables: new Map([["t", { name: "t", from, hosts: [{ names, rules }] }]]),
    listeners: new Map(
      ["0.0.0.0", "10.97.0.1"].map((address) => [
        address,
        {
          name: address,
          from,
          scope: "gateway",
          address,
          port: 80,
          transport: "tcp",
          chains: [{ from, when: { kind: "plain" }, serve: { routes: "t" } }],
        },
      ]),
    ),
  };
}

const get = (target: string, changes: Partial<DecideRequest> = {}): DecideRequest => ({
  address: "10.97.0.1",
  port: 80,
  method: "GET",
  authority: "a.example",
  target,
  headers: [],
  ...changes,
});

describe("the trail of a decision", () => {
  test("says of each rule that was passed over which condition failed, what was found and what was wanted", () => {
    const exact = (name: string, value: string) => [{ name, match: { kind: "exact" as const, value } }];
    const { trail } = decide(
      model([
        rule(0, { path: { kind: "segments", value: "/orders" } }, found),
        rule(1, { path: { kind: "exact", value: "/user" } }, found),
        rule(2, { path: { kind: "regex", value: "/u" } }, found),
        rule(3, { method: "POST" }, found),
        rule(4, { headers: exact("x-api-version", "v2") }, found),
        rule(5, { headers: exact("x-a", "2") }, found),
        rule(6, { query: exact("q", "2") }, found),
        rule(7, { cookies: exact("c", "2") }, found),
        rule(8, { source: ["10.0.0.0/8"] }, found),
        rule(9, { not: [{ path: { kind: "segments", value: "/users" }, method: "GET" }] }, found),
        rule(10, { scheme: "https" }, found),
        rule(11, {}, found),
        rule(12, {}, found),
      ]),
      get("/users?q=1", { headers: [["X-A", "1"]], source: "192.0.2.1" }),
    );
    expect(trail.filter((step) => step.what === "rule").map((step) => `${step.from.field}: ${step.reason}`)).toEqual([
      "spec.rules[0]: path /users is not under /orders",
      "spec.rules[1]: path /users is not /user",
      "spec.rules[2]: path /users does not match /u",
      "spec.rules[3]: method GET is not POST",
      'spec.rules[4]: header x-api-version is absent, wanted "v2"',
      'spec.rules[5]: header x-a is "1", wanted "2"',
      'spec.rules[6]: query parameter q is "1", wanted "2"',
      'spec.rules[7]: cookie c is absent, wanted "2"',
      "spec.rules[8]: source 192.0.2.1 is not in 10.0.0.0/8",
      "spec.rules[9]: excluded: path under /users, method GET",
      "spec.rules[10]: scheme http is not https",
      "spec.rules[11]: takes every request",
    ]);
  });

  test("goes by the path that the listener makes, and says so", () => {
    const rules = [rule(0, { path: { kind: "segments", value: "/admin" } }, found)];
    const base = model(rules);
    const normalizing: Model = {
      ...base,
      listeners: new Map(
        [...base.listeners].map(([name, one]) => [name, { ...one, pathNormalization: "MERGE_SLASHES" }]),
      ),
    };
    const { rule: taken, trail } = decide(normalizing, get("/x/..//%61dmin?q=/../"));
    expect(taken?.name).toBe(rules[0]!.name);
    expect(trail.filter(({ what }) => what === "listener").at(-1)?.reason).toBe(
      "takes path /x/..//%61dmin for /admin (MERGE_SLASHES)",
    );
    expect(decide(normalizing, get("/admin")).trail.filter(({ what }) => what === "listener")).toHaveLength(1);
    expect(decide(normalizing, get("/../admin")).outcome).toEqual({
      ...{ kind: "respond", status: 400 },
      reason: "path /../admin leads above the root, or has a zero byte in it",
    });
    expect(decide(base, get("/x/..//admin")).outcome).toMatchObject({ status: 404 });
  });

  test("prefers the listener on the address to the one on all addresses", () => {
    expect(decide(model([]), get("/")).listener?.name).toBe("10.97.0.1");
    expect(decide(model([]), get("/", { address: "10.97.0.9" })).listener?.name).toBe("0.0.0.0");
    expect(decide(model([]), get("/", { port: 81 })).outcome).toEqual({
      kind: "closed",
      reason: "nothing listens on 10.97.0.1:81",
    });
    const tls = decide(model([]), get("/", { tls: { serverName: "a.example" } }));
    expect(tls.outcome).toEqual({
      kind: "closed",
      reason: '10.97.0.1 has no chain for TLS with server name "a.example"',
    });
  });

  test("notes backends that nobody stands behind", () => {
    const to = [backend("one", 3), backend("idle", 1), backend("gone", 0)];
    const { outcome, trail } = decide(model([rule(0, {}, { kind: "forward", to })]), get("/"));
    expect(outcome.kind === "forward" && outcome.shares.map((share) => [share.share, share.answer?.status])).toEqual([
      [0.75, undefined],
      [0.25, 503],
      [0, 503],
    ]);
    expect(trail.filter((step) => step.what === "backend").map((step) => step.reason)).toEqual([
      "weight 3 of 4",
      "weight 1 of 4: answered 503, backend idle has no endpoints",
      "weight 0 of 4: answered 503, backend gone is not known",
    ]);
  });

  test("answers 500 where all weights are zero, 404 where no host or rule fits, 400 where the host is none", () => {
    const zero = model([rule(0, {}, { kind: "forward", to: [backend("one", 0)] })]);
    expect(decide(zero, get("/")).outcome).toEqual({
      kind: "respond",
      status: 500,
      reason: "all backends have weight 0",
    });
    const named = model([rule(0, { path: { kind: "exact", value: "/" } }, found)], ["b.example"]);
    expect(decide(named, get("/")).outcome).toMatchObject({
      status: 404,
      reason: 'no route has a host that takes "a.example"',
    });
    expect(decide(named, get("/x", { authority: "b.example" })).outcome).toMatchObject({ status: 404 });
    expect(decide(named, get("/", { authority: "a b" })).outcome).toMatchObject({ status: 400 });
  });

  test("takes the authority of an absolute target, and shows what is sent on after the filters", () => {
    const rewrite: Filter = {
      kind: "rewrite",
      from: at(""),
      host: "inner.example",
      path: { kind: "prefix", value: "/x" },
    };
    const change = { set: [{ name: "x-a", value: "2" }], add: [], remove: ["x-b"] };
    const to = [backend("one", 1, [{ kind: "requestHeaders", from: at(""), change }])];
    const match: Match = { path: { kind: "segments", value: "/a" } };
    const decision = decide(
      model([rule(0, match, { kind: "forward", to }, [rewrite])], ["b.example"]),
      get("http://B.example/a/b?c", {
        headers: [
          ["Host", "ignored"],
          ["x-a", "1"],
          ["x-b", "1"],
        ],
      }),
    );
    expect(decision.pattern).toBe("b.example");
    expect(decision.outcome.kind === "forward" && decision.outcome.shares[0]?.sends).toEqual({
      authority: "inner.example",
      target: "/x/b?c",
      headers: [["x-a", "2"]],
    });
  });
});

test("TRACE is taken only by a rule that names it", () => {
  const request = {
    address: "10.97.0.1",
    port: 80,
    method: "TRACE",
    authority: "a",
    target: "/",
    headers: [],
  } as const;
  expect(decide(model([rule(0, {}, found)]), request).outcome).toMatchObject({ kind: "respond", status: 501 });
  expect(decide(model([rule(0, { method: "TRACE" }, found)]), request).outcome).toMatchObject({ status: 200 });
});

describe("CONNECT", () => {
  const forward = (connect?: "terminate" | "pass") =>
    ({ kind: "forward", to: [backend("one", 1)], ...(connect ? { connect } : {}) }) as const;
  const connect = (target: string) =>
    ({ address: "10.97.0.1", port: 80, method: "CONNECT", authority: "ignored", target, headers: [] }) as const;

  test("is taken only by a rule that is for it and says what becomes of it", () => {
    const rules = [
      rule(0, {}, forward()),
      rule(1, { method: "CONNECT" }, forward()),
      rule(2, { method: "CONNECT", path: { kind: "prefix", value: "/" } }, forward("pass")),
      rule(
        3,
        { method: "CONNECT", headers: [{ name: "host", match: { kind: "suffix", value: ":5432" } }] },
        forward("pass"),
      ),
    ];
    const { outcome, trail } = decide(model(rules), connect("db.example:5432"));
    expect(trail.filter(({ what }) => what === "rule").map(({ reason }) => reason)).toEqual([
      "a CONNECT is taken only by rules that match this method",
      "does not say what becomes of a CONNECT",
      "a CONNECT has no path",
      'takes method CONNECT, header host one that ends with ":5432"',
    ]);
    expect(outcome).toMatchObject({ kind: "forward", shares: [{ sends: { authority: "db.example:5432" } }] });
    expect(decide(model(rules), connect("db.example:5433")).outcome).toMatchObject({ kind: "respond", status: 501 });
    // A rule for CONNECT takes nothing else.
    expect(decide(model(rules.slice(3)), { ...connect("/"), method: "GET" }).outcome).toMatchObject({ status: 404 });
  });

  test("has a host with a port as its target, by which its host is found", () => {
    const rules = [rule(0, { method: "CONNECT" }, forward("terminate"))];
    const one = model(rules, ["db.example"]);
    expect(decide(one, connect("DB.example:5432")).outcome.kind).toBe("forward");
    expect(decide(one, connect("other.example:5432")).outcome).toMatchObject({ kind: "respond", status: 501 });
    for (const target of ["db.example", "db.example:", ":5432", "http://db.example:5432", "a b:1"])
      expect(decide(one, connect(target)).outcome).toMatchObject({ kind: "respond", status: 400 });
  });
});

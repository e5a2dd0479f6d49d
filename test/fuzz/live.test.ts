// Fuzz of a whole proxy process: mutated bytes from clients of HTTP/1.1 and HTTP/2, from backends, and mutated configuration. It
// must serve the next request, answer each update, and not grow. A few hundred of each in CI; FUZZ_INPUTS=100000 for a long run.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { Flag, FrameType, preface, Setting } from "../../src/proxy/http2/frame.ts";
import { frame, number, Peer, settings } from "../../src/proxy/http2/peer.ts";
import { backend, endpoints, freePort, ProxyUnderTest, plainListener, routeTable, rule } from "../e2e/proxy-harness.ts";
import { smugglingCases } from "../e2e/smuggling-cases.ts";
import { fuzz, type Random } from "./mutate.ts";

const proxy = new ProxyUnderTest();
const port = freePort();
const cleanups: (() => void)[] = [];
/** What the backend of `/fuzz` answers next. */
let answer: Buffer = Buffer.alloc(0);

beforeAll(async () => {
  const good = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("good") });
  const fuzzed = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket) {
        socket.write(answer);
        socket.end();
      },
      error() {},
    },
  });
  cleanups.push(
    () => good.stop(true),
    () => fuzzed.stop(true),
  );
  await proxy.start();
  const rejected = await proxy.control.update({
    backends: [backend("one"), backend("two"), backend("three", { protocol: "h2c" })],
    endpoints: [endpoints("one", good.port!), endpoints("two", fuzzed.port), endpoints("three", fuzzed.port)],
    routeTables: [routeTable([to("two", "/fuzz"), to("three", "/h2"), rule("all")])],
    listeners: [plainListener(port)],
  });
  expect(rejected).toEqual([]);
});

afterAll(async () => {
  await proxy.stop();
  for (const cleanup of cleanups) cleanup();
});

function to(name: string, path: string) {
  return rule(name, {
    match: { path: { kind: "segments", value: path } },
    action: {
      kind: "forward",
      to: [{ from: { kind: "Test", name: "test", field: "" }, weight: 1, target: { backend: name }, filters: [] }],
    },
  });
}

async function serves(): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(20_000) });
  expect([response.status, await response.text()]).toEqual([200, "good"]);
}

const resident = () =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${proxy.process!.pid}/status`, "utf8"))![1]) / 1024;

/** Sends in one or two pieces, and leaves when something has come back or after a moment, so that half-said things stay half said. */
async function say(bytes: Buffer, random: Random): Promise<void> {
  const cut = random.below(bytes.length + 1);
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, 3);
    Bun.connect({
      hostname: "127.0.0.1",
      port,
      socket: {
        open(socket) {
          socket.write(bytes.subarray(0, cut));
          socket.flush();
          socket.write(bytes.subarray(cut));
        },
        data(socket) {
          clearTimeout(timer);
          socket.terminate();
          resolve();
        },
        close: () => resolve(),
        error: () => resolve(),
      },
    }).catch(() => resolve());
  });
}

/** Says all inputs, looks after each fifty whether the proxy serves, and at the end whether it has grown. */
async function survives(
  target: string,
  inputs: number,
  seeds: readonly Buffer[],
  check: Parameters<typeof fuzz>[3],
): Promise<void> {
  for (const seed of seeds) await check(seed, { below: () => 0 } as unknown as Random);
  const before = resident();
  let count = 0;
  await fuzz(target, inputs, seeds, async (bytes, random) => {
    await check(bytes, random);
    if (++count % 50 === 0) await serves();
  });
  await serves();
  expect(proxy.process!.exitCode).toBeNull();
  // What 100,000 inputs may leave is what 400 may: buffers and compiled code, but nothing for each of them.
  expect(resident() - before).toBeLessThan(150);
}

test("clients of HTTP/1.1", async () => {
  const seeds = smugglingCases.map(({ bytes }) => Buffer.from(bytes.replaceAll("@@@@", "c"), "latin1"));
  await survives(
    "live-http1",
    300,
    seeds.filter(({ length }) => length < 4000),
    say,
  );
});

test("clients of HTTP/2", async () => {
  const peer = new Peer();
  const get = { ":method": "GET", ":scheme": "http", ":authority": "a", ":path": "/x" };
  const open = [preface, settings()];
  const seeds = [
    [...open, peer.headers(1, get)],
    [...open, peer.headers(1, { ...get, ":method": "POST" }, false), frame(FrameType.data, Flag.endStream, 1, "hello")],
    [
      preface,
      settings([Setting.initialWindowSize, 1], [Setting.maxFrameSize, 16_384]),
      peer.headers(1, get),
      frame(FrameType.windowUpdate, 0, 1, number(100)),
    ],
    [
      ...open,
      peer.headers(1, get),
      frame(FrameType.rstStream, 0, 1, number(8)),
      frame(FrameType.ping, 0, 0, Buffer.alloc(8)),
    ],
    [
      ...open,
      frame(FrameType.headers, Flag.endStream, 1, peer.block(get)),
      frame(FrameType.continuation, Flag.endHeaders, 1),
    ],
    [...open, frame(FrameType.goaway, 0, 0, Buffer.alloc(8)), frame(FrameType.priority, 0, 3, Buffer.alloc(5))],
  ].map((parts) => Buffer.concat(parts));
  await survives("live-http2", 300, seeds, say);
});

test("backends of HTTP/1.1 and HTTP/2", async () => {
  const peer = new Peer();
  const one = [
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;a\r\nok\r\n0\r\nx: y\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.0 200 OK\r\n\r\nuntil the end",
  ].map((text) => Buffer.from(text));
  const two = [
    Buffer.concat([
      settings(),
      peer.headers(1, { ":status": "200" }, false),
      frame(FrameType.data, Flag.endStream, 1, "ok"),
    ]),
    Buffer.concat([
      settings(),
      frame(FrameType.rstStream, 0, 1, number(7)),
      frame(FrameType.goaway, 0, 0, Buffer.alloc(8)),
    ]),
  ];
  for (const [path, seeds] of [
    ["/fuzz", one],
    ["/h2", two],
  ] as const) {
    await survives(`live-backend${path}`, 150, seeds, async (bytes) => {
      answer = bytes;
      const response = await fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(20_000) }).catch(
        () => undefined,
      );
      await response?.arrayBuffer().catch(() => {});
    });
  }
});

test("configuration", async () => {
  const table = routeTable([rule("a", { match: { headers: [{ name: "x", match: { kind: "exact", value: "y" } }] } })]);
  const texts = [
    { routeTables: [{ ...table, name: "other" }] },
    { backends: [backend("fuzzed", { balance: { kind: "roundRobin" } })] },
    { endpoints: [endpoints("fuzzed", 1, 2)] },
    { listeners: [plainListener(freePort(), { name: "fuzzed", routes: "other" })] },
    {
      secrets: [
        {
          name: "secret/x/y",
          from: table.from,
          fingerprint: "x",
          content: { kind: "certificate", certificate: "x", privateKey: "y" },
        },
      ],
    },
  ].map((upsert) => JSON.stringify(upsert));
  const values = [null, "", "x", -1, 1e300, [], {}, true, "fuzzed", 0];
  let tried = 0;
  await fuzz("live-configuration", 400, [Buffer.from("x")], async (_bytes, random) => {
    // One value somewhere is another, or is not there.
    let at = random.below(60);
    const wanted = random.of(values);
    const upsert = JSON.parse(random.of(texts), (_key, value) =>
      at-- === 0 ? (random.below(4) === 0 ? undefined : wanted) : value,
    ) as object | null;
    if (upsert === null || typeof upsert !== "object" || Array.isArray(upsert)) return;
    const lists = Object.entries(upsert).filter(([, list]) => Array.isArray(list));
    const rejected = await within(proxy.control.update(Object.fromEntries(lists)), JSON.stringify(upsert));
    for (const { reason } of rejected) expect(reason).not.toBe("");
    if (++tried % 20 === 0) await serves();
  });
  await serves();
});

/** An update that is not answered is what a fuzzer looks for. */
async function within<T>(promise: Promise<T>, what: string): Promise<T> {
  let timer: Timer | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer to ${what}`)), 10_000);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

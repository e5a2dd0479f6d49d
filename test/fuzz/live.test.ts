// Fuzz of a whole proxy process: mutated bytes from clients of HTTP/1.1 and HTTP/2, from backends, and mutated configuration. It
// must serve the next request, answer each update, and not grow. A few hundred of each in CI; FUZZ_INPUTS=100000 for a long run.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodeFrame } from "../../src/model/frame.ts";
import { resourceTypes } from "../../src/model/model.ts";
import { Flag, FrameType, preface, Setting } from "../../src/proxy/http2/frame.ts";
import { frame, number, Peer, settings } from "../../src/proxy/http2/peer.ts";
import { backend, endpoints, freePort, ProxyUnderTest, plainListener, routeTable, rule } from "../e2e/proxy-harness.ts";
import { smugglingCases } from "../e2e/smuggling-cases.ts";
import { fuzz, inputsOf, type Random, randomOf } from "./mutate.ts";
import { changeValue, everything, type Json, keepOffFiles } from "./resources.ts";

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

/** What is in force, as the admin socket shows it, but for the number of the update that came last. */
async function inForce(): Promise<string> {
  return (await (await proxy.get("/config")).text()).replace(/"version":\d+/, "");
}

test("configuration", async () => {
  const folder = mkdtempSync(join(tmpdir(), "fl-t-fuzz-live-"));
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
  const seeds = everything(folder, [freePort(), freePort(), freePort()]);
  // Of others than those that the other tests of this file need.
  const mine = (one: Json) => {
    const text = JSON.stringify(one).replaceAll(/"(one|two|three|main)"/g, '"fuzzed-$1"');
    return JSON.parse(text) as Json;
  };
  const all = Object.fromEntries(Object.entries(seeds).map(([type, list]) => [type, list.map(mine)]));
  const flat = Object.values(all).flat();
  expect(await within(proxy.control.update(all as Record<string, object[]>), "the seeds")).toEqual([]);
  const random = randomOf("live-configuration");
  const before = resident();
  for (let index = 0; index < inputsOf(400); index++) {
    const type = random.of(resourceTypes);
    const sent = structuredClone(random.of(all[type]!));
    changeValue(random, sent, flat);
    keepOffFiles(sent);
    const was = index % 10 === 0 ? await inForce() : undefined;
    const rejected = await within(proxy.control.update({ [type]: [sent] as object[] }), JSON.stringify(sent));
    for (const { reason } of rejected) expect(reason).not.toBe("");
    // What is refused changes nothing: the one before stays in force.
    if (was !== undefined && rejected.some(({ resource }) => resource === type)) expect(await inForce()).toBe(was);
    if (index % 20 === 0) await serves();
  }
  await serves();
  expect(resident() - before).toBeLessThan(150);
});

test("bytes on the control socket that are no frames", async () => {
  const frames = [
    encodeFrame({ type: "update", version: 9, upsert: { endpoints: [endpoints("two", 1)] }, remove: {} }),
    encodeFrame({ type: "update", version: 9, upsert: {}, remove: {}, patch: [{ name: "main", base: 1, hosts: [0] }] }),
    encodeFrame({ type: "other" }),
    encodeFrame([]),
  ].map((bytes) => Buffer.from(bytes));
  // A drain is obeyed; nothing here may become one.
  await fuzz("live-control", 60, frames, async (bytes) => {
    const hello = proxy.control.hello();
    proxy.control.sendBytes(bytes, true);
    await within(hello, `these bytes: ${bytes.toString("hex")}`);
    expect(await within(proxy.control.update({ endpoints: [endpoints("fuzzed", 1)] }), "an update behind it")).toEqual(
      [],
    );
  });
  await serves();
  expect(proxy.process!.exitCode).toBeNull();
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

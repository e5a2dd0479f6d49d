import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Socket } from "bun";
import { FakeClock } from "../base/clock.ts";
import { createLogger } from "../base/log.ts";
import { createGraph } from "../collections/graph.ts";
import { encodeFrame, FrameDecoder } from "../model/frame.ts";
import type { Ahead, FromProxy, ToProxy, Update } from "../model/wire.ts";
import { joinedUpdate } from "../model/wire-codec.ts";
import { Distribution, listenerStateSource } from "./distribution.ts";
import { type ProxyServer, serveProxies } from "./proxy-server.ts";
import { backend, endpoints, listener, type ModelSources, modelSources, secret } from "./testing/model-sources.ts";

let directory: string;
let path: string;
let model: ModelSources;
let distribution: Distribution;
let server: ProxyServer;
let clock: FakeClock;
let lines: string[];
const ends: (() => void)[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "fl-t-"));
  path = join(directory, "proxies.sock");
  const graph = createGraph();
  model = modelSources(graph);
  clock = new FakeClock();
  lines = [];
  distribution = new Distribution(model, { listenerStates: listenerStateSource({ graph }), clock });
});

afterEach(() => {
  for (const end of ends.splice(0)) end();
  server.dispose();
  distribution.dispose();
  rmSync(directory, { recursive: true });
});

function serve(ready?: Promise<void>): void {
  server = serveProxies({ path, distribution, ready, clock, log: createLogger((line) => lines.push(line)) });
}

/** A proxy as far as the wire goes. */
async function dial(): Promise<{
  say(message: FromProxy | Uint8Array): void;
  hear(): Promise<ToProxy>;
  closed: Promise<void>;
  socket: Socket;
}> {
  const decoder = new FrameDecoder();
  const heard: ToProxy[] = [];
  let wake = () => {};
  let close = () => {};
  const closed = new Promise<void>((resolve) => {
    close = resolve;
  });
  const socket = await Bun.connect({
    unix: path,
    socket: {
      data(_socket, chunk) {
        heard.push(...(decoder.push(chunk) as ToProxy[]));
        wake();
      },
      close: () => close(),
    },
  });
  ends.push(() => socket.end());
  return {
    socket,
    closed,
    say(message) {
      socket.write(message instanceof Uint8Array ? message : encodeFrame(message));
      socket.flush();
    },
    async hear() {
      while (heard.length === 0) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      return heard.shift()!;
    },
  };
}

const hello = (proxy = "p1"): FromProxy => ({ type: "hello", proxy, scopes: ["gateway"], pid: 7, have: {} });

describe("the proxies' socket", () => {
  test("can be opened by its owner only, and replaces what an earlier process left", () => {
    writeFileSync(path, "stale");
    serve();
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test("a hello is answered with what the proxy lacks, keys in clear; an answer lets the next update come", async () => {
    serve();
    model.listeners.set("l", listener("l", { secrets: ["s"] }));
    model.secrets.set("s", secret("s"));
    const proxy = await dial();
    proxy.say(hello());
    const first = await proxy.hear();
    expect(first).toMatchObject({
      type: "update",
      version: 1,
      upsert: { listeners: [{ name: "l" }], secrets: [{ content: { privateKey: "key of s" } }] },
    });
    model.listeners.delete("l");
    proxy.say({ type: "applied", version: 1, rejected: [] });
    expect(await proxy.hear()).toEqual({
      type: "update",
      version: 2,
      upsert: {},
      remove: { secrets: ["s"], listeners: ["l"] },
    });
    expect(lines.join()).not.toContain("key of s");
  });

  test("nothing is sent before the model is complete", async () => {
    let complete = () => {};
    serve(
      new Promise((resolve) => {
        complete = resolve;
      }),
    );
    const proxy = await dial();
    proxy.say({ ...hello(), have: { listeners: { l: "1" } } } as FromProxy);
    const other = await dial();
    other.say(hello("other"));
    while (server.drain(1, { proxy: "other" }) === 0) await Bun.sleep(0); // by then its hello was taken
    expect(distribution.proxyStates()).toEqual([]);
    model.listeners.set("l", listener("l"));
    complete();
    expect(await proxy.hear()).toMatchObject({ version: 1, upsert: { listeners: [{ name: "l" }] }, remove: {} });
  });

  test("a process that takes over is told beside the one before, and each can be asked to drain", async () => {
    serve();
    model.listeners.set("l", listener("l"));
    const [before, after] = [await dial(), await dial()];
    before.say({ ...hello(), program: "1", admin: "/run/p1.sock" } as FromProxy);
    await before.hear();
    before.say({ type: "applied", version: 1, rejected: [] });
    after.say({ ...hello(), pid: 8, program: "2" } as FromProxy);
    await after.hear();
    expect(distribution.proxyStates().map(({ pid, program, admin }) => ({ pid, program, admin }))).toEqual([
      { pid: 7, program: "1", admin: "/run/p1.sock" },
      { pid: 8, program: "2", admin: undefined },
    ]);
    model.listeners.set("m", listener("m", { port: 81 }));
    expect(await before.hear()).toMatchObject({ version: 2, upsert: { listeners: [{ name: "m" }] } });
    expect(server.drain(500, { proxy: "p1", pid: 7 })).toBe(1);
    expect(await before.hear()).toEqual({ type: "drain", deadline: 500 });
  });

  test("a large update arrives whole", async () => {
    serve();
    const names = Array.from({ length: 5_000 }, (_, n) => `backend-${n}`);
    model.backends.replace(names.map((name) => [name, backend(name)] as const));
    model.endpoints.replace(names.map((name) => [name, endpoints(name, "10.0.0.1")] as const));
    model.listeners.set("l", listener("l", { tcp: names }));
    const proxy = await dial();
    proxy.say(hello());
    const ahead: Ahead[] = [];
    let message = await proxy.hear();
    for (; message.type === "ahead"; message = await proxy.hear()) ahead.push(message);
    const update = joinedUpdate(ahead, message as Update);
    expect(update.upsert.endpoints?.length).toBe(names.length);
  });

  test("a new connection of a proxy replaces the old one", async () => {
    serve();
    const old = await dial();
    old.say(hello());
    model.listeners.set("l", listener("l"));
    await old.hear();
    const fresh = await dial();
    fresh.say(hello());
    await fresh.hear();
    await old.closed;
    expect(distribution.proxyStates().map((one) => [one.proxy, one.connected])).toEqual([["p1", true]]);
  });

  test("what is no message ends the connection, and says why in the log", async () => {
    serve();
    const proxy = await dial();
    proxy.say(encodeFrame({ type: "hi" }));
    await proxy.closed;
    expect(lines.join()).toContain('unknown message type \\"hi\\"');
  });

  test("who does not say hello is not kept", async () => {
    serve();
    const proxy = await dial();
    proxy.say(new Uint8Array([0]));
    let closed = false;
    void proxy.closed.then(() => {
      closed = true;
    });
    while (!closed) {
      await Bun.sleep(0);
      clock.advance(10_000);
    }
    expect(lines.join()).toContain("no hello came");
  });

  test("a proxy can be asked to drain", async () => {
    serve();
    const proxy = await dial();
    proxy.say(hello());
    model.listeners.set("l", listener("l"));
    await proxy.hear();
    expect(server.drain(5000, { proxy: "nobody" })).toBe(0);
    expect(server.drain(5000)).toBe(1);
    expect(await proxy.hear()).toEqual({ type: "drain", deadline: 5000 });
  });

  test("a path that the kernel would cut is refused with a remedy", () => {
    serve();
    expect(() => serveProxies({ path: `/tmp/${"x".repeat(110)}`, distribution })).toThrow("longer than 107 bytes");
  });
});

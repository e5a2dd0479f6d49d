// Connections and datagrams that the proxy passes through. Over loopback, no privileges.

import { expect, test } from "bun:test";
import type net from "node:net";
import type { Listener } from "../../src/model/model.ts";
import {
  connect,
  eachListenerTest,
  listener,
  log,
  metric,
  named,
  plain,
  port,
  proxy,
  put,
  read,
  routes,
  say,
  serve,
  servers,
  tcp,
} from "./listener-cases.ts";
import { backend, endpoints, forwardTo, freePort, from } from "./proxy-harness.ts";

eachListenerTest();

test("connections are passed through by weight, the server may speak first, and each is counted and logged", async () => {
  await put({
    backends: [backend("a", { protocol: "tcp" }), backend("b", { protocol: "tcp" })],
    endpoints: [endpoints("a", await named("a")), endpoints("b", await named("b"))],
    listeners: [listener({ when: plain, serve: tcp(forwardTo("a", 3), forwardTo("b", 1)) })],
  });
  let a = 0;
  for (let i = 0; i < 40; i++) if ((await say()) === "a") a++;
  expect(a).toBeGreaterThanOrEqual(28);
  expect(a).toBeLessThanOrEqual(32);
  expect(await metric('fairlead_proxy_relayed_connections_total{protocol="tcp",backend="a"}')).toBe(a);
  expect(await metric('fairlead_proxy_relayed_sent_bytes_total{protocol="tcp",backend="b"}')).toBe(40 - a);
  const [first] = await log();
  expect(first).toMatchObject({ protocol: "TCP", reason: null, flag: "-", source: "127.0.0.1", sent: 1 });
});

test("a side that sends no more still receives, in both directions", async () => {
  const last = await serve((socket) => {
    const chunks: Buffer[] = [];
    socket.on("data", (bytes: Buffer) => chunks.push(bytes));
    socket.on("end", () => socket.end(`got ${Buffer.concat(chunks)}`));
  });
  await put({
    backends: [backend("a", { protocol: "tcp" })],
    endpoints: [endpoints("a", last)],
    listeners: [listener({ when: plain, serve: tcp(forwardTo("a")) })],
  });
  const socket = connect();
  const answer = read(socket);
  socket.end("all that I say");
  expect(await answer).toBe("got all that I say");

  // The server ends first, and hears the rest.
  const { promise, resolve } = Promise.withResolvers<string>();
  const first = await serve((server) => {
    server.end("that was it");
    void read(server).then(resolve);
  });
  await put({ endpoints: [endpoints("a", first)] });
  const client = connect();
  expect(await read(client)).toBe("that was it");
  client.end("and a word after");
  expect(await promise).toBe("and a word after");
});

test("much data crosses whole both ways, and waits for the side that does not read", async () => {
  const echo = await serve((socket) => socket.pipe(socket));
  let written = 0;
  const source = await serve((socket) => {
    const chunk = Buffer.alloc(64 * 1024, 1);
    const more = () => {
      while (socket.write(chunk)) written += chunk.length;
      written += chunk.length;
    };
    socket.on("drain", more);
    more();
  });
  await put({
    backends: [backend("a", { protocol: "tcp" })],
    endpoints: [endpoints("a", echo)],
    listeners: [listener({ when: plain, serve: tcp(forwardTo("a")) })],
  });
  const body = Buffer.alloc(16 * 1024 * 1024).map((_, index) => (index * 7) % 251);
  const socket = connect();
  const chunks: Buffer[] = [];
  socket.on("data", (bytes: Buffer) => chunks.push(bytes));
  const ended = new Promise((resolve) => socket.on("end", resolve));
  socket.end(body);
  await ended;
  expect(Bun.hash(Buffer.concat(chunks))).toBe(Bun.hash(body));

  await put({ endpoints: [endpoints("a", source)] });
  const slow = connect();
  slow.pause();
  // It comes to rest once the buffers between the two are full.
  let before = -1;
  while (written !== before || written === 0) {
    before = written;
    await Bun.sleep(300);
  }
  expect(written).toBeLessThan(64 * 1024 * 1024);
  const received = await metric('fairlead_proxy_relayed_sent_bytes_total{protocol="tcp",backend="a"}');
  expect(received).toBeLessThan(body.length + 64 * 1024 * 1024);
  slow.destroy();
});

test("an endpoint that takes no connections is passed by; without any the connection ends with its reason", async () => {
  const nobody = freePort();
  await put({
    backends: [backend("a", { protocol: "tcp", limits: { connections: 1 } }), backend("none", { protocol: "tcp" })],
    endpoints: [endpoints("a", nobody, await named("here"))],
    listeners: [listener({ when: plain, serve: tcp(forwardTo("a")) })],
  });
  for (let i = 0; i < 6; i++) expect(await say()).toBe("here");
  const flagOf = async (change: () => Promise<void>) => {
    await change();
    const before = (await log()).length;
    expect(await say()).toMatch(/^(reset)?$/);
    for (;;) {
      const lines = await log();
      if (lines.length > before) return lines.at(-1)!["flag"];
      await Bun.sleep(20);
    }
  };
  const held: net.Socket[] = [];
  // Lines are written once a second: all of them must be there.
  while ((await log()).length < 6) await Bun.sleep(20);
  expect(await flagOf(() => put({ endpoints: [endpoints("a", nobody)] }))).toBe("UF");
  expect(await flagOf(() => put({ endpoints: [endpoints("a")] }))).toBe("UH");
  const silent = await serve((socket) => socket.write("x"));
  expect(
    await flagOf(async () => {
      await put({ endpoints: [endpoints("a", silent)] });
      const socket = connect();
      held.push(socket);
      await new Promise((resolve) => socket.once("data", resolve));
    }),
  ).toBe("UO");
  expect(await flagOf(() => put({ listeners: [listener({ when: plain, serve: tcp(forwardTo("a", 0)) })] }))).toBe("NR");
  for (const socket of held) socket.destroy();
}, 30_000);

test("a connection on which nothing is said is closed after its time", async () => {
  const silent = await serve(() => {});
  await put({
    backends: [backend("a", { protocol: "tcp" })],
    endpoints: [endpoints("a", silent)],
    listeners: [listener({ when: plain, serve: { tcp: [forwardTo("a")], idleTimeout: 200 } })],
  });
  expect(await say("hello")).toMatch(/^(reset)?$/);
  expect(await log()).toMatchObject([{ reason: "idle", received: 5 }]);
});

// --------------------------------------------------------------------------------------------------------------- UDP

/** A UDP server that answers with its name and what it got. */
async function udpServer(name: string): Promise<number> {
  const socket = await Bun.udpSocket({
    hostname: "127.0.0.1",
    socket: { data: (server, bytes, clientPort, client) => void server.send(`${name} ${bytes}`, clientPort, client) },
  });
  servers.push(socket);
  return socket.port;
}

/** A client that hears only the address that it asks. */
async function udpClient(): Promise<{ ask(text: string): Promise<string> }> {
  let heard: (text: string) => void = () => {};
  const socket = await Bun.udpSocket({
    connect: { hostname: "127.0.0.1", port },
    socket: { data: (_, bytes) => heard(bytes.toString()), error() {} },
  });
  servers.push(socket);
  return {
    ask: (text) =>
      new Promise((resolve) => {
        // Again until there is an answer: datagrams may be lost, and a session with nobody ends by it.
        const again = setInterval(() => socket.send(text), 100);
        heard = (answer) => {
          clearInterval(again);
          resolve(answer);
        };
        socket.send(text);
      }),
  };
}

test("datagrams of a client stay with one endpoint, answers come from the listener, and sessions end", async () => {
  const udp = (idleTimeout: number): Listener => ({
    ...listener({ when: plain, serve: { tcp: [forwardTo("a", 1), forwardTo("b", 1)], idleTimeout } }),
    transport: "udp",
    name: "udp",
  });
  const a = await udpServer("a");
  await put({
    backends: [backend("a", { protocol: "tcp" }), backend("b", { protocol: "tcp" })],
    endpoints: [endpoints("a", a), endpoints("b", await udpServer("b"))],
    // A TCP listener on the same port is another one.
    listeners: [udp(60_000), listener({ when: plain, serve: tcp(forwardTo("a")) })],
  });
  const names = new Map<string, number>();
  for (let i = 0; i < 12; i++) {
    const client = await udpClient();
    const first = await client.ask("hello");
    expect(first).toMatch(/^[ab] hello$/);
    const name = first[0]!;
    names.set(name, (names.get(name) ?? 0) + 1);
    expect(await client.ask("again")).toBe(`${name} again`);
  }
  expect([...names.keys()].sort()).toEqual(["a", "b"]);
  expect(Math.abs(names.get("a")! - names.get("b")!)).toBeLessThanOrEqual(2);
  expect(await metric('fairlead_proxy_relayed_connections{protocol="udp",backend="a"}')).toBe(names.get("a")!);

  // The idle timeout of a changed listener holds for what begins now.
  const client = await udpClient();
  await put({ listeners: [udp(150)] });
  await client.ask("short");
  while ((await log()).filter(({ protocol }) => protocol === "UDP").length === 0) await Bun.sleep(50);
  expect((await log()).find(({ protocol }) => protocol === "UDP")).toMatchObject({
    reason: null,
    received: 5,
    sent: 7,
  });
});

test("a session whose endpoint refuses or goes is begun anew elsewhere", async () => {
  const here = await udpServer("here");
  const nobody = freePort();
  await put({
    backends: [backend("a", { protocol: "tcp" })],
    endpoints: [endpoints("a", nobody, here)],
    listeners: [{ ...listener({ when: plain, serve: tcp(forwardTo("a")) }), transport: "udp" }],
  });
  const clients = await Promise.all([1, 2, 3, 4].map(udpClient));
  for (const client of clients) expect(await client.ask("hello")).toBe("here hello");
  await put({ endpoints: [endpoints("a", await udpServer("there"))] });
  for (const client of clients) expect(await client.ask("hello")).toBe("there hello");
});

test("a relay whose backend is itself ends what it meets again", async () => {
  const other = freePort();
  const around = (to: string, more: Partial<Listener>): Listener => ({
    ...listener({ when: plain, serve: tcp(forwardTo(to)) }),
    ...more,
  });
  await put({
    backends: [backend("a", { protocol: "tcp" }), backend("b", { protocol: "tcp" })],
    endpoints: [endpoints("a", port), endpoints("b", other)],
    listeners: [
      // One is its own backend, two are each other's.
      around("a", { transport: "udp", name: "udp" }),
      around("b", { name: "one" }),
      around("a", { name: "two", port: other }),
    ],
  });
  const client = await Bun.udpSocket({ connect: { hostname: "127.0.0.1", port } });
  servers.push(client);
  client.send("round");
  const loops = () => metric('fairlead_proxy_errors_total{reason="loop_detected"}').catch(() => 0);
  while (!((await loops()) > 0)) await Bun.sleep(20);
  await new Promise<void>((resolve) => {
    void Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {}, close: () => resolve(), error() {} } });
  });
  expect(await loops()).toBeGreaterThanOrEqual(2);
  expect(await metric('fairlead_proxy_relayed_connections_total{protocol="udp",backend="a"}')).toBe(1);
  expect(await metric('fairlead_proxy_relayed_connections_total{protocol="tcp",backend="a"}')).toBeLessThan(200);
  while ((await metric('fairlead_proxy_relayed_connections{protocol="tcp",backend="a"}')) > 0) await Bun.sleep(20);
});

test("a relay to itself ends as well where each connection says for whom it speaks", async () => {
  await put({
    backends: [backend("a", { protocol: "tcp", proxyProtocol: 2 })],
    endpoints: [endpoints("a", port)],
    listeners: [{ ...listener({ when: plain, serve: tcp(forwardTo("a")) }), proxyProtocol: true }],
  });
  await new Promise<void>((resolve) => {
    void Bun.connect({
      hostname: "127.0.0.1",
      port,
      socket: {
        open: (socket) => void socket.write("PROXY TCP4 192.0.2.1 127.0.0.1 4711 80\r\n"),
        data() {},
        close: () => resolve(),
        error() {},
      },
    });
  });
  expect(await metric('fairlead_proxy_errors_total{reason="loop_detected"}')).toBeGreaterThanOrEqual(1);
  expect(await metric('fairlead_proxy_relayed_connections_total{protocol="tcp",backend="a"}')).toBeLessThan(200);
});

test("what a udp listener cannot do is said", async () => {
  const reason = async (more: Partial<Listener>) =>
    (
      await proxy.control.update({
        listeners: [{ ...listener({ when: plain, serve: tcp(forwardTo("a")) }), transport: "udp", ...more }],
      })
    )[0]?.reason;
  expect(await reason({ address: "0.0.0.0" })).toContain("answers must come from the one that was asked");
  expect(await reason({ chains: [{ from, when: plain, serve: routes }] })).toContain(
    "must be plain and serve backends",
  );
  expect(await reason({ proxyProtocol: true })).toContain("proxyProtocol");
  const taken = await Bun.udpSocket({ hostname: "127.0.0.1", port: 0 });
  servers.push(taken);
  expect(await reason({ port: taken.port })).toContain("is in use by another process");
});

// CONNECT through a real proxy process (RFC 9110 §9.3.6, RFC 9113 §8.5): ended here and passed on, over HTTP/1.1 and HTTP/2; and that
// nothing else comes of one, least of all a request out of what followed it. Needs no privileges.

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import http2 from "node:http2";
import { join } from "node:path";
import type { Socket } from "bun";
import type { Filter, Rule } from "../../src/model/model.ts";
import { Flag, FrameType } from "../../src/proxy/http2/frame.ts";
import { frame } from "../../src/proxy/http2/peer.ts";
import { eachTest } from "./each-test.ts";
import {
  backend,
  endpoints,
  forwardTo,
  freePort,
  from,
  type ProxyUnderTest,
  plainListener,
  routeTable,
  rule,
} from "./proxy-harness.ts";
import { exchange, RawClient } from "./proxy-raw.ts";
import { makeAuthority, makeSecret, tlsListener } from "./proxy-secrets.ts";
import { RawHttp2 } from "./raw-http2.ts";

let proxy: ProxyUnderTest;
let port: number;
const ends = eachTest((fresh, free) => {
  proxy = fresh;
  port = free;
});

interface Peer {
  port: number;
  /** What each connection has said so far, and whether it says no more. */
  connections: { text: string; ended: boolean; socket: Socket }[];
}

/** Any server of bytes: greets, says what it hears back, and says goodbye when its client has ended its side. */
function byteServer(heard?: (socket: Socket, text: string) => void): Peer {
  const peer: Peer = { port: 0, connections: [] };
  const of = (socket: Socket) => peer.connections.find((one) => one.socket === socket)!;
  const listener = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    allowHalfOpen: true,
    socket: {
      open(socket) {
        peer.connections.push({ text: "", ended: false, socket });
        if (!heard) socket.write("ready\n");
      },
      data(socket, bytes) {
        const one = of(socket);
        one.text += bytes.toString("latin1");
        if (heard) heard(socket, one.text);
        else socket.write(`you said ${bytes.toString("latin1")}`);
      },
      end(socket) {
        of(socket).ended = true;
        socket.write("goodbye\n");
        socket.end();
      },
      error() {},
    },
  });
  ends.push(() => listener.stop(true));
  peer.port = listener.port;
  return peer;
}

const connectRule = (connect: "terminate" | "pass", more: Partial<Rule> = {}, to = "one") =>
  rule("tunnel", {
    match: { method: "CONNECT" },
    action: { kind: "forward", to: [forwardTo(to)], connect },
    ...more,
  });

async function serve(
  at: number,
  rules: readonly Rule[],
  options: Parameters<typeof backend>[1] = {},
  hosts?: readonly string[],
): Promise<void> {
  await proxy.start("--access-log", join(proxy.folder, "access.log"));
  const rejected = await proxy.control.update({
    backends: [backend("one", options)],
    endpoints: [endpoints("one", at)],
    routeTables: [routeTable(rules, hosts)],
    listeners: [plainListener(port)],
  });
  expect(rejected).toEqual([]);
}

async function logLine(of: string): Promise<Record<string, unknown>> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const lines = readFileSync(join(proxy.folder, "access.log"), "utf8").split("\n");
    const found = lines.find((line) => line.includes(of));
    if (found) return JSON.parse(found) as Record<string, unknown>;
    await Bun.sleep(50);
  }
  throw new Error(`no line has ${of}`);
}

const connectTo = (target: string, ...fields: string[]) =>
  `CONNECT ${target} HTTP/1.1\r\nhost: ${target}\r\n${fields.map((field) => `${field}\r\n`).join("")}\r\n`;
const connected = (seen: string) => seen.includes("\r\n\r\n");

describe("a CONNECT that ends here", () => {
  test("is a tunnel to the rule's backend, whatever its target says, which lives on when the client ends its side", async () => {
    const server = byteServer();
    await serve(server.port, [connectRule("terminate"), rule("rest")]);
    const client = await RawClient.connect(port);
    client.send(`${connectTo("192.0.2.1:9")}early `);
    const head = await client.read((seen) => seen.includes("you said early"));
    expect(head).toStartWith("HTTP/1.1 200 OK\r\n\r\nready\n");
    client.send("GET / HTTP/1.1\r\n\r\n");
    await client.read((seen) => seen.includes("you said GET / HTTP/1.1"));
    client.socket.shutdown();
    expect(await client.read((seen) => seen.includes("goodbye"))).toEndWith("goodbye\n");
    expect(server.connections).toMatchObject([{ text: "early GET / HTTP/1.1\r\n\r\n", ended: true }]);
    expect(await logLine("CONNECT")).toMatchObject({
      ...{ method: "CONNECT", authority: "192.0.2.1:9", path: null, status: 200, reason: "via_upstream" },
      ...{ route: "tunnel", backend: "one", endpoint: `127.0.0.1:${server.port}` },
      ...{ received: 24, sent: "ready\nyou said early you said GET / HTTP/1.1\r\n\r\ngoodbye\n".length },
    });
    // The connection is given back.
    const stats = async () => (await (await proxy.get("/metrics")).text()).match(/upstream_connections\{[^}]*\} (\d+)/);
    for (let attempt = 0; attempt < 100 && (await stats())?.[1] !== "0"; attempt++) await Bun.sleep(20);
    expect((await stats())?.[1] ?? "0").toBe("0");
  });

  test("lives on, too, when the backend ends its side: until the client has said all, over either version", async () => {
    const heard: string[] = [];
    const listener = Bun.listen<{ text: string }>({
      hostname: "127.0.0.1",
      port: 0,
      allowHalfOpen: true,
      socket: {
        open(socket) {
          socket.data = { text: "" };
          socket.write("that is all");
          socket.shutdown();
        },
        data(socket, bytes) {
          socket.data.text += bytes.toString();
        },
        // After its own end a socket's last event is this one.
        close(socket) {
          heard.push(socket.data.text);
        },
        error() {},
      },
    });
    ends.push(() => listener.stop(true));
    await serve(listener.port, [connectRule("terminate")]);
    let seen = "";
    const half = Promise.withResolvers<void>();
    const client = await Bun.connect({
      ...{ hostname: "127.0.0.1", port, allowHalfOpen: true },
      socket: {
        data(_socket, bytes) {
          seen += bytes.toString();
        },
        end: () => half.resolve(),
        error() {},
      },
    });
    client.write(connectTo("a:1"));
    await half.promise;
    expect(seen).toEndWith("\r\n\r\nthat is all");
    client.write("I have more to say");
    await Bun.sleep(50);
    expect(heard).toEqual([]);
    client.end();
    while (heard.length === 0) await Bun.sleep(10);
    expect(heard).toEqual(["I have more to say"]);
    expect(await logLine("CONNECT")).toMatchObject({ received: 18, sent: 11, status: 200 });

    const http2Client = await RawHttp2.connect(port);
    ends.push(() => http2Client.close());
    http2Client.send(http2Client.headers(1, { ":method": "CONNECT", ":authority": "a:1" }, false));
    await http2Client.until(() => http2Client.of(FrameType.data, 1).some(({ flags }) => flags & Flag.endStream));
    http2Client.send(frame(FrameType.data, 0, 1, "so do "), frame(FrameType.data, Flag.endStream, 1, "I"));
    while (heard.length === 1) await Bun.sleep(10);
    expect(heard[1]).toBe("so do I");
    expect(http2Client.reset(1)).toBeUndefined();
  });

  test("over HTTP/2: each stream a connection of its own, END_STREAM its client's end", async () => {
    const server = byteServer();
    await serve(server.port, [connectRule("terminate")], { protocol: "h2c" });
    const client = await RawHttp2.connect(port);
    ends.push(() => client.close());
    for (const id of [1, 3]) {
      client.send(client.headers(id, { ":method": "CONNECT", ":authority": `db-${id}.example:5432` }, false));
      client.send(frame(FrameType.data, 0, id, `stream ${id}`));
    }
    // For a protocol that is none of the proxy's (RFC 8441), the same bytes.
    const extended = { ":method": "CONNECT", ":protocol": "bytes", ":scheme": "http", ":path": "/", ":authority": "a" };
    client.send(client.headers(5, extended, false), frame(FrameType.data, 0, 5, "stream 5"));
    await client.until(() => [1, 3, 5].every((id) => client.text(id).includes(`you said stream ${id}`)));
    expect(client.heads.map(({ fields }) => fields[0])).toEqual(Array(3).fill([":status", "200"]));
    expect(server.connections.map(({ text }) => text).sort()).toEqual(["stream 1", "stream 3", "stream 5"]);
    client.send(frame(FrameType.data, Flag.endStream, 1, ""));
    await client.until(() => client.of(FrameType.data, 1).some(({ flags }) => flags & Flag.endStream));
    expect(client.text(1)).toEndWith("goodbye\n");
    expect(client.text(3)).not.toContain("goodbye");
  });

  test("as a mesh has it: HTTP/2 over mutual TLS; the backend is told whom the connection is for; a slow one holds nobody else", async () => {
    const server = byteServer();
    await proxy.start();
    const authority = makeAuthority(proxy.folder, "mesh");
    const own = makeSecret(proxy.folder, "node", "node.example");
    const { cert, key } = authority.issue("client", "URI:spiffe://cluster/ns/shop/sa/cart");
    const plain = tlsListener(port, [{ kind: "tls" }, own]);
    const clients = { mode: "require", authorities: authority.secret.name } as const;
    const rejected = await proxy.control.update({
      secrets: [own, authority.secret],
      backends: [backend("one", { proxyProtocol: 1 })],
      endpoints: [endpoints("one", server.port)],
      routeTables: [routeTable([connectRule("terminate")], ["10.1.2.3"])],
      listeners: [{ ...plain, chains: plain.chains.map((chain) => ({ ...chain, tls: { ...chain.tls!, clients } })) }],
    });
    expect(rejected).toEqual([]);
    const options = { ca: own.content.certificate, cert, key, servername: "node.example" };
    const session = http2.connect(`https://127.0.0.1:${port}`, options);
    ends.push(() => session.destroy());
    const open = () => session.request({ ":method": "CONNECT", ":authority": "10.1.2.3:80" }, { endStream: false });
    const slow = open();
    slow.pause();
    const quick = open();
    let seen = "";
    quick.on("data", (chunk: Buffer) => (seen += chunk.toString()));
    const until = async (done: () => boolean) => {
      while (!done()) await Bun.sleep(10);
    };
    await until(() => server.connections.length === 2);
    // More than the slow one's window: the rest waits at the backend.
    slow.write("x".repeat(100_000));
    quick.write("hello");
    await until(() => seen.includes("hello"));
    // The two may have come in one piece.
    expect(seen.replace("\r\nyou said ", "\r\n")).toMatch(
      new RegExp(`^ready\nyou said PROXY TCP4 127.0.0.1 127.0.0.1 \\d+ ${port}\r\nhello$`),
    );
    quick.end();
    await until(() => seen.endsWith("goodbye\n"));
  });

  test("is answered when there is no connection, and none is waited for where too many are there", async () => {
    const server = byteServer();
    await serve(server.port, [connectRule("terminate")], { limits: { connections: 1 } });
    const first = await RawClient.connect(port);
    ends.push(() => first.close());
    first.send(connectTo("a:1"));
    await first.read(connected);
    expect(await exchange(port, connectTo("a:1"))).toMatch(/^HTTP\/1.1 503 [\s\S]*x-fairlead-reason: overflow/);
    await proxy.control.update({ endpoints: [endpoints("one", freePort())] });
    first.close();
    const refused = () => exchange(port, connectTo("a:1"));
    let seen = await refused();
    for (let attempt = 0; attempt < 100 && seen.includes("overflow"); attempt++) seen = await refused();
    expect(seen).toMatch(/^HTTP\/1.1 503 [\s\S]*connection: close[\s\S]*the connection|no connection/);
    expect(seen).toContain("x-fairlead-reason: connect_failed");
  });

  test("ends when nothing came for as long as its rule allows", async () => {
    const server = byteServer();
    await serve(server.port, [connectRule("terminate", { timeouts: { idle: 300 } })]);
    const client = await RawClient.connect(port);
    client.send(connectTo("a:1"));
    await client.read((seen) => seen.includes("ready"));
    await client.read(() => false);
    expect(client.closed).toBe(true);
    expect(await logLine("CONNECT")).toMatchObject({ status: 200, reason: "upstream_idle", flag: "SI" });
  });

  test("passes the filters of its rule; what they refuse is closed", async () => {
    const server = byteServer();
    const grpc: Filter = { kind: "fault", from, abort: { perMillion: 1_000_000, grpcStatus: 14 } };
    await serve(server.port, [
      connectRule("terminate", {
        match: { method: "CONNECT", headers: [{ name: "x-ask", match: { kind: "present" } }] },
        filters: [grpc],
      }),
      connectRule("terminate", { filters: [{ kind: "addresses", from, deny: ["127.0.0.0/8"] }] }),
    ]);
    const smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    const refused = await exchange(port, connectTo("a:1") + smuggled);
    expect(refused).toStartWith("HTTP/1.1 403");
    expect(refused.match(/HTTP\/1.1/g)).toHaveLength(1);
    // Whatever the answer would be elsewhere: a success would be a tunnel.
    const faulted = await exchange(port, connectTo("a:1", "x-ask: 1", "content-type: application/grpc") + smuggled);
    expect(faulted).toStartWith("HTTP/1.1 502");
    expect(faulted.match(/HTTP\/1.1/g)).toHaveLength(1);
    expect(server.connections).toEqual([]);
  });
});

describe("a CONNECT that no rule takes", () => {
  test("is not there, and what follows is nobody's", async () => {
    const server = byteServer();
    await serve(server.port, [rule("all"), rule("named", { match: { method: "CONNECT" } })], {}, [
      "*",
      "known.example",
    ]);
    for (const target of ["known.example:80", "other.example:80"]) {
      const seen = await exchange(port, `${connectTo(target)}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n`);
      expect(seen).toMatch(/^HTTP\/1.1 501 [\s\S]*connection: close/);
      expect(seen.match(/HTTP\/1.1/g)).toHaveLength(1);
    }
    expect(await exchange(port, "CONNECT / HTTP/1.1\r\nhost: a\r\n\r\n")).toStartWith("HTTP/1.1 400");
    const client = await RawHttp2.connect(port);
    ends.push(() => client.close());
    client.send(client.headers(1, { ":method": "CONNECT", ":authority": "known.example:80" }, false));
    await client.until(() => client.heads.length > 0);
    expect(client.heads[0]!.fields).toContainEqual([":status", "501"]);
    expect(server.connections).toEqual([]);
  });
});

describe("a CONNECT that is passed on", () => {
  test("to HTTP/1.1: the backend decides, and what it refuses is no tunnel", async () => {
    const gate = byteServer((socket, text) => {
      if (!text.includes("\r\n\r\n")) return;
      if (text.startsWith("CONNECT open:1 ")) {
        if (text.endsWith("\r\n\r\n")) socket.write("HTTP/1.1 200 Connection established\r\nx-gate: 1\r\n\r\nhello");
        else socket.write("!");
      } else socket.write("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 2\r\n\r\nno");
    });
    await serve(gate.port, [connectRule("pass")]);
    const client = await RawClient.connect(port);
    ends.push(() => client.close());
    client.send(connectTo("open:1"));
    expect(await client.read((seen) => seen.includes("hello"))).toMatch(/^HTTP\/1.1 200 OK\r\nx-gate: 1\r\n\r\nhello$/);
    client.send("more");
    await client.read((seen) => seen.endsWith("!"));
    expect(gate.connections[0]!.text).toMatch(/^CONNECT open:1 HTTP\/1.1\r\nhost: open:1\r\n[\s\S]*more$/);
    const refused = await exchange(port, `${connectTo("shut:1")}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n`);
    expect(refused).toMatch(/^HTTP\/1.1 407 [\s\S]*connection: close\r\n\r\nno$/);
    expect(gate.connections.map(({ text }) => text).join("")).not.toContain("smuggled");
  });

  test("to HTTP/1.1: the backend may end first, and still hears the client", async () => {
    const gate = byteServer((socket, text) => {
      if (!text.endsWith("\r\n\r\n")) return;
      socket.write("HTTP/1.1 200 Connection established\r\n\r\nthat is all");
      socket.shutdown();
    });
    await serve(gate.port, [connectRule("pass")]);
    const half = Promise.withResolvers<void>();
    let seen = "";
    const client = await Bun.connect({
      ...{ hostname: "127.0.0.1", port, allowHalfOpen: true },
      socket: {
        data(_socket, bytes) {
          seen += bytes.toString();
        },
        end: () => half.resolve(),
        error() {},
      },
    });
    client.write(connectTo("open:1"));
    await half.promise;
    expect(seen).toEndWith("\r\n\r\nthat is all");
    client.write("I have more to say");
    while (!gate.connections[0]!.text.endsWith("I have more to say")) await Bun.sleep(10);
    client.end();
    expect(await logLine("CONNECT")).toMatchObject({ received: 18, sent: 11, status: 200, reason: "via_upstream" });
  });

  test("to HTTP/2, and ended there", async () => {
    const server = byteServer();
    const inner = freePort();
    await proxy.start();
    const rejected = await proxy.control.update({
      backends: [backend("one"), backend("self", { protocol: "h2c" })],
      endpoints: [endpoints("one", server.port), endpoints("self", inner)],
      routeTables: [
        routeTable([connectRule("pass", {}, "self")]),
        { ...routeTable([connectRule("terminate")], ["db.example"]), name: "inner" },
      ],
      listeners: [plainListener(port), plainListener(inner, { name: "inner", routes: "inner" })],
    });
    expect(rejected).toEqual([]);
    const client = await RawClient.connect(port);
    ends.push(() => client.close());
    client.send(connectTo("db.example:5432"));
    await client.read((seen) => seen.includes("ready"));
    client.send("across");
    await client.read((seen) => seen.includes("you said across"));
    expect(await exchange(port, connectTo("else.example:5432"))).toStartWith("HTTP/1.1 501");
  });
});

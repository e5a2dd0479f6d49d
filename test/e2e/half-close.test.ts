// Tunnels whose two sides end one after the other, the backend's or the client's first: what the other one has still to say arrives,
// over HTTP/1.1 and HTTP/2 on either side, in the clear and over TLS; and nothing of it is left behind, nor stays where nobody says any
// more. Of CONNECT `connect.test.ts` tells.

import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { UpstreamTls } from "../../src/model/upstream-policies.ts";
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
import { makeSecret, tlsListener } from "./proxy-secrets.ts";
import { type ClientTls, type End, type Opener, openHttp1, openHttp2, TunnelBackend } from "./tunnel-ends.ts";

const proxy = new ProxyUnderTest();
const ports = { plain: freePort(), tls: freePort() };
const own = makeSecret(proxy.folder, "own", "own.example");
const pem = { cert: readFileSync(join(proxy.folder, "own.crt"), "utf8"), key: own.content.privateKey };
const trust: ClientTls = { ca: pem.cert, serverName: "own.example" };
const kinds = { http1: "http1", http2: "h2c" } as const;

/** By name: what it speaks, and where. */
const backends = {
  http1: new TunnelBackend("http1"),
  http2: new TunnelBackend("h2c"),
  "http1-tls": new TunnelBackend("http1", pem),
  "http2-tls": new TunnelBackend("h2c", pem),
  brief: new TunnelBackend("http1"),
};
type Name = keyof typeof backends;

beforeAll(async () => {
  await proxy.start();
  const authorities = {
    ...{ name: "own-authority", from, fingerprint: own.fingerprint },
    content: { kind: "authorities", certificates: pem.cert },
  };
  const tls: UpstreamTls = { authorities: authorities.name, serverName: "own.example" };
  const names = Object.keys(backends) as Name[];
  const rejected = await proxy.control.update({
    secrets: [own, authorities],
    backends: names.map((name) =>
      backend(name, {
        protocol: name.startsWith("http2") ? kinds.http2 : kinds.http1,
        ...(name.endsWith("-tls") ? { tls } : {}),
      }),
    ),
    endpoints: names.map((name) => endpoints(name, backends[name].port)),
    routeTables: [
      routeTable(
        names.map((name) =>
          rule(name, {
            match: { headers: [{ name: "x-to", match: { kind: "exact", value: name } }] },
            action: { kind: "forward", to: [forwardTo(name)] },
            ...(name === "brief" ? { timeouts: { idle: 2_000 } } : {}),
          }),
        ),
      ),
    ],
    listeners: [plainListener(ports.plain), tlsListener(ports.tls, [{ kind: "tls" }, own])],
  });
  expect(rejected).toEqual([]);
});

afterAll(async () => {
  for (const one of Object.values(backends)) one.stop();
  await proxy.stop();
});

const ends: End[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end.vanish();
});

async function tunnel(open: Opener, secure: boolean, to: Name): Promise<{ client: End; server: End }> {
  const accepted = backends[to].accepted();
  const { end: client } = await open(secure ? ports.tls : ports.plain, { "x-to": to }, secure ? trust : undefined);
  const server = await accepted;
  ends.push(client, server);
  return { client, server };
}

/** More than the first window of a stream, so that it must be told of more room. */
const long = Buffer.alloc(300_000, "said behind the other's end. ");

async function arrives(to: End, bytes: Buffer): Promise<void> {
  await to.until(() => to.length >= bytes.length);
  expect(to.bytes.equals(bytes)).toBe(true);
}

/** Requests under way at a backend. */
async function active(name: Name): Promise<string | undefined> {
  const metrics = await (await proxy.get("/metrics")).text();
  return metrics.match(new RegExp(`upstream_active_requests\\{[^}]*"${name}"[^}]*\\} (\\d+)`))?.[1];
}

async function untilIdle(name: Name): Promise<void> {
  for (let times = 0; (await active(name)) !== "0"; times++) {
    if (times > 500) throw new Error(`${name} has ${await active(name)} requests under way`);
    await Bun.sleep(20);
  }
}

const openers = { "HTTP/1.1": openHttp1, "HTTP/2": openHttp2 };
const pairings = Object.entries(openers).flatMap(([version, open]) =>
  [false, true].flatMap((secure) =>
    (["http1", "http2", "http1-tls", "http2-tls"] as const).map(
      (to) => [`${version}${secure ? " over TLS" : ""}`, to, open, secure] as const,
    ),
  ),
);

describe.each(pairings)("from %s to %s", (_, to, open, secure) => {
  test("the backend may end first, and still hears all that the client says", async () => {
    const { client, server } = await tunnel(open, secure, to);
    const farewell = Buffer.from("that is all");
    server.send(farewell);
    server.end();
    await client.untilEnd();
    expect(client.bytes).toEqual(farewell);
    client.send(Buffer.from("but I "));
    await server.until(() => server.length === 6);
    expect(await active(to)).toBe("1");
    client.send(long);
    await arrives(server, Buffer.concat([Buffer.from("but I "), long]));
    client.end();
    await server.untilEnd();
    await Promise.all([client.untilGone(), server.untilGone(), untilIdle(to)]);
  });

  test("the client may end first, and still hears all that the backend says", async () => {
    const { client, server } = await tunnel(open, secure, to);
    client.send(Buffer.from("tell me"));
    client.end();
    await server.untilEnd();
    expect(server.bytes.toString()).toBe("tell me");
    server.send(long);
    await arrives(client, long);
    server.end();
    await client.untilEnd();
    await Promise.all([client.untilGone(), server.untilGone(), untilIdle(to)]);
  });

  test("who vanishes after the other's end is missed", async () => {
    const first = await tunnel(open, secure, to);
    first.server.end();
    await first.client.untilEnd();
    first.client.vanish();
    await Promise.all([first.server.untilGone(), untilIdle(to)]);
    const second = await tunnel(open, secure, to);
    second.server.end();
    await second.client.untilEnd();
    second.server.vanish();
    await untilIdle(to);
    // There may be nothing left to tell it by but an answer to what it says.
    while (!second.client.gone) {
      second.client.send(Buffer.from("are you there?"));
      await Bun.sleep(10);
    }
  });
});

test("half a tunnel in which nothing is said ends by its rule's idle time, over either version", async () => {
  const dies = async (open: Opener) => {
    const { client, server } = await tunnel(open, false, "brief");
    server.end();
    await client.untilEnd();
    for (let times = 0; times < 5; times++) {
      await Bun.sleep(500);
      client.send(Buffer.from("."));
    }
    // Who speaks keeps it alive for longer than that time.
    await server.until(() => server.length === 5);
    await Promise.all([client.untilGone(), server.untilGone()]);
  };
  await Promise.all(Object.values(openers).map(dies));
  await untilIdle("brief");
});

// Clients' own addresses towards backends, and connections to addresses that are not the proxy's (TPROXY): a client, a proxy on the
// way and a server, each in a network namespace, with the routing that both need. Needs root, ip, iptables, nft and curl.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { createSecureServer, createServer, type Http2ServerRequest, type Http2ServerResponse } from "node:http2";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { addressWithPort } from "../../src/base/ip.ts";
import type { FilterChain } from "../../src/model/model.ts";
import { backend, forwardTo, freePort, from, ProxyUnderTest, routeTable, rule } from "./proxy-harness.ts";
import { makeSecret } from "./proxy-secrets.ts";
import {
  client,
  datagramPort,
  four,
  listener,
  makeNetwork,
  mark,
  middle,
  onPort,
  otherPort,
  removeNetwork,
  serverPort,
  six,
  toServer,
} from "./transparent-network.ts";

const isRoot = process.getuid?.() === 0;
if (!isRoot) console.log("skipped: transparent sockets need root");

let folder: string;
let proxy: ProxyUnderTest;

/** How curl calls a connection that was reset: in the middle, or before it looked. */
const closed = /^(7|52|56)$/;

/** What a client of this address gets. */
async function get(source: string, url: string, ...options: readonly string[]): Promise<string> {
  const command = ["ip", "netns", "exec", client, "curl", "-sg", "-m", "5", "--interface", source, ...options, url];
  return await new Response(Bun.spawn(command, { stdout: "pipe" }).stdout).text();
}

/** What a client of this address hears from where it sends a datagram, asking until it hears something or has asked enough. */
async function ask(source: string, address: string, port: number, times = 50): Promise<string> {
  const asking = `
    const socket = await Bun.udpSocket({ hostname: "${source}", connect: { hostname: "${address}", port: ${port} }, socket: {
      data(_, bytes) { console.log(bytes.toString()); process.exit() }, error() {} } });
    for (let i = 0; i < ${times}; i++) { socket.send("hello"); await Bun.sleep(100) }
    console.log("silence"); process.exit()`;
  const command = ["ip", "netns", "exec", client, process.execPath, "-e", asking];
  return (await new Response(Bun.spawn(command, { stdout: "pipe" }).stdout).text()).trim();
}

beforeAll(async () => {
  if (!isRoot) return;
  folder = mkdtempSync(join(tmpdir(), "fl-t-transparent-"));
  await makeNetwork(folder);
  proxy = new ProxyUnderTest("ip", "netns", "exec", middle);
  await proxy.start("--access-log", join(folder, "access.log"));
});

afterAll(async () => {
  if (!isRoot) return;
  await proxy?.stop();
  await removeNetwork();
  rmSync(folder, { recursive: true, force: true });
});

for (const [family, addresses] of [
  ["IPv4", four],
  ["IPv6", six],
] as const) {
  const { near, server: far } = addresses;
  const url = (port: number) => `http://${addressWithPort(near, port)}`;

  test.skipIf(!isRoot)(
    `backends see their clients' addresses, and no client another's connection (${family})`,
    async () => {
      const update = { ...toServer("one", far, serverPort), routeTables: [routeTable([rule("all")])] };
      expect(await proxy.control.update({ ...update, listeners: [listener("http", { address: near })] })).toEqual([]);
      const both = [get(addresses.client, `${url(7000)}/a`), get(addresses.other, `${url(7000)}/b`)];
      expect((await Promise.all(both)).map((text) => text.slice(0, text.lastIndexOf(" ")))).toEqual([
        `from ${addresses.client} /a`,
        `from ${addresses.other} /b`,
      ]);
      // In turns: each client has its own connection, which its next request finds again.
      const ports = async (...sources: readonly string[]) => {
        const seen = [];
        for (const source of sources) {
          const text = await get(source, `${url(7000)}/c`);
          expect(text).toStartWith(`from ${source} /c `);
          seen.push(`${source} ${text.split(" ").at(-1)}`);
        }
        return seen;
      };
      const turns = await ports(addresses.client, addresses.other, addresses.client, addresses.other);
      expect(turns[2]).toBe(turns[0]!);
      expect(turns[3]).toBe(turns[1]!);
      // Where there may be only one, another client's makes room, also when several wait for that.
      const single = { backends: toServer("one", far, serverPort, { limits: { connections: 1 } }).backends };
      expect(await proxy.control.update(single)).toEqual([]);
      const room = await ports(addresses.client, addresses.client, addresses.other, addresses.client);
      expect(room[1]).toBe(room[0]!);
      const many = await Promise.all(
        Array.from({ length: 6 }, (_, index) => ports(index % 2 === 0 ? addresses.client : addresses.other)),
      );
      expect(many).toHaveLength(6);
      // Connections that are passed through, and a PROXY header on them.
      const relayed = listener("tcp", {
        address: near,
        port: 7001,
        chains: [{ from, when: { kind: "plain" }, serve: { tcp: [forwardTo("two")] } }],
      });
      const two = toServer("two", far, otherPort, { protocol: "tcp", proxyProtocol: 1 });
      expect(await proxy.control.update({ ...two, listeners: [relayed] })).toEqual([]);
      expect(await get(addresses.client, `${url(7001)}/`, "--local-port", "20000-20100")).toMatch(
        new RegExp(
          `^PROXY TCP${family.slice(-1)} ${addresses.client} ${near} 20\\d\\d\\d 7001 from ${addresses.client}$`,
        ),
      );
      // Nobody answers there, and nobody can be there: said as of any backend.
      for (const [address, port] of [
        [far, 9],
        [family === "IPv4" ? six.server : four.server, serverPort],
      ] as const) {
        expect(await proxy.control.update(toServer("one", address, port))).toEqual([]);
        expect(await get(addresses.client, `${url(7000)}/`, "-i")).toMatch(
          /^HTTP\/1.1 503 [\s\S]*x-fairlead-reason: connect_failed/,
        );
      }
      expect(await proxy.control.update({}, { listeners: ["http", "tcp"] })).toEqual([]);
    },
  );

  test.skipIf(!isRoot)(
    `connections to any address are taken with it, and go on with the client's (${family})`,
    async () => {
      const to = (port: number, address = far) => `http://${addressWithPort(address, port)}/`;
      const strangers = family === "IPv4" ? "203.0.113.7" : "2001:db8::7";
      const range = (address: string) => `${address}/${family === "IPv4" ? 32 : 128}`;
      const chains: FilterChain[] = [
        {
          from,
          when: { kind: "plain", destination: [range(far)], destinationPorts: [serverPort] },
          serve: { tcp: [], original: true, originalSource: { mark } },
        },
        {
          from,
          when: { kind: "plain", destination: [range(far)] },
          serve: { tcp: [], original: true },
        },
        { from, when: { kind: "plain", source: [range(addresses.other)] }, serve: { routes: "main" } },
      ];
      const any = family === "IPv4" ? "0.0.0.0" : "::";
      const taken = listener("taken", { address: any, port: onPort, transparent: true, chains });
      const update = { ...toServer("one", far, serverPort), routeTables: [routeTable([rule("all")])] };
      expect(await proxy.control.update({ ...update, listeners: [taken] })).toEqual([]);
      // By its first chain, by its second with the proxy's address, by its third for one client, and by none for the other.
      expect(await get(addresses.client, to(serverPort))).toStartWith(`from ${addresses.client} /`);
      expect(await get(addresses.client, to(otherPort))).toBe(`GET / HTTP/1.1 from ${addresses.far}`);
      expect(await get(addresses.other, to(8500, strangers))).toStartWith(`from ${addresses.other} /`);
      expect(await get(addresses.client, to(8500, strangers), "-w", "%{exitcode}")).toMatch(closed);
      expect(await (await proxy.get("/metrics")).text()).toContain('fairlead_proxy_errors_total{reason="no_chain"}');
      // One that wanted to come here is not sent round in circles.
      const direct = listener("taken", {
        ...taken,
        chains: [{ from, when: { kind: "plain" }, serve: { tcp: [], original: true } }],
      });
      expect(await proxy.control.update({ listeners: [direct] })).toEqual([]);
      expect(await get(addresses.client, to(onPort, near), "-w", "%{exitcode}")).toMatch(closed);
      let lines: string[] = [];
      const toldOf = (address: string, port: number) => {
        const place = addressWithPort(address, port);
        return lines.find((line) => line.includes(`"destination":"${place}"`));
      };
      while (!toldOf(near, onPort)) {
        await Bun.sleep(50);
        lines = (await Bun.file(join(folder, "access.log")).text()).split("\n");
      }
      expect(toldOf(near, onPort)).toContain("no_destination");
      expect(toldOf(far, otherPort)).toBeDefined();
      expect(await proxy.control.update({}, { listeners: ["taken"] })).toEqual([]);
    },
  );
}

for (const [family, { near, client: first, other, server: far }] of [
  ["IPv4", four],
  ["IPv6", six],
] as const) {
  test.skipIf(!isRoot)(`datagrams reach backends from their clients' addresses (${family})`, async () => {
    const log = async () => (await Bun.file(join(folder, "access.log")).text()).split("\n");
    const serve = { tcp: [forwardTo("heard")], idleTimeout: 300 };
    const datagrams = listener("datagrams", {
      address: near,
      port: 7002,
      transport: "udp",
      chains: [{ from, when: { kind: "plain" }, serve }],
    });
    const update = toServer("heard", far, datagramPort, { protocol: "tcp" });
    expect(await proxy.control.update({ ...update, listeners: [datagrams] })).toEqual([]);
    expect(await Promise.all([ask(first, near, 7002), ask(other, near, 7002)])).toEqual([
      `hello from ${first}`,
      `hello from ${other}`,
    ]);
    // Their sessions end when nothing comes any more.
    const over = (line: string) => line.includes(`"protocol":"UDP"`) && line.includes(`"source":"${first}"`);
    while (!(await log()).some(over)) await Bun.sleep(50);
    // An endpoint of the other family has nobody to answer to.
    const wrong = family === "IPv4" ? six.server : four.server;
    expect(await proxy.control.update(toServer("heard", wrong, datagramPort, { protocol: "tcp" }))).toEqual([]);
    expect(await ask(first, near, 7002, 5)).toBe("silence");
    expect(await proxy.control.update({}, { listeners: ["datagrams"] })).toEqual([]);
  });

  test.skipIf(!isRoot)(`datagrams to any address are taken with it, and answered from there (${family})`, async () => {
    const strangers = family === "IPv4" ? "203.0.113.7" : "2001:db8::7";
    const size = family === "IPv4" ? 32 : 128;
    const chains: FilterChain[] = [
      {
        from,
        when: { kind: "plain", destination: [`${far}/${size}`] },
        serve: { tcp: [], original: true, originalSource: { mark } },
      },
      {
        from,
        when: { kind: "plain", destinationPorts: [datagramPort] },
        serve: { tcp: [forwardTo("heard")], idleTimeout: 300 },
      },
    ];
    const any = family === "IPv4" ? "0.0.0.0" : "::";
    const taken = listener("taken", { address: any, port: onPort, transport: "udp", transparent: true, chains });
    const heard = { ...toServer("heard", far, datagramPort, { protocol: "tcp" }) };
    const plainly = { ...heard, backends: [backend("heard", { protocol: "tcp" })], listeners: [taken] };
    expect(await proxy.control.update(plainly)).toEqual([]);
    // A client hears only the address that it asks: by the first chain, by the second, and by none.
    expect(await Promise.all([ask(first, far, datagramPort), ask(other, far, datagramPort)])).toEqual([
      `hello from ${first}`,
      `hello from ${other}`,
    ]);
    const from2 = `hello from ${family === "IPv4" ? four.far : six.far}`;
    expect(await Promise.all([ask(first, strangers, datagramPort), ask(other, strangers, datagramPort)])).toEqual([
      from2,
      from2,
    ]);
    expect(await ask(first, strangers, datagramPort + 1, 5)).toBe("silence");
    let lines: string[] = [];
    const over = (line: string) => line.includes(`"destination":"${addressWithPort(strangers, datagramPort)}"`);
    while (!lines.some(over)) {
      await Bun.sleep(50);
      lines = (await Bun.file(join(folder, "access.log")).text()).split("\n");
    }
    expect(await proxy.control.update({}, { listeners: ["taken"] })).toEqual([]);
  });
}

test.skipIf(!isRoot)("HTTP/2 and TLS to backends bear clients' addresses, too, one connection a client", async () => {
  const alone = new ProxyUnderTest();
  const { content } = makeSecret(folder, "backend", "orders.test");
  const connections: string[] = [];
  const count = (socket: Socket) => connections.push(socket.remoteAddress ?? "");
  const answer = (request: Http2ServerRequest, response: Http2ServerResponse) =>
    response.end(`${request.httpVersion} from ${request.socket.remoteAddress}`);
  const secure = createSecureServer({ allowHTTP1: true, cert: content.certificate, key: content.privateKey }, answer);
  const plain = createServer(answer);
  try {
    for (const one of [secure.on("secureConnection", count), plain.on("connection", count)])
      await new Promise<void>((done) => one.listen(0, "127.0.0.1", done));
    const port = freePort();
    await alone.start();
    const tls = { authorities: "insecure" } as const;
    for (const [one, version, more] of [
      [secure, "1.1", { tls }],
      [secure, "2.0", { tls, protocol: "h2c" }],
      [plain, "2.0", { protocol: "h2c" }],
    ] as const) {
      const at = (one.address() as { port: number }).port;
      const update = { ...toServer("one", "127.0.0.1", at, more), routeTables: [routeTable([rule("all")])] };
      const http = listener("http", { address: "127.0.0.1", port });
      expect(await alone.control.update({ ...update, listeners: [http] })).toEqual([]);
      for (const source of ["127.0.0.8", "127.0.0.9", "127.0.0.8", "127.0.0.9"]) {
        const asked = Bun.spawn(["curl", "-s", "-m", "5", "--interface", source, `http://127.0.0.1:${port}/`]);
        expect(await new Response(asked.stdout).text()).toBe(`${version} from ${source}`);
      }
      expect(connections.splice(0)).toEqual(["127.0.0.8", "127.0.0.9"]);
    }
  } finally {
    await alone.stop();
    secure.close();
    plain.close();
  }
});

test.skipIf(!isRoot)("who may not make such sockets says so", async () => {
  const powerless = new ProxyUnderTest(
    "setpriv",
    "--bounding-set",
    "-net_admin,-net_raw",
    "--inh-caps",
    "-net_admin,-net_raw",
  );
  try {
    await powerless.start();
    const rejected = await powerless.control.update({
      ...toServer("one", "127.0.0.1", serverPort),
      listeners: [listener("taken", { address: "127.0.0.1", port: onPort, transparent: true })],
    });
    expect(rejected.map(({ name, reason }) => `${name}: ${reason}`)).toEqual([
      "one: originalSource: connections with the client's address need CAP_NET_ADMIN (or root)",
      "taken: a transparent listener needs CAP_NET_ADMIN (or root)",
    ]);
  } finally {
    await powerless.stop();
  }
});

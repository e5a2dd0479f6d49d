// Listeners' addresses: whose they are, who may have them, what PROXY headers say of them, and that nothing of a connection is left behind.
// Over loopback; needs openssl, no privileges.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type net from "node:net";
import tls from "node:tls";
import type { Listener } from "../../src/model/model.ts";
import { writeProxyHeader } from "../../src/proxy/listener/proxy-protocol.ts";
import {
  another,
  connect,
  eachListenerTest,
  folder,
  get,
  http,
  listener,
  log,
  metric,
  named,
  plain,
  port,
  proxy,
  put,
  routes,
  say,
  secure,
  seen,
  serve,
  tcp,
} from "./listener-cases.ts";
import { backend, endpoints, forwardTo, freePort, from, routeTable, rule } from "./proxy-harness.ts";
import { makeSecret } from "./proxy-secrets.ts";

eachListenerTest();

test("a PROXY header says who the client is, for headers and logs; without one there is no connection", async () => {
  const one = makeSecret(folder, "one", "one.example");
  await put({
    secrets: [one],
    backends: [backend("one")],
    endpoints: [endpoints("one", http.port!)],
    routeTables: [routeTable([rule("all")])],
    listeners: [{ ...listener({ when: plain, serve: routes }), proxyProtocol: true }],
  });
  const told = { source: "203.0.113.9", sourcePort: 4711, destination: "198.51.100.1", destinationPort: 80 };
  for (const version of [1, 2] as const) {
    const header = writeProxyHeader(version, told);
    const answer = await say(header.subarray(0, 5), header.subarray(5), get("a.example"));
    expect(answer).toContain('"x-forwarded-for":"203.0.113.9"');
  }
  expect(await say("PROXY UNKNOWN\r\n", get("a.example"))).toContain('"x-forwarded-for":"127.0.0.1"');
  for (const beginning of [get("a.example"), "PROXY TCP4 1.2.3.4\r\n", "\r\n\r\n\0\r\nQUIX"]) {
    expect(await say(beginning)).toMatch(/^(reset)?$/);
  }
  expect(await metric('fairlead_proxy_errors_total{reason="bad_proxy_header"}')).toBe(3);

  // In front of TLS, and of what is passed through.
  const context = { certificates: [one.name], alpn: [] };
  await put({
    backends: [backend("a", { protocol: "tcp" })],
    endpoints: [endpoints("a", await named("words"))],
    listeners: [
      {
        ...listener(
          { when: plain, serve: tcp(forwardTo("a")) },
          { when: { kind: "tls" }, tls: context, serve: routes },
        ),
        proxyProtocol: true,
      },
    ],
  });
  expect(await say(writeProxyHeader(2, told), "hello")).toBe("words");
  const socket = connect();
  socket.write(writeProxyHeader(2, told));
  const secured = await secure("one.example", get("one.example"), { socket } as tls.ConnectionOptions);
  expect(seen(secured)).toMatchObject({ "x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https" });
  const lines = async () => (await log()).filter(({ protocol }) => protocol === "TCP");
  while ((await lines()).length === 0) await Bun.sleep(20);
  expect(await lines()).toMatchObject([
    { source: "203.0.113.9", sourcePort: 4711, destination: "198.51.100.1:80", backend: "a" },
  ]);
});

test("why an address cannot be had is said with its remedy, whatever the listener is", async () => {
  const secret = makeSecret(folder, "own", "own.example");
  const kinds: readonly Partial<Listener>[] = [
    {},
    {
      chains: [
        {
          ...{ from, when: { kind: "tls" }, serve: tcp(forwardTo("a")) },
          tls: { certificates: [secret.name], alpn: [] },
        },
      ],
    },
    { transport: "udp" },
  ];
  await put({ secrets: [secret] });
  const reason = async (more: Partial<Listener>) =>
    (
      await proxy.control.update({ listeners: [{ ...listener({ when: plain, serve: tcp(forwardTo("a")) }), ...more }] })
    )[0]?.reason;
  for (const kind of kinds) {
    expect(await reason({ ...kind, address: "192.0.2.1" })).toStartWith("192.0.2.1 is no address of this machine: ");
    expect(await reason({ ...kind, namespace: "/run/netns/fl-t-none" })).toContain("does not exist");
  }
  // As another user, who may not have ports below 1024.
  const [root, most] = [
    process.getuid?.() === 0,
    Number(readFileSync("/proc/sys/net/ipv4/ip_unprivileged_port_start")),
  ];
  if (most < 2) return;
  await another(...(root ? ["setpriv", "--bounding-set=-net_bind_service"] : []));
  await put({ secrets: [secret] });
  for (const kind of kinds)
    expect(await reason({ ...kind, port: most - 1 })).toStartWith(
      `127.0.0.1:${most - 1} may not be opened by this user: `,
    );
}, 20_000);

test("an address goes from one listener to another of another name or kind in one update, also while it has connections", async () => {
  const secret = makeSecret(folder, "own", "own.example");
  const serving = { when: plain, serve: tcp(forwardTo("a")) };
  const secured = { when: { kind: "tls" }, serve: routes, tls: { certificates: [secret.name], alpn: [] } } as const;
  await put({
    secrets: [secret],
    backends: [backend("a", { protocol: "tcp" })],
    endpoints: [endpoints("a", await serve((socket) => void socket.pipe(socket)))],
  });
  const kinds: readonly Listener[] = [
    listener(serving),
    listener(serving, secured),
    listener(serving),
    { ...listener(serving), transport: "udp" },
    { ...listener(serving), transport: "udp" },
  ];
  const held: net.Socket[] = [];
  let before: string | undefined;
  for (const [at, kind] of kinds.entries()) {
    const name = `port-${at}`;
    const remove = before === undefined ? {} : { listeners: [before] };
    expect(await proxy.control.update({ listeners: [{ ...kind, name }] }, remove)).toEqual([]);
    before = name;
    if (kind.transport === "udp") continue;
    const socket = connect();
    held.push(socket);
    const echoed = new Promise<string>((resolve) => socket.once("data", (bytes) => resolve(String(bytes))));
    socket.write(name);
    expect(await echoed).toBe(name);
  }
  for (const socket of held) socket.destroy();
});

test("connections that come and go in every way leave nothing behind", async () => {
  let ways = 0;
  const server = await serve((socket) => {
    const way = ways++ % 5;
    if (way === 0) socket.end("bye");
    else if (way === 1) socket.destroy();
    else if (way === 2) socket.resetAndDestroy();
    else if (way === 3) socket.pipe(socket);
    else socket.on("end", () => socket.end()).write(Buffer.alloc(200_000));
    socket.resume();
  });
  const one = makeSecret(folder, "one", "one.example");
  await put({
    secrets: [one],
    backends: [backend("a", { protocol: "tcp" })],
    endpoints: [endpoints("a", server, freePort())],
    listeners: [
      listener(
        { when: { kind: "tls" }, tls: { certificates: [one.name], alpn: [] }, serve: tcp(forwardTo("a")) },
        { when: plain, serve: tcp(forwardTo("a")) },
      ),
    ],
  });
  const visit = (number: number) =>
    new Promise<void>((resolve) => {
      const secured = number % 3 === 0;
      const socket = secured
        ? tls.connect({ host: "127.0.0.1", port, servername: "one.example", rejectUnauthorized: false })
        : connect();
      socket.on("error", () => {});
      socket.on("close", () => resolve());
      socket.on("end", () => socket.end());
      socket.resume();
      socket.on(secured ? "secureConnect" : "connect", () => {
        socket.write(Buffer.alloc(1 + ((number * 7919) % 300_000)));
        if (number % 4 === 0) socket.end();
        else if (number % 4 === 1) socket.destroy();
        else if (number % 4 === 2) socket.resetAndDestroy();
        setTimeout(() => socket.destroy(), 300);
      });
    });
  for (let round = 0; round < 5; round++) {
    await Promise.all(Array.from({ length: 60 }, (_, index) => visit(round * 60 + index)));
  }
  const gauges = [
    'fairlead_proxy_relayed_connections{protocol="tcp",backend="a"}',
    "fairlead_proxy_connections",
    'fairlead_proxy_upstream_connections{backend="a"}',
  ];
  for (const gauge of gauges) while ((await metric(gauge)) > 0) await Bun.sleep(50);
  expect(await metric("fairlead_proxy_connections_total")).toBeGreaterThan(200);
}, 30_000);

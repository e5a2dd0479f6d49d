// One proxy process takes over from another while clients ask without a pause: connections and datagrams that TPROXY sends to it, those
// that it sends on from clients' own addresses, and listeners in another network namespace than the process. Needs root, ip, iptables
// and nft.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { FilterChain } from "../../src/model/model.ts";
import { backend, endpoints, forwardTo, from, ProxyUnderTest, routeTable, rule } from "./proxy-harness.ts";
import type { Asked, Place } from "./steady-askers.ts";
import {
  client,
  datagramPort,
  four,
  listener,
  makeNetwork,
  mark,
  middle,
  onPort,
  removeNetwork,
  serverPort,
  six,
  toServer,
} from "./transparent-network.ts";

const isRoot = process.getuid?.() === 0;
if (!isRoot) console.log("skipped: transparent sockets need root");

const changes = 2;

let folder: string;
const running = new Set<ProxyUnderTest>();

beforeAll(async () => {
  if (!isRoot) return;
  folder = mkdtempSync(join(tmpdir(), "fl-t-transparent-"));
  await makeNetwork(folder);
});

afterAll(async () => {
  if (!isRoot) return;
  for (const proxy of running) await proxy.stop();
  await removeNetwork();
  rmSync(folder, { recursive: true, force: true });
});

type Update = Parameters<ProxyUnderTest["control"]["update"]>[0];

async function serve(prefix: readonly string[], update: Update): Promise<ProxyUnderTest> {
  const proxy = new ProxyUnderTest(...prefix);
  running.add(proxy);
  // Only one that has the same name for its admin socket is a successor.
  await proxy.start("--admin", join(folder, "admin.sock"));
  expect(await proxy.control.update(update)).toEqual([]);
  return proxy;
}

/** What clients in their namespace got while something was done. */
async function whileAsked(places: readonly Place[], work: () => Promise<void>): Promise<readonly Asked[]> {
  const program = [process.execPath, join(import.meta.dir, "steady-askers.ts"), JSON.stringify(places)];
  const askers = Bun.spawn(["ip", "netns", "exec", client, ...program], {
    ...{ stdin: "pipe", stdout: "pipe", stderr: "inherit" },
  });
  try {
    await work();
  } finally {
    askers.stdin.end();
  }
  return JSON.parse(await new Response(askers.stdout).text());
}

/** The same, while proxies took over from each other. */
async function whileHandedOver(
  prefix: readonly string[],
  update: Update,
  places: readonly Place[],
): Promise<readonly Asked[]> {
  let current = await serve(prefix, update);
  const asked = await whileAsked(places, async () => {
    for (let change = 0; change < changes; change++) {
      await Bun.sleep(500);
      const next = await serve(prefix, update);
      current.control.send({ type: "drain", deadline: 5000, successors: 1 });
      expect(await current.process!.exited).toBe(0);
      await current.stop();
      running.delete(current);
      current = next;
    }
    await Bun.sleep(500);
  });
  await current.stop();
  running.delete(current);
  return asked;
}

const original: FilterChain[] = [
  { from, when: { kind: "plain" }, serve: { tcp: [], original: true, originalSource: { mark } } },
];
const taken = { address: "::", port: onPort, transparent: true, chains: original } as const;
/** Answered by the server, who sees the client's own address: of IPv6 whichever of its two it took. */
const takenPlaces: Place[] = [[four.server, four.client] as const, [six.server, "fd81::"] as const].flatMap(
  ([address, source]) => [
    { protocol: "tcp", address, port: serverPort, expected: `from ${source}` },
    { protocol: "udp", address, port: datagramPort, expected: `hello from ${source}` },
  ],
);

function check(results: readonly Asked[], places: readonly Place[]): void {
  const named = (index: number) => `${places[index]!.protocol} ${places[index]!.address}`;
  expect(results.flatMap(({ failures }, index) => failures.map((one) => `${named(index)}: ${one}`))).toEqual([]);
  results.forEach(({ answered, slow }, index) => {
    expect(answered).toBeGreaterThan(100);
    // Bun listens before its socket can be made transparent: a SYN that TPROXY gives it meanwhile is lost, and said again.
    expect(slow.length).toBeLessThanOrEqual(places[index]!.port === serverPort ? changes : 0);
  });
}

test.skipIf(!isRoot)(
  "what TPROXY sends here, and what goes on from clients' addresses, is answered while a process takes over",
  async () => {
    const one = toServer("one", four.server, serverPort);
    const heard = toServer("heard", four.server, datagramPort, { protocol: "tcp" });
    const datagrams: FilterChain[] = [{ from, when: { kind: "plain" }, serve: { tcp: [forwardTo("heard")] } }];
    const update = {
      backends: [...one.backends, ...heard.backends],
      endpoints: [...one.endpoints, ...heard.endpoints],
      routeTables: [routeTable([rule("all")])],
      listeners: [
        listener("taken", taken),
        listener("taken-udp", { ...taken, transport: "udp" }),
        listener("http", {}),
        listener("datagrams", { port: 7002, transport: "udp", chains: datagrams }),
      ],
    };
    const places: Place[] = [
      ...takenPlaces,
      { protocol: "tcp", address: four.near, port: 7000, expected: `from ${four.client} /x` },
      { protocol: "udp", address: four.near, port: 7002, expected: `hello from ${four.client}` },
    ];
    check(await whileHandedOver(["ip", "netns", "exec", middle], update, places), places);
  },
  60_000,
);

test.skipIf(!isRoot)(
  "listeners in another namespace are taken over, too",
  async () => {
    const http = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: () => new Response("routed") });
    const echo = await Bun.udpSocket({
      hostname: "127.0.0.1",
      socket: { data: (socket, bytes, port, address) => void socket.send(`${bytes} heard`, port, address) },
    });
    try {
      const namespace = `/run/netns/${middle}`;
      const datagrams: FilterChain[] = [{ from, when: { kind: "plain" }, serve: { tcp: [forwardTo("heard")] } }];
      const update = {
        backends: [backend("one"), backend("heard", { protocol: "tcp" })],
        endpoints: [endpoints("one", http.port!), endpoints("heard", echo.port)],
        routeTables: [routeTable([rule("all")])],
        listeners: [
          listener("taken", { ...taken, namespace }),
          listener("taken-udp", { ...taken, namespace, transport: "udp" }),
          listener("http", { namespace }),
          listener("datagrams", { namespace, port: 7002, transport: "udp", chains: datagrams }),
        ],
      };
      const places: Place[] = [
        ...takenPlaces,
        { protocol: "tcp", address: four.near, port: 7000, expected: "routed" },
        { protocol: "udp", address: four.near, port: 7002, expected: "hello heard" },
      ];
      check(await whileHandedOver([], update, places), places);
    } finally {
      http.stop(true);
      echo.close();
    }
  },
  60_000,
);

test.skipIf(!isRoot)(
  "a listener of datagrams in another namespace becomes transparent and plain again, and loses none",
  async () => {
    const echo = await Bun.udpSocket({
      hostname: "127.0.0.1",
      socket: { data: (socket, bytes, port, address) => void socket.send(`${bytes} heard`, port, address) },
    });
    try {
      const chains: FilterChain[] = [{ from, when: { kind: "plain" }, serve: { tcp: [forwardTo("heard")] } }];
      const both = (transparent: boolean) =>
        [four.near, six.near].map((address) =>
          listener(address, {
            ...{ address, port: onPort, transport: "udp", namespace: `/run/netns/${middle}`, chains },
            ...(transparent ? { transparent } : {}),
          }),
        );
      const update = {
        backends: [backend("heard", { protocol: "tcp" })],
        endpoints: [endpoints("heard", echo.port)],
        listeners: both(false),
      };
      const proxy = await serve([], update);
      const itself: Place[] = [four.near, six.near].map((address) => ({
        ...{ protocol: "udp", address, port: onPort, expected: "hello heard" },
      }));
      // What TPROXY brings is for the transparent one only.
      const taken: Place[] = [four.server, six.server].map((address) => ({
        ...{ protocol: "udp", address, port: datagramPort, expected: "hello heard" },
      }));
      const results = await whileAsked(itself, async () => {
        for (let round = 0; round < 2; round++) {
          await Bun.sleep(300);
          expect(await proxy.control.update({ listeners: both(true) })).toEqual([]);
          check(await whileAsked(taken, () => Bun.sleep(1_500)), taken);
          expect(await proxy.control.update({ listeners: both(false) })).toEqual([]);
        }
        await Bun.sleep(300);
      });
      check(results, itself);
    } finally {
      echo.close();
    }
  },
  60_000,
);

import { expect, test } from "bun:test";
import { FakeClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import { Graph } from "../collections/graph.ts";
import { source } from "../collections/source.ts";
import { type ListeningPort, listeningPorts, parseSockets } from "../node/netns/listeners.ts";
import { port } from "../node/testing/rows.ts";
import type { ServicePort } from "../services/service-table.ts";
import { watchNodePortUse } from "./node-port-use.ts";

test("a node port that a program listens on is told of once, when either comes, and again when it comes back", async () => {
  const clock = new FakeClock();
  const table = source<ServicePort>("table", { graph: new Graph() });
  let listening = new Set<ListeningPort>(["TCP 30001", "UDP 30002"]);
  const told: string[] = [];
  const end = watchNodePortUse({
    ...{ table, node: "node-1", clock, log: silentLogger, listening: () => listening },
    tell: ({ namespace, service }, message) => told.push(`${namespace}/${service}: ${message}`),
  });
  const add = async (row: ServicePort) => {
    table.set(row.key, row);
    await Promise.resolve();
  };
  await add(port(1, [1], { nodePort: 30_001 }));
  await add({ ...port(1, [1], { nodePort: 30_001, family: 6 }), key: "ns/s1/TCP/6" });
  // UDP has the port, TCP is free.
  await add(port(2, [1], { nodePort: 30_002 }));
  await add(port(3, [1]));
  expect(told).toEqual([
    "ns/s1: node node-1: a program listens on node port 30001 (TCP), too; connections to it go to this Service. " +
      "Stop the program, or give the Service another nodePort",
  ]);
  listening = new Set(["TCP 30001", "TCP 30002"]);
  clock.advance(60_000);
  expect(told).toHaveLength(2);
  expect(told[1]).toStartWith("ns/s2: node node-1: a program listens on node port 30002 (TCP)");
  listening = new Set();
  clock.advance(60_000);
  listening = new Set(["TCP 30001"]);
  clock.advance(60_000);
  expect(told).toHaveLength(3);
  end.dispose();
  clock.advance(60_000);
  expect(told).toHaveLength(3);
});

test("listeners are read as the kernel lists them: all addresses but loopback ones, no connections", () => {
  const tcp = `  sl  local_address rem_address   st tx_queue rx_queue
   0: 0100007F:7918 00000000:0000 0A 00000000:00000000 00:00000000
   1: 00000000:7919 00000000:0000 0A 00000000:00000000 00:00000000
   2: 0100620A:791A 00000000:0000 0A 00000000:00000000 00:00000000
   3: 0100620A:791B 0200620A:01BB 01 00000000:00000000 00:00000000
`;
  const tcp6 = `   0: 00000000000000000000000000000000:791C 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
   1: 00000000000000000000000001000000:791D 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
`;
  expect([...parseSockets("TCP", tcp), ...parseSockets("TCP", tcp6)]).toEqual(["TCP 31001", "TCP 31002", "TCP 31004"]);
  expect(parseSockets("UDP", "   9: 00000000:791E 00000000:0000 07 00000000:00000000\n")).toEqual(["UDP 31006"]);
});

test("the ports of this very process are found, and lost when they close", async () => {
  const server = Bun.listen({ hostname: "0.0.0.0", port: 0, socket: { data() {} } });
  const name = `TCP ${server.port}` as const;
  expect(listeningPorts(undefined).has(name)).toBe(true);
  server.stop(true);
  expect(listeningPorts(undefined).has(name)).toBe(false);
});

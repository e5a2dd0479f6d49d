// What a whole stack does in ipvs mode, for `bun test` inside of User-Mode Linux (`services-scenario.ts`): the packets of
// `packet-table.ts`, upstream's case of a load balancer that follows endpoints, a rolling update and a host port. One stack for all
// of it, because to start one takes this machine longer than all of that.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { loadBalancerCases } from "../e2e/behaviour/load-balancer-cases.ts";
import { ServiceCluster } from "../e2e/behaviour/service-cluster.ts";
import { PacketTable, type Source } from "../e2e/packet-table.ts";
import { rollingCase } from "./rolling-case.ts";

/** One of each kind: the machine is slow, and other modes send from all. */
const sources: readonly Source[] = ["client-1", "far-3", "node-1", "node-2", "host"];

describe("Services [ipvs]", () => {
  const cluster = new ServiceCluster("ipvs", (title) => title === "should only target nodes with endpoints");
  // One slow processor: fewer at a time, and more patience with them.
  const table = new PacketTable(cluster.stack, { mode: "ipvs", patience: 2_500, atOnce: 24, times: 2 });
  beforeAll(async () => {
    await table.up();
    // The stack is there, with its clients.
    await cluster.start("", "--nodes", "3", "--proxy-mode", "ipvs");
  }, 240_000);
  afterAll(() => cluster.remove(), 60_000);

  for (const source of sources) {
    test(`packets from ${source} go where explain says`, async () => {
      const { packets, wrong } = await table.send(source);
      expect(wrong).toEqual([]);
      expect(packets).toBeGreaterThan(150);
    }, 120_000);
  }

  test("all that can become of a packet was seen", () => {
    const ends = [...table.seen].map(([end, count]) => `${count} ${end}`);
    console.log(`packets with mode ipvs: ${ends.join(", ")}`);
    expect([...table.seen.keys()].sort()).toEqual(["astray", "drop", "kept", "masqueraded", "pass", "reject"]);
  });

  test("a pod reaches a Service by name, and ipvsadm shows the Services of the cluster", async () => {
    const curl = ["curl", "-sS", "--max-time", "5", "http://web-cluster-cluster/"];
    expect(JSON.parse((await cluster.exec("default/web-1", ...curl)).out)).toMatchObject({
      host: "web-cluster-cluster",
    });
    const listing = (await cluster.exec("node/node-1", "ipvsadm", "-Ln")).out;
    expect(listing).toMatch(/UDP {2}10\.[0-9]+\.0\.10:53 rr\n/);
    expect(listing).toMatch(/TCP {2}10\.[0-9]+\.0\.1:30105 rr\n {2}-> 10\.[0-9]+\.2\.[0-9]+:8080 +Masq {4}1 /);
  }, 60_000);

  loadBalancerCases(cluster);
  rollingCase(cluster);
});

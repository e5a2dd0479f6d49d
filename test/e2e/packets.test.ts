// Packets between real namespaces go where `explain --packet` says: the table of `packet-table.ts`, checked by connections and
// datagrams. In ipvs mode the same table runs in User-Mode Linux (`ipvs-packets.test.ts`).

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { PacketTable, sources } from "./packet-table.ts";
import { isRoot, TestStack } from "./stack.ts";

if (!isRoot) console.log("skipped: packets: network namespaces need root");

for (const mode of ["iptables", "nftables"] as const) {
  describe.skipIf(!isRoot)(`packets with mode ${mode}`, () => {
    const stack = new TestStack(`packets-${mode.slice(0, 4)}`, "netns", "ipv4,ipv6");
    const table = new PacketTable(stack, { mode });
    beforeAll(() => table.up(), 60_000);
    afterAll(() => stack.remove(), 30_000);

    test.each(sources)(
      "from %s go where explain says",
      async (source) => {
        const { packets, wrong } = await table.send(source);
        expect(wrong).toEqual([]);
        expect(packets).toBeGreaterThan(300);
      },
      60_000,
    );

    test("are explained on the command line, in words and as JSON", async () => {
      const packet = ["--packet", "tcp default/client-1:40000 -> default/far-cluster-cluster:80"];
      const words = await stack.fairlead("explain", ...packet);
      expect(words.out).toContain("→ default/far-cluster-cluster:http takes it by its cluster IP, to ");
      expect(words.out).toContain("pod default/far-3  on node-3");
      const json = await stack.fairlead("explain", ...packet, "--node", "node-3", "-o", "json");
      expect(JSON.parse(json.out)).toMatchObject({
        mode,
        node: "node-3",
        outcome: "endpoints",
        endpoints: [{ thisNode: true }],
      });
      const wrong = await stack.fairlead("explain", "--packet", "tcp default/nobody -> default/far-cluster-cluster:80");
      expect([wrong.code, wrong.err]).toEqual([1, expect.stringContaining('there is no pod "default/nobody"')]);
    });

    test("and all that can become of a packet was seen", () => {
      console.log(`packets with mode ${mode}: ${[...table.seen].map(([end, count]) => `${count} ${end}`).join(", ")}`);
      expect([...table.seen.keys()].sort()).toEqual(["astray", "drop", "kept", "masqueraded", "pass", "reject"]);
    });
  });
}

describe("packets with mode userspace", () => {
  const stack = new TestStack("packets-user", "loopback");
  const table = new PacketTable(stack, { mode: "userspace" });
  beforeAll(() => table.up(), 60_000);
  afterAll(() => stack.remove(), 30_000);

  test("from the host go where explain says", async () => {
    const { packets, wrong } = await table.send("host");
    expect(wrong).toEqual([]);
    expect(packets).toBeGreaterThan(100);
    expect([...table.seen.keys()].sort()).toEqual(["masqueraded", "reject"]);
  }, 60_000);

  test("to what cannot be served there are explained so, and an Event names it", async () => {
    const { spec } = await stack.get("services", "web-cluster-cluster");
    const events = (await stack.list("events", "-n", "default"))
      .filter(
        ({ reason, involvedObject }) => reason === "FailedToListen" && involvedObject.name === "web-cluster-cluster",
      )
      .map(({ message }) => message);
    // Addresses of other machines, and a protocol that no process here carries.
    for (const [protocol, address] of [
      ["tcp", "198.51.100.10"],
      ["udp", "198.51.100.10"],
      ["sctp", spec.clusterIP],
    ] as const) {
      const packet = `${protocol} 127.0.0.1 -> ${address}:${protocol === "sctp" ? 81 : 80}`;
      const { out } = await stack.fairlead("explain", "--packet", packet);
      expect(out).toMatch(
        protocol === "sctp"
          ? /no Service takes it: mode userspace carries no SCTP/
          : /nothing takes it: node-1 cannot serve/,
      );
      expect(
        events.some((message) => message.includes(`node-1 cannot serve ${protocol.toUpperCase()} ${address}:`)),
      ).toBe(true);
    }
  });

  test("of several nodes the first serves what is no node's own", async () => {
    const events = (await stack.list("events", "-A")).filter(({ reason }) => reason === "FailedToListen");
    expect(events.filter(({ message }) => message.includes("EADDRINUSE"))).toEqual([]);
    expect(events.filter(({ message }) => /node-[23] cannot serve (TCP|UDP)/.test(message))).toEqual([]);
  });
});

// On which addresses of a node NodePorts answer: kube-proxy's defaults of each mode, and what --nodeport-addresses makes of them,
// with a second address that the node has by the way.

import { afterAll, describe, expect, test } from "bun:test";
import { eventually, isRoot, TestStack } from "./stack.ts";

if (!isRoot) console.log("skipped: NodePort addresses: needs root");

const objects = `
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {containers: [{name: web, image: example/web, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 31080}]
`;
const second = "192.0.2.9";

const cases = [
  ["iptables", [], ["node", second, "127.0.0.1"]],
  ["iptables", ["--nodeport-addresses", "primary"], ["node"]],
  ["iptables", ["--iptables-localhost-nodeports", "false", "--conntrack-udp-timeout", "20s"], ["node", second]],
  ["nftables", [], ["node"]],
  ["nftables", ["--nodeport-addresses", "0.0.0.0/0"], ["node", second]],
] as const;

describe.skipIf(!isRoot)("node ports", () => {
  describe.each(cases.map((one, at) => ({ mode: one[0], flags: one[1], answering: one[2], at })))(
    "in mode $mode with $flags",
    ({ mode, flags, answering, at }) => {
      const stack = new TestStack(`np${at}`);
      afterAll(() => stack.remove(), 30_000);

      test("answer where they should, and nowhere else", async () => {
        const up = await stack.upWith(objects, "--proxy-mode", mode, ...flags);
        expect({ code: up.code, err: up.err }).toEqual({ code: 0, err: "" });
        const inNode = (...argv: string[]) => stack.exec("node/node-1", ...argv);
        expect((await inNode("ip", "addr", "add", `${second}/32`, "dev", "lo")).code).toBe(0);
        const own = (await stack.list("nodes"))[0].status.addresses[0].address;
        const answers = async (address: string) => {
          const { out } = await inNode("curl", "-s", "-m", "2", `http://${address}:31080/`);
          return out.includes('"pod"');
        };
        expect(await eventually(() => answers(own), Boolean)).toBe(true);
        const found: string[] = [];
        for (const [name, address] of [
          ["node", own],
          [second, second],
          ["127.0.0.1", "127.0.0.1"],
        ] as const) {
          if (await answers(address)) found.push(name);
        }
        expect(found).toEqual([...answering]);
        const tracked = async (setting: string) =>
          (await inNode("cat", `/proc/sys/net/netfilter/nf_conntrack_${setting}`)).out.trim();
        expect(await tracked("tcp_timeout_close_wait")).toBe("3600");
        if (flags.includes("20s" as never)) expect(await tracked("udp_timeout")).toBe("20");
        const said = await stack.fairlead("explain", "--packet", "tcp node -> 127.0.0.1:31080");
        expect([said.out.includes(":8080"), said.out]).toEqual([
          (answering as readonly string[]).includes("127.0.0.1"),
          said.out,
        ]);
      }, 60_000);
    },
  );

  test("of a flag that another mode has, or of no node's range, nothing is started", async () => {
    const stack = new TestStack("np-wrong");
    for (const [words, message] of [
      [["--ipvs-scheduler", "wrr"], "--ipvs-scheduler wrr: the proxy mode is iptables"],
      [["--nodeport-addresses", "192.0.2.0/24"], "--nodeport-addresses 192.0.2.0/24: no node has an address there"],
    ] as const) {
      const { code, err } = await stack.up(...words);
      // Refused before anything is made.
      expect(code).toBe(2);
      expect(err).toContain(message);
    }
    await stack.remove();
  });
});

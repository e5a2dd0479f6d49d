import { describe, expect, test } from "bun:test";
import type { BalancedPort } from "../../services/balanced-ports.ts";
import { iptablesChanges, iptablesFrom, nftChanges } from "./balancer-rules.ts";

const port: BalancedPort = {
  key: "shop/cart:http/TCP/4",
  family: 4,
  protocol: "TCP",
  addresses: ["10.97.0.1"],
  port: 80,
  affinitySeconds: undefined,
  nodes: [1, 3],
};
const sticky: BalancedPort = { ...port, affinitySeconds: 60 };

describe("the load balancer's rules for nft", () => {
  test("lead a port's first packets to a chain that draws a node", () => {
    const text = nftChanges([{ before: undefined, after: port }]);
    const chain = /add chain inet fairlead-balancer (\S+)/.exec(text)?.[1];
    expect(text.split("\n")).toEqual([
      `add chain inet fairlead-balancer ${chain}`,
      `flush chain inet fairlead-balancer ${chain}`,
      `add rule inet fairlead-balancer ${chain} ct mark set numgen random mod 2 map { 0 : 1, 1 : 3 }`,
      `add element inet fairlead-balancer ports4 { 10.97.0.1 . tcp . 80 : jump ${chain} }`,
      "",
    ]);
  });

  test("write only the chain when its nodes change, and take all of a port away", () => {
    const other = nftChanges([{ before: port, after: { ...port, nodes: [2] } }]);
    expect(other).toContain("ct mark set 2\n");
    expect(other).not.toContain("element");
    const gone = nftChanges([{ before: port, after: undefined }]);
    expect(gone).toContain("delete element inet fairlead-balancer ports4 { 10.97.0.1 . tcp . 80 }");
    expect(gone.trim().split("\n").at(-1)).toStartWith("delete chain inet fairlead-balancer BAL-");
  });

  test("change an address, and keep a client with its node by its address", () => {
    const moved = nftChanges([{ before: port, after: { ...sticky, addresses: ["10.97.0.2"] } }]);
    expect(moved).toContain("jhash ip saddr mod 2 map { 0 : 1, 1 : 3 }");
    expect(moved).toContain("add element inet fairlead-balancer ports4 { 10.97.0.2 . tcp . 80 : jump");
    expect(moved).toContain("delete element inet fairlead-balancer ports4 { 10.97.0.1 . tcp . 80 }");
  });
});

describe("the load balancer's rules for iptables", () => {
  const text = iptablesChanges([{ before: undefined, after: port }]);
  const chain = /:(BAL-[A-Z2-7]{16}) /.exec(text)?.[1];

  test("draw a node with equal chances", () => {
    expect(text.split("\n")).toEqual([
      "*mangle",
      `:${chain} - [0:0]`,
      `:${chain}-1 - [0:0]`,
      `:${chain}-3 - [0:0]`,
      `-A BALANCER-PORTS -d 10.97.0.1/32 -p tcp -m tcp --dport 80 -j ${chain}`,
      `-A ${chain} -m statistic --mode random --probability 0.5000000000 -g ${chain}-1`,
      `-A ${chain} -g ${chain}-3`,
      `-A ${chain}-1 -j CONNMARK --set-mark 1`,
      `-A ${chain}-3 -j CONNMARK --set-mark 3`,
      "COMMIT",
      "",
    ]);
  });

  test("begin in one transaction, with ports or without", () => {
    for (const whole of [iptablesFrom(text), iptablesFrom("")]) {
      expect(whole.match(/^(\*mangle|COMMIT)$/gm)).toEqual(["*mangle", "COMMIT"]);
      expect(whole).toContain("-A PREROUTING -i host0 -j BALANCER\n");
    }
    expect(iptablesFrom(text)).toContain(`-A ${chain} -g ${chain}-3\n`);
  });

  test("remember a client's node with affinity", () => {
    const remembered = iptablesChanges([{ before: port, after: sticky }]);
    expect(remembered).toContain(`-A ${chain} -m recent --name ${chain}-1 --rcheck --seconds 60 --reap -g ${chain}-1`);
    expect(remembered).toContain(`-A ${chain}-1 -m recent --name ${chain}-1 --set`);
    expect(remembered).not.toContain("BALANCER-PORTS");
  });

  test("take away the chain of a node that is left, and all of a port that goes", () => {
    expect(iptablesChanges([{ before: port, after: { ...port, nodes: [3] } }])).toContain(`-X ${chain}-1\n`);
    const gone = iptablesChanges([{ before: port, after: undefined }]);
    expect(gone).toContain(`-D BALANCER-PORTS -d 10.97.0.1/32 -p tcp -m tcp --dport 80 -j ${chain}\n`);
    expect(gone.match(/^-X /gm)).toHaveLength(3);
  });
});

import { describe, expect, test } from "bun:test";
import type { BalancedPort } from "../../services/balanced-ports.ts";
import { comparable, isWhole } from "./balancer-listing.ts";
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
const changes = [{ before: undefined, after: port }];

describe("a listing of the load balancer's rules", () => {
  test("is whole in iptables when each chain has its rules, whatever others have beside them", () => {
    const rules = iptablesFrom(iptablesChanges(changes));
    expect(isWhole("iptables", 4, rules, [port])).toBe(true);
    expect(isWhole("iptables", 4, `${rules}-A FORWARD -j ACCEPT\n`, [port])).toBe(true);
    expect(isWhole("iptables", 4, rules.replace(/^-A BALANCER-PORTS .*\n/m, ""), [port])).toBe(false);
    expect(isWhole("iptables", 4, rules.replace(/^-A PREROUTING .*\n/m, ""), [port])).toBe(false);
    expect(isWhole("iptables", 4, "", [])).toBe(false);
    expect(isWhole("iptables", 6, iptablesFrom(""), [port])).toBe(true);
  });

  test("is whole in nft when rules and elements are there", () => {
    const chain = /add chain inet fairlead-balancer (\S+)/.exec(nftChanges(changes))![1];
    const listing = (elements: string, rule: string) => `table inet fairlead-balancer {
	map ports4 {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { ${elements} }
	}

	chain prerouting {
		type filter hook prerouting priority mangle; policy accept;
		iifname != "host0" accept
		ct mark 0x00000000 ct state new ip daddr . meta l4proto . th dport vmap @ports4
		ct mark 0x00000000 ct state new ip6 daddr . meta l4proto . th dport vmap @ports6
		ct mark != 0x00000000 meta mark set ct mark
	}

	chain ${chain} {
		${rule}
	}
}
`;
    const rule = "ct mark set numgen random mod 2 map { 0 : 0x00000001, 1 : 0x00000003 }";
    const element = `10.97.0.1 . tcp . 80 : jump ${chain}`;
    expect(isWhole("nftables", undefined, listing(element, rule), [port])).toBe(true);
    expect(isWhole("nftables", undefined, listing("", rule), [port])).toBe(false);
    expect(isWhole("nftables", undefined, listing(element, ""), [port])).toBe(false);
    expect(isWhole("nftables", undefined, listing(element, rule), [])).toBe(false);
  });

  test("compares without counters, dates and the order of elements", () => {
    const first = "# at noon\n:X - [1:60]\nelements = { a : jump X,\n\t b : jump Y }\n";
    const second = "# later\n:X - [7:420]\nelements = { b : jump Y, a : jump X }\n";
    expect(comparable(first)).toBe(comparable(second));
    expect(comparable(first)).not.toBe(comparable(second.replace("Y", "Z")));
  });
});

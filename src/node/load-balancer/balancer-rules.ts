// The load balancer's rules, for nft and for iptables: what turns the rules of some ports into others. The first packet of a
// connection gives it a mark, the number of a node, and keeps it, so that a connection stays with its node when the choice
// changes. Marks lead to nodes by routes of the network (`netns/plan.ts`). Pure.

import type { BalancedPort } from "../../services/balanced-ports.ts";
import { chainHash } from "../iptables/names.ts";

export type BalancerTool = "nftables" | "iptables";

/** A port before and after a change. */
export interface PortChange {
  readonly before: BalancedPort | undefined;
  readonly after: BalancedPort | undefined;
}

/** Connections from outside come by this link. */
const link = "host0";
const table = "inet fairlead-balancer";

/** The text for `nft -f -` that begins with an empty table. */
export const nftBase = `add table ${table}
delete table ${table}
table ${table} {
  map ports4 { type ipv4_addr . inet_proto . inet_service : verdict; }
  map ports6 { type ipv6_addr . inet_proto . inet_service : verdict; }
  chain prerouting {
    type filter hook prerouting priority mangle; policy accept;
    iifname != "${link}" accept
    ct mark 0 ct state new ip daddr . meta l4proto . th dport vmap @ports4
    ct mark 0 ct state new ip6 daddr . meta l4proto . th dport vmap @ports6
    ct mark != 0 meta mark set ct mark
  }
}
`;

export function nftChanges(changes: readonly PortChange[]): string {
  const lines: string[] = [];
  for (const { before, after } of changes) {
    const stale = new Set(before ? elements(before) : []);
    const chain = chainOf((after ?? before)!);
    const map = `${table} ports${(after ?? before)!.family}`;
    if (after) {
      const wanted = elements(after);
      lines.push(
        `add chain ${table} ${chain}`,
        `flush chain ${table} ${chain}`,
        `add rule ${table} ${chain} ${choice(after)}`,
      );
      const fresh = wanted.filter((one) => !stale.delete(one));
      if (fresh.length > 0)
        lines.push(`add element ${map} { ${fresh.map((one) => `${one} : jump ${chain}`).join(", ")} }`);
    }
    if (stale.size > 0) lines.push(`delete element ${map} { ${[...stale].join(", ")} }`);
    if (!after) lines.push(`flush chain ${table} ${chain}`, `delete chain ${table} ${chain}`);
  }
  return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
}

function elements({ addresses, protocol, port }: BalancedPort): string[] {
  return addresses.map((address) => `${address} . ${protocol.toLowerCase()} . ${port}`);
}

function choice({ nodes, affinitySeconds, family }: BalancedPort): string {
  if (nodes.length === 1) return `ct mark set ${nodes[0]}`;
  const source = family === 4 ? "ip saddr" : "ip6 saddr";
  const number = affinitySeconds === undefined ? "numgen random" : `jhash ${source}`;
  return `ct mark set ${number} mod ${nodes.length} map { ${nodes.map((node, at) => `${at} : ${node}`).join(", ")} }`;
}

/** The text for `iptables-restore` (which empties the table mangle) that begins with these changes, in one transaction. */
export function iptablesFrom(changes: string): string {
  return `*mangle
:BALANCER - [0:0]
:BALANCER-PORTS - [0:0]
-A PREROUTING -i ${link} -j BALANCER
-A BALANCER -m conntrack --ctstate NEW -m connmark --mark 0 -j BALANCER-PORTS
-A BALANCER -j CONNMARK --restore-mark
${changes.replace(/^\*mangle\n/, "") || "COMMIT\n"}`;
}

/** The text for `iptables-restore --noflush` of one family. */
export function iptablesChanges(changes: readonly PortChange[]): string {
  const declared: string[] = [];
  const lines: string[] = [];
  const unused: string[] = [];
  for (const { before, after } of changes) {
    const old = before ? iptablesPort(before) : { jumps: [], chains: new Map<string, readonly string[]>() };
    const wanted = after ? iptablesPort(after) : { jumps: [], chains: new Map<string, readonly string[]>() };
    for (const jump of wanted.jumps) if (!old.jumps.includes(jump)) lines.push(`-A BALANCER-PORTS ${jump}`);
    for (const jump of old.jumps) if (!wanted.jumps.includes(jump)) lines.push(`-D BALANCER-PORTS ${jump}`);
    for (const [chain, rules] of wanted.chains) {
      declared.push(`:${chain} - [0:0]`);
      for (const rule of rules) lines.push(`-A ${chain} ${rule}`);
    }
    for (const chain of old.chains.keys()) {
      if (wanted.chains.has(chain)) continue;
      declared.push(`:${chain} - [0:0]`);
      unused.push(`-X ${chain}`);
    }
  }
  const all = [...declared, ...lines, ...unused];
  return all.length === 0 ? "" : `*mangle\n${all.join("\n")}\nCOMMIT\n`;
}

function iptablesPort(port: BalancedPort): {
  readonly jumps: readonly string[];
  readonly chains: ReadonlyMap<string, readonly string[]>;
} {
  const { nodes, affinitySeconds, protocol, family } = port;
  const chain = chainOf(port);
  const of = (node: number) => `${chain}-${node}`;
  const kind = protocol.toLowerCase();
  const remembered =
    affinitySeconds === undefined
      ? []
      : nodes.map((node) => `-m recent --name ${of(node)} --rcheck --seconds ${affinitySeconds} --reap -g ${of(node)}`);
  const drawn = nodes.map((node, at) => {
    const left = nodes.length - at;
    const odds = left === 1 ? "" : `-m statistic --mode random --probability ${(1 / left).toFixed(10)} `;
    return `${odds}-g ${of(node)}`;
  });
  const chains = new Map<string, readonly string[]>([[chain, [...remembered, ...drawn]]]);
  for (const node of nodes) {
    const remember = affinitySeconds === undefined ? [] : [`-m recent --name ${of(node)} --set`];
    chains.set(of(node), [...remember, `-j CONNMARK --set-mark ${node}`]);
  }
  return {
    jumps: port.addresses.map(
      (address) => `-d ${address}/${family === 4 ? 32 : 128} -p ${kind} -m ${kind} --dport ${port.port} -j ${chain}`,
    ),
    chains,
  };
}

/** Short enough for a node's number behind it. */
function chainOf({ key }: BalancedPort): string {
  return `BAL-${chainHash(key)}`;
}

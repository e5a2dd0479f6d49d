// Host ports as an nftables table with portmap's name and base chains (plugins/meta/portmap/portmap_nftables.go); but ports are
// elements of maps and not rules, so that a lookup and a change cost the same however many there are. Pure text for `nft -f`.

import type { HostPort, PodHostPorts } from "./host-ports.ts";

/** The whole table anew in one transaction. `foreign` are ranges that are local to the node for other reasons than being its own. */
export function loadText(pods: readonly PodHostPorts[], family: 4 | 6, foreign: readonly string[]): string {
  const ip = word(family);
  const table = `${ip} cni_hostport`;
  const address = family === 4 ? "ipv4_addr" : "ipv6_addr";
  const place = `${address} . inet_service`;
  const own = foreign.length > 0 ? `${ip} daddr != { ${foreign.join(", ")} } ` : "";
  return lines([
    `add table ${table}`,
    `delete table ${table}`,
    `add table ${table} { comment "CNI portmap plugin" ; }`,
    `add map ${table} hostports { type inet_proto . inet_service : ${place} ; }`,
    `add map ${table} hostip_hostports { type ${address} . inet_proto . inet_service : ${place} ; }`,
    `add set ${table} pods { type ${address} ; }`,
    `add set ${table} hairpin { type ${address} . ${address} ; }`,
    `add chain ${table} to-pods`,
    `add chain ${table} prerouting { type nat hook prerouting priority -100 ; }`,
    `add chain ${table} output { type nat hook output priority -100 ; }`,
    `add chain ${table} masquerading { type nat hook postrouting priority 100 ; }`,
    `add rule ${table} to-pods dnat ${ip} to ${ip} daddr . meta l4proto . th dport map @hostip_hostports`,
    `add rule ${table} to-pods dnat ${ip} to meta l4proto . th dport map @hostports`,
    `add rule ${table} prerouting ${own}fib daddr type local jump to-pods`,
    `add rule ${table} output ${own}fib daddr type local jump to-pods`,
    `add rule ${table} masquerading ${ip} saddr . ${ip} daddr @hairpin masquerade`,
    ...(family === 4 ? [`add rule ${table} masquerading ip saddr 127.0.0.1 ip daddr @pods masquerade`] : []),
    ...pods.flatMap((pod) => elements("add", pod, family)),
  ]);
}

export function addText(pods: readonly PodHostPorts[], family: 4 | 6): string {
  return lines(pods.flatMap((pod) => elements("add", pod, family)));
}

export function removeText(pods: readonly PodHostPorts[], family: 4 | 6): string {
  return lines(pods.flatMap((pod) => elements("delete", pod, family)));
}

/** What `nft list table` prints of ours, elements in order; undefined when it is not all that these pods ask for. */
export function ownRules(
  text: string,
  pods: readonly PodHostPorts[],
  family: 4 | 6,
  foreign: readonly string[],
): string | undefined {
  const wanted = loadText(pods, family, foreign);
  const counted = (some: string, what: RegExp) => some.match(what)?.length ?? 0;
  let found = 0;
  const sorted = text.replace(/elements = \{([^}]*)\}/g, (_, list: string) => {
    const all = list.split(",").map((one) => one.trim());
    found += all.length;
    return all.sort().join();
  });
  const rules = counted(text, /^\s*(?!iif|type|elements).*\b(dnat|jump to-pods|masquerade)\b/gm);
  return found === counted(wanted, /^add element /gm) && rules === counted(wanted, /^add rule /gm) ? sorted : undefined;
}

function elements(verb: "add" | "delete", pod: PodHostPorts, family: 4 | 6): readonly string[] {
  const ports = pod.ports.filter((port) => port.family === family);
  const command = `${verb} element ${word(family)} cni_hostport`;
  const addresses = [...new Set(ports.map(({ podIP }) => podIP))];
  return [
    ...ports.map((port) => {
      const { hostIP, podIP, podPort } = port;
      const [map, key] =
        hostIP === undefined ? ["hostports", keyOf(port)] : ["hostip_hostports", `${hostIP} . ${keyOf(port)}`];
      return `${command} ${map} { ${key}${verb === "add" ? ` : ${podIP} . ${podPort}` : ""} }`;
    }),
    ...addresses.flatMap((one) => [`${command} pods { ${one} }`, `${command} hairpin { ${one} . ${one} }`]),
  ];
}

function keyOf({ protocol, hostPort }: HostPort): string {
  return `${protocol.toLowerCase()} . ${hostPort}`;
}

function word(family: 4 | 6): string {
  return family === 4 ? "ip" : "ip6";
}

function lines(all: readonly string[]): string {
  return all.length === 0 ? "" : `${all.join("\n")}\n`;
}

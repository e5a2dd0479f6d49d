// Host ports as iptables rules, in portmap's chains (plugins/meta/portmap/portmap_iptables.go): one chain a pod that CNI-HOSTPORT-DNAT
// leads to, and a mark for what has to be masqueraded (a pod that reaches itself, and 127.0.0.1). Pure text for iptables-restore.

import { createHash } from "node:crypto";
import type { HostPort, PodHostPorts } from "./host-ports.ts";

/** Ports that one `multiport` match takes. */
const multiportLimit = 15;
const mark = "0x2000/0x2000";

/** The chain of a pod: `CNI-DN-` and 21 digits, as portmap names it. */
export function podChain(uid: string): string {
  return `CNI-DN-${createHash("sha512").update(uid).digest("hex").slice(0, 21)}`;
}

const local = "-m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT";
/** What leads from the built-in chains to ours. */
const jumpsToOurs: Readonly<Record<string, string>> = {
  PREROUTING: `-A PREROUTING ${local}`,
  OUTPUT: `-A OUTPUT ${local}`,
  POSTROUTING: '-I POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ',
};

/** All of them, in one transaction that leaves no moment without rules. `stale` are pods' chains that are to go. */
export function loadText(
  pods: readonly PodHostPorts[],
  family: 4 | 6,
  foreign: readonly string[],
  stale: readonly string[],
  jumpsThere: readonly string[],
): string {
  const wanted = new Set(pods.map(({ uid }) => podChain(uid)));
  return restore([
    ...["CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-SETMARK", "CNI-HOSTPORT-MASQ"].map((chain) => `:${chain} - [0:0]`),
    '-A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" ' + `-j MARK --set-xmark ${mark}`,
    `-A CNI-HOSTPORT-MASQ -m mark --mark ${mark} -j MASQUERADE`,
    // Addresses that are local to the node for other reasons than being its own.
    ...foreign.map((range) => `-A CNI-HOSTPORT-DNAT -d ${range} -j RETURN`),
    ...Object.entries(jumpsToOurs).flatMap(([chain, rule]) => (jumpsThere.includes(chain) ? [] : [rule])),
    ...addLines(pods, family),
    ...stale.filter((chain) => !wanted.has(chain)).flatMap((chain) => [`-F ${chain}`, `-X ${chain}`]),
  ]);
}

export function addText(pods: readonly PodHostPorts[], family: 4 | 6): string {
  return restore(addLines(pods, family));
}

export function removeText(pods: readonly PodHostPorts[], family: 4 | 6): string {
  return restore(
    pods.flatMap((pod) => {
      const ports = pod.ports.filter((port) => port.family === family);
      if (ports.length === 0) return [];
      const chain = podChain(pod.uid);
      return [...jumps(pod, ports).map((rule) => `-D ${rule}`), `-F ${chain}`, `-X ${chain}`];
    }),
  );
}

/** The pods' chains in what `iptables -t nat -S` prints, and the built-in chains that lead to ours. */
export function readChains(text: string): { readonly chains: readonly string[]; readonly jumps: readonly string[] } {
  const jumps = text.matchAll(/^-A (PREROUTING|OUTPUT|POSTROUTING) .*-j CNI-HOSTPORT-(?:DNAT|MASQ)$/gm);
  return {
    chains: text
      .split("\n")
      .filter((line) => line.startsWith("-N CNI-DN-"))
      .map((line) => line.slice(3).trim()),
    jumps: [...jumps].map(([, chain = ""]) => chain),
  };
}

/** Of what `iptables -t nat -S` prints, the rules that are ours; undefined when it is not all that these pods ask for. */
export function ownRules(
  text: string,
  pods: readonly PodHostPorts[],
  family: 4 | 6,
  foreign: readonly string[],
): string | undefined {
  const found = text.split("\n").filter((line) => line.startsWith("-A ") && line.includes("CNI-"));
  const wanted = loadText(pods, family, foreign, [], []).match(/^-[AI] /gm) ?? [];
  return found.length === wanted.length ? found.join("\n") : undefined;
}

function addLines(pods: readonly PodHostPorts[], family: 4 | 6): readonly string[] {
  return pods.flatMap((pod) => {
    const ports = pod.ports.filter((port) => port.family === family);
    if (ports.length === 0) return [];
    const chain = podChain(pod.uid);
    return [
      `:${chain} - [0:0]`,
      ...ports.flatMap((port) => translation(chain, port)),
      ...jumps(pod, ports).map((rule) => `-A ${rule}`),
    ];
  });
}

function jumps(pod: PodHostPorts, ports: readonly HostPort[]): readonly string[] {
  const chain = podChain(pod.uid);
  return [...Map.groupBy(ports, ({ protocol }) => protocol.toLowerCase())].flatMap(([protocol, list]) => {
    const numbers = [...new Set(list.map(({ hostPort }) => hostPort))];
    const groups = Array.from({ length: Math.ceil(numbers.length / multiportLimit) }, (_, at) =>
      numbers.slice(at * multiportLimit, (at + 1) * multiportLimit),
    );
    const comment = `-m comment --comment "dnat name: \\"fairlead\\" id: \\"${pod.uid}\\""`;
    return groups.map(
      (group) => `CNI-HOSTPORT-DNAT -p ${protocol} ${comment} -m multiport --dports ${group.join(",")} -j ${chain}`,
    );
  });
}

function translation(chain: string, { family, protocol, hostIP, hostPort, podIP, podPort }: HostPort): string[] {
  const name = protocol.toLowerCase();
  const bits = family === 4 ? 32 : 128;
  const to = hostIP === undefined ? "" : ` -d ${hostIP}/${bits}`;
  const match = `${to} -p ${name} -m ${name} --dport ${hostPort}`;
  const target = family === 4 ? `${podIP}:${podPort}` : `[${podIP}]:${podPort}`;
  return [
    `-A ${chain} -s ${podIP}/${bits}${match} -j CNI-HOSTPORT-SETMARK`,
    ...(family === 4 ? [`-A ${chain} -s 127.0.0.1/32${match} -j CNI-HOSTPORT-SETMARK`] : []),
    `-A ${chain}${match} -j DNAT --to-destination ${target}`,
  ];
}

function restore(lines: readonly string[]): string {
  return lines.length === 0 ? "" : `*nat\n${lines.join("\n")}\nCOMMIT\n`;
}

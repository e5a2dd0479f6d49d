// Walks a packet through the pieces of the ipvs backend, for tests: chains and sets, the addresses of the device, virtual servers
// with their real servers, and the way out. The hooks are the kernel's (net/netfilter/ipvs/ip_vs_core.c, ip_vs_ops).

import { contains, parseCidr } from "../../base/cidr.ts";
import { endpointText } from "../../services/service-table.ts";
import { setIds, setName, sets } from "../ipvs/names.ts";
import type { Rules } from "../service-rules.ts";
import { type TracedPacket, type TraceSurroundings, traceChain } from "./chain-tracer.ts";

export interface IpvsTrace {
  /** `lost`: the node takes the packet for its own or sends it on, and no Service answers. */
  readonly outcome: "servers" | "reject" | "drop" | "lost";
  /** Real servers that may get it, `10.244.1.5:8080`, and whether the source is masqueraded on the way to each. */
  readonly servers: readonly { readonly address: string; readonly masqueraded: boolean; readonly source: string }[];
}

const typeOf = new Map(([4, 6] as const).flatMap((family) => setIds.map((id) => [setName(id, family), sets[id].type])));

export function traceIpvs(
  rules: Rules,
  packet: Omit<TracedPacket, "mark">,
  nodeAddresses: readonly string[],
): IpvsTrace {
  const ofNode = (address: string) => nodeAddresses.includes(address);
  const isLocal = (address: string) => ofNode(address) || rules.has(`address/${address}`);
  const around: TraceSurroundings = { isLocal, inSet: (name, fields, of) => inSet(rules, name, fields, of) };
  const fromNode = ofNode(packet.source);
  // The node sends to an address of its own from that address.
  const source = fromNode && isLocal(packet.destination) ? packet.destination : packet.source;
  const [first] = traceChain(rules, fromNode ? "nat/OUTPUT" : "nat/PREROUTING", { ...packet, source, mark: 0 }, around);
  const arrived = first!.packet;
  if (!isLocal(arrived.destination)) return { outcome: "lost", servers: [] };

  const filter = traceChain(rules, fromNode ? "filter/OUTPUT" : "filter/INPUT", arrived, around);
  for (const { verdict } of filter)
    if (verdict === "drop" || verdict === "reject") return { outcome: verdict, servers: [] };

  const flag = { tcp: "-t", udp: "-u", sctp: "--sctp-service" }[arrived.protocol];
  const server = rules.get(`ipvs/${flag} ${endpointText({ address: arrived.destination, port: arrived.port })}`);
  // What the node sends to itself and no virtual server takes comes in again.
  if (!server && fromNode) {
    const [end] = traceChain(rules, "filter/INPUT", arrived, around);
    if (end!.verdict === "drop" || end!.verdict === "reject") return { outcome: end!.verdict, servers: [] };
  }
  if (!server) return { outcome: "lost", servers: [] };
  const live = server.slice(1).filter((line) => !line.endsWith("-w 0"));
  if (live.length === 0) return { outcome: "reject", servers: [] };
  return {
    outcome: "servers",
    servers: live.map((line) => {
      const address = line.split(" ")[1]!;
      const colon = address.lastIndexOf(":");
      const leaving = {
        ...arrived,
        destination: address.slice(0, colon).replace(/^\[|\]$/g, ""),
        port: Number(address.slice(colon + 1)),
      };
      const [end] = traceChain(rules, "nat/POSTROUTING", leaving, around);
      return { address, masqueraded: end!.verdict === "masquerade", source: arrived.source };
    }),
  };
}

function inSet(rules: Rules, name: string, fields: string, packet: TracedPacket): boolean {
  // A rule that names a set which is not there cannot be loaded.
  if (!rules.has(`set/${name}`)) throw new Error(`a rule names the set ${name}, which is not there`);
  const [first, , third] = fields.split(",");
  const address = first === "src" ? packet.source : packet.destination;
  const has = (entry: string) => rules.has(`entry/${name} ${entry}`);
  const withPort = `${address},${packet.protocol}:${packet.port}`;
  switch (typeOf.get(name)) {
    case "hash:ip":
      return has(address);
    case "bitmap:port":
      return has(String(packet.port));
    case "hash:ip,port":
      return has(withPort);
    case "hash:ip,port,ip":
      return has(`${withPort},${third === "src" ? packet.source : packet.destination}`);
    default: {
      const before = `entry/${name} ${withPort},`;
      for (const key of rules.keys()) {
        if (!key.startsWith(before)) continue;
        const text = key.slice(before.length);
        const range = parseCidr(text.includes("/") ? text : `${text}/${text.includes(":") ? 128 : 32}`);
        if (range && contains(range, packet.source)) return true;
      }
      return false;
    }
  }
}

// Service ports as what IPVS needs of the kernel (pkg/proxy/ipvs/proxier.go syncProxyRules, 1.36): pure, one row at a time. Each
// piece is one object of the kernel: a virtual server with its real servers, an address of the device, an entry of a set.

import { contains, formatCidr, parseCidr } from "../../base/cidr.ts";
import { endpointText, type ServicePort, type TableEndpoint } from "../../services/service-table.ts";
import { rule } from "../iptables/rule-text.ts";
import type { IpvsOptions } from "./fixed-chains.ts";
import { type SetId, setName, virtualServer } from "./names.ts";

/** What one row asks for. */
export interface Fragment {
  /** Pieces by name (see `difference.ts`). Other rows may ask for the same address or entry. */
  readonly pieces: ReadonlyMap<string, readonly string[]>;
  /** The sets that its entries are in, one for each entry. */
  readonly sets: ReadonlyMap<string, SetId>;
  /** Its lines of KUBE-IPVS-OUT-FILTER. */
  readonly outFilter: readonly string[];
}

const protocolNumbers = { TCP: 6, UDP: 17, SCTP: 132 } as const;

/** The pieces of one Service port. The row's family must be the options'. */
export function renderPort(row: ServicePort, options: IpvsOptions): Fragment {
  const { family, protocol, port } = row;
  const pieces = new Map<string, readonly string[]>();
  const sets = new Map<string, SetId>();
  const outFilter: string[] = [];
  const lower = protocol.toLowerCase();

  const enter = (id: SetId, entry: string) => {
    const line = `${setName(id, family)} ${entry}`;
    pieces.set(`entry/${line}`, [`add ${line}`]);
    sets.set(`entry/${line}`, id);
  };
  const bind = (address: string) => {
    pieces.set(`address/${address}`, [`${address}/${family === 4 ? 32 : 128}`]);
    enter("KUBE-IPVS-IPS", address);
  };
  const scheduler = options.scheduler ?? "rr";
  const header = rule(
    `-s ${scheduler}`,
    row.affinitySeconds !== undefined && `-p ${row.affinitySeconds}`,
    // Clients of one address share their hash unless the port counts as well.
    scheduler === "mh" && "-b mh-port",
  );
  const serve = (address: string, at: number, local: boolean) => {
    pieces.set(`ipvs/${virtualServer(protocol, address, at)}`, [header, ...realServers(row, local)]);
  };

  for (const endpoint of localOnes(row)) {
    enter("KUBE-LOOP-BACK", `${endpoint.address},${lower}:${endpoint.port},${endpoint.address}`);
  }

  enter("KUBE-CLUSTER-IP", `${row.clusterIP},${lower}:${port}`);
  serve(row.clusterIP, port, row.internalPolicyLocal);
  bind(row.clusterIP);

  for (const address of row.externalIPs) {
    enter(row.externalPolicyLocal ? "KUBE-EXTERNAL-IP-LOCAL" : "KUBE-EXTERNAL-IP", `${address},${lower}:${port}`);
    serve(address, port, row.externalPolicyLocal);
    if (!options.nodeAddresses.includes(address)) bind(address);
  }

  for (const address of row.loadBalancerIPs) {
    const entry = `${address},${lower}:${port}`;
    enter("KUBE-LOAD-BALANCER", entry);
    if (row.externalPolicyLocal) enter("KUBE-LOAD-BALANCER-LOCAL", entry);
    if (row.sourceRanges.length > 0) {
      enter("KUBE-LOAD-BALANCER-FW", entry);
      const ranges = row.sourceRanges.flatMap((range) => parseCidr(range) ?? []);
      for (const range of ranges.flatMap((one) => setRanges(formatCidr(one)))) {
        enter("KUBE-LOAD-BALANCER-SOURCE-CIDR", `${entry},${range}`);
      }
      const { nodeAddress } = options;
      if (nodeAddress !== undefined && ranges.some((range) => contains(range, nodeAddress))) {
        // The node reaches the address from the address itself, because the address is on one of its devices.
        enter("KUBE-LOAD-BALANCER-SOURCE-IP", `${entry},${address}`);
      } else {
        const vserver = `--vproto ${protocolNumbers[protocol]} --vaddr ${address} --vport ${port}`;
        outFilter.push(`-s ${address}/${family === 4 ? 32 : 128} -m ipvs ${vserver} -j DROP`);
      }
    }
    serve(address, port, row.externalPolicyLocal);
    if (!options.nodeAddresses.includes(address)) bind(address);
  }

  const { nodePort } = row;
  if (nodePort !== undefined && options.nodeAddresses.length > 0) {
    for (const [entry, all, local] of nodePortEntries(row, nodePort, options.nodeAddresses)) {
      enter(all, entry);
      if (row.externalPolicyLocal) enter(local, entry);
    }
    for (const address of options.nodeAddresses) serve(address, nodePort, row.externalPolicyLocal);
  }
  if (row.healthCheckNodePort !== undefined) enter("KUBE-HEALTH-CHECK-NODE-PORT", String(row.healthCheckNodePort));
  return { pieces, sets, outFilter };
}

/** A Local policy without local endpoints uses the others: pods of this node can still connect (kubernetes PR 97081). */
function realServers(row: ServicePort, local: boolean): readonly string[] {
  const endpoints = local && row.localEndpoints.length > 0 ? row.localEndpoints : row.clusterEndpoints;
  return endpoints.map((endpoint) => `-r ${endpointText(endpoint)} -m -w 1`).sort();
}

function localOnes(row: ServicePort): readonly TableEndpoint[] {
  return [...row.clusterEndpoints, ...row.localEndpoints].filter((endpoint) => endpoint.local);
}

function nodePortEntries(
  row: ServicePort,
  nodePort: number,
  addresses: readonly string[],
): readonly (readonly [entry: string, all: SetId, local: SetId])[] {
  if (row.protocol === "TCP") return [[String(nodePort), "KUBE-NODE-PORT-TCP", "KUBE-NODE-PORT-LOCAL-TCP"]];
  if (row.protocol === "UDP") return [[String(nodePort), "KUBE-NODE-PORT-UDP", "KUBE-NODE-PORT-LOCAL-UDP"]];
  // A bitmap of ports matches TCP and UDP only.
  return addresses.map((address) => [
    `${address},sctp:${nodePort}`,
    "KUBE-NODE-PORT-SCTP-HASH",
    "KUBE-NODE-PORT-LOCAL-SCTP-HASH",
  ]);
}

/** A range in the words of `hash:net`, which prints single addresses bare and refuses the range of everything. */
function setRanges(range: string): readonly string[] {
  if (range === "0.0.0.0/0") return ["0.0.0.0/1", "128.0.0.0/1"];
  if (range === "::/0") return ["::/1", "8000::/1"];
  return [range.replace(range.includes(":") ? /\/128$/ : /\/32$/, "")];
}

// Service ports as kube-proxy's iptables rules (pkg/proxy/iptables/proxier.go syncProxyRules, 1.36): pure, one row at a time.
// A row makes chains of its own, and lines in the chains that all Services share. Whole tables and changes of them are put
// together in `renderer.ts`.

import { contains, parseCidr } from "../../base/cidr.ts";
import {
  endpointText,
  externallyAccessible,
  type ServicePort,
  type TableEndpoint,
  usesClusterEndpoints,
  usesLocalEndpoints,
} from "../../services/service-table.ts";
import type { IptablesOptions } from "./fixed-chains.ts";
import { endpointChain, servicePortHash } from "./names.ts";
import { comment, from, fromRange, probability, recentTail, reject, rule, to, toPort } from "./rule-text.ts";

/** What one row asks for. Keys are `table/chain`. */
export interface Fragment {
  /** Chains that belong to this row alone, but for those of its endpoints. */
  readonly chains: ReadonlyMap<string, readonly string[]>;
  /** Lines it adds to chains that rows share. */
  readonly shared: ReadonlyMap<string, readonly string[]>;
  /** The endpoints' chains by address and port. A rendering in the same `form` takes them over: most endpoints stay. */
  readonly endpoints: ReadonlyMap<string, EndpointChain>;
  readonly form: string;
  /** How chains draw one of their endpoints, by the chain. A line stays while as many endpoints stand behind it. */
  readonly draws: ReadonlyMap<string, Draw>;
}

interface Draw {
  readonly ends: readonly EndpointChain[];
  readonly lines: readonly string[];
}

interface EndpointChain {
  readonly chain: string;
  /** `nat/` and the chain. */
  readonly piece: string;
  readonly lines: readonly string[];
  /** The comment of rules that lead to it, with a space behind; nothing in a large cluster. */
  readonly why: string;
}

/**
 * The rules of one Service port. The row's family must be the options'. In a large cluster rules about endpoints have no
 * comments: most of what the tool reads and writes would be those. `before` is what the row came to last.
 */
export function renderPort(row: ServicePort, options: IptablesOptions, large = false, before?: Fragment): Fragment {
  const { name, family } = row;
  const protocol = row.protocol.toLowerCase();
  const hash = servicePortHash(name, row.protocol);
  const cluster = `KUBE-SVC-${hash}`;
  const local = `KUBE-SVL-${hash}`;
  const external = `KUBE-EXT-${hash}`;
  const firewall = `KUBE-FW-${hash}`;

  const { hasEndpoints } = row;
  const usesCluster = row.clusterEndpoints.length > 0 && usesClusterEndpoints(row);
  const usesLocal = row.localEndpoints.length > 0 && usesLocalEndpoints(row);
  const hasInternal = hasEndpoints && (!row.internalPolicyLocal || row.localEndpoints.length > 0);
  const hasExternal = hasEndpoints && (!row.externalPolicyLocal || row.localEndpoints.length > 0);
  const internalTarget = row.internalPolicyLocal ? local : cluster;
  const externalPolicyTarget = row.externalPolicyLocal ? local : cluster;
  const usesExternal = hasEndpoints && externallyAccessible(row);
  const usesFirewall = hasEndpoints && row.loadBalancerIPs.length > 0 && row.sourceRanges.length > 0;

  const shared = new Map<string, string[]>();
  const add = (chain: string, line: string) => {
    const lines = shared.get(chain);
    if (lines) lines.push(line);
    else shared.set(chain, [line]);
  };
  const toAddress = (address: string, why: string, target: string) =>
    rule(to(address), `-p ${protocol}`, comment(`${name} ${why}`), toPort(protocol, row.port), target);
  const jump = (chain: string) => `-j ${chain}`;
  // Refused when nothing at all could serve it; dropped when only a Local policy keeps this node from serving it.
  const why = hasEndpoints ? "has no local endpoints" : "has no endpoints";
  const verdict = hasEndpoints ? "-j DROP" : reject(family);

  if (hasInternal) add("nat/KUBE-SERVICES", toAddress(row.clusterIP, "cluster IP", jump(internalTarget)));
  else add("filter/KUBE-SERVICES", toAddress(row.clusterIP, why, verdict));

  for (const address of row.externalIPs) {
    if (hasEndpoints) add("nat/KUBE-SERVICES", toAddress(address, "external IP", jump(external)));
    if (!hasExternal) add("filter/KUBE-EXTERNAL-SERVICES", toAddress(address, why, verdict));
  }
  for (const address of row.loadBalancerIPs) {
    const target = jump(usesFirewall ? firewall : external);
    if (hasEndpoints) add("nat/KUBE-SERVICES", toAddress(address, "loadbalancer IP", target));
    if (usesFirewall) {
      add("filter/KUBE-PROXY-FIREWALL", toAddress(address, `traffic not accepted by ${firewall}`, "-j DROP"));
    }
    if (!hasExternal) add("filter/KUBE-EXTERNAL-SERVICES", toAddress(address, why, verdict));
  }
  if (row.nodePort !== undefined) {
    const match = toPort(protocol, row.nodePort);
    if (hasEndpoints) {
      if (family === 4 && options.localhostNodePorts && options.nfacct) {
        const count = "-m nfacct --nfacct-name localhost_nps_accepted_pkts";
        add(
          "nat/KUBE-NODEPORTS",
          rule("-d 127.0.0.0/8", `-p ${protocol}`, comment(name), match, count, jump(external)),
        );
      }
      add("nat/KUBE-NODEPORTS", rule(`-p ${protocol}`, comment(name), match, jump(external)));
    }
    if (!hasExternal) {
      const toNode = "-m addrtype --dst-type LOCAL";
      add("filter/KUBE-EXTERNAL-SERVICES", rule(`-p ${protocol}`, comment(`${name} ${why}`), toNode, match, verdict));
    }
  }
  if (row.healthCheckNodePort !== undefined) {
    add(
      "filter/KUBE-NODEPORTS",
      rule("-p tcp", comment(`${name} health check node port`), toPort("tcp", row.healthCheckNodePort), "-j ACCEPT"),
    );
  }

  const chains = new Map<string, readonly string[]>();
  const form = `${name} ${protocol} ${row.affinitySeconds !== undefined} ${large}`;
  const kept = before?.form === form ? before.endpoints : undefined;
  const endpoints = new Map<string, EndpointChain>();
  const chainOf = (endpoint: TableEndpoint): EndpointChain => {
    const text = endpointText(endpoint);
    const chain = endpoints.get(text) ?? kept?.get(text) ?? endpointChainOf(row, endpoint, large);
    endpoints.set(text, chain);
    return chain;
  };
  const draws = new Map<string, Draw>();
  const balance = (chain: string, first: readonly string[], list: readonly TableEndpoint[]) => {
    const ends = list.map(chainOf);
    const draw = { ends, lines: drawLines(ends, kept && before?.draws.get(chain)) };
    draws.set(chain, draw);
    chains.set(`nat/${chain}`, [...first, ...affinityLines(row, ends), ...draw.lines]);
  };
  if (usesExternal) {
    const lines = externalChain(row, options, cluster);
    if (hasExternal) lines.push(jump(externalPolicyTarget));
    chains.set(`nat/${external}`, lines);
  }
  if (usesFirewall) chains.set(`nat/${firewall}`, firewallChain(row, options, external));
  const masquerade = hasInternal ? clusterIpMasquerade(row, options) : undefined;
  if (usesCluster) {
    const first = masquerade && internalTarget === cluster ? [masquerade] : [];
    balance(cluster, first, row.clusterEndpoints);
  }
  if (usesLocal) {
    const first = masquerade && internalTarget === local ? [masquerade] : [];
    balance(local, first, row.localEndpoints);
  }
  return { chains, shared, endpoints, form, draws };
}

function externalChain(row: ServicePort, options: IptablesOptions, cluster: string): string[] {
  const destinations = `${row.name} external destinations`;
  if (!row.externalPolicyLocal) {
    return [rule(comment(`masquerade traffic for ${destinations}`), "-j KUBE-MARK-MASQ")];
  }
  // Traffic from pods and from the node itself keeps its source already: it may go to endpoints on any node.
  const fromLocal = "-m addrtype --src-type LOCAL";
  const pods = options.localDetector && fromPods(options, "");
  return [
    ...(pods ? [rule(pods, comment(`pod traffic for ${destinations}`), `-j ${cluster}`)] : []),
    rule(comment(`masquerade LOCAL traffic for ${destinations}`), fromLocal, "-j KUBE-MARK-MASQ"),
    rule(comment(`route LOCAL traffic for ${destinations}`), fromLocal, `-j ${cluster}`),
  ];
}

function firewallChain(row: ServicePort, options: IptablesOptions, external: string): string[] {
  const why = comment(`${row.name} loadbalancer IP`);
  const lines: string[] = [];
  let nodeAdmitted = false;
  for (const range of row.sourceRanges) {
    const source = fromRange(range);
    if (source === undefined) continue;
    lines.push(rule(source, why, `-j ${external}`));
    const cidr = parseCidr(range);
    if (cidr && options.nodeAddress !== undefined && contains(cidr, options.nodeAddress)) nodeAdmitted = true;
  }
  // What the node sends to a load-balancer address that it owns itself has that address as its source.
  if (nodeAdmitted) {
    for (const address of row.loadBalancerIPs) lines.push(rule(from(address), why, `-j ${external}`));
  }
  lines.push(comment(`other traffic to ${row.name} will be dropped by KUBE-PROXY-FIREWALL`));
  return lines;
}

/** The rule that asks for SNAT on the way to a ClusterIP: for all traffic, or for what does not come from a pod. */
function clusterIpMasquerade(row: ServicePort, options: IptablesOptions): string | undefined {
  const protocol = row.protocol.toLowerCase();
  const tail = rule(
    `-p ${protocol}`,
    comment(`${row.name} cluster IP`),
    toPort(protocol, row.port),
    "-j KUBE-MARK-MASQ",
  );
  if (options.masqueradeAll) return rule(to(row.clusterIP), tail);
  if (!options.localDetector) return undefined;
  return options.localDetector.kind === "cidr"
    ? rule(fromPods(options, "! "), to(row.clusterIP), tail)
    : rule(to(row.clusterIP), fromPods(options, "! "), tail);
}

function fromPods(options: IptablesOptions, not: "! " | ""): string {
  const detector = options.localDetector;
  switch (detector?.kind) {
    case "cidr":
      return `${not}${fromRange(detector.cidr)}`;
    case "bridge":
      return `${not}-i ${detector.name}`;
    case "prefix":
      return `${not}-i ${detector.prefix}+`;
    default:
      return "";
  }
}

/** A client's endpoint comes before any other is drawn for it. */
function affinityLines({ affinitySeconds, family }: ServicePort, ends: readonly EndpointChain[]): readonly string[] {
  if (affinitySeconds === undefined) return [];
  return ends.map(({ chain, why }) => {
    const seen = `-m recent --rcheck --seconds ${affinitySeconds} --reap ${recentTail(chain, family)}`;
    return `${why}${seen} -j ${chain}`;
  });
}

/**
 * Each endpoint with probability 1/(those left), so that all get the same share. When one is replaced, the lines between its old and
 * its new place change; when one comes or goes, all lines in front of it do, because each has one more or less behind it.
 */
function drawLines(ends: readonly EndpointChain[], before: Draw | undefined): readonly string[] {
  const shift = (before?.ends.length ?? 0) - ends.length;
  return ends.map((end, at) => {
    if (before?.ends[at + shift] === end) return before.lines[at + shift]!;
    const left = ends.length - at;
    const share = left > 1 ? `-m statistic --mode random --probability ${probability(left)} ` : "";
    return `${end.why}${share}-j ${end.chain}`;
  });
}

function endpointChainOf(row: ServicePort, endpoint: TableEndpoint, large: boolean): EndpointChain {
  const chain = endpointChain(row.name, row.protocol, endpoint);
  return {
    chain,
    piece: `nat/${chain}`,
    lines: endpointRules(row, endpoint, chain, large),
    why: large ? "" : `${comment(`${row.name} -> ${endpointText(endpoint)}`)} `,
  };
}

function endpointRules(row: ServicePort, endpoint: TableEndpoint, chain: string, large: boolean): string[] {
  const protocol = row.protocol.toLowerCase();
  const why = !large && comment(row.name);
  const remember = row.affinitySeconds !== undefined && `-m recent --set ${recentTail(chain, row.family)}`;
  return [
    // A pod that reaches itself through its Service must see another source than itself.
    rule(from(endpoint.address), why, "-j KUBE-MARK-MASQ"),
    rule(`-p ${protocol}`, why, remember, `-m ${protocol}`, `-j DNAT --to-destination ${endpointText(endpoint)}`),
  ];
}

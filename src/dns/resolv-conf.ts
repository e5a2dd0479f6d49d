// The resolv.conf of a pod with dnsPolicy ClusterFirst (pkg/kubelet/network/dns/dns.go).

export interface ResolvConfOptions {
  readonly namespace: string;
  /** The cluster DNS server's addresses. */
  readonly nameservers: readonly string[];
  readonly zone?: string;
  /** The host's own search domains, tried last. */
  readonly hostSearch?: readonly string[];
}

/** The C library's limits that kubelet keeps to. */
const maxSearches = 32;
const maxSearchLength = 2048;
const maxNameservers = 3;

export function resolvConf(options: ResolvConfOptions): string {
  const { namespace, nameservers, zone = "cluster.local", hostSearch = [] } = options;
  const search: string[] = [];
  let length = 0;
  for (const one of [`${namespace}.svc.${zone}`, `svc.${zone}`, zone, ...hostSearch]) {
    length += one.length + 1;
    if (search.length >= maxSearches || length > maxSearchLength) break;
    if (!search.includes(one)) search.push(one);
  }
  const servers = nameservers.slice(0, maxNameservers).map((address) => `nameserver ${address}\n`);
  return `search ${search.join(" ")}\n${servers.join("")}options ndots:5\n`;
}

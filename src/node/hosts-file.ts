// A pod's own names: its hostname (pkg/kubelet GeneratePodHostNameAndDomain) and `/etc/hosts` (managedHostsFileContent).

import type { Pod } from "../api/kinds.ts";

/** Characters of a Linux hostname (utsname(2)). */
const longestHostname = 64;

/** Throws when the pod wants its full name for it, and that is too long. */
export function podHostname({ metadata, spec }: Pod): string {
  const { hostname, subdomain, setHostnameAsFQDN } = spec ?? {};
  const host = (hostname ?? metadata.name).slice(0, longestHostname - 1).replace(/[-.]+$/, "");
  if (!setHostnameAsFQDN || !subdomain) return host;
  const full = `${host}.${subdomain}.${metadata.namespace ?? "default"}.svc.cluster.local`;
  if (full.length <= longestHostname) return full;
  const limit = `(${longestHostname} characters is the max, ${full.length} characters requested)`;
  throw new Error(`Failed to construct FQDN from pod hostname and cluster domain, FQDN ${full} is too long ${limit}`);
}

export function hostsFile(pod: Pod, addresses: readonly string[]): string {
  const { hostname, subdomain, hostAliases = [] } = pod.spec ?? {};
  const host = hostname ?? pod.metadata.name;
  const namespace = pod.metadata.namespace ?? "default";
  const full = subdomain ? `${host}.${subdomain}.${namespace}.svc.cluster.local\t` : "";
  const lines = [
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    ...addresses.map((address) => `${address}\t${full}${host}`),
    ...hostAliases.map(({ ip, hostnames = [] }) => [ip, ...hostnames].join("\t")),
  ];
  return `${lines.join("\n")}\n`;
}

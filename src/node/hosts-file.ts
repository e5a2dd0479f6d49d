// `/etc/hosts` of a pod (pkg/kubelet managedHostsFileContent).

import type { Pod } from "../api/kinds.ts";

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

// What a DNS server is configured with, by the names that users of CoreDNS know. How it is written in a ConfigMap is in
// `config-map.ts`.

import type { PodNames } from "./names.ts";
import type { Upstream } from "./upstreams.ts";

export interface DnsConfig {
  /** The cluster's zone first; the same names are answered under the others. Lower case, without a final dot. */
  readonly zones: readonly string[];
  /** Seconds that answers about the cluster may be kept. */
  readonly ttl: number;
  readonly pods: PodNames;
  readonly forward: Forward;
  readonly stubDomains: readonly { readonly domain: string; readonly upstreams: readonly Upstream[] }[];
  readonly cache: CacheConfig;
  readonly autopath: boolean;
}

/** Where names of others are asked: the host's resolvers, given servers, or nowhere. */
export type Forward =
  | { readonly to: "host" }
  | { readonly to: "servers"; readonly upstreams: readonly Upstream[] }
  | { readonly to: "nobody" };

export interface CacheConfig {
  readonly success: { readonly capacity: number; readonly ttl: number };
  readonly denial: { readonly capacity: number; readonly ttl: number };
  /** A name asked `amount` times with less than `duration` seconds between is fetched anew in the last `percentage` of its TTL. */
  readonly prefetch: { readonly amount: number; readonly duration: number; readonly percentage: number };
}

/** Capacities and prefetch are CoreDNS's; the TTLs are kubeadm's `cache 30`. */
export const defaultConfig: DnsConfig = {
  zones: ["cluster.local"],
  ttl: 5,
  pods: "insecure",
  forward: { to: "host" },
  stubDomains: [],
  cache: {
    success: { capacity: 9984, ttl: 30 },
    denial: { capacity: 9984, ttl: 30 },
    prefetch: { amount: 10, duration: 60, percentage: 10 },
  },
  autopath: true,
};

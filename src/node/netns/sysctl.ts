// Kernel settings of the namespaces that a stack makes, written from inside of them (`/proc/sys/net` is that of the task
// that writes). The host's own settings are never written.

import { writeFileSync } from "node:fs";
import { inNetns } from "../../base/setns.ts";

const routing: Readonly<Record<string, string>> = {
  "net/ipv4/ip_forward": "1",
  "net/ipv4/conf/all/rp_filter": "0",
  "net/ipv4/conf/default/rp_filter": "0",
  "net/ipv4/conf/all/send_redirects": "0",
  "net/ipv4/conf/default/send_redirects": "0",
  // Refusals must be as quick under load as they are for one connection.
  "net/ipv4/icmp_ratelimit": "0",
  "net/ipv6/icmp/ratelimit": "0",
  "net/ipv6/conf/all/forwarding": "1",
};

/** IPv6 is on even where it is off by default, and addresses are those that we give: nobody announces or asks for others. */
const addressing: Readonly<Record<string, string>> = {
  "net/ipv6/conf/all/disable_ipv6": "0",
  "net/ipv6/conf/default/disable_ipv6": "0",
  "net/ipv6/conf/default/accept_ra": "0",
  "net/ipv6/conf/default/router_solicitations": "0",
  "net/ipv6/conf/default/accept_dad": "0",
  "net/ipv6/conf/default/dad_transmits": "0",
};

const listening: Readonly<Record<string, string>> = {
  // A closing SO_REUSEPORT listener hands its queue to the others.
  "net/ipv4/tcp_migrate_req": "1",
};

/** A node forwards, and lets 127.0.0.1 be the target of rules (node ports from the node itself). */
export const nodeSettings: Readonly<Record<string, string>> = {
  ...addressing,
  ...routing,
  ...listening,
  "net/ipv4/conf/all/route_localnet": "1",
  "net/ipv4/conf/default/route_localnet": "1",
  // Load-balancer addresses are local by a route (AnyIP); unlike IPv4, IPv6 lets nobody listen on those without this.
  "net/ipv6/ip_nonlocal_bind": "1",
};

export const fabricSettings: Readonly<Record<string, string>> = { ...addressing, ...routing };

/** A pod's redirect rules may send to 127.0.0.1 as well. */
export const podSettings: Readonly<Record<string, string>> = {
  ...addressing,
  ...listening,
  "net/ipv4/conf/all/rp_filter": "0",
  "net/ipv4/conf/default/rp_filter": "0",
  "net/ipv4/conf/all/route_localnet": "1",
};

/** Writes `settings` in the namespace at `path`. Settings that this kernel does not know are passed over and returned. */
export function writeSettings(path: string, settings: Readonly<Record<string, string>>): readonly string[] {
  const missing: string[] = [];
  inNetns(path, () => {
    for (const [name, value] of Object.entries(settings)) {
      try {
        writeFileSync(`/proc/sys/${name}`, value);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
        missing.push(name);
      }
    }
  });
  return missing;
}

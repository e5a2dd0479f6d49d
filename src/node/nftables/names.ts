// Names of kube-proxy's nftables objects (pkg/proxy/nftables/proxier.go hashAndTruncate, servicePortChainNameBase,
// servicePortEndpointChainNameBase): a prefix, eight base32 characters of a SHA-256, and the readable name that was hashed.

import type { ServicePort, TableEndpoint } from "../../services/service-table.ts";
import { chainHash } from "../iptables/names.ts";

/** The kernel's limit for a name is 255 characters; what follows the prefix gets 240 of them. */
const longestBase = 240;

/** nft's limit for a comment. */
const longestComment = 128;

/** `ULMVA6XW-ns1/svc1/tcp/p80`: what the chains of a port share. */
export function portName(row: Pick<ServicePort, "namespace" | "service" | "name" | "protocol">): string {
  return hashed(readableName(row));
}

/** `GTK6MW7G-ns5/svc5/tcp/p80__10.180.0.3/80`: what an endpoint's chain and set share. */
export function endpointName(
  row: Pick<ServicePort, "namespace" | "service" | "name" | "protocol">,
  endpoint: Pick<TableEndpoint, "address" | "port">,
): string {
  // A name has no colons.
  return hashed(`${readableName(row)}__${endpoint.address.replaceAll(":", ".")}/${endpoint.port}`);
}

/** The text that stands in comments of elements: `ns1/svc1:p80`, cut where nft would refuse it. */
export function commentOf(name: string): string {
  return name.length > longestComment ? `${name.slice(0, longestComment - 3)}...` : name;
}

function readableName(row: Pick<ServicePort, "namespace" | "service" | "name" | "protocol">): string {
  const port = row.name.slice(row.namespace.length + 1 + row.service.length + 1);
  return `${row.namespace}/${row.service}/${row.protocol.toLowerCase()}/${port}`;
}

function hashed(name: string): string {
  const full = `${chainHash(name).slice(0, 8)}-${name}`;
  return full.length > longestBase ? `${full.slice(0, longestBase - 3)}...` : full;
}

// Names of kube-proxy's chains (pkg/proxy/iptables/proxier.go portProtoHash, servicePortEndpointChainName): a prefix and the
// first 16 characters of the base32 form (RFC 4648) of a SHA-256, so that a name fits the kernel's 28 characters.

import { endpointText } from "../../services/service-table.ts";

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/** The first 16 base32 characters of SHA-256(text): 80 bits. */
export function chainHash(text: string): string {
  const digest = Bun.SHA256.hash(text) as Uint8Array;
  let out = "";
  let bits = 0;
  let value = 0;
  for (let at = 0; out.length < 16; at++) {
    value = ((value << 8) | digest[at]!) & 0xfff;
    bits += 8;
    while (bits >= 5 && out.length < 16) {
      bits -= 5;
      out += alphabet[(value >>> bits) & 31];
    }
  }
  return out;
}

/** The suffix that the SVC, SVL, EXT and FW chains of a port share; `name` as `ns/svc:port`, `protocol` as `TCP`. */
export function servicePortHash(name: string, protocol: string): string {
  return chainHash(name + protocol.toLowerCase());
}

/** The chain of one endpoint of a port. */
export function endpointChain(
  name: string,
  protocol: string,
  endpoint: { readonly address: string; readonly port: number },
): string {
  return `KUBE-SEP-${chainHash(name + protocol.toLowerCase() + endpointText(endpoint))}`;
}

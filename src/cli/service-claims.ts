// What two Services of the same files both want and only one can have. The server refuses the second one only after the first is
// written, so that a dry run of each alone finds nothing.

import type { KubeObject } from "../api/object.ts";
import { canonicalAddress, ipFamily } from "../base/ip.ts";

/** The claims of a Service: `clusterIP 10.96.0.5`, `nodePort 30080/TCP`. */
function claimsOf(object: KubeObject): ReadonlySet<string> {
  if (object.kind !== "Service" || object.apiVersion !== "v1") return new Set();
  const { clusterIP, clusterIPs, ports } = (object.spec ?? {}) as Record<string, unknown>;
  const addresses = [clusterIP, ...(Array.isArray(clusterIPs) ? clusterIPs : [])];
  const nodePorts = (Array.isArray(ports) ? ports : []).flatMap((port) =>
    Number.isInteger(port?.nodePort) && port.nodePort > 0
      ? [`nodePort ${port.nodePort}/${port.protocol ?? "TCP"}`]
      : [],
  );
  const literal = (one: unknown) =>
    typeof one === "string" && ipFamily(one) !== undefined ? [canonicalAddress(one)] : [];
  return new Set([...addresses.flatMap(literal).map((one) => `clusterIP ${one}`), ...nodePorts]);
}

/** For each object that wants what another one before it wants: the object and a sentence about it. */
export function claimedTwice<T extends { readonly object: KubeObject }>(
  manifests: readonly T[],
  namespace: string,
): readonly { readonly manifest: T; readonly problem: string }[] {
  const owners = new Map<string, string>();
  return manifests.flatMap((manifest) => {
    const { metadata } = manifest.object;
    const name = `${metadata.namespace ?? namespace}/${metadata.name}`;
    const problems: { manifest: T; problem: string }[] = [];
    for (const claim of claimsOf(manifest.object)) {
      const owner = owners.get(claim);
      if (owner === undefined) owners.set(claim, name);
      else if (owner !== name) {
        const [field, value] = claim.split(" ");
        const where = field === "clusterIP" ? "spec.clusterIP" : "spec.ports";
        const problem = `Service ${name}: ${where}: ${value} is wanted by Service ${owner}, too (choose another, or none)`;
        problems.push({ manifest, problem });
      }
    }
    return problems;
  });
}

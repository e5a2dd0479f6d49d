// Which IP families a Service has: what the user said, completed from its addresses and from the cluster's families
// (pkg/registry/core/service/storage alloc.go initIPFamilyFields; KEP-563). Pure.

import { type ServiceSpec, Services } from "../api/kinds.ts";
import { invalid, invalidValue } from "../api/validation/field-error.ts";
import { ipFamily } from "../base/ip.ts";
import type { FamilyName } from "./objects.ts";

export function needsClusterIP(spec: ServiceSpec): boolean {
  return spec.type !== "ExternalName";
}

/** Completes ipFamilies, ipFamilyPolicy and, for headless Services, clusterIPs. Throws a StatusError for what cannot be. */
export function chooseFamilies(
  name: string,
  spec: ServiceSpec,
  before: ServiceSpec | undefined,
  cluster: readonly FamilyName[],
): ServiceSpec {
  if (!needsClusterIP(spec)) return spec;
  const headless = spec.clusterIP === "None" || spec.clusterIPs?.[0] === "None";
  let clusterIPs = headless ? ["None"] : [...(spec.clusterIPs ?? (spec.clusterIP ? [spec.clusterIP] : []))];
  let families = [...(spec.ipFamilies ?? [])] as FamilyName[];
  let policy = spec.ipFamilyPolicy;

  // Back to one family: the user changes the policy alone, and the second family and address go with it.
  if (policy === "SingleStack" && before?.ipFamilies?.length === 2) {
    families = families.slice(0, 1);
    clusterIPs = clusterIPs.slice(0, 1);
  }
  clusterIPs.forEach((address, at) => {
    const family = ipFamily(address);
    if (family !== undefined) families[at] ??= family === 4 ? "IPv4" : "IPv6";
  });
  // Endpoints of a headless Service without selector are the user's own, of any family.
  const free = headless && Object.keys(spec.selector ?? {}).length === 0;
  if (policy === undefined)
    policy = families.length === 2 || (free && families.length === 0) ? "RequireDualStack" : "SingleStack";
  if (families.length === 0) families.push(cluster[0] ?? "IPv4");
  if (policy !== "SingleStack" && families.length === 1) {
    const other: FamilyName = families[0] === "IPv4" ? "IPv6" : "IPv4";
    if (free || cluster.includes(other)) families.push(other);
  }
  if (!free) {
    if (policy === "RequireDualStack" && cluster.length < 2) {
      throw invalid(Services, name, [
        invalidValue("spec.ipFamilyPolicy", policy, "this cluster is not configured for dual-stack services"),
      ]);
    }
    const missing = families.findIndex((family) => !cluster.includes(family));
    if (missing >= 0) {
      throw invalid(Services, name, [
        invalidValue(`spec.ipFamilies[${missing}]`, families[missing], "not configured on this cluster"),
      ]);
    }
  }
  return {
    ...spec,
    ...(headless ? { clusterIP: "None" } : {}),
    ...(clusterIPs.length > 0 ? { clusterIPs } : {}),
    ipFamilies: families,
    ipFamilyPolicy: policy,
  };
}

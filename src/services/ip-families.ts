// Which IP families a Service has: what the user said, completed from its addresses and from the cluster's families
// (pkg/registry/core/service/storage alloc.go initIPFamilyFields; KEP-563). Pure.

import { type ServiceSpec, Services } from "../api/kinds.ts";
import { type FieldError, invalid, invalidValue } from "../api/validation/field-error.ts";
import { validateIPFamilies, validateIPFamiliesRelease } from "../api/validation/service-ip-families.ts";
import { ipFamily } from "../base/ip.ts";
import { deepEqual } from "../collections/equal.ts";
import type { FamilyName } from "./objects.ts";

export function needsClusterIP(spec: ServiceSpec): boolean {
  return spec.type !== "ExternalName";
}

/** Completes ipFamilies, ipFamilyPolicy and, for headless Services, clusterIPs. Throws a StatusError for what cannot be. */
export function chooseFamilies(
  name: string,
  asked: ServiceSpec,
  before: ServiceSpec | undefined,
  cluster: readonly FamilyName[],
): ServiceSpec {
  if (!needsClusterIP(asked)) return asked;
  const spec = before ? withoutReleased(asked, before) : asked;
  const refuse = (...errors: readonly FieldError[]) => {
    if (errors.length > 0) throw invalid(Services, name, errors);
  };
  const families = [...(spec.ipFamilies ?? [])] as FamilyName[];
  const addresses = spec.clusterIPs ?? [];
  refuse(...validateIPFamilies(spec), ...(before ? validateIPFamiliesRelease(spec, before) : []));
  refuse(...singleStackErrors(spec), ...inferFamilies(addresses, families, cluster));

  const headless = addresses[0] === "None";
  // Endpoints of a headless Service without selector are the user's own, of any family.
  const free = headless && Object.keys(spec.selector ?? {}).length === 0;
  const several = addresses.length === 2 || families.length === 2 || (free && families.length === 0);
  const policy = spec.ipFamilyPolicy ?? (several ? "RequireDualStack" : "SingleStack");
  if (!free) {
    if (policy === "RequireDualStack" && cluster.length < 2)
      refuse(invalidValue("spec.ipFamilyPolicy", policy, "this cluster is not configured for dual-stack services"));
    refuse(
      ...families.flatMap((family, at) =>
        cluster.includes(family)
          ? []
          : [invalidValue(`spec.ipFamilies[${at}]`, family, "not configured on this cluster")],
      ),
    );
  }
  if (families.length === 0) families.push(cluster[0] ?? "IPv4");
  if (policy !== "SingleStack" && families.length === 1) {
    const other: FamilyName = families[0] === "IPv4" ? "IPv6" : "IPv4";
    if (free || cluster.includes(other)) families.push(other);
  }
  return { ...spec, ipFamilies: families, ipFamilyPolicy: policy };
}

/** Back to one family: the user changes the policy alone, and the second family and address go with it. */
function withoutReleased(spec: ServiceSpec, before: ServiceSpec): ServiceSpec {
  const wasDual = before.ipFamilyPolicy === "PreferDualStack" || before.ipFamilyPolicy === "RequireDualStack";
  if (!wasDual || spec.ipFamilyPolicy !== "SingleStack") return spec;
  const first = <T>(now: readonly T[] | undefined, then: readonly T[] | undefined) =>
    now && then && deepEqual(now, then) ? now.slice(0, 1) : now;
  const clusterIPs = first(spec.clusterIPs, before.clusterIPs);
  const ipFamilies = first(spec.ipFamilies, before.ipFamilies);
  return { ...spec, ...(clusterIPs ? { clusterIPs } : {}), ...(ipFamilies ? { ipFamilies } : {}) };
}

function singleStackErrors({ ipFamilyPolicy, clusterIPs = [], ipFamilies = [] }: ServiceSpec): FieldError[] {
  if (ipFamilyPolicy !== "SingleStack") return [];
  const wrong = (what: string) =>
    invalidValue(
      "spec.ipFamilyPolicy",
      ipFamilyPolicy,
      `must be RequireDualStack or PreferDualStack when multiple ${what} are specified`,
    );
  return [
    ...(clusterIPs.length === 2 ? [wrong("cluster IPs")] : []),
    ...(ipFamilies.length === 2 ? [wrong("IP families")] : []),
  ];
}

/** Adds to `families` those of addresses that were asked for without them. */
function inferFamilies(
  addresses: readonly string[],
  families: FamilyName[],
  cluster: readonly FamilyName[],
): FieldError[] {
  const errors: FieldError[] = [];
  for (const [at, address] of addresses.entries()) {
    if (address === "None" || at < families.length) continue;
    const family: FamilyName = ipFamily(address) === 6 ? "IPv6" : "IPv4";
    if (cluster.includes(family)) families.push(family);
    else errors.push(invalidValue(`spec.clusterIPs[${at}]`, addresses, `${family} is not configured on this cluster`));
  }
  return errors;
}

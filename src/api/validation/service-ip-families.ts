// What a Service may say of its IP families and cluster addresses, by itself and as a change (pkg/apis/core/validation
// ValidateServiceClusterIPsRelatedFields, validateUpgradeDowngradeClusterIPs, validateUpgradeDowngradeIPFamilies). What the
// cluster can give is not asked here.

import { ipFamily } from "../../base/ip.ts";
import type { ServiceSpec } from "../generated/core.ts";
import { duplicate, type FieldError, invalidValue, notSupported, required } from "./field-error.ts";
import { ipProblem } from "./names.ts";

const policies = ["SingleStack", "PreferDualStack", "RequireDualStack"];
const families = ["IPv4", "IPv6"];

/** Problems of one Service; what is wrong with an address hides what follows from it. */
export function validateIPFamilies(spec: ServiceSpec): FieldError[] {
  const errors: FieldError[] = [];
  const addresses = spec.clusterIPs ?? [];
  if (spec.clusterIP) {
    if (addresses.length === 0) errors.push(required("spec.clusterIPs"));
    else if (spec.clusterIP !== addresses[0])
      errors.push(invalidValue("spec.clusterIPs", addresses, "first value must match `clusterIP`"));
  } else if (addresses.length > 0) {
    errors.push(invalidValue("spec.clusterIPs", addresses, "must be empty when `clusterIP` is not specified"));
  }
  const seen = new Set<string>();
  for (const [index, family] of (spec.ipFamilies ?? []).entries()) {
    if (!families.includes(family)) errors.push(notSupported(`spec.ipFamilies[${index}]`, family, families));
    if (seen.has(family)) errors.push(duplicate(`spec.ipFamilies[${index}]`, family));
    seen.add(family);
  }
  if (spec.ipFamilyPolicy !== undefined && !policies.includes(spec.ipFamilyPolicy))
    errors.push(notSupported("spec.ipFamilyPolicy", spec.ipFamilyPolicy, policies));
  const malformed: FieldError[] = [];
  for (const [index, address] of addresses.entries()) {
    if (index === 0 && address === "None") {
      if (addresses.length > 1)
        malformed.push(invalidValue("spec.clusterIPs", addresses, "'None' must be the first and only value"));
    } else if (ipFamily(address) === undefined) {
      malformed.push(invalidValue(`spec.clusterIPs[${index}]`, address, ipProblem));
    }
  }
  errors.push(...malformed);
  if (addresses.length > 2) errors.push(invalidValue("spec.clusterIPs", addresses, "may only hold up to 2 values"));
  if (malformed.length > 0) return errors;
  const ofAddresses = addresses.map((address) => (ipFamily(address) === 6 ? "IPv6" : "IPv4"));
  if (addresses.length > 1 && new Set(ofAddresses).size < addresses.length) {
    errors.push(invalidValue("spec.clusterIPs", addresses, "may specify no more than one IP for each IP family"));
  }
  if (addresses[0] === "None") return errors;
  for (const [index, address] of addresses.entries()) {
    const family = spec.ipFamilies?.[index];
    if (family === undefined || family === ofAddresses[index]) continue;
    const detail = `expected an ${family} value as indicated by \`ipFamilies[${index}]\``;
    errors.push(invalidValue(`spec.clusterIPs[${index}]`, address, detail));
  }
  return errors;
}

/** What a change may not do: give up the second family without saying so in the policy. */
export function validateIPFamiliesRelease(spec: ServiceSpec, before: ServiceSpec): FieldError[] {
  if (spec.type === "ExternalName" || before.type === "ExternalName" || spec.ipFamilyPolicy === "SingleStack")
    return [];
  if (spec.clusterIPs?.[0] === "None" || before.clusterIPs?.[0] === "None") return [];
  const released = (field: "clusterIPs" | "ipFamilies") => before[field]?.length === 2 && spec[field]?.length === 1;
  const errors: FieldError[] = [];
  for (const [field, what] of [
    ["clusterIPs", "clusterIP"],
    ["ipFamilies", "ipFamily"],
  ] as const) {
    if (!released(field)) continue;
    const detail = `must be set to 'SingleStack' when releasing the secondary ${what}`;
    errors.push(invalidValue("spec.ipFamilyPolicy", spec.ipFamilyPolicy ?? null, detail));
  }
  return errors;
}

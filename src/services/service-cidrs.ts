// ServiceCIDR objects: the ranges that ClusterIPs come from (KEP-1880). The one named `kubernetes` is the cluster's own; users add
// others to make room. A range on its way out gives no more addresses, and stays until none of its addresses is in use.

import { type IPAddress, type ServiceCIDR, ServiceCIDRs } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { type FieldError, invalid, invalidValue, required } from "../api/validation/field-error.ts";
import { type Cidr, contains, formatCidr, parseCidr } from "../base/cidr.ts";
import { deepEqual } from "../collections/equal.ts";
import type { Admission, AdmissionRequest, TransactionView } from "../store/admission.ts";

export const serviceCidrsKey = "servicecidrs.networking.k8s.io";
export const serviceCidrFinalizer = "networking.k8s.io/service-cidr-finalizer";
/** The cluster's own. */
export const defaultServiceCidr = "kubernetes";

export function readyCondition(message: string, now: string) {
  return { type: "Ready", status: "True", reason: "", message, lastTransitionTime: now } as const;
}

function terminatingCondition(now: string) {
  const message =
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
  return { type: "Ready", status: "False", reason: "Terminating", message, lastTransitionTime: now } as const;
}

/** The ranges that addresses may be given from now, those of users; the cluster's own are the allocator's options. */
export function additionalRanges(view: Pick<TransactionView, "list">): readonly string[] {
  return (view.list(serviceCidrsKey) as readonly ServiceCIDR[]).flatMap(({ metadata, spec }) =>
    metadata.name === defaultServiceCidr || metadata.deletionTimestamp !== undefined ? [] : (spec?.cidrs ?? []),
  );
}

/** Makes a new range ready at once, and refuses what is none (pkg/apis/networking/validation ValidateServiceCIDR). */
export function serviceCidrAdmission(): Admission {
  return {
    name: "service-cidrs",
    resources: [serviceCidrsKey],
    mutate({ operation, object, subresource }: AdmissionRequest): KubeObject | undefined {
      if (operation !== "create" || !object || subresource !== undefined) return undefined;
      const { finalizers = [], creationTimestamp = "" } = object.metadata;
      return {
        ...object,
        metadata: { ...object.metadata, finalizers: [...new Set([...finalizers, serviceCidrFinalizer])] },
        status: { conditions: [readyCondition("Kubernetes Service CIDR is ready", creationTimestamp)] },
      };
    },
    validate({ operation, object, old }: AdmissionRequest): void {
      if (operation === "delete" || !object) return;
      const errors = problems(object as ServiceCIDR, old as ServiceCIDR | undefined);
      if (errors.length > 0) throw invalid(ServiceCIDRs, object.metadata.name, errors);
    },
  };
}

function problems(object: ServiceCIDR, old: ServiceCIDR | undefined): FieldError[] {
  const cidrs = object.spec?.cidrs ?? [];
  if (old) {
    if (old.metadata.name === defaultServiceCidr || deepEqual(old.spec?.cidrs ?? [], cidrs)) return [];
    return [invalidValue("spec.cidrs", cidrs, "field is immutable")];
  }
  if (cidrs.length === 0) return [required("spec.cidrs", "at least one CIDR required")];
  const errors: FieldError[] = [];
  const families = new Set<number>();
  for (const [at, text] of cidrs.entries()) {
    const field = `spec.cidrs[${at}]`;
    const cidr = parseCidr(text);
    if (!cidr) {
      errors.push(invalidValue(field, text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"));
      continue;
    }
    if (formatCidr(cidr) !== text)
      errors.push(invalidValue(field, text, `must be in canonical form ("${formatCidr(cidr)}")`));
    if (families.has(cidr.family))
      errors.push(
        invalidValue("spec.cidrs", cidrs, "may specify no more than one IP for each IP family, i.e IPv4 and IPv6"),
      );
    families.add(cidr.family);
    if (cidr.family === 6 && cidr.prefix < 64)
      errors.push(invalidValue(field, text, "shortest allowed prefix length for service CIDR is 64"));
  }
  return errors;
}

/** What is to be written of a range that should go: the object without its finalizer, or with the reason why it stays. */
export function nextState(
  object: ServiceCIDR,
  all: readonly ServiceCIDR[],
  addresses: Iterable<IPAddress>,
  now: string,
): { readonly object: ServiceCIDR; readonly subresource?: "status" } | undefined {
  const { metadata } = object;
  if (metadata.deletionTimestamp === undefined || !metadata.finalizers?.includes(serviceCidrFinalizer))
    return undefined;
  const ranges = (list: readonly ServiceCIDR[]) =>
    list.flatMap(({ spec }) => (spec?.cidrs ?? []).map(parseCidr).filter((cidr) => cidr !== undefined));
  const own = ranges([object]);
  const others = ranges(
    all.filter((one) => one.metadata.name !== metadata.name && one.metadata.deletionTimestamp === undefined),
  );
  const within = (list: readonly Cidr[], address: string) => list.some((cidr) => contains(cidr, address));
  for (const { metadata: address } of addresses) {
    if (!within(own, address.name) || within(others, address.name)) continue;
    const ready = object.status?.conditions?.find((one) => one.type === "Ready");
    if (ready?.reason === "Terminating") return undefined;
    return { object: { ...object, status: { conditions: [terminatingCondition(now)] } }, subresource: "status" };
  }
  const finalizers = metadata.finalizers.filter((one) => one !== serviceCidrFinalizer);
  return { object: { ...object, metadata: { ...metadata, finalizers } } };
}

// EndpointSlices for Endpoints objects that users write themselves, of Services without a selector: who watches slices must see
// them, too (pkg/controller/endpointslicemirroring). Pure; `endpoint-slice-controller.ts` writes.

import type {
  Endpoint,
  EndpointAddress,
  EndpointPort,
  EndpointSlice,
  EndpointSubset,
  Endpoints,
  Service,
} from "../api/kinds.ts";
import { objectName } from "../api/object.ts";
import { ipFamily } from "../base/ip.ts";
import type { Collection } from "../collections/collection.ts";
import { type Derived, derive } from "../collections/derive.ts";
import type { SlicePlan } from "./endpoint-slice-controller.ts";
import { portsKey, type SliceChanges, triggerTimeAnnotation } from "./endpoint-slices.ts";
import { endpointsController, endpointsManagedByLabel } from "./endpoints.ts";
import type { ServiceInputs } from "./inputs.ts";
import { type FamilyName, managedByLabel, serviceNameLabel } from "./objects.ts";
import { fillSlices } from "./slice-packing.ts";

export const mirroringController = "endpointslicemirroring-controller.k8s.io";
export const skipMirrorLabel = "endpointslice.kubernetes.io/skip-mirror";
const leaderAnnotation = "control-plane.alpha.kubernetes.io/leader";

/** The controller's default of `--mirroring-max-endpoints-per-subset`; also what one slice holds at most. */
const maxEndpoints = 1000;

/** Whether an Endpoints object has slices of its own: not those that controllers write, nor locks of leader elections. */
function isMirrored(service: Service | undefined, endpoints: Endpoints | undefined): endpoints is Endpoints {
  if (!service || !endpoints || service.metadata.deletionTimestamp !== undefined) return false;
  if (service.spec?.type === "ExternalName") return false;
  if (service.spec?.selector && Object.keys(service.spec.selector).length > 0) return false;
  const { labels = {}, annotations = {}, deletionTimestamp } = endpoints.metadata;
  return (
    deletionTimestamp === undefined &&
    labels[skipMirrorLabel] !== "true" &&
    labels[endpointsManagedByLabel] !== endpointsController &&
    !(leaderAnnotation in annotations)
  );
}

/** The writes that make the mirrored slices of one Service right. */
export function mirror(
  service: Service | undefined,
  endpoints: Endpoints | undefined,
  existing: readonly EndpointSlice[],
): SliceChanges {
  const own = existing.filter((slice) => slice.metadata.labels?.[managedByLabel] === mirroringController);
  if (!isMirrored(service, endpoints)) return { create: [], update: [], delete: own };
  const changes = { create: [] as EndpointSlice[], update: [] as EndpointSlice[], delete: [] as EndpointSlice[] };
  const metadata = metadataOf(endpoints);
  const groups = groupsOf(endpoints);
  const spare = own.filter((slice) => !groups.has(groupKey(slice.addressType as FamilyName, slice.ports ?? [])));
  for (const [key, { family, ports, list }] of groups) {
    const slices = own
      .filter((slice) => groupKey(slice.addressType as FamilyName, slice.ports ?? []) === key)
      .map((slice) => ({ slice, stale: !sameMetadata(slice, metadata) }));
    const filled = fillSlices(slices, list, maxEndpoints);
    spare.push(...filled.spare);
    for (const one of filled.slices) {
      if (one.slice && !one.changed) continue;
      // The family of a slice does not change: only one of the same may become this one.
      const at = one.slice ? -1 : spare.findIndex((each) => each.addressType === family);
      const base = one.slice ?? (at >= 0 ? spare.splice(at, 1)[0] : undefined);
      const content = { addressType: family, endpoints: one.endpoints, ports };
      if (base) changes.update.push({ ...base, ...content, metadata: { ...base.metadata, ...metadata } });
      else {
        changes.create.push({
          apiVersion: "discovery.k8s.io/v1",
          kind: "EndpointSlice",
          metadata: {
            name: "",
            generateName: `${endpoints.metadata.name}-`,
            namespace: endpoints.metadata.namespace,
            ...metadata,
          },
          ...content,
        });
      }
    }
  }
  changes.delete.push(...spare);
  return changes;
}

interface Group {
  readonly family: FamilyName;
  readonly ports: readonly EndpointPort[];
  readonly list: Endpoint[];
}

function groupKey(family: FamilyName, ports: readonly EndpointPort[]): string {
  return `${family} ${portsKey(ports)}`;
}

function groupsOf(endpoints: Endpoints): Map<string, Group> {
  const groups = new Map<string, Group>();
  for (const subset of endpoints.subsets ?? []) {
    const ports = (subset.ports ?? []).map((port) => ({ name: "", protocol: "TCP" as const, ...port }));
    for (const [address, ready] of addressesOf(subset)) {
      const family = ipFamily(address.ip) === 6 ? "IPv6" : "IPv4";
      const key = groupKey(family, ports);
      const group = groups.get(key) ?? { family, ports, list: [] };
      groups.set(key, group);
      group.list.push({
        addresses: [address.ip],
        conditions: { ready },
        ...(address.hostname ? { hostname: address.hostname } : {}),
        ...(address.nodeName ? { nodeName: address.nodeName } : {}),
        ...(address.targetRef ? { targetRef: address.targetRef } : {}),
      });
    }
  }
  return groups;
}

/** Ready ones first; beyond the limit of a subset addresses are left out. */
function addressesOf(subset: EndpointSubset): readonly (readonly [EndpointAddress, boolean])[] {
  return [
    ...(subset.addresses ?? []).map((one) => [one, true] as const),
    ...(subset.notReadyAddresses ?? []).map((one) => [one, false] as const),
  ].slice(0, maxEndpoints);
}

function metadataOf(
  endpoints: Endpoints,
): Pick<EndpointSlice["metadata"], "labels" | "annotations" | "ownerReferences"> {
  const { name, uid = "", labels, annotations = {} } = endpoints.metadata;
  const left = new Set(["kubectl.kubernetes.io/last-applied-configuration", triggerTimeAnnotation]);
  return {
    labels: { ...labels, [serviceNameLabel]: name, [managedByLabel]: mirroringController },
    annotations: Object.fromEntries(Object.entries(annotations).filter(([key]) => !left.has(key))),
    ownerReferences: [{ apiVersion: "v1", kind: "Endpoints", name, uid, controller: true, blockOwnerDeletion: true }],
  };
}

function sameMetadata(slice: EndpointSlice, wanted: ReturnType<typeof metadataOf>): boolean {
  const same = (a: Readonly<Record<string, string>> = {}, b: Readonly<Record<string, string>> = {}) =>
    Object.keys(a).length === Object.keys(b).length && Object.entries(b).every(([key, value]) => a[key] === value);
  return (
    same(slice.metadata.labels, wanted.labels) &&
    same(slice.metadata.annotations, wanted.annotations) &&
    slice.metadata.ownerReferences?.[0]?.uid === wanted.ownerReferences?.[0]?.uid
  );
}

/** Plans by Service; none where the slices are right. */
export function mirrorPlans(
  { services, slicesByService }: Pick<ServiceInputs, "services" | "slicesByService">,
  endpoints: Collection<Endpoints>,
): Derived<SlicePlan> {
  return derive(
    services,
    (object, fetch) => {
      const service = objectName(object);
      const changes = mirror(object, fetch.one(endpoints, service), fetch.where(slicesByService, service));
      if (changes.create.length + changes.update.length + changes.delete.length === 0) return undefined;
      return { service, ...changes };
    },
    // With the Service the Endpoints go, and with them, as their owner, the slices.
    { name: "mirrored endpointslice plans", key: (plan) => plan.service },
  );
}

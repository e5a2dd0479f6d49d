// Puts IPAddress objects right that do not fit the Services, once at start: what a crash, a restored backup or a hand left
// behind (pkg/registry/core/service/ipallocator/controller/repairip.go). The decision is pure.

import { type IPAddress, IPAddresses, type Service, Services } from "../api/kinds.ts";
import { objectName } from "../api/object.ts";
import { isStatusReason } from "../api/status-error.ts";
import { canonicalAddress } from "../base/ip.ts";
import type { Store } from "../store/store.ts";
import { addressObject } from "./cluster-ip-range.ts";
import type { EventRecorder, Occurrence } from "./events.ts";

export interface AddressRepairs {
  readonly create: readonly IPAddress[];
  /** Of no Service, or of another than the one that has the address. */
  readonly remove: readonly IPAddress[];
  /** What people should know of it. */
  readonly tell: readonly { readonly service: Service; readonly occurrence: Occurrence }[];
}

export function addressRepairs(services: readonly Service[], addresses: readonly IPAddress[]): AddressRepairs {
  const repairs = {
    create: [] as IPAddress[],
    remove: [] as IPAddress[],
    tell: [] as { service: Service; occurrence: Occurrence }[],
  };
  const holders = new Map<string, Service>();
  const byName = new Map(addresses.map((one) => [one.metadata.name, one]));
  const parentOf = ({ spec }: IPAddress) => `${spec?.parentRef.namespace ?? ""}/${spec?.parentRef.name ?? ""}`;
  const tell = (service: Service, reason: string, message: string) =>
    repairs.tell.push({ service, occurrence: { type: "Warning", reason, message } });
  const age = (one: Service) => one.metadata.creationTimestamp ?? "";
  // Of two with one address the older has it, unless the object says otherwise.
  for (const service of [...services].sort((a, b) => (age(a) < age(b) ? -1 : age(a) > age(b) ? 1 : 0))) {
    for (const text of service.spec?.clusterIPs ?? []) {
      if (text === "None" || text === "") continue;
      const address = canonicalAddress(text);
      const other = holders.get(address);
      const object = byName.get(address);
      if (!other) holders.set(address, service);
      else {
        if (object && parentOf(object) === objectName(service)) holders.set(address, service);
        const loser = holders.get(address) === service ? other : service;
        const words = `Cluster IP ${address} was assigned to multiple services; please recreate service`;
        tell(loser, "ClusterIPAlreadyAllocated", words);
      }
    }
  }
  for (const [address, service] of holders) {
    const object = byName.get(address);
    if (object && parentOf(object) === objectName(service)) continue;
    if (object) repairs.remove.push(object);
    else tell(service, "ClusterIPNotAllocated", `Cluster IP ${address} is not allocated; repairing`);
    repairs.create.push(addressObject(address, service));
  }
  for (const object of addresses) {
    const ours = object.spec?.parentRef.resource === "services" && (object.spec.parentRef.group ?? "") === "";
    if (ours && !holders.has(object.metadata.name)) repairs.remove.push(object);
  }
  return repairs;
}

/** Reads, decides and writes; gives what was done. */
export async function repairAddresses(store: Store, record: EventRecorder): Promise<AddressRepairs> {
  // Addresses first: one that is written between the two lists has its Service in the second.
  const addresses = (await store.list(IPAddresses)).items as readonly IPAddress[];
  const services = (await store.list(Services)).items as readonly Service[];
  const repairs = addressRepairs(services, addresses);
  for (const { metadata } of repairs.remove) {
    const { name, uid, resourceVersion } = metadata;
    const preconditions = { ...(uid ? { uid } : {}), ...(resourceVersion ? { resourceVersion } : {}) };
    await store.delete({ resource: IPAddresses, name }, { preconditions }).catch(passOver);
  }
  for (const object of repairs.create) await store.create(IPAddresses, object).catch(passOver);
  for (const { service, occurrence } of repairs.tell) record(service, occurrence);
  return repairs;
}

/** Somebody else was faster. */
function passOver(error: unknown): void {
  if (!["NotFound", "Conflict", "AlreadyExists"].some((reason) => isStatusReason(error, reason as "NotFound")))
    throw error;
}

// The older Endpoints object of a Service with a selector (pkg/controller/endpoint; deprecated by KEP-4974, read by many still):
// one object of all endpoints of the first family, at most 1,000 of them. Pure; who writes is `endpoints-controller.ts`.

import type { EndpointAddress, EndpointSubset, Endpoints, Service } from "../api/kinds.ts";
import { ipFamily } from "../base/ip.ts";
import { deepEqual } from "../collections/equal.ts";
import type { EndpointPod } from "./endpoint-pod.ts";
import { familiesOf, latest, portsFor, portsKey, triggerTimeAnnotation } from "./endpoint-slices.ts";
import { headlessLabel, isHeadless } from "./objects.ts";

export const endpointsManagedByLabel = "endpoints.kubernetes.io/managed-by";
export const endpointsController = "endpoint-controller";
export const overCapacityAnnotation = "endpoints.kubernetes.io/over-capacity";

/** The most addresses of one object (pkg/controller/endpoint maxCapacity). */
export const maxAddresses = 1000;

/** The Endpoints of a Service; undefined when it is not the controller's to write. */
export function endpointsFor(service: Service, pods: readonly EndpointPod[]): Endpoints | undefined {
  const spec = service.spec ?? {};
  const { name, namespace, labels = {} } = service.metadata;
  if (spec.type === "ExternalName" || service.metadata.deletionTimestamp !== undefined) return undefined;
  if (!spec.selector || Object.keys(spec.selector).length === 0) return undefined;
  const { subsets, truncated } = truncate(subsetsFor(service, pods));
  const time = latest([
    ...pods.flatMap((pod) => (pod.changedAt ? [pod.changedAt] : [])),
    ...(service.metadata.creationTimestamp ? [service.metadata.creationTimestamp] : []),
  ]);
  const annotations = {
    ...(time === undefined ? {} : { [triggerTimeAnnotation]: time }),
    ...(truncated ? { [overCapacityAnnotation]: "truncated" } : {}),
  };
  const { [headlessLabel]: _, ...mirrored } = labels;
  return {
    apiVersion: "v1",
    kind: "Endpoints",
    metadata: {
      name,
      ...(namespace ? { namespace } : {}),
      labels: {
        ...mirrored,
        ...(isHeadless(spec) ? { [headlessLabel]: "" } : {}),
        [endpointsManagedByLabel]: endpointsController,
      },
      ...(Object.keys(annotations).length > 0 ? { annotations } : {}),
    },
    ...(subsets.length > 0 ? { subsets } : {}),
  };
}

/** Whether what is there says the same: the time of the change alone is no reason to write. */
export function sameEndpoints(now: Endpoints, wanted: Endpoints): boolean {
  return (
    deepEqual(now.subsets ?? [], wanted.subsets ?? []) &&
    deepEqual(now.metadata.labels ?? {}, wanted.metadata.labels ?? {}) &&
    now.metadata.annotations?.[overCapacityAnnotation] === wanted.metadata.annotations?.[overCapacityAnnotation]
  );
}

function subsetsFor(service: Service, pods: readonly EndpointPod[]): EndpointSubset[] {
  const spec = service.spec ?? {};
  const family = familiesOf(service)[0] === "IPv6" ? 6 : 4;
  const groups = new Map<
    string,
    { ready: EndpointAddress[]; notReady: EndpointAddress[]; ports: NonNullable<EndpointSubset["ports"]> }
  >();
  for (const pod of pods) {
    if (pod.terminating && !spec.publishNotReadyAddresses) continue;
    const ip = pod.addresses.find((one) => ipFamily(one) === family);
    if (ip === undefined) continue;
    const ports = portsFor(service, pod).map(({ name, port = 0, ...more }) => ({
      ...(name ? { name } : {}),
      port,
      ...more,
    }));
    if (ports.length === 0 && (spec.ports ?? []).length > 0) continue;
    const key = portsKey(ports);
    const group = groups.get(key) ?? { ready: [], notReady: [], ports };
    groups.set(key, group);
    const address: EndpointAddress = {
      ip,
      ...(pod.hostname && pod.subdomain === service.metadata.name ? { hostname: pod.hostname } : {}),
      nodeName: pod.node,
      targetRef: { kind: "Pod", namespace: pod.namespace, name: pod.name, uid: pod.uid },
    };
    (pod.serving || spec.publishNotReadyAddresses ? group.ready : group.notReady).push(address);
  }
  const byIp = (list: EndpointAddress[]) => list.sort((a, b) => (a.ip < b.ip ? -1 : a.ip > b.ip ? 1 : 0));
  return [...groups.entries()]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, { ready, notReady, ports }]) => ({
      ...(ready.length > 0 ? { addresses: byIp(ready) } : {}),
      ...(notReady.length > 0 ? { notReadyAddresses: byIp(notReady) } : {}),
      ...(ports.length > 0 ? { ports } : {}),
    }));
}

/** Ready addresses come first; what is over is left out, from all subsets in proportion. */
function truncate(subsets: readonly EndpointSubset[]): { subsets: readonly EndpointSubset[]; truncated: boolean } {
  const count = (list: "addresses" | "notReadyAddresses") =>
    subsets.reduce((sum, one) => sum + (one[list]?.length ?? 0), 0);
  const ready = count("addresses");
  const notReady = count("notReadyAddresses");
  if (ready + notReady <= maxAddresses) return { subsets, truncated: false };
  let readyLeft = Math.min(ready, maxAddresses);
  let notReadyLeft = maxAddresses - readyLeft;
  const part = (own: number, all: number, left: number, most: number) =>
    Math.min(own, left, Math.ceil((own / Math.max(1, all)) * most));
  const [mostReady, mostNotReady] = [readyLeft, notReadyLeft];
  const cut = subsets.flatMap((one): EndpointSubset[] => {
    const { addresses = [], notReadyAddresses = [], ports } = one;
    const first = part(addresses.length, ready, readyLeft, mostReady);
    const second = part(notReadyAddresses.length, notReady, notReadyLeft, mostNotReady);
    readyLeft -= first;
    notReadyLeft -= second;
    if (first + second === 0) return [];
    return [
      {
        ...(first > 0 ? { addresses: addresses.slice(0, first) } : {}),
        ...(second > 0 ? { notReadyAddresses: notReadyAddresses.slice(0, second) } : {}),
        ...(ports ? { ports } : {}),
      },
    ];
  });
  return { subsets: cut, truncated: true };
}

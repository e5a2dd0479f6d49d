// Which EndpointSlices a Service should have, as the writes that lead there from those it has: pure, and minimal (a slice that
// is right is not written). Follows the EndpointSlice controller of Kubernetes (staging/src/k8s.io/endpointslice reconciler.go,
// KEP-0752); who writes is `endpoint-slice-controller.ts`.

import type { Endpoint, EndpointPort, EndpointSlice, Service } from "../api/kinds.ts";
import { ipFamily } from "../base/ip.ts";
import type { EndpointPod } from "./endpoint-pod.ts";
import { type FamilyName, headlessLabel, isHeadless, managedByLabel, serviceNameLabel } from "./objects.ts";
import type { NodePlace } from "./service-table.ts";
import { fillSlices, type SliceContent } from "./slice-packing.ts";
import {
  type HintedEndpoint,
  type HintOutcome,
  type TopologyNode,
  topologyHints,
  wantsTopologyHints,
} from "./topology-hints.ts";

export const sliceController = "endpointslice-controller.k8s.io";
export const triggerTimeAnnotation = "endpoints.kubernetes.io/last-change-trigger-time";

/** The controller's default of `--max-endpoints-per-slice`. */
export const maxEndpointsPerSlice = 100;

/** What is to be written; objects to create have no name, only `generateName`. */
export interface SliceChanges {
  readonly create: readonly EndpointSlice[];
  readonly update: readonly EndpointSlice[];
  readonly delete: readonly EndpointSlice[];
}

export interface ReconcileInput {
  readonly service: Service;
  /** Those that the selector selects. */
  readonly pods: readonly EndpointPod[];
  readonly nodes: (name: string) => NodePlace | undefined;
  /** All slices with the Service's label; those of other controllers are left alone. */
  readonly existing: readonly EndpointSlice[];
  readonly maxEndpoints?: number;
  /** The nodes that topology hints are computed from, for a Service that asks for them. */
  readonly topology?: readonly TopologyNode[];
}

/** Undefined for a Service whose endpoints are not this controller's to write (no selector, or on its way out). */
export function reconcile(input: ReconcileInput): SliceChanges | undefined {
  const { service, pods, existing } = input;
  const spec = service.spec ?? {};
  if (service.metadata.deletionTimestamp !== undefined) return undefined;
  const own = existing.filter(
    (slice) =>
      slice.metadata.labels?.[managedByLabel] === sliceController && slice.metadata.deletionTimestamp === undefined,
  );
  if (spec.type === "ExternalName") return { create: [], update: [], delete: own };
  if (!spec.selector || Object.keys(spec.selector).length === 0) return undefined;

  const families = familiesOf(service);
  const triggerTime = latest([
    ...pods.flatMap((pod) => (pod.changedAt ? [pod.changedAt] : [])),
    ...(service.metadata.creationTimestamp ? [service.metadata.creationTimestamp] : []),
  ]);
  const changes = {
    create: [] as EndpointSlice[],
    update: [] as EndpointSlice[],
    delete: own.filter((slice) => !families.includes(slice.addressType as FamilyName)),
  };
  for (const family of families) {
    const now = own.filter((slice) => slice.addressType === family);
    reconcileFamily(input, family, now, triggerTime, changes);
  }
  return changes;
}

interface Group {
  readonly ports: readonly EndpointPort[];
  readonly endpoints: Endpoint[];
}

function reconcileFamily(
  input: ReconcileInput,
  family: FamilyName,
  now: readonly EndpointSlice[],
  triggerTime: string | undefined,
  changes: { create: EndpointSlice[]; update: EndpointSlice[]; delete: EndpointSlice[] },
): void {
  const { service, maxEndpoints = maxEndpointsPerSlice } = input;
  const groups = groupsOf(input, family);
  const hints = hintsOf(input, groups, now);
  if (hints)
    for (const group of groups.values()) group.endpoints.splice(0, Infinity, ...withHints(group.endpoints, hints));
  const wantedMeta = metadataOf(service);
  const existing = now.map((slice) => ({
    slice,
    portsKey: portsKey(slice.ports ?? []),
    stale: !metadataFits(slice, wantedMeta),
  }));

  const wanted: SliceContent<EndpointSlice>[] = [];
  let spare: EndpointSlice[] = [];
  for (const [key, group] of groups) {
    const slices = existing.filter((one) => one.portsKey === key);
    const filled = fillSlices(slices, group.endpoints, maxEndpoints);
    wanted.push(...filled.slices.map((one) => ({ ...one, ports: group.ports })));
    spare.push(...filled.spare);
  }
  spare.push(...existing.filter((one) => !groups.has(one.portsKey)).map((one) => one.slice));
  if (wanted.length === 0) {
    // Somebody who looks for the Service's slices must find that there is nothing, not that nothing was looked for.
    const placeholder = existing.find((one) => one.portsKey === portsKey([]) && !(one.slice.endpoints ?? []).length);
    spare = spare.filter((slice) => slice !== placeholder?.slice);
    wanted.push({ slice: placeholder?.slice, changed: placeholder?.stale ?? true, endpoints: [], ports: [] });
  }

  for (const { slice, changed, endpoints, ports } of wanted) {
    if (slice && !changed) continue;
    // A slice that is to go anyway may become the one that is to come: one write instead of two.
    const base = slice ?? spare.shift();
    const annotations = { ...base?.metadata.annotations };
    if (triggerTime === undefined) delete annotations[triggerTimeAnnotation];
    else annotations[triggerTimeAnnotation] = triggerTime;
    const content = { addressType: family, endpoints, ports: ports ?? [] };
    if (base) {
      changes.update.push({ ...base, ...content, metadata: { ...base.metadata, ...wantedMeta, annotations } });
    } else {
      changes.create.push({
        apiVersion: "discovery.k8s.io/v1",
        kind: "EndpointSlice",
        metadata: {
          name: "",
          generateName: `${service.metadata.name}-`,
          namespace: service.metadata.namespace,
          annotations,
          ...wantedMeta,
        },
        ...content,
      });
    }
  }
  changes.delete.push(...spare);
}

/** What comes of the wish for topology hints, by family; undefined for a Service without that wish. */
export function hintOutcomes(input: ReconcileInput): Readonly<Partial<Record<FamilyName, HintOutcome>>> | undefined {
  const { service, existing, topology } = input;
  if (!topology || !service.spec?.selector || !wantsTopologyHints(service)) return undefined;
  return Object.fromEntries(
    familiesOf(service).map((family) => {
      const now = existing.filter((slice) => slice.addressType === family);
      return [family, hintsOf(input, groupsOf(input, family), now)!];
    }),
  );
}

function hintsOf(
  { service, topology }: ReconcileInput,
  groups: ReadonlyMap<string, Group>,
  now: readonly EndpointSlice[],
): HintOutcome | undefined {
  if (!topology || !wantsTopologyHints(service)) return undefined;
  const held = new Map<string, string | undefined>();
  for (const slice of now) {
    for (const { addresses, hints } of slice.endpoints ?? []) held.set(addresses[0] ?? "", hints?.forZones?.[0]?.name);
  }
  const ready = new Map<string, HintedEndpoint>();
  for (const { endpoints } of groups.values()) {
    for (const { addresses, zone, conditions } of endpoints) {
      const address = addresses[0]!;
      if (conditions?.ready) ready.set(address, { address, zone, hint: held.get(address) });
    }
  }
  return topologyHints([...ready.values()], topology);
}

function withHints(endpoints: readonly Endpoint[], outcome: HintOutcome): Endpoint[] {
  return endpoints.map(({ hints: _, ...endpoint }) => {
    const zone = endpoint.conditions?.ready ? outcome.zones?.get(endpoint.addresses[0]!) : undefined;
    return zone === undefined ? endpoint : { ...endpoint, hints: { forZones: [{ name: zone }] } };
  });
}

/** Endpoints by the ports they answer on: named target ports may differ from pod to pod. */
function groupsOf({ service, pods, nodes }: ReconcileInput, family: FamilyName): Map<string, Group> {
  const groups = new Map<string, Group>();
  const spec = service.spec ?? {};
  for (const pod of [...pods].sort((a, b) => (a.key < b.key ? -1 : 1))) {
    const address = pod.addresses.find((one) => ipFamily(one) === (family === "IPv4" ? 4 : 6));
    if (address === undefined) continue;
    const node = nodes(pod.node);
    if (!node && !spec.publishNotReadyAddresses) continue;
    const ports = portsFor(service, pod);
    if (ports.length === 0 && (spec.ports ?? []).length > 0) continue;
    const key = portsKey(ports);
    let group = groups.get(key);
    if (!group) {
      group = { ports, endpoints: [] };
      groups.set(key, group);
    }
    group.endpoints.push(endpointFor(service, pod, address, node));
  }
  return groups;
}

function endpointFor(service: Service, pod: EndpointPod, address: string, node: NodePlace | undefined): Endpoint {
  const spec = service.spec ?? {};
  const ready = (spec.publishNotReadyAddresses ?? false) || (pod.serving && !pod.terminating);
  const zone = node?.zone;
  const sameNode = spec.trafficDistribution === "PreferSameNode";
  const sameZone = sameNode || ["PreferClose", "PreferSameZone"].includes(spec.trafficDistribution ?? "");
  const hints = {
    ...(sameZone && zone ? { forZones: [{ name: zone }] } : {}),
    ...(sameNode ? { forNodes: [{ name: pod.node }] } : {}),
  };
  return {
    addresses: [address],
    conditions: { ready, serving: pod.serving, terminating: pod.terminating },
    ...(pod.hostname && pod.subdomain === service.metadata.name ? { hostname: pod.hostname } : {}),
    targetRef: { kind: "Pod", namespace: pod.namespace, name: pod.name, uid: pod.uid },
    nodeName: pod.node,
    ...(zone ? { zone } : {}),
    ...(ready && Object.keys(hints).length > 0 ? { hints } : {}),
  };
}

export function portsFor(service: Service, pod: EndpointPod): EndpointPort[] {
  return (service.spec?.ports ?? []).flatMap((port): EndpointPort[] => {
    const protocol = port.protocol ?? "TCP";
    const target = port.targetPort || port.port;
    const number =
      typeof target === "number"
        ? target
        : pod.namedPorts.find((one) => one.name === target && one.protocol === protocol)?.port;
    if (number === undefined) return [];
    return [
      { name: port.name ?? "", protocol, port: number, ...(port.appProtocol ? { appProtocol: port.appProtocol } : {}) },
    ];
  });
}

export function portsKey(ports: readonly EndpointPort[]): string {
  return ports
    .map((port) => `${port.name ?? ""}/${port.protocol ?? "TCP"}/${port.port}/${port.appProtocol ?? ""}`)
    .sort()
    .join(",");
}

export function familiesOf(service: Service): readonly FamilyName[] {
  const named = service.spec?.ipFamilies as readonly FamilyName[] | undefined;
  if (named && named.length > 0) return named;
  return [ipFamily(service.spec?.clusterIP ?? "") === 6 ? "IPv6" : "IPv4"];
}

type WantedMetadata = Pick<EndpointSlice["metadata"], "labels" | "ownerReferences">;

const reservedLabels = new Set([serviceNameLabel, managedByLabel, headlessLabel]);

function metadataOf(service: Service): WantedMetadata {
  const mirrored = Object.entries(service.metadata.labels ?? {}).filter(([label]) => !reservedLabels.has(label));
  return {
    labels: {
      ...Object.fromEntries(mirrored),
      ...(isHeadless(service.spec ?? {}) ? { [headlessLabel]: "" } : {}),
      [serviceNameLabel]: service.metadata.name,
      [managedByLabel]: sliceController,
    },
    ownerReferences: [
      {
        apiVersion: "v1",
        kind: "Service",
        name: service.metadata.name,
        uid: service.metadata.uid ?? "",
        controller: true,
        blockOwnerDeletion: true,
      },
    ],
  };
}

function metadataFits(slice: EndpointSlice, wanted: WantedMetadata): boolean {
  const labels = slice.metadata.labels ?? {};
  const expected = wanted.labels ?? {};
  return (
    Object.keys(labels).length === Object.keys(expected).length &&
    Object.entries(expected).every(([label, value]) => labels[label] === value) &&
    slice.metadata.ownerReferences?.length === 1 &&
    slice.metadata.ownerReferences[0]?.uid === wanted.ownerReferences?.[0]?.uid
  );
}

export function latest(times: readonly string[]): string | undefined {
  return times.reduce<string | undefined>((a, b) => (a === undefined || b > a ? b : a), undefined);
}

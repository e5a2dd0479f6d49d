import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Endpoint, EndpointSlice, Pod, Service, ServiceSpec } from "../api/kinds.ts";
import { type EndpointPod, endpointPodOf } from "./endpoint-pod.ts";
import {
  hintOutcomes,
  reconcile,
  type SliceChanges,
  sliceController,
  triggerTimeAnnotation,
} from "./endpoint-slices.ts";

const service = (spec: Partial<ServiceSpec> = {}, metadata: Partial<Service["metadata"]> = {}): Service => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "cart", namespace: "shop", uid: "u-cart", creationTimestamp: "2026-01-01T00:00:00Z", ...metadata },
  spec: {
    type: "ClusterIP",
    clusterIP: "10.96.0.5",
    ipFamilies: ["IPv4"],
    selector: { app: "cart" },
    ports: [{ port: 80, protocol: "TCP", targetPort: 8080 }],
    ...spec,
  },
});

const pod = (n: number, more: Partial<EndpointPod> = {}): EndpointPod => ({
  key: `shop/cart-${n}`,
  namespace: "shop",
  name: `cart-${n}`,
  uid: `u-${n}`,
  labels: { app: "cart" },
  addresses: [`10.244.${n >> 8}.${n & 255}`],
  node: "node-1",
  serving: true,
  terminating: false,
  hostname: undefined,
  subdomain: undefined,
  namedPorts: [],
  changedAt: "2026-01-01T00:00:10Z",
  ...more,
});
const pods = (from: number, to: number) => Array.from({ length: to - from }, (_, at) => pod(from + at));
const nodes = (name: string) => (name === "gone" ? undefined : { name, zone: "z1" });

interface State {
  readonly slices: readonly EndpointSlice[];
  readonly changes: SliceChanges;
}

let sequence = 0;
/** Reconciles and applies the writes as a store would. */
function settle(given: {
  service?: Service;
  pods: readonly EndpointPod[];
  existing?: readonly EndpointSlice[];
  max?: number;
}): State {
  const existing = given.existing ?? [];
  const changes = reconcile({
    service: given.service ?? service(),
    pods: given.pods,
    nodes,
    existing,
    ...(given.max ? { maxEndpoints: given.max } : {}),
  })!;
  const byName = new Map(existing.map((slice) => [slice.metadata.name, slice]));
  for (const slice of changes.delete) byName.delete(slice.metadata.name);
  for (const slice of changes.update) byName.set(slice.metadata.name, slice);
  for (const slice of changes.create) {
    const name = `${slice.metadata.generateName}${sequence++}`;
    byName.set(name, { ...slice, metadata: { ...slice.metadata, name } });
  }
  return { slices: [...byName.values()], changes };
}
const counts = ({ changes }: State) => [changes.create.length, changes.update.length, changes.delete.length];
const sizes = ({ slices }: State) => slices.map((slice) => slice.endpoints?.length).sort((a, b) => b! - a!);
const addresses = (slices: readonly EndpointSlice[]) =>
  slices.flatMap((slice) => (slice.endpoints ?? []).map((one) => one.addresses[0])).sort();

describe("the slices of a Service", () => {
  test("name each pod with its conditions, node, zone and reference", () => {
    const { slices } = settle({ pods: [pod(1)] });
    expect(slices).toHaveLength(1);
    expect(slices[0]).toMatchObject({
      addressType: "IPv4",
      ports: [{ name: "", protocol: "TCP", port: 8080 }],
      endpoints: [
        {
          addresses: ["10.244.0.1"],
          conditions: { ready: true, serving: true, terminating: false },
          targetRef: { kind: "Pod", namespace: "shop", name: "cart-1", uid: "u-1" },
          nodeName: "node-1",
          zone: "z1",
        },
      ],
    });
  });

  test("carry the Service's labels, its reference and the time of the last change", () => {
    const labelled = service({}, { labels: { team: "a", "kubernetes.io/service-name": "lies" } });
    const meta = settle({ service: labelled, pods: [pod(1)] }).slices[0]!.metadata;
    expect(meta.labels).toEqual({
      team: "a",
      "kubernetes.io/service-name": "cart",
      "endpointslice.kubernetes.io/managed-by": sliceController,
    });
    expect(meta.ownerReferences).toEqual([
      { apiVersion: "v1", kind: "Service", name: "cart", uid: "u-cart", controller: true, blockOwnerDeletion: true },
    ]);
    expect(meta.annotations?.[triggerTimeAnnotation]).toBe("2026-01-01T00:00:10Z");
  });

  test("are one empty placeholder when no pod is there, which the first pod fills", () => {
    const empty = settle({ pods: [] });
    expect(empty.slices[0]).toMatchObject({ endpoints: [], ports: [] });
    const filled = settle({ pods: [pod(1)], existing: empty.slices });
    expect(counts(filled)).toEqual([0, 1, 0]);
    const again = settle({ pods: [], existing: filled.slices });
    expect(counts(again)).toEqual([0, 1, 0]);
    expect(sizes(again)).toEqual([0]);
  });

  test("show a pod that ends as serving until it is not ready, and not as ready", () => {
    const { slices } = settle({ pods: [pod(1, { terminating: true }), pod(2, { serving: false })] });
    expect(slices[0]!.endpoints?.map((one) => one.conditions)).toEqual([
      { ready: false, serving: true, terminating: true },
      { ready: false, serving: false, terminating: false },
    ]);
  });

  test("of a Service that publishes addresses early are all ready, with or without their node", () => {
    const early = service({ publishNotReadyAddresses: true });
    const { slices } = settle({ service: early, pods: [pod(1, { serving: false }), pod(2, { node: "gone" })] });
    expect(slices[0]!.endpoints?.map((one) => one.conditions?.ready)).toEqual([true, true]);
  });

  test("leave out a pod whose node is not known yet", () => {
    expect(addresses(settle({ pods: [pod(1), pod(2, { node: "gone" })] }).slices)).toEqual(["10.244.0.1"]);
  });

  test("resolve named target ports pod by pod, in a slice for each outcome", () => {
    const named = service({ ports: [{ name: "web", port: 80, targetPort: "http" }] });
    const withPort = (n: number, port: number) => pod(n, { namedPorts: [{ name: "http", protocol: "TCP", port }] });
    const { slices } = settle({ service: named, pods: [withPort(1, 8080), withPort(2, 9090), pod(3)] });
    expect(slices.map((slice) => [slice.ports?.[0]?.port, slice.endpoints?.length])).toEqual([
      [8080, 1],
      [9090, 1],
    ]);
  });

  test("of a headless Service are labelled so, and give hostnames of its subdomain", () => {
    const headless = service({ clusterIP: "None", ports: [] });
    const { slices } = settle({
      service: headless,
      pods: [pod(1, { hostname: "cart-0", subdomain: "cart" }), pod(2, { hostname: "x", subdomain: "other" })],
    });
    expect(slices[0]!.metadata.labels?.["service.kubernetes.io/headless"]).toBe("");
    expect(slices[0]!.endpoints?.map((one) => one.hostname)).toEqual(["cart-0", undefined]);
  });

  test("carry hints where traffic is to stay near", () => {
    const { slices } = settle({ service: service({ trafficDistribution: "PreferSameNode" }), pods: [pod(1)] });
    expect(slices[0]!.endpoints?.[0]?.hints).toEqual({ forZones: [{ name: "z1" }], forNodes: [{ name: "node-1" }] });
  });

  test("exist for each of its families", () => {
    const both = service({ ipFamilies: ["IPv4", "IPv6"] });
    const { slices } = settle({ service: both, pods: [pod(1, { addresses: ["10.244.0.1", "fd00::1"] }), pod(2)] });
    expect(slices.map((slice) => [slice.addressType, slice.endpoints?.length])).toEqual([
      ["IPv4", 2],
      ["IPv6", 1],
    ]);
  });

  test("are nobody's business here without a selector, and go when it becomes an external name", () => {
    expect(reconcile({ service: service({ selector: {} }), pods: [], nodes, existing: [] })).toBeUndefined();
    const { slices } = settle({ pods: [pod(1)] });
    const gone = settle({ service: service({ type: "ExternalName" }), pods: [], existing: slices });
    expect(gone.slices).toEqual([]);
  });

  test("of other controllers are left alone", () => {
    const foreign: EndpointSlice = {
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { name: "mine", namespace: "shop", labels: { "kubernetes.io/service-name": "cart" } },
      addressType: "IPv4",
      endpoints: [],
      ports: [],
    };
    expect(settle({ pods: [pod(1)], existing: [foreign] }).slices).toContain(foreign);
  });
});

describe("packing", () => {
  test("puts 131 pods into slices of 100 and 31", () => {
    expect(sizes(settle({ pods: pods(1, 132) }))).toEqual([100, 31]);
  });

  test("writes nothing when nothing changed", () => {
    const first = settle({ pods: pods(1, 132) });
    expect(counts(settle({ pods: pods(1, 132), existing: first.slices }))).toEqual([0, 0, 0]);
  });

  test("writes one slice when one pod changes", () => {
    const first = settle({ pods: pods(1, 132) });
    const changed = [...pods(1, 131), pod(131, { serving: false })];
    expect(counts(settle({ pods: changed, existing: first.slices }))).toEqual([0, 1, 0]);
  });

  test("fills a slice that changes anyway before it touches another", () => {
    const first = settle({ pods: pods(1, 21), max: 10 });
    const next = settle({ pods: [...pods(2, 21), pod(50)], existing: first.slices, max: 10 });
    expect(counts(next)).toEqual([0, 1, 0]);
    expect(sizes(next)).toEqual([10, 10]);
  });

  test("adds to the one slice with room for all that is new, and else makes a new one", () => {
    const first = settle({ pods: pods(1, 15), max: 10 });
    expect(counts(settle({ pods: pods(1, 18), existing: first.slices, max: 10 }))).toEqual([0, 1, 0]);
    expect(counts(settle({ pods: pods(1, 25), existing: first.slices, max: 10 }))).toEqual([1, 0, 0]);
  });

  test("never evens out, and drops slices that are empty", () => {
    const first = settle({ pods: pods(1, 21), max: 10 });
    const kept = new Set(addresses(first.slices.slice(0, 1)));
    const half = settle({
      pods: pods(1, 21).filter((one) => kept.has(one.addresses[0])),
      existing: first.slices,
      max: 10,
    });
    expect(counts(half)).toEqual([0, 0, 1]);
  });

  test("holds each wanted endpoint once, in bounded slices, whatever happened before", () => {
    const set = fc.uniqueArray(fc.integer({ min: 1, max: 40 }), { maxLength: 30 });
    fc.assert(
      fc.property(fc.array(set, { minLength: 1, maxLength: 5 }), fc.integer({ min: 1, max: 8 }), (states, max) => {
        let slices: readonly EndpointSlice[] = [];
        for (const state of states) {
          const wanted = state.map((n) => pod(n, { serving: n % 3 !== 0 }));
          const before = new Map(slices.map((slice) => [slice.metadata.name, slice]));
          const next = settle({ pods: wanted, existing: slices, max });
          slices = next.slices;
          expect(addresses(slices)).toEqual(wanted.map((one) => one.addresses[0]).sort());
          for (const slice of slices) expect(slice.endpoints?.length).toBeLessThanOrEqual(max);
          for (const slice of next.changes.update) {
            expect(plain(slice.endpoints)).not.toEqual(plain(before.get(slice.metadata.name)?.endpoints));
          }
          expect(counts(settle({ pods: wanted, existing: slices, max }))).toEqual([0, 0, 0]);
        }
      }),
      { numRuns: 60 },
    );
  });
});

const plain = (endpoints: readonly Endpoint[] | undefined) => JSON.stringify(endpoints);

describe("a pod as an endpoint", () => {
  const running: Pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "cart-1", namespace: "shop", uid: "u-1" },
    spec: { nodeName: "node-1", containers: [{ name: "c", ports: [{ name: "http", containerPort: 8080 }] }] },
    status: { phase: "Running", podIP: "10.244.0.1", conditions: [{ type: "Ready", status: "True" }] },
  };

  test("needs an address, a node, and not to be finished", () => {
    expect(endpointPodOf(running)).toMatchObject({ addresses: ["10.244.0.1"], serving: true, terminating: false });
    expect(endpointPodOf({ ...running, status: { phase: "Succeeded", podIP: "10.244.0.1" } })).toBeUndefined();
    expect(endpointPodOf({ ...running, status: { phase: "Pending" } })).toBeUndefined();
    expect(endpointPodOf({ ...running, spec: { containers: [] } })).toBeUndefined();
  });

  test("knows its named ports, those of sidecars too", () => {
    const sidecar = { name: "s", restartPolicy: "Always", ports: [{ name: "metrics", containerPort: 9090 }] };
    const init = { name: "i", ports: [{ name: "never", containerPort: 1 }] };
    const pod = endpointPodOf({ ...running, spec: { ...running.spec!, initContainers: [sidecar, init] } });
    expect(pod?.namedPorts.map((port) => port.name)).toEqual(["http", "metrics"]);
  });
});

describe("topology-mode Auto", () => {
  const auto = service({}, { annotations: { "service.kubernetes.io/topology-mode": "Auto" } });
  const input = (count: number, topology = ["a", "b"].map((zone) => ({ name: zone, zone, cpu: 4000 }))) => ({
    service: auto,
    pods: pods(1, count + 1),
    nodes: (name: string) => ({ name, zone: "a" }),
    existing: [],
    topology,
  });
  const hinted = (changes: SliceChanges) =>
    changes.create.flatMap((slice) => (slice.endpoints ?? []).map((one) => one.hints?.forZones?.[0]?.name));

  test("gives every ready endpoint to a zone, in proportion to the zones' CPUs", () => {
    expect(hinted(reconcile(input(4))!).sort()).toEqual(["a", "a", "b", "b"]);
    expect(hintOutcomes(input(4))?.IPv4?.zones?.size).toBe(4);
  });

  test("gives none where that would overload a zone", () => {
    expect(hinted(reconcile(input(3))!)).toEqual([undefined, undefined, undefined]);
    expect(hintOutcomes(input(1))?.IPv4).toMatchObject({
      disabled: "Insufficient number of endpoints (1 endpoints, 2 zones)",
    });
  });
});

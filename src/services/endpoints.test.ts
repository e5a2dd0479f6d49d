import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  CoreEndpoints,
  type EndpointSlice,
  EndpointSlices,
  type Endpoints,
  Nodes,
  Pods,
  type Service,
  type ServiceSpec,
  Services,
} from "../api/kinds.ts";
import { builtinScheme } from "../api/scheme.ts";
import { FakeClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import type { Collection } from "../collections/collection.ts";
import { fromStore, type StoreCollection } from "../collections/from-store.ts";
import { Graph } from "../collections/graph.ts";
import { openSqliteStore, type SqliteStore } from "../store/sqlite/sqlite-store.ts";
import { mirror, mirrorPlans } from "./endpoint-mirroring.ts";
import type { EndpointPod } from "./endpoint-pod.ts";
import { startSliceWriter } from "./endpoint-slice-controller.ts";
import { endpointsFor } from "./endpoints.ts";
import { startEndpointsController } from "./endpoints-controller.ts";
import { serviceInputs } from "./inputs.ts";

const service = (spec: ServiceSpec = {}): Service => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "cart", namespace: "default", labels: { team: "a" } },
  spec: { ipFamilies: ["IPv4"], selector: { app: "cart" }, ports: [{ port: 80, targetPort: "http" }], ...spec },
});
const pod = (n: number, more: Partial<EndpointPod> = {}): EndpointPod => ({
  key: `default/cart-${n}`,
  namespace: "default",
  name: `cart-${n}`,
  uid: `u-${n}`,
  labels: { app: "cart" },
  addresses: [`10.244.${n >> 8}.${n & 255}`],
  node: "node-1",
  serving: true,
  terminating: false,
  hostname: undefined,
  subdomain: undefined,
  namedPorts: [{ name: "http", protocol: "TCP", port: 8080 }],
  changedAt: undefined,
  ...more,
});

describe("Endpoints", () => {
  test("have ready and other addresses, by the ports they answer on", () => {
    const other = { namedPorts: [{ name: "http", protocol: "TCP", port: 9090 }] } as const;
    const made = endpointsFor(service(), [
      pod(2),
      pod(1),
      pod(3, { serving: false }),
      pod(4, other),
      pod(5, { terminating: true }),
    ]);
    const shown = made?.subsets?.map((one) => [
      one.addresses?.map(({ ip }) => ip),
      one.notReadyAddresses?.map(({ ip }) => ip),
      one.ports?.map(({ port }) => port),
    ]);
    expect(shown).toEqual([
      [["10.244.0.1", "10.244.0.2"], ["10.244.0.3"], [8080]],
      [["10.244.0.4"], undefined, [9090]],
    ]);
    expect(made?.metadata.labels).toEqual({ team: "a", "endpoints.kubernetes.io/managed-by": "endpoint-controller" });
    expect(made?.subsets?.[0]?.addresses?.[0]).toEqual({
      ip: "10.244.0.1",
      nodeName: "node-1",
      targetRef: { kind: "Pod", namespace: "default", name: "cart-1", uid: "u-1" },
    });
  });

  test("hold at most a thousand addresses, ready ones first, and say so", () => {
    const many = Array.from({ length: 1_200 }, (_, n) => pod(n, { serving: n >= 100 }));
    const made = endpointsFor(service(), many);
    expect(made?.metadata.annotations).toEqual({ "endpoints.kubernetes.io/over-capacity": "truncated" });
    expect(made?.subsets?.map((one) => [one.addresses?.length, one.notReadyAddresses?.length])).toEqual([
      [1000, undefined],
    ]);
    const mixed = endpointsFor(
      service(),
      many.map((one, n) => ({ ...one, serving: n >= 600 })),
    );
    expect(mixed?.subsets?.map((one) => [one.addresses?.length, one.notReadyAddresses?.length])).toEqual([[600, 400]]);
  });

  test("are not made for Services without a selector", () => {
    expect(endpointsFor(service({ selector: {} }), [])).toBeUndefined();
    expect(endpointsFor(service({ type: "ExternalName" }), [])).toBeUndefined();
  });
});

const manual = (more: Partial<Endpoints> = {}): Endpoints => ({
  apiVersion: "v1",
  kind: "Endpoints",
  metadata: { name: "cart", namespace: "default", uid: "u-ep", labels: { made: "by-hand" } },
  subsets: [
    {
      addresses: [{ ip: "192.0.2.1" }],
      notReadyAddresses: [{ ip: "2001:db8::1" }],
      ports: [{ name: "http", port: 80 }],
    },
  ],
  ...more,
});

describe("mirroring", () => {
  const free = service({ selector: {} });

  test("makes a slice of each family, owned by the Endpoints", () => {
    const { create } = mirror(free, manual(), []);
    expect(create.map((slice) => [slice.addressType, slice.endpoints])).toEqual([
      ["IPv4", [{ addresses: ["192.0.2.1"], conditions: { ready: true } }]],
      ["IPv6", [{ addresses: ["2001:db8::1"], conditions: { ready: false } }]],
    ]);
    expect(create[0]?.metadata).toMatchObject({
      generateName: "cart-",
      labels: {
        made: "by-hand",
        "kubernetes.io/service-name": "cart",
        "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io",
      },
      ownerReferences: [{ kind: "Endpoints", name: "cart", uid: "u-ep", controller: true }],
    });
    const named = create.map((slice, n) => ({ ...slice, metadata: { ...slice.metadata, name: `cart-${n}` } }));
    expect(mirror(free, manual(), named)).toEqual({ create: [], update: [], delete: [] });
    const moved = manual({ subsets: [{ addresses: [{ ip: "192.0.2.2" }], ports: [{ name: "http", port: 80 }] }] });
    const changes = mirror(free, moved, named);
    expect([changes.create.length, changes.update.length, changes.delete.length]).toEqual([0, 1, 1]);
  });

  test("leaves out what controllers write, what asks for it, and locks", () => {
    const none = (metadata: Partial<Endpoints["metadata"]>) =>
      mirror(free, manual({ metadata: { ...manual().metadata, ...metadata } }), []).create.length;
    expect(none({ labels: { "endpointslice.kubernetes.io/skip-mirror": "true" } })).toBe(0);
    expect(none({ labels: { "endpoints.kubernetes.io/managed-by": "endpoint-controller" } })).toBe(0);
    expect(none({ annotations: { "control-plane.alpha.kubernetes.io/leader": "x" } })).toBe(0);
    expect(mirror(service(), manual(), []).create).toEqual([]);
    expect(mirror(undefined, manual(), []).create).toEqual([]);
  });
});

describe("in a store", () => {
  let store: SqliteStore;
  let clock: FakeClock;
  let parts: { dispose(): void }[] = [];
  beforeEach(() => {
    clock = new FakeClock();
    store = openSqliteStore({ path: ":memory:", scheme: builtinScheme(), clock });
    const graph = new Graph();
    const [services, endpointSlices, pods, nodes, objects] = [Services, EndpointSlices, Pods, Nodes, CoreEndpoints].map(
      (resource) => fromStore(store, resource, { graph, clock }),
    ) as [StoreCollection, StoreCollection, StoreCollection, StoreCollection, StoreCollection];
    const endpoints = objects as Collection<Endpoints>;
    const inputs = serviceInputs({ services, endpointSlices, pods, nodes });
    const common = { store, clock, log: silentLogger };
    parts = [
      startEndpointsController({ inputs, endpoints, ...common }),
      startSliceWriter({ plans: mirrorPlans(inputs, endpoints), slices: inputs.slicesByService.of, ...common }),
    ];
  });
  afterEach(() => {
    for (const one of parts) one.dispose();
  });
  const get = () => store.get({ resource: CoreEndpoints, namespace: "default", name: "cart" });
  async function until(condition: () => Promise<boolean>): Promise<void> {
    for (let turn = 0; !(await condition()); turn++) {
      if (turn > 2_000) throw new Error("it did not come true");
      clock.advance(100);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  test("a Service has its object, which comes back when it is removed, and goes with it", async () => {
    await store.create(Services, { ...service(), metadata: { name: "cart", namespace: "default" } });
    await until(async () => (await get()) !== undefined);
    await store.delete({ resource: CoreEndpoints, namespace: "default", name: "cart" });
    await until(async () => (await get()) !== undefined);
    await store.delete({ resource: Services, namespace: "default", name: "cart" });
    await until(async () => (await get()) === undefined);
  });

  test("what a user writes for a Service without selector is mirrored, followed, and goes with the Service", async () => {
    const { uid: _, ...metadata } = manual().metadata;
    await store.create(Services, service({ selector: {} }));
    await store.create(CoreEndpoints, manual({ metadata }));
    const addresses = async () =>
      ((await store.list(EndpointSlices)).items as readonly EndpointSlice[])
        .flatMap((slice) => (slice.endpoints ?? []).map((one) => one.addresses[0]))
        .sort()
        .join();
    await until(async () => (await addresses()) === "192.0.2.1,2001:db8::1");
    await store.update(CoreEndpoints, { ...(await get())!, subsets: [{ addresses: [{ ip: "192.0.2.9" }] }] });
    await until(async () => (await addresses()) === "192.0.2.9");
    await store.delete({ resource: Services, namespace: "default", name: "cart" });
    await until(async () => (await get()) === undefined);
  });
});

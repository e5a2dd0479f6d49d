import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { type EndpointSlice, EndpointSlices, Nodes, Pods, Services } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { builtinScheme } from "../api/scheme.ts";
import { StatusError } from "../api/status-error.ts";
import { FakeClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import { fromStore, type StoreCollection } from "../collections/from-store.ts";
import { Graph } from "../collections/graph.ts";
import { openSqliteStore, type SqliteStore } from "../store/sqlite/sqlite-store.ts";
import type { Store } from "../store/store.ts";
import { serviceAdmission } from "./allocation.ts";
import { publishApiServer } from "./api-server-service.ts";
import { type SliceController, startEndpointSliceController } from "./endpoint-slice-controller.ts";
import { serviceInputs } from "./inputs.ts";

let store: SqliteStore;
let clock: FakeClock;
let graph: Graph;
let controller: SliceController;
let collections: StoreCollection[];

function start(through: Store = store): void {
  graph = new Graph();
  const [services, endpointSlices, pods, nodes] = [Services, EndpointSlices, Pods, Nodes].map((resource) =>
    fromStore(store, resource, { graph, clock }),
  ) as [StoreCollection, StoreCollection, StoreCollection, StoreCollection];
  collections = [services, endpointSlices, pods, nodes];
  const inputs = serviceInputs({ services, endpointSlices, pods, nodes });
  controller = startEndpointSliceController({ inputs, store: through, clock, log: silentLogger });
}
function stop(): void {
  controller.dispose();
  for (const one of collections) one.dispose();
}

beforeEach(async () => {
  clock = new FakeClock();
  store = openSqliteStore({
    path: ":memory:",
    scheme: builtinScheme(),
    clock,
    admissions: [serviceAdmission({ serviceCidr: "10.96.0.0/16" })],
  });
  await store.create(Nodes, { apiVersion: "v1", kind: "Node", metadata: { name: "node-1" } });
});
afterEach(() => stop());

const makeService = () =>
  store.create(Services, {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "cart", namespace: "default" },
    spec: { selector: { app: "cart" }, ports: [{ port: 80, targetPort: 8080 }] },
  });

async function makePod(n: number): Promise<void> {
  const made = await store.create(Pods, {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: `cart-${n}`, namespace: "default", labels: { app: "cart" } },
    spec: { nodeName: "node-1", containers: [{ name: "c", image: "x" }] },
  });
  const status = {
    phase: "Running",
    podIP: `10.244.0.${n}`,
    podIPs: [{ ip: `10.244.0.${n}` }],
    conditions: [{ type: "Ready", status: "True", lastTransitionTime: "2026-01-01T00:00:05Z" }],
  };
  await store.update(Pods, { ...made, status }, { subresource: "status" });
}

const slices = async () => (await store.list(EndpointSlices)).items as readonly EndpointSlice[];
const ready = async () =>
  (await slices())
    .flatMap((slice) => (slice.endpoints ?? []).filter((one) => one.conditions?.ready).map((one) => one.addresses[0]))
    .sort();

/** Waits for a condition by letting the event loop turn, never by time. */
async function until(condition: () => Promise<boolean>): Promise<void> {
  for (let turn = 0; turn < 500; turn++) {
    if (await condition()) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
  throw new Error("the condition did not come true");
}
const settled = async () => {
  await graph.settled();
  return controller.idle();
};

describe("the EndpointSlice controller", () => {
  test("writes a slice for a Service, and follows its pods", async () => {
    start();
    await makeService();
    await makePod(1);
    await makePod(2);
    await until(async () => (await ready()).length === 2);
    await store.delete({ resource: Pods, namespace: "default", name: "cart-1" }, { gracePeriodSeconds: 0 });
    await until(async () => (await ready()).join() === "10.244.0.2");
    await until(settled);
    expect(await slices()).toHaveLength(1);
  });

  test("makes no slice twice when pods come while it writes", async () => {
    start();
    await makeService();
    await Promise.all(Array.from({ length: 20 }, (_, at) => makePod(at + 1)));
    await until(async () => (await ready()).length === 20);
    await until(settled);
    expect(await slices()).toHaveLength(1);
  });

  test("starts again from what is there without a write", async () => {
    start();
    await makeService();
    await makePod(1);
    await until(async () => (await ready()).length === 1 && (await settled()));
    stop();
    const before = store.revision;
    start();
    await Promise.all(collections.map((one) => one.ready));
    await until(settled);
    expect(store.revision).toBe(before);
  });

  test("tries again what the store refused, and gives up on nothing that changes", async () => {
    let refusals = 2;
    const flaky: Store = Object.create(store, {
      create: {
        value: async (...args: Parameters<Store["create"]>) => {
          if (refusals-- > 0) throw new StatusError(500, "InternalError", "disk full");
          return store.create(...args);
        },
      },
    });
    start(flaky);
    await makeService();
    await until(async () => refusals === 1);
    clock.advance(5_000);
    await until(async () => refusals === 0);
    clock.advance(10_000);
    await until(async () => (await slices()).length === 1);
  });

  test("takes a slice of its own back that somebody changed or deleted", async () => {
    start();
    await makeService();
    await makePod(1);
    await until(async () => (await ready()).length === 1 && (await settled()));
    const [slice] = await slices();
    await store.update(EndpointSlices, { ...(slice as KubeObject), endpoints: [] });
    await until(async () => (await ready()).length === 1);
    await store.delete({ resource: EndpointSlices, namespace: "default", name: slice!.metadata.name });
    await until(async () => (await ready()).length === 1 && (await settled()));
  });
});

describe("the API server's own Service", () => {
  test("has the first address of the range, and a slice that no controller claims", async () => {
    start();
    await publishApiServer(store, { addresses: ["10.244.0.1"], port: 6443, serviceCidrs: ["10.96.0.0/16"] });
    const service = await store.get({ resource: Services, namespace: "default", name: "kubernetes" });
    expect(service?.spec).toMatchObject({
      clusterIP: "10.96.0.1",
      ports: [{ name: "https", port: 443, targetPort: 6443 }],
    });
    const [slice] = await slices();
    expect(slice?.metadata.labels).toEqual({ "kubernetes.io/service-name": "kubernetes" });
    const before = store.revision;
    await publishApiServer(store, { addresses: ["10.244.0.1"], port: 6443, serviceCidrs: ["10.96.0.0/16"] });
    expect(store.revision).toBe(before);
    await publishApiServer(store, { addresses: ["10.244.0.2"], port: 7443, serviceCidrs: ["10.96.0.0/16"] });
    expect((await slices())[0]).toMatchObject({ endpoints: [{ addresses: ["10.244.0.2"] }], ports: [{ port: 7443 }] });
  });
});

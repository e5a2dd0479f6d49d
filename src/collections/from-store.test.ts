import { describe, expect, test } from "bun:test";
import type { KubeObject } from "../api/object.ts";
import type { Resource } from "../api/resource.ts";
import { FakeClock } from "../base/clock.ts";
import type { Batch } from "./collection.ts";
import { fromStore } from "./from-store.ts";
import { createGraph } from "./graph.ts";
import { MemoryStore } from "./testing/memory-store.ts";

const services: Resource = {
  group: "",
  version: "v1",
  kind: "Service",
  plural: "services",
  singular: "service",
  scope: "Namespaced",
  verbs: [],
};
const pods: Resource = { ...services, kind: "Pod", plural: "pods", singular: "pod" };

const object = (name: string, spec: unknown = {}, namespace = "shop"): KubeObject => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name, namespace },
  spec,
});

describe("the objects of a store as a collection", () => {
  test("has what was there, then follows every write", async () => {
    const store = new MemoryStore();
    await store.create(services, object("a"));
    const graph = createGraph();
    const collection = fromStore(store, services, { graph });
    await collection.ready;
    expect([...collection.keys()]).toEqual(["shop/a"]);
    await store.create(services, object("b"));
    await graph.settled();
    await store.delete({ resource: services, namespace: "shop", name: "a" });
    await graph.settled();
    expect([...collection.keys()]).toEqual(["shop/b"]);
  });

  test("is ready with an empty list, too", async () => {
    const collection = fromStore(new MemoryStore(), services, { graph: createGraph() });
    await collection.ready;
    expect(collection.size).toBe(0);
  });

  test("a burst of writes, of several kinds, is one batch", async () => {
    const store = new MemoryStore();
    const graph = createGraph();
    const all = [fromStore(store, services, { graph }), fromStore(store, pods, { graph })];
    await Promise.all(all.map((one) => one.ready));
    const batches: Batch<KubeObject>[] = [];
    for (const one of all) one.subscribe((batch) => batches.push(batch));
    const before = graph.batches;
    void store.create(services, object("a"));
    void store.create(services, object("b"));
    void store.create(pods, object("p"));
    await graph.settled();
    expect(graph.batches).toBe(before + 1);
    expect(batches.map((batch) => batch.length)).toEqual([2, 1]);
  });

  test("lists again when the history has expired, and tells only what differs", async () => {
    const store = new MemoryStore();
    await store.create(services, object("a"));
    await store.create(services, object("b"));
    const graph = createGraph();
    const collection = fromStore(store, services, { graph });
    await collection.ready;
    const changes: string[] = [];
    collection.subscribe((batch) => changes.push(...batch.map((change) => change.key)));
    store.expire(); // nobody watches now
    await store.update(services, object("b", { port: 1 }));
    while (store.lists < 2) await Promise.resolve();
    await new Promise((resolve) => setImmediate(resolve));
    await graph.settled();
    expect(changes).toEqual(["shop/b"]);
    await store.delete({ resource: services, namespace: "shop", name: "b" });
    await graph.settled();
    expect(collection.has("shop/b")).toBe(false);
  });

  test("a list that fails is tried again after a pause", async () => {
    const store = new MemoryStore();
    await store.create(services, object("a"));
    store.failures.push(new Error("connection refused"));
    const clock = new FakeClock();
    const collection = fromStore(store, services, { graph: createGraph(), clock });
    await new Promise((resolve) => setImmediate(resolve));
    expect([store.lists, collection.size]).toEqual([1, 0]);
    clock.advance(100);
    await collection.ready;
    expect(collection.size).toBe(1);
  });

  test("can be of one namespace, and ends", async () => {
    const store = new MemoryStore();
    const graph = createGraph();
    const collection = fromStore(store, services, { graph, namespace: "shop" });
    await collection.ready;
    await store.create(services, object("a", {}, "other"));
    await store.create(services, object("b"));
    await graph.settled();
    collection.dispose();
    await store.create(services, object("c"));
    await graph.settled();
    expect([...collection.keys()]).toEqual(["shop/b"]);
  });
});

import { beforeEach, describe, expect, test } from "bun:test";
import { HTTPRoutes } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import type { Resource } from "../api/resource.ts";
import { builtinScheme } from "../api/scheme.ts";
import { StatusError } from "../api/status-error.ts";
import { FakeClock } from "../base/clock.ts";
import { createGraph } from "../collections/graph.ts";
import { type Source, source } from "../collections/source.ts";
import { MemoryStore } from "../collections/testing/memory-store.ts";
import type { StatusUpdate } from "../model/status-update.ts";
import { openSqliteStore } from "../store/sqlite/sqlite-store.ts";
import { withTransitionTimes } from "./status-conditions.ts";
import { mergeParents } from "./status-merge.ts";
import { type StatusSink, statusSink } from "./status-sink.ts";

const routes: Resource = {
  group: "gateway.networking.k8s.io",
  version: "v1",
  kind: "HTTPRoute",
  plural: "httproutes",
  singular: "httproute",
  scope: "Namespaced",
  verbs: [],
  subresources: ["status"],
};
const key = { resource: routes, namespace: "shop", name: "orders" };
const route: KubeObject = {
  apiVersion: "gateway.networking.k8s.io/v1",
  kind: "HTTPRoute",
  metadata: { namespace: "shop", name: "orders" },
};

const update = (status: StatusUpdate["status"], parts: Partial<StatusUpdate> = {}): StatusUpdate => ({
  resource: "httproutes.gateway.networking.k8s.io",
  namespace: "shop",
  name: "orders",
  generation: 1,
  status,
  after: [],
  ...parts,
});

let store: MemoryStore;
let clock: FakeClock;
let updates: Source<StatusUpdate>;
let gates: (() => void)[];
let sink: StatusSink;

beforeEach(async () => {
  store = new MemoryStore([routes]);
  await store.create(routes, route);
  store.writes = 0;
  clock = new FakeClock(Date.UTC(2026, 4, 1, 12, 0, 0, 123));
  updates = source("updates", { graph: createGraph() });
  gates = [];
  sink = statusSink({
    store,
    updates: [updates],
    clock,
    barrier: (after) => (after.length === 0 ? Promise.resolve() : new Promise<void>((resolve) => gates.push(resolve))),
    merge: { "httproutes.gateway.networking.k8s.io": mergeParents((name) => name === "fairlead.dev/us") },
  });
});

const status = async () => (await store.get(key))?.status;
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const accepted = (value: "True" | "False", message = "") => ({
  type: "Accepted",
  status: value,
  reason: "R",
  message,
  observedGeneration: 1,
});
const parent = (value: "True" | "False", message?: string) => ({
  parentRef: { name: "gw" },
  controllerName: "fairlead.dev/us",
  conditions: [accepted(value, message)],
});

describe("the status sink", () => {
  test("writes what is wanted, stamped to the second, once", async () => {
    updates.set("a", update({ parents: [parent("True")] }));
    await sink.idle();
    const written = { ...accepted("True"), lastTransitionTime: "2026-05-01T12:00:00Z" };
    expect(await status()).toEqual({ parents: [{ ...parent("True"), conditions: [written] }] });
    updates.set("a", update({ parents: [parent("True")] }, { after: [] }));
    updates.set("a", update({ parents: [parent("True")] }, { uid: "uid-1" }));
    await sink.idle();
    expect(store.writes).toBe(1);
  });

  test("waits for the proxies, and then writes only the latest", async () => {
    const after = [{ type: "routeTables", name: "t" }] as const;
    updates.set("a", update({ parents: [parent("True", "one")] }, { after }));
    updates.set("a", update({ parents: [parent("True", "two")] }, { after }));
    await turn();
    expect([store.writes, sink.pending]).toEqual([0, 1]);
    gates[0]!();
    await turn();
    expect(store.writes).toBe(0);
    gates[1]!();
    await sink.idle();
    expect(store.writes).toBe(1);
    expect((await status()).parents[0].conditions[0].message).toBe("two");
  });

  test("a status that waits for its proxies keeps no other from being written", async () => {
    for (let n = 0; n < 20; n++) {
      updates.set(`w${n}`, update({}, { name: `w${n}`, after: [{ type: "listeners", name: "l" }] }));
    }
    updates.set("a", update({ parents: [parent("True")] }));
    await turn();
    expect(store.writes).toBe(1);
  });

  test("keeps the time of a condition whose status did not change, and what other controllers wrote", async () => {
    const theirs = { parentRef: { name: "gw" }, controllerName: "example.com/them", conditions: [] };
    const ours = {
      ...parent("True"),
      conditions: [{ ...accepted("True"), lastTransitionTime: "2020-01-01T00:00:00Z" }],
    };
    await store.update(routes, { ...route, status: { parents: [theirs, ours] } }, { subresource: "status" });
    updates.set("a", update({ parents: [parent("True", "changed")] }));
    await sink.idle();
    const kept = { ...accepted("True", "changed"), lastTransitionTime: "2020-01-01T00:00:00Z" };
    expect(await status()).toEqual({ parents: [{ ...ours, conditions: [kept] }, theirs] });
    updates.set("a", update({ parents: [] }));
    await sink.idle();
    expect(await status()).toEqual({ parents: [theirs] });
  });

  test("is not written over an object that has changed, gone, or been made anew", async () => {
    await store.update(routes, { ...route, spec: { rules: [] } });
    store.writes = 0;
    updates.set("a", update({ parents: [parent("True")] }, { generation: 1 }));
    updates.set("b", update({ parents: [] }, { name: "gone" }));
    updates.set("c", update({ parents: [parent("True")] }, { generation: 2, uid: "of the one before" }));
    await sink.idle();
    expect(store.writes).toBe(0);
  });

  test("a conflict, and any other failure, is tried again after a pause", async () => {
    store.failures.push(new StatusError(409, "Conflict", "modified"), new Error("connection refused"));
    updates.set("a", update({ parents: [parent("True")] }));
    await turn();
    expect(store.writes).toBe(0);
    clock.advance(10);
    await turn();
    expect(store.writes).toBe(0);
    clock.advance(1_000);
    await sink.idle();
    expect(store.writes).toBe(1);
  });

  test("a status that is wanted no more, or a sink that has ended, writes nothing", async () => {
    const after = [{ type: "routeTables", name: "t" }] as const;
    updates.set("a", update({ parents: [parent("True")] }, { after }));
    updates.delete("a");
    updates.set("b", update({ parents: [parent("True")] }, { after }));
    sink.dispose();
    for (const open of gates) open();
    await sink.idle();
    await turn();
    expect(store.writes).toBe(0);
  });
});

test("in the embedded store, a status is written beside the spec, which keeps its generation", async () => {
  const real = openSqliteStore({ path: ":memory:", scheme: builtinScheme(), clock });
  await real.create(HTTPRoutes, {
    ...route,
    metadata: { namespace: "default", name: "orders" },
    spec: { parentRefs: [{ name: "gw" }] },
  });
  const wanted = source<StatusUpdate>("updates", { graph: createGraph() });
  const realSink = statusSink({ store: real, updates: [wanted], clock, barrier: async () => {} });
  const parentRef = { group: "gateway.networking.k8s.io", kind: "Gateway", name: "gw" };
  wanted.set("a", update({ parents: [{ ...parent("True"), parentRef }] }, { namespace: "default" }));
  await realSink.idle();
  const stored = await real.get({ resource: HTTPRoutes, namespace: "default", name: "orders" });
  expect(stored?.metadata.generation).toBe(1);
  expect(stored?.spec.parentRefs[0].name).toBe("gw");
  const written = { ...accepted("True"), lastTransitionTime: "2026-05-01T12:00:00Z" };
  expect(stored?.status).toEqual({
    parents: [{ controllerName: "fairlead.dev/us", parentRef, conditions: [written] }],
  });
});

test("times of conditions are kept wherever conditions are, and stamped when the status changes or is new", () => {
  const at = (type: string, value: string, time?: string) => ({
    type,
    status: value,
    ...(time ? { lastTransitionTime: time } : {}),
  });
  const stored = {
    conditions: [at("A", "True", "old"), at("B", "True", "old")],
    listeners: [
      { name: "http", conditions: [at("A", "True", "old")] },
      { name: "https", conditions: [at("A", "False", "older")] },
    ],
  };
  const wanted = {
    conditions: [at("A", "True"), at("B", "False"), at("C", "True")],
    listeners: [
      { name: "https", attachedRoutes: 1, conditions: [at("A", "False")] },
      { name: "new", conditions: [at("A", "True")] },
    ],
    addresses: undefined,
  };
  expect(withTransitionTimes(stored, wanted, "now")).toEqual({
    conditions: [at("A", "True", "old"), at("B", "False", "now"), at("C", "True", "now")],
    listeners: [
      { name: "https", attachedRoutes: 1, conditions: [at("A", "False", "older")] },
      { name: "new", conditions: [at("A", "True", "now")] },
    ],
  });
});

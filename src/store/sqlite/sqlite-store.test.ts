import { beforeEach, describe, expect, test } from "bun:test";
import type { KubeObject } from "../../api/object.ts";
import { builtinScheme } from "../../api/scheme.ts";
import { FakeClock } from "../../base/clock.ts";
import type { StoreEvent } from "../store.ts";
import { openSqliteStore, type SqliteStore } from "./sqlite-store.ts";

const scheme = builtinScheme();
const configMaps = scheme.byKey("configmaps")!;
const pods = scheme.byKey("pods")!;
const deployments = scheme.byKey("deployments.apps")!;
const namespaces = scheme.byKey("namespaces")!;

const configMap = (name: string, more: Partial<KubeObject> = {}): KubeObject => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  ...more,
  metadata: { name, namespace: "default", ...more.metadata },
});

let store: SqliteStore;
let clock: FakeClock;
beforeEach(() => {
  clock = new FakeClock();
  store = openSqliteStore({ path: ":memory:", scheme: builtinScheme(), clock });
});

const names = (events: readonly StoreEvent[]) =>
  events.map((event) => (event.type === "BOOKMARK" ? "BOOKMARK" : `${event.type} ${event.object.metadata.name}`));
const failure = (promise: Promise<unknown>) => promise.then(() => undefined).catch((error: Error) => error.message);

describe("writes", () => {
  test("a created object gets its metadata and can be read back", async () => {
    const made = await store.create(configMaps, configMap("a", { data: { k: "v" } }));
    expect(made.metadata.uid).toMatch(/^[0-9a-f-]{36}$/);
    expect(made.metadata.creationTimestamp).toBe("2026-01-01T00:00:00Z");
    expect(await store.get({ resource: configMaps, namespace: "default", name: "a" })).toBe(made);
    expect(Object.isFrozen(made.metadata)).toBe(true);
  });

  test("a second object of the same name is refused", async () => {
    await store.create(configMaps, configMap("a"));
    expect(await failure(store.create(configMaps, configMap("a")))).toBe('configmaps "a" already exists');
  });

  test("an update with an old resourceVersion is a conflict", async () => {
    const first = await store.create(configMaps, configMap("a"));
    await store.update(configMaps, { ...first, data: { k: "1" } });
    expect(await failure(store.update(configMaps, { ...first, data: { k: "2" } }))).toBe(
      'Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again',
    );
  });

  test("a write that changes nothing gets no new resourceVersion", async () => {
    const first = await store.create(configMaps, configMap("a", { data: { k: "1" } }));
    const second = await store.update(configMaps, configMap("a", { data: { k: "1" } }));
    expect(second.metadata.resourceVersion).toBe(first.metadata.resourceVersion!);
  });

  test("a dry run answers and stores nothing", async () => {
    const before = store.revision;
    await store.create(configMaps, configMap("a"), { dryRun: true });
    expect(await store.get({ resource: configMaps, namespace: "default", name: "a" })).toBeUndefined();
    expect(store.revision).toBe(before);
  });

  test("nothing is made in a namespace that is missing or terminating", async () => {
    const lost = configMap("a", { metadata: { name: "a", namespace: "nope" } });
    expect(await failure(store.create(configMaps, lost))).toBe('namespaces "nope" not found');
    await store.create(namespaces, { apiVersion: "v1", kind: "Namespace", metadata: { name: "nope" } });
    await store.delete({ resource: namespaces, name: "nope" });
    expect(await failure(store.create(configMaps, lost))).toBe(
      'configmaps "a" is forbidden: unable to create new content in namespace nope because it is being terminated',
    );
  });

  test("status and spec are written apart, and the generation counts changes of the spec", async () => {
    const deployment: KubeObject = {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: "d", namespace: "default" },
      spec: {
        replicas: 1,
        selector: { matchLabels: { a: "b" } },
        template: { metadata: { labels: { a: "b" } }, spec: { containers: [{ name: "c", image: "x" }] } },
      },
      status: { replicas: 7 },
    };
    const made = await store.create(deployments, deployment);
    expect(made.status?.replicas).toBeUndefined();
    const key = { resource: deployments, namespace: "default", name: "d" };
    const counted = await store.patch(
      key,
      { type: "merge", body: { spec: { replicas: 9 }, status: { replicas: 1 } } },
      { subresource: "status" },
    );
    expect([counted.spec.replicas, counted.status.replicas, counted.metadata.generation]).toEqual([1, 1, 1]);
    const scaled = await store.patch(key, { type: "merge", body: { spec: { replicas: 3 } } }, { subresource: "scale" });
    expect(scaled.kind).toBe("Scale");
    expect((await store.get(key))?.metadata.generation).toBe(2);
  });

  test("generated names are tried again until one is free", async () => {
    const made = await store.create(configMaps, {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { generateName: "gen-", namespace: "default" } as unknown as KubeObject["metadata"],
    });
    expect(made.metadata.name).toMatch(/^gen-[a-z0-9]{5}$/);
  });
});

describe("admissions", () => {
  test("a mutation's own objects are committed with the object, or not at all", async () => {
    store.admit({
      name: "shadow",
      resources: ["configmaps"],
      mutate({ object, view, operation }) {
        if (operation === "create") view.put("secrets", secret(`${object!.metadata.name}-shadow`));
        return undefined;
      },
      validate({ object }) {
        if (object?.metadata.name === "refused") throw new Error("refused");
      },
    });
    await store.create(configMaps, configMap("a"));
    expect(await failure(store.create(configMaps, configMap("refused")))).toBe("refused");
    const secrets = await store.list(scheme.byKey("secrets")!);
    expect(secrets.items.map((one) => one.metadata.name)).toEqual(["a-shadow"]);
  });
});

const secret = (name: string): KubeObject => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name, namespace: "default" },
});

describe("deletion", () => {
  test("finalizers keep an object until the last of them is taken away", async () => {
    await store.create(configMaps, configMap("a", { metadata: { name: "a", finalizers: ["example.com/x"] } }));
    const key = { resource: configMaps, namespace: "default", name: "a" };
    const waiting = await store.delete(key);
    expect(waiting.metadata.deletionTimestamp).toBe("2026-01-01T00:00:00Z");
    await store.patch(key, { type: "merge", body: { metadata: { finalizers: null } } });
    expect(await store.get(key)).toBeUndefined();
  });

  test("propagation policies are left to the garbage collector as finalizers", async () => {
    const key = { resource: configMaps, namespace: "default", name: "a" };
    await store.create(configMaps, configMap("a"));
    const waiting = await store.delete(key, { propagationPolicy: "Foreground" });
    expect(waiting.metadata.finalizers).toEqual(["foregroundDeletion"]);
  });

  test("a placed pod waits for its kubelet, another goes at once", async () => {
    const pod = (name: string): KubeObject => ({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name, namespace: "default" },
      spec: { containers: [{ name: "c", image: "x" }], terminationGracePeriodSeconds: 30 },
    });
    const key = (name: string) => ({ resource: pods, namespace: "default", name });
    await store.create(pods, pod("free"));
    await store.create(pods, pod("placed"));
    await store.bind(key("placed"), "node-1");
    expect((await store.startDeletion(key("free"))).gone).toBe(true);
    const { gone, object } = await store.startDeletion(key("placed"));
    expect([gone, object.metadata.deletionTimestamp, object.metadata.deletionGracePeriodSeconds]).toEqual([
      false,
      "2026-01-01T00:00:30Z",
      30,
    ]);
    const sooner = await store.startDeletion(key("placed"), { gracePeriodSeconds: 5 });
    expect(sooner.object.metadata.deletionTimestamp).toBe("2026-01-01T00:00:05Z");
    expect((await store.startDeletion(key("placed"), { gracePeriodSeconds: 0 })).gone).toBe(true);
  });

  test("a precondition that does not hold is a conflict", async () => {
    await store.create(configMaps, configMap("a"));
    const key = { resource: configMaps, namespace: "default", name: "a" };
    expect(await failure(store.delete(key, { preconditions: { uid: "other" } }))).toContain(
      'Operation cannot be fulfilled on ConfigMap "a": the UID in the precondition (other) does not match the UID in record',
    );
  });
});

describe("lists", () => {
  test("are in the order of their keys and can be read in pages of one state", async () => {
    for (const name of ["c", "a", "b"]) await store.create(configMaps, configMap(name));
    const first = await store.list(configMaps, { limit: 2 });
    expect(first.items.map((one) => one.metadata.name)).toEqual(["a", "b"]);
    expect(first.remainingItemCount).toBe(1);
    await store.create(configMaps, configMap("d"));
    const rest = await store.list(configMaps, { limit: 2, continue: first.continue! });
    expect(rest.items.map((one) => one.metadata.name)).toEqual(["c"]);
    expect(rest.resourceVersion).toBe(first.resourceVersion);
  });

  test("select by labels and fields", async () => {
    await store.create(configMaps, configMap("a", { metadata: { name: "a", labels: { x: "1" } } }));
    await store.create(configMaps, configMap("b", { metadata: { name: "b", labels: { x: "2" } } }));
    const byLabel = await store.list(configMaps, { labelSelector: "x in (2,3)" });
    expect(byLabel.items.map((one) => one.metadata.name)).toEqual(["b"]);
    const byField = await store.list(configMaps, { fieldSelector: "metadata.name!=b" });
    expect(byField.items.map((one) => one.metadata.name)).toEqual(["a"]);
  });
});

describe("watches", () => {
  test("get what happened since a list, once and in order", async () => {
    const { resourceVersion } = await store.list(configMaps);
    await store.create(configMaps, configMap("a"));
    const events: StoreEvent[] = [];
    store.watch(configMaps, resourceVersion, (event) => events.push(event));
    await store.create(configMaps, configMap("b"));
    await store.delete({ resource: configMaps, namespace: "default", name: "a" });
    await Promise.resolve();
    expect(names(events)).toEqual(["ADDED a", "ADDED b", "DELETED a"]);
  });

  test("see objects enter and leave their selector", async () => {
    const events: StoreEvent[] = [];
    store.watch(configMaps, store.revision, (event) => events.push(event), { labelSelector: "x=1" });
    const label = (x: string) => configMap("a", { metadata: { name: "a", labels: { x } } });
    await store.create(configMaps, label("0"));
    await store.update(configMaps, label("1"));
    await store.update(configMaps, label("2"));
    await Promise.resolve();
    expect(names(events)).toEqual(["ADDED a", "DELETED a"]);
    const last = events[1]!;
    expect(last.type === "DELETED" && last.object.metadata.labels).toEqual({ x: "1" });
  });

  test("from before the window are told that it expired", async () => {
    const small = openSqliteStore({ path: ":memory:", scheme: builtinScheme(), clock, historyWindow: 10 });
    for (let i = 0; i < 30; i++) await small.create(configMaps, configMap(`c${i}`));
    expect(() => small.watch(configMaps, "3", () => {})).toThrow(/^too old resource version: 3 \(\d+\)$/);
    const events: StoreEvent[] = [];
    small.watch(configMaps, String(Number(small.revision) - 9), (event) => events.push(event));
    await Promise.resolve();
    expect(names(events)).toHaveLength(9);
  });

  test("get bookmarks", async () => {
    const events: StoreEvent[] = [];
    store.watch(configMaps, store.revision, (event) => events.push(event));
    clock.advance(60_000);
    await Promise.resolve();
    expect(names(events)).toEqual(["BOOKMARK"]);
  });

  test("that write while they are told keep the order for the others", async () => {
    const seen: string[] = [];
    store.watch(configMaps, store.revision, (event) => {
      if (event.type === "ADDED" && event.object.metadata.name === "a") void store.create(configMaps, configMap("b"));
    });
    store.watch(configMaps, store.revision, (event) => seen.push(...names([event])));
    await store.create(configMaps, configMap("a"));
    await Bun.sleep(0);
    expect(seen).toEqual(["ADDED a", "ADDED b"]);
  });
});

test("events go an hour after they last happened", async () => {
  const events = store.scheme.byKey("events")!;
  const event = (name: string, lastTimestamp: string): KubeObject => ({
    apiVersion: "v1",
    kind: "Event",
    metadata: { name, namespace: "default" },
    involvedObject: { kind: "Pod", name: "p", namespace: "default" },
    lastTimestamp,
  });
  await store.create(events, event("once", "2026-01-01T00:00:00Z"));
  await store.create(events, event("again", "2026-01-01T00:50:00Z"));
  clock.advance(65 * 60_000);
  expect((await store.list(events)).items.map((one) => one.metadata.name)).toEqual(["again"]);
});

describe("custom resources", () => {
  const definition: KubeObject = {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: "widgets.example.com" },
    spec: {
      group: "example.com",
      scope: "Namespaced",
      names: { plural: "widgets", singular: "widget", kind: "Widget", listKind: "WidgetList" },
      versions: [{ name: "v1", served: true, storage: true, schema: { openAPIV3Schema: { type: "object" } } }],
    },
  };

  test("are served from the moment that their definition is stored until it goes", async () => {
    const definitions = store.scheme.byKey("customresourcedefinitions.apiextensions.k8s.io")!;
    await store.create(definitions, definition);
    const key = { resource: definitions, name: "widgets.example.com" };
    const stored = await store.get(key);
    expect(stored?.status.conditions.map((one: { type: string }) => one.type)).toEqual([
      "NamesAccepted",
      "Established",
    ]);
    const widgets = store.scheme.byKey("widgets.example.com")!;
    const object = { apiVersion: "example.com/v1", kind: "Widget", metadata: { name: "w", namespace: "default" } };
    await store.create(widgets, object);
    expect((await store.list(widgets)).items).toHaveLength(1);
    let ended: Error | undefined;
    store.watch(widgets, store.revision, () => {}, { onError: (error) => (ended = error) });
    await store.delete(key);
    expect(store.scheme.byKey("widgets.example.com")).toBeUndefined();
    expect(await failure(store.list(widgets))).toBe("the server could not find the requested resource");
    expect(ended?.message).toBe("the watch was ended by the server");
  });
});

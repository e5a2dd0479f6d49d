import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  ConfigMaps,
  CustomResourceDefinitions,
  Events,
  Namespaces,
  Pods,
  Secrets,
  ServiceAccounts,
} from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { expiredEvents } from "./events.ts";
import { verdict } from "./garbage-collector.ts";
import { startWorld, template, type World } from "./testing/world.ts";

const owner = (uid: string) => ({ apiVersion: "v1", kind: "ConfigMap", name: uid, uid });
const owned = (owners: readonly string[], finalizers?: readonly string[]): KubeObject => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name: "s", ownerReferences: owners.map(owner), ...(finalizers ? { finalizers } : {}) },
});

describe("an object with owners", () => {
  const found = (solid: string[], waiting: string[], missing: string[]) => ({
    solid: solid.map(owner),
    waiting: waiting.map(owner),
    missing: missing.map(owner),
  });

  test("stays while all are there", () => {
    expect(verdict(owned(["a"]), found(["a"], [], []), false)).toEqual({ do: "keep" });
  });
  test("forgets those that are gone while one remains", () => {
    expect(verdict(owned(["a", "b"]), found(["a"], [], ["b"]), false)).toEqual({ do: "unlink", owners: [owner("b")] });
  });
  test("goes when all are gone, as its own finalizers say", () => {
    expect(verdict(owned(["a"]), found([], [], ["a"]), true)).toEqual({ do: "delete", policy: "Background" });
    expect(verdict(owned(["a"], ["orphan"]), found([], [], ["a"]), true)).toEqual({ do: "delete", policy: "Orphan" });
  });
  test("goes in the foreground for an owner that waits, when it has dependents itself", () => {
    expect(verdict(owned(["a"]), found([], ["a"], []), true)).toEqual({ do: "delete", policy: "Foreground" });
    expect(verdict(owned(["a"]), found([], ["a"], []), false)).toEqual({ do: "delete", policy: "Background" });
  });
});

describe("Events", () => {
  const event = (name: string, lastTimestamp: string): KubeObject => ({
    apiVersion: "v1",
    kind: "Event",
    metadata: { name },
    lastTimestamp,
  });
  test("go after an hour, and the oldest when there are too many", () => {
    const now = Date.UTC(2026, 0, 1, 12);
    const old = event("old", "2026-01-01T10:59:59Z");
    const young = event("young", "2026-01-01T11:30:00Z");
    expect(expiredEvents([young, old], now)).toEqual([old]);
    const many = Array.from({ length: 5_001 }, (_, at) => event(`e${at}`, "2026-01-01T11:45:00Z"));
    expect(expiredEvents([...many, young], now).map(({ metadata }) => metadata.name)).toEqual(["young", "e0"]);
  });
});

describe("in a running stack", () => {
  let world: World;
  beforeEach(async () => {
    world = await startWorld({ rootCertificate: "PEM" });
  });
  afterEach(() => world.dispose());

  const configMap = (name: string, owners: readonly KubeObject[] = [], namespace = "default"): KubeObject => ({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: {
      name,
      namespace,
      ownerReferences: owners.map((one) => ({
        apiVersion: one.apiVersion,
        kind: one.kind,
        name: one.metadata.name,
        uid: one.metadata.uid ?? "",
        blockOwnerDeletion: true,
      })),
    },
  });
  const names = () =>
    world
      .all(ConfigMaps, "default")
      .map((one) => one.metadata.name)
      .filter((name) => name !== "kube-root-ca.crt");

  test("dependents follow their owner, and their dependents follow them", async () => {
    const a = await world.create(ConfigMaps, configMap("a"));
    const b = await world.create(ConfigMaps, configMap("b", [a]));
    await world.create(ConfigMaps, configMap("c", [b]));
    await world.remove(ConfigMaps, "a");
    await world.until("all are gone", () => names().length === 0);
  });

  test("an owner deleted in the foreground goes last", async () => {
    const a = await world.create(ConfigMaps, configMap("a"));
    await world.create(ConfigMaps, configMap("b", [a]));
    await world.quiet();
    const gone: string[] = [];
    const watching = world.store.watch(ConfigMaps, world.store.revision, (event) => {
      if (event.type === "DELETED") gone.push(event.object.metadata.name);
    });
    await world.remove(ConfigMaps, "a", "Foreground");
    await world.until("all are gone", () => gone.length === 2);
    watching.dispose();
    expect(gone).toEqual(["b", "a"]);
  });

  test("an owner deleted with Orphan leaves its dependents behind, without it", async () => {
    const a = await world.create(ConfigMaps, configMap("a"));
    await world.create(ConfigMaps, configMap("b", [a]));
    await world.quiet();
    await world.remove(ConfigMaps, "a", "Orphan");
    await world.until("it is gone", () => names().join() === "b");
    expect(world.get(ConfigMaps, "b")!.metadata.ownerReferences ?? []).toEqual([]);
  });

  test("an object that names an owner that never was goes", async () => {
    const ghost = { ...configMap("ghost"), metadata: { name: "ghost", uid: "00000000-0000-0000-0000-000000000000" } };
    await world.create(ConfigMaps, configMap("b", [ghost]));
    await world.until("it is gone", () => names().length === 0);
  });

  test("objects of a kind that a CustomResourceDefinition adds own others, too, and go with their namespace", async () => {
    await world.create(CustomResourceDefinitions, {
      apiVersion: "apiextensions.k8s.io/v1",
      kind: "CustomResourceDefinition",
      metadata: { name: "widgets.example.com" },
      spec: {
        group: "example.com",
        scope: "Namespaced",
        names: { plural: "widgets", singular: "widget", kind: "Widget", listKind: "WidgetList" },
        versions: [{ name: "v1", served: true, storage: true, schema: { openAPIV3Schema: { type: "object" } } }],
      },
    });
    const widgets = () => world.store.resources().find((one) => one.plural === "widgets");
    await world.until("widgets are served", () => widgets() !== undefined);
    await world.quiet();
    const widget = { apiVersion: "example.com/v1", kind: "Widget", metadata: { name: "w", namespace: "default" } };
    const owner = await world.create(widgets()!, widget);
    await world.create(ConfigMaps, configMap("b", [owner]));
    await world.quiet();
    expect(names()).toEqual(["b"]);
    await world.remove(widgets()!, "w");
    await world.until("its dependent is gone", () => names().length === 0);

    await world.create(Namespaces, { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } });
    await world.create(widgets()!, { ...widget, metadata: { name: "w", namespace: "shop" } });
    await world.remove(Namespaces, "shop");
    await world.until("the namespace is gone", () => !world.get(Namespaces, "shop"));
    expect(world.all(widgets()!, "shop")).toEqual([]);
  });

  test("a namespace gets its ServiceAccount and root certificate, again when they are removed", async () => {
    await world.create(Namespaces, { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } });
    const both = () =>
      world.get(ServiceAccounts, "default", "shop") !== undefined &&
      world.get(ConfigMaps, "kube-root-ca.crt", "shop")?.["data"]?.["ca.crt"] === "PEM";
    await world.until("both", both);
    await world.store.delete({ resource: ServiceAccounts, namespace: "shop", name: "default" });
    await world.store.delete({ resource: ConfigMaps, namespace: "shop", name: "kube-root-ca.crt" });
    await world.until("both again", both);
  });

  test("a namespace that is deleted loses all that is in it, then goes", async () => {
    await world.create(Namespaces, { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } });
    await world.create(Secrets, { apiVersion: "v1", kind: "Secret", metadata: { name: "s", namespace: "shop" } });
    await world.create(Pods, {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "p", namespace: "shop", labels: { app: "p" } },
      spec: template("p").spec,
    });
    await world.until("the pod runs", () => world.get(Pods, "p", "shop")?.status?.phase === "Running");
    await world.remove(Namespaces, "shop");
    expect(world.get(Namespaces, "shop")!.status.phase).toBe("Terminating");
    await world.until("it is gone", () => !world.get(Namespaces, "shop"));
    expect([
      ...world.all(Pods, "shop"),
      ...world.all(Secrets, "shop"),
      ...world.all(ConfigMaps, "shop"),
      ...world.all(Events, "shop"),
    ]).toEqual([]);
  });
});

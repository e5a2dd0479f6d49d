import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  type PersistentVolume,
  type PersistentVolumeClaim,
  PersistentVolumeClaims,
  PersistentVolumes,
  Pods,
  StatefulSets,
  StorageClasses,
} from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { startWorld, template, type World, workload } from "./testing/world.ts";
import { claimPlan } from "./volume-binding.ts";
import { standardClass } from "./volumes.ts";

const claim = (name: string, spec: object = {}): KubeObject => ({
  apiVersion: "v1",
  kind: "PersistentVolumeClaim",
  metadata: { name, namespace: "default" },
  spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } }, ...spec },
});
const volume = (name: string, storage: string, spec: object = {}): PersistentVolume =>
  ({
    apiVersion: "v1",
    kind: "PersistentVolume",
    metadata: { name },
    spec: { capacity: { storage }, accessModes: ["ReadWriteOnce"], hostPath: { path: `/srv/${name}` }, ...spec },
  }) as PersistentVolume;
const plan = (spec: object, volumes: readonly PersistentVolume[], classes: readonly KubeObject[] = []) => {
  const one = claimPlan(claim("data", spec) as PersistentVolumeClaim, volumes, classes);
  return "volume" in one ? `${one.do} ${one.volume?.metadata.name}` : "message" in one ? one.message : one.do;
};

describe("a claim", () => {
  test("gets the smallest volume that has what it asks for", () => {
    const volumes = [
      volume("big", "10Gi"),
      volume("fits", "2Gi"),
      volume("small", "500Mi"),
      volume("other", "1Gi", { storageClassName: "x" }),
    ];
    expect(plan({ storageClassName: "" }, volumes)).toBe("bind fits");
    expect(plan({ storageClassName: "", accessModes: ["ReadWriteMany"] }, volumes)).toStartWith(
      "no persistent volumes available",
    );
    expect(plan({ storageClassName: "x" }, volumes)).toBe("bind other");
  });

  test("gets the volume that is kept for it", () => {
    const kept = volume("kept", "1Gi", { claimRef: { namespace: "default", name: "data" } });
    expect(plan({ storageClassName: "" }, [volume("free", "1Gi"), kept])).toBe("bind kept");
  });

  test("without a class takes the default one; of a class that is not there it says so", () => {
    expect(plan({}, [], [standardClass])).toBe("class");
    expect(plan({ storageClassName: "standard" }, [], [standardClass])).toBe("provision");
    expect(plan({ storageClassName: "fast" }, [], [standardClass])).toBe(
      'storageclass.storage.k8s.io "fast" not found',
    );
    expect(plan({}, [])).toBe("no persistent volumes available for this claim and no storage class is set");
  });
});

describe("persistent volumes in a world", () => {
  let world: World;
  const removed: string[] = [];
  beforeEach(async () => {
    removed.length = 0;
    const volumes = {
      path: (name: string) => `/state/${name}`,
      remove: async (name: string) => void removed.push(name),
    };
    world = await startWorld({ volumes });
  });
  afterEach(() => world.dispose());
  const names = (resource = PersistentVolumeClaims) =>
    world
      .all(resource)
      .map(({ metadata }) => metadata.name)
      .sort();
  const phase = (name: string) => world.get(PersistentVolumeClaims, name)?.status?.phase;

  test("StorageClass standard is there, and makes a volume for a claim that names no class", async () => {
    await world.until("the class", () => world.get(StorageClasses, "standard") !== undefined);
    const made = await world.create(PersistentVolumeClaims, claim("data"));
    await world.until("bound", () => phase("data") === "Bound");
    const name = `pvc-${made.metadata.uid}`;
    expect(world.get(PersistentVolumeClaims, "data")).toMatchObject({
      metadata: {
        finalizers: ["kubernetes.io/pvc-protection"],
        annotations: { "pv.kubernetes.io/bind-completed": "yes" },
      },
      spec: { volumeName: name, storageClassName: "standard" },
      status: { capacity: { storage: "1Gi" }, accessModes: ["ReadWriteOnce"] },
    });
    await world.until("the volume, too", () => world.get(PersistentVolumes, name)?.status?.phase === "Bound");
    expect(world.get(PersistentVolumes, name)!.spec).toMatchObject({
      hostPath: { path: `/state/${name}` },
      persistentVolumeReclaimPolicy: "Delete",
      claimRef: { name: "data", uid: made.metadata.uid },
    });
    await world.quiet();
    await world.remove(PersistentVolumeClaims, "data");
    await world.until("all gone", () => names().length === 0 && names(PersistentVolumes).length === 0);
    expect(removed).toEqual([name]);
  });

  test("a claim in use stays until its pod is gone, and its pod waits until it is bound", async () => {
    const volumes = [{ name: "d", persistentVolumeClaim: { claimName: "data" } }];
    const spec = { ...template("app").spec, volumes };
    await world.create(Pods, { apiVersion: "v1", kind: "Pod", metadata: { name: "user", namespace: "default" }, spec });
    await world.until("unschedulable", () => world.get(Pods, "user")?.status?.conditions?.[0]?.message !== undefined);
    expect(world.get(Pods, "user")!.status.conditions[0].message).toContain('persistentvolumeclaim "data" not found');
    await world.create(PersistentVolumeClaims, claim("data"));
    await world.until("placed", () => world.get(Pods, "user")!.spec.nodeName !== undefined);
    await world.remove(PersistentVolumeClaims, "data");
    await world.quiet();
    expect(names()).toEqual(["data"]);
    await world.remove(Pods, "user");
    await world.until("gone", () => names().length === 0);
  });

  const set = (policy: object = {}) =>
    workload(
      "db",
      {
        serviceName: "db",
        replicas: 2,
        persistentVolumeClaimRetentionPolicy: policy,
        volumeClaimTemplates: [{ metadata: { name: "data" }, spec: claim("data").spec }],
      },
      "StatefulSet",
    );
  const ready = (count: number) => () =>
    world.get(StatefulSets, "db")!.status?.readyReplicas === count && world.all(Pods).length === count;
  const scale = (replicas: number) =>
    world.change(StatefulSets, "db", (one) => ({ ...one, spec: { ...one.spec, replicas } }));

  test("claims of a StatefulSet have its pods' names, and stay when it goes", async () => {
    await world.create(StatefulSets, set());
    await world.until("ready", ready(2));
    expect(names()).toEqual(["data-db-0", "data-db-1"]);
    expect(world.get(Pods, "db-1")!.spec.volumes).toContainEqual({
      name: "data",
      persistentVolumeClaim: { claimName: "data-db-1" },
    });
    const before = world.get(PersistentVolumeClaims, "data-db-1")!.metadata.uid;
    await scale(1);
    await world.until("one", ready(1));
    await scale(2);
    await world.until("two", ready(2));
    expect(world.get(PersistentVolumeClaims, "data-db-1")!.metadata.uid).toBe(before);
    await world.remove(StatefulSets, "db");
    await world.until("no pods", () => world.all(Pods).length === 0);
    await world.quiet();
    expect(names()).toEqual(["data-db-0", "data-db-1"]);
  });

  test("or go with it, or with the pods that it does not need any more, as its policy says", async () => {
    await world.create(StatefulSets, set({ whenDeleted: "Delete", whenScaled: "Delete" }));
    await world.until("ready", ready(2));
    await scale(1);
    await world.until("the second claim is gone", () => names().join() === "data-db-0");
    await world.remove(StatefulSets, "db");
    await world.until("all gone", () => names().length === 0 && names(PersistentVolumes).length === 0);
    expect(removed.length).toBe(2);
  });
});

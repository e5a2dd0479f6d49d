// A small cluster for tests: a store in memory, the controllers of this room, and nodes whose pods become ready and end as
// soon as they are told. Time is a fake clock that moves only while a test waits for something.

import { type Node, Nodes, type Pod, Pods, type PodTemplateSpec } from "../../api/kinds.ts";
import type { KubeObject } from "../../api/object.ts";
import type { Resource } from "../../api/resource.ts";
import { builtinScheme } from "../../api/scheme.ts";
import { formatTime } from "../../api/strategy.ts";
import { FakeClock } from "../../base/clock.ts";
import { type Disposable, disposeAll } from "../../base/disposal.ts";
import { silentLogger } from "../../base/log.ts";
import { fromStore } from "../../collections/from-store.ts";
import { createGraph } from "../../collections/graph.ts";
import { openSqliteStore, type SqliteStore } from "../../store/sqlite/sqlite-store.ts";
import { startWorkloads } from "../start.ts";
import type { LocalVolumes } from "../volumes.ts";

export interface World extends Disposable {
  readonly store: SqliteStore;
  readonly clock: FakeClock;
  /** Whether a pod becomes ready; all do unless told otherwise. */
  becomesReady: (pod: Pod) => boolean;
  create(resource: Resource, object: KubeObject): Promise<KubeObject>;
  /** Reads, changes and writes; again after a conflict. */
  change(resource: Resource, name: string, change: (object: KubeObject) => object): Promise<KubeObject>;
  remove(resource: Resource, name: string, propagationPolicy?: "Orphan" | "Background" | "Foreground"): Promise<void>;
  get(resource: Resource, name: string, namespace?: string): KubeObject | undefined;
  all(resource: Resource, namespace?: string): readonly KubeObject[];
  /** Waits until `test` holds, and fails with `what` when it never does. */
  until(what: string, test: () => boolean): Promise<void>;
  /** Waits until nothing is written any more. */
  quiet(): Promise<void>;
  writes(): number;
  /** Ends the controllers, as a crash would: nothing is finished. */
  stop(): void;
  /** Starts them anew from what is stored. */
  restart(): Promise<void>;
}

export async function startWorld(
  options: { readonly nodes?: number; readonly rootCertificate?: string; readonly volumes?: LocalVolumes } = {},
): Promise<World> {
  const clock = new FakeClock();
  const store = openSqliteStore({ path: ":memory:", scheme: builtinScheme(), clock });
  for (let at = 1; at <= (options.nodes ?? 2); at++) await store.create(Nodes, node(`node-${at}`));
  const graph = createGraph();
  const collections = new Map<string, ReturnType<typeof fromStore>>();
  const start = () =>
    startWorkloads({
      store,
      clock,
      log: silentLogger,
      rootCertificate: options.rootCertificate,
      ...(options.volumes ? { volumes: options.volumes } : {}),
      collect: (resource) => {
        let made = collections.get(resource.plural + resource.group);
        if (!made) {
          made = fromStore(store, resource, { graph, clock });
          collections.set(resource.plural + resource.group, made);
        }
        return made;
      },
    });
  let workloads = start();
  await workloads.ready;
  const settings = { becomesReady: (_pod: Pod) => true };
  const kubelet = store.watch(Pods, "0", (event) => {
    if (event.type === "DELETED" || event.type === "BOOKMARK") return;
    void actAsKubelet(store, clock, event.object.metadata.name, event.object.metadata.namespace ?? "", settings);
  });

  const named = (resource: Resource, name: string, namespace = "default") =>
    resource.scope === "Namespaced" ? { resource, namespace, name } : { resource, name };
  const world: World = {
    store,
    clock,
    get becomesReady() {
      return settings.becomesReady;
    },
    set becomesReady(decide) {
      settings.becomesReady = decide;
    },
    create: (resource, object) => store.create(resource, object),
    async change(resource, name, change) {
      for (;;) {
        const now = store.read(named(resource, name));
        if (!now) throw new Error(`there is no ${resource.kind} ${name}`);
        try {
          return await store.update(resource, change(now) as KubeObject);
        } catch (error) {
          if ((error as { reason?: string }).reason !== "Conflict") throw error;
        }
      }
    },
    async remove(resource, name, propagationPolicy) {
      await store.delete(named(resource, name), { propagationPolicy });
    },
    get: (resource, name, namespace) => store.read(named(resource, name, namespace)),
    all: (resource, namespace) => store.readAll(resource, namespace),
    async until(what, test) {
      for (let turn = 0; turn < 5_000; turn++) {
        if (test()) return;
        await new Promise((resolve) => setImmediate(resolve));
        clock.advance(5);
      }
      throw new Error(`never happened: ${what}`);
    },
    async quiet() {
      let last = "";
      for (let same = 0; same < 40; same++) {
        await new Promise((resolve) => setImmediate(resolve));
        clock.advance(5);
        if (store.revision !== last) same = 0;
        last = store.revision;
      }
    },
    writes: () => Number(store.revision),
    stop: () => workloads.dispose(),
    async restart() {
      workloads.dispose();
      workloads = start();
      await workloads.ready;
    },
    dispose() {
      disposeAll([kubelet, workloads]).dispose();
      for (const one of collections.values()) one.dispose();
      store.close();
    },
  };
  return world;
}

export function node(name: string, more: Partial<Node> = {}): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Node",
    ...more,
    metadata: { name, labels: { "kubernetes.io/hostname": name }, ...more.metadata },
    status: { conditions: [{ type: "Ready", status: "True" }] },
  };
}

/** A Deployment, or with `kind` any other workload with a pod template. */
export function workload(name: string, spec: object = {}, kind = "Deployment"): KubeObject {
  return {
    apiVersion: kind === "Job" ? "batch/v1" : "apps/v1",
    kind,
    metadata: { name, namespace: "default" },
    spec: {
      ...(kind === "Job" ? {} : { selector: { matchLabels: { app: name } } }),
      template: template(name),
      ...spec,
    },
  };
}

export function template(name: string, image = "example.com/app:1", spec: object = {}): PodTemplateSpec {
  return {
    metadata: { labels: { app: name } },
    spec: { containers: [{ name: "app", image }], ...spec },
  } as unknown as PodTemplateSpec;
}

async function actAsKubelet(
  store: SqliteStore,
  clock: FakeClock,
  name: string,
  namespace: string,
  settings: { becomesReady: (pod: Pod) => boolean },
): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  try {
    const key = { resource: Pods, namespace, name };
    const pod = store.read(key) as Pod | undefined;
    if (!pod?.spec?.nodeName) return;
    if (pod.metadata.deletionTimestamp !== undefined) {
      await store.delete(key, { gracePeriodSeconds: 0 });
      return;
    }
    const ready = settings.becomesReady(pod);
    const now = pod.status?.conditions?.find((condition) => condition.type === "Ready");
    if (pod.status?.phase === "Running" && now?.status === (ready ? "True" : "False")) return;
    if (pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed") return;
    const conditions = (pod.status?.conditions ?? []).filter((condition) => condition.type !== "Ready");
    const condition = { type: "Ready", status: ready ? "True" : "False", lastTransitionTime: formatTime(clock.now()) };
    await store.update(
      Pods,
      { ...pod, status: { ...pod.status, phase: "Running", conditions: [...conditions, condition] } },
      { subresource: "status" },
    );
  } catch {
    // Written by somebody else in between: the next event comes.
  }
}

// 10,000 pods in 100 Services, and a rolling update of one of them, in the network namespace that this is started in: pods change
// in the store, the controllers of a stack write slices, and either Fairlead's rules or a kube-proxy follow them. Prints what
// was measured as a line of JSON. `run.ts` starts it.

import { CoreEndpoints, EndpointSlices, type Endpoints, Nodes, Pods, Services } from "../../src/api/kinds.ts";
import type { KubeObject } from "../../src/api/object.ts";
import { systemClock as clock } from "../../src/base/clock.ts";
import { silentLogger as log } from "../../src/base/log.ts";
import type { Collection } from "../../src/collections/collection.ts";
import { fromStore } from "../../src/collections/from-store.ts";
import { nftables } from "../../src/node/nftables/nftables.ts";
import { startRulesSink } from "../../src/node/rules-sink.ts";
import type { Run } from "../../src/node/service-rules.ts";
import { startEndpointSliceController } from "../../src/services/endpoint-slice-controller.ts";
import { startEndpointsController } from "../../src/services/endpoints-controller.ts";
import { serviceInputs } from "../../src/services/inputs.ts";
import { serviceTable } from "../../src/services/node-table.ts";
import { startCluster } from "../../test/kube-proxy/live.ts";

export interface Scenario {
  /** Changes of pods: ready, terminating, gone. */
  readonly changes: number;
  readonly slices: number;
  readonly endpointsObjects: number;
  /** What one watcher of EndpointSlices is sent. */
  readonly bytes: number;
  /** Milliseconds from the first change of a step to the last rule that follows from it; a step without such is left out. */
  readonly latency: readonly number[];
}

export interface ScenarioResult {
  readonly setup: number;
  readonly oneByOne: Scenario;
  readonly quarters: Scenario;
}

const [rules, services, podsOfEach, singles, path] = process.argv.slice(2);
const serviceCount = Number(services);
const podCount = Number(podsOfEach);
const nodeCount = 100;
const namespace = "ns";

const cluster = await startCluster([]);
const { store } = cluster;
await cluster.add({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });

/** Writes in flight at a time while everything is made. */
const together = 200;

async function inGroups<T>(all: readonly T[], write: (one: T) => Promise<unknown>): Promise<void> {
  for (let at = 0; at < all.length; at += together) await Promise.all(all.slice(at, at + together).map(write));
}

let nextAddress = 0;
const addressOf = new Map<string, string>();

function newAddress(): string {
  const n = ++nextAddress;
  return `10.${128 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;
}

function podObject(service: number, name: string): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace, labels: { app: `app-${service}` } },
    spec: {
      nodeName: `node-${(nextAddress % nodeCount) + 1}`,
      terminationGracePeriodSeconds: 30,
      containers: [{ name: "web", image: "example/web", ports: [{ containerPort: 8080 }] }],
    },
  };
}

function ready(pod: KubeObject): KubeObject {
  const address = newAddress();
  addressOf.set(pod.metadata.name, address);
  const lastTransitionTime = new Date().toISOString().replace(/\.\d+Z$/, "Z");
  return {
    ...pod,
    status: {
      phase: "Running",
      podIP: address,
      podIPs: [{ ip: address }],
      conditions: [{ type: "Ready", status: "True", lastTransitionTime }],
    },
  };
}

const began = performance.now();
await inGroups(
  Array.from({ length: nodeCount }, (_, at) => at + 1),
  (n) => cluster.add({ apiVersion: "v1", kind: "Node", metadata: { name: `node-${n}` } }),
);
const all = Array.from({ length: serviceCount }, (_, at) => at);
await inGroups(all, (n) =>
  cluster.add({
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: `svc-${n}`, namespace },
    spec: {
      type: "ClusterIP",
      clusterIP: `10.96.0.${n + 1}`,
      clusterIPs: [`10.96.0.${n + 1}`],
      ipFamilies: ["IPv4"],
      ipFamilyPolicy: "SingleStack",
      internalTrafficPolicy: "Cluster",
      sessionAffinity: "None",
      selector: { app: `app-${n}` },
      ports: [{ name: "http", protocol: "TCP", port: 80, targetPort: 8080 }],
    },
  }),
);
const pods = all.flatMap((n) => Array.from({ length: podCount }, (_, at) => podObject(n, `pod-${n}-${at}`)));
await inGroups(pods, async (pod) =>
  store.update(Pods, ready(await store.create(Pods, pod)), { subresource: "status" }),
);

const follow = (resource: Parameters<typeof fromStore>[1]) => fromStore(store, resource);
const collections = {
  services: follow(Services),
  endpointSlices: follow(EndpointSlices),
  pods: follow(Pods),
  nodes: follow(Nodes),
};
const endpointsObjects = follow(CoreEndpoints);
const inputs = serviceInputs(collections);
const table = serviceTable(inputs, "node-1");
const common = { store, clock, log };
const controller = startEndpointSliceController({ inputs, ...common });
startEndpointsController({ inputs, endpoints: endpointsObjects as Collection<Endpoints>, ...common });

async function until(what: string, holds: () => boolean): Promise<void> {
  for (const end = Date.now() + 120_000; Date.now() < end; await Bun.sleep(1)) if (holds()) return;
  throw new Error(`after two minutes not yet: ${what}`);
}

const endpointCount = () =>
  [...collections.endpointSlices.values()].reduce((sum, slice) => sum + (slice["endpoints"]?.length ?? 0), 0);
await until("all endpoints are in slices", () => endpointCount() === serviceCount * podCount && controller.idle());

/** Resolves when rules say what the slices say now; gives when that was, in milliseconds of `Date`. */
let lastRule: () => Promise<number>;
if (rules === "kube-proxy") {
  const proxy = await cluster.start(path!, "nftables", ["--cluster-cidr=10.128.0.0/9"]);
  process.on("exit", () => process.kill(proxy.pid));
  await proxy.settled();
  const measure = async (name: string) => (await proxy.metrics()).get(`${name}{ip_family="IPv4"}`) ?? 0;
  const count = "sync_proxy_rules_duration_seconds_count";
  let seen = await measure(count);
  lastRule = async () => {
    // Each step changes a slice, and so leads to another sync.
    for (;;) {
      await proxy.settled();
      const now = await measure(count);
      if (now > seen) {
        seen = now;
        return 1000 * (await measure("sync_proxy_rules_last_timestamp_seconds"));
      }
      await Bun.sleep(5);
    }
  };
} else {
  const run: Run = async (argv, stdin) => {
    const child = Bun.spawn([...argv], {
      stdin: stdin === undefined ? "ignore" : Buffer.from(stdin),
      stdout: "pipe",
      stderr: "pipe",
    });
    const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    return { code: await child.exited, stdout, stderr };
  };
  const backend = nftables(run, {
    family: 4,
    localDetector: { kind: "cidr", cidr: "10.128.0.0/9" },
    serviceCidrs: ["10.96.0.0/16"],
    nodePortAddresses: ["192.168.0.2"],
  });
  const sink = startRulesSink({ table, rules: backend, clock, log });
  lastRule = async () => {
    await sink.settled();
    return Date.now();
  };
  await lastRule();
}
const setup = performance.now() - began;

const row = () => [...table.values()].find(({ service }) => service === "svc-0")!;
const serves = (pod: string) => row().clusterEndpoints.some(({ address }) => address === addressOf.get(pod));
const inSlices = (pod: string) =>
  inputs.slicesByService
    .where(`${namespace}/svc-0`)
    .some(({ endpoints }) => (endpoints ?? []).some(({ addresses }) => addresses[0] === addressOf.get(pod)));

const written = { slices: 0, bytes: 0, endpointsObjects: 0 };
store.watch(EndpointSlices, store.revision, (event) => {
  if (event.type === "BOOKMARK") return;
  written.slices++;
  written.bytes += JSON.stringify({ type: event.type, object: event.object }).length + 1;
});
store.watch(CoreEndpoints, store.revision, (event) => {
  if (event.type !== "BOOKMARK") written.endpointsObjects++;
});

let generation = 0;

/** Replaces these pods of the first Service: new ones get ready, the old ones end, the old ones are gone. */
async function replace(old: readonly string[], latency: number[]): Promise<string[]> {
  const fresh = old.map((_, at) => podObject(0, `pod-0-new-${++generation}-${at}`));
  const waiting = await Promise.all(fresh.map((pod) => store.create(Pods, pod)));
  const step = async (changes: Promise<unknown>[], what: string, done: () => boolean, changesRules: boolean) => {
    await Promise.all(changes);
    await until(what, done);
    const end = await lastRule();
    return changesRules ? end : undefined;
  };
  const names = fresh.map(({ metadata }) => metadata.name);
  let start = Date.now();
  const come = await step(
    waiting.map((pod) => store.update(Pods, ready(pod), { subresource: "status" })),
    "new pods are served",
    () => names.every(serves) && controller.idle(),
    true,
  );
  latency.push(come! - start);
  start = Date.now();
  const go = await step(
    old.map((name) => store.delete({ resource: Pods, namespace, name })),
    "ending pods are no longer served",
    () => !old.some(serves) && controller.idle(),
    true,
  );
  latency.push(go! - start);
  await step(
    old.map((name) => store.delete({ resource: Pods, namespace, name }, { gracePeriodSeconds: 0 })),
    "ended pods are in no slice",
    () => !old.some(inSlices) && controller.idle(),
    false,
  );
  return names;
}

async function scenario(groups: readonly (readonly string[])[]): Promise<Scenario & { readonly names: string[] }> {
  Object.assign(written, { slices: 0, bytes: 0, endpointsObjects: 0 });
  const latency: number[] = [];
  const names: string[] = [];
  for (const group of groups) names.push(...(await replace(group, latency)));
  // Endpoints objects are gathered for a while.
  await Bun.sleep(300);
  return { changes: 3 * names.length, ...written, latency, names };
}

const first = Array.from({ length: podCount }, (_, at) => `pod-0-${at}`);
const alone = first.slice(0, Number(singles));
const { names, ...oneByOne } = await scenario(alone.map((name) => [name]));
const now = [...names, ...first.slice(alone.length)];
const quarter = Math.ceil(now.length / 4);
const { names: _, ...quarters } = await scenario([0, 1, 2, 3].map((n) => now.slice(n * quarter, (n + 1) * quarter)));
console.log(JSON.stringify({ setup, oneByOne, quarters } satisfies ScenarioResult));
await cluster.stop();
process.exit(0);

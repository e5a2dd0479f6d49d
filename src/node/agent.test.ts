import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigMaps, Events, Nodes, type Pod, Pods, Secrets, Services } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { builtinScheme } from "../api/scheme.ts";
import { systemClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import { fromStore } from "../collections/from-store.ts";
import { openSqliteStore, type SqliteStore } from "../store/sqlite/sqlite-store.ts";
import { type NodeAgent, startNodeAgent } from "./agent.ts";
import { LoopbackNetwork } from "./loopback/loopback-network.ts";
import type { StandInPod, StandInState } from "./standin/protocol.ts";
import type { StandIns } from "./standin/stand-ins.ts";

/** Stand-ins that serve at once and write down what they are told. */
class FakeStandIns implements StandIns {
  readonly pods = new Map<string, StandInPod>();
  readonly said: string[] = [];
  readonly #listeners = new Set<(state: StandInState) => void>();
  /** Resolves a drain. */
  finish: (() => void) | undefined;

  keep(): void {}

  serve(pod: StandInPod): void {
    this.pods.set(pod.uid, pod);
    const state = this.state(pod.uid)!;
    for (const listener of this.#listeners) listener(state);
  }

  async drain(uid: string): Promise<void> {
    this.said.push(`drain ${this.pods.get(uid)?.name}`);
    await new Promise<void>((resolve) => {
      this.finish = resolve;
    });
  }

  remove(uid: string): void {
    this.pods.delete(uid);
  }

  onState(listener: (state: StandInState) => void) {
    this.#listeners.add(listener);
    return { dispose: () => this.#listeners.delete(listener) };
  }

  state(uid: string): StandInState | undefined {
    const pod = this.pods.get(uid);
    return pod && { uid, serving: true, open: pod.containers.map(({ name }) => name), problems: [], drained: false };
  }
}

const collected = [Pods, ConfigMaps, Secrets, Services];
let folder: string;
let store: SqliteStore;
let standIns: FakeStandIns;
const ranges = {
  pods: "127.244.0.0/16",
  services: "127.96.0.0/16",
  loadBalancers: "127.97.0.0/16",
  nodes: "127.98.0.0/24",
};
let network: LoopbackNetwork;
let agent: NodeAgent;
let leave: () => void;
const ends: (() => void)[] = [];

async function startAgent(): Promise<void> {
  const [place] = await network.ensureNodes(["node-1"]);
  const collections = collected.map((kind) => fromStore(store, kind));
  await Promise.all(collections.map((one) => one.ready));
  ends.push(() => collections.forEach((one) => void one.dispose()));
  const [pods, configMaps, secrets, services] = collections;
  agent = await startNodeAgent({
    place: place!,
    zone: "zone-a",
    version: "v1.36.0",
    store,
    pods: pods!,
    sources: { configMaps: configMaps!, secrets: secrets!, services: services! },
    network,
    standIns,
    commands: [{ pattern: "once", command: 'echo "$GREETING"; exit 3' }],
    stateDir: folder,
    workingDir: folder,
    clock: systemClock,
    log: silentLogger,
    resolvConf: () => ({ text: "", problems: [] }),
    endpointsGone: (pod) => {
      standIns.said.push(`waiting for endpoints of ${pod.metadata.name}`);
      return new Promise((resolve) => {
        leave = resolve;
      });
    },
  });
}

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "fl-agent-"));
  store = openSqliteStore({ path: ":memory:", scheme: builtinScheme() });
  standIns = new FakeStandIns();
  network = new LoopbackNetwork({ ranges: [ranges], lowPortsAllowed: false });
  await startAgent();
});

afterEach(async () => {
  await agent.dispose();
  for (const end of ends.splice(0)) end();
  store.close();
  rmSync(folder, { recursive: true, force: true });
});

function pod(name: string, spec: Record<string, unknown> = {}, metadata: Record<string, unknown> = {}): KubeObject {
  const containers = [{ name: "app", image: "example.com/app:1", ports: [{ containerPort: 80 }] }];
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { namespace: "default", name, labels: { app: name }, ...metadata },
    spec: { nodeName: "node-1", containers, ...spec },
  };
}

const read = async (name: string) =>
  (await store.get({ resource: Pods, namespace: "default", name })) as Pod | undefined;

/** Waits until the pod (or its absence) is as `is` says. */
async function until(name: string, is: (pod: Pod | undefined) => boolean): Promise<Pod | undefined> {
  for (const end = Date.now() + 3000; Date.now() < end; await Bun.sleep(1)) {
    const found = await read(name);
    if (is(found)) return found;
  }
  throw new Error(`pod ${name} is ${JSON.stringify((await read(name))?.status)}`);
}

const isReady = (found: Pod | undefined) =>
  found?.status?.conditions?.some((one) => one.type === "Ready" && one.status === "True") ?? false;

const events = async () => (await store.list(Events)).items.map((event) => `${event["reason"]}: ${event["message"]}`);

describe("the agent of a node", () => {
  test("registers its node", async () => {
    const node = await store.get({ resource: Nodes, name: "node-1" });
    expect(node?.metadata.labels).toMatchObject({
      "kubernetes.io/hostname": "node-1",
      "topology.kubernetes.io/zone": "zone-a",
    });
    expect(node?.spec).toMatchObject({ podCIDR: "127.244.0.0/24" });
    expect(node?.status.addresses[0]).toEqual({ type: "InternalIP", address: "127.98.0.1" });
  });

  test("gives a pod an address and a stand-in for each container, on its declared ports", async () => {
    await store.create(Pods, pod("web"));
    const ready = await until("web", isReady);
    expect(ready?.status).toMatchObject({ phase: "Running", podIP: "127.244.0.2", hostIP: "127.98.0.1" });
    const served = [...standIns.pods.values()][0];
    expect(served).toMatchObject({ name: "web", labels: { app: "web" }, listenAddresses: ["127.244.0.2"] });
    expect(served?.containers[0]?.ports).toEqual([{ protocol: "TCP", port: 80, listenPort: 8080 }]);
    expect(await events()).toEqual(["Started: Started a stand-in that serves 80/TCP"]);
  });

  test("serves the ports that Services send to, though the pod declares none", async () => {
    await store.create(Pods, pod("bare", { containers: [{ name: "app", image: "a" }] }));
    await until("bare", isReady);
    await store.create(Services, {
      apiVersion: "v1",
      kind: "Service",
      metadata: { namespace: "default", name: "bare" },
      spec: { selector: { app: "bare" }, ports: [{ port: 80, targetPort: 9090 }] },
    });
    const ports = () => [...standIns.pods.values()][0]?.containers[0]?.ports.map(({ port }) => port);
    while (ports()?.length !== 1) await Bun.sleep(1);
    expect(ports()).toEqual([9090]);
  });

  test("waits for a ConfigMap that comes late, and says so", async () => {
    const volumes = [{ name: "settings", configMap: { name: "late" } }];
    await store.create(Pods, pod("waiting", { volumes }));
    const pending = await until("waiting", (found) => found?.status?.podIP !== undefined);
    expect(pending?.status?.phase).toBe("Pending");
    expect(await events()).toEqual([
      'FailedMount: MountVolume.SetUp failed for volume "settings" : configmap "late" not found',
    ]);
    await store.create(ConfigMaps, {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { namespace: "default", name: "late" },
      data: { a: "1" },
    });
    const ready = await until("waiting", isReady);
    const file = join(folder, "pods", ready?.metadata.uid ?? "", "volumes", "settings", "a");
    expect(readFileSync(file, "utf8")).toBe("1");
  });

  test("ends a pod in order: endpoints leave, requests are finished, then it goes", async () => {
    await store.create(Pods, pod("leaving"));
    await until("leaving", isReady);
    await store.delete({ resource: Pods, namespace: "default", name: "leaving" });
    while (standIns.said.length < 1) await Bun.sleep(1);
    expect(standIns.said).toEqual(["waiting for endpoints of leaving"]);
    expect(isReady(await read("leaving"))).toBe(true);
    leave();
    while (standIns.said.length < 2) await Bun.sleep(1);
    expect(standIns.said[1]).toBe("drain leaving");
    expect(network.pods().length).toBe(1);
    while (!standIns.finish) await Bun.sleep(1);
    standIns.finish();
    await until("leaving", (found) => found === undefined);
    expect(network.pods().length).toBe(0);
  });

  test("drops a pod at once that is deleted by force", async () => {
    await store.create(Pods, pod("forced"));
    await until("forced", isReady);
    await store.delete({ resource: Pods, namespace: "default", name: "forced" }, { gracePeriodSeconds: 0 });
    while (network.pods().length > 0) await Bun.sleep(1);
    expect(standIns.pods.size).toBe(0);
  });

  test("starts a command again after it failed, and backs off", async () => {
    const containers = [{ name: "app", image: "once:1", env: [{ name: "GREETING", value: "hello" }] }];
    await store.create(Pods, pod("crashing", { containers }));
    const found = await until("crashing", (seen) => {
      return seen?.status?.containerStatuses?.[0]?.state?.waiting?.reason === "CrashLoopBackOff";
    });
    expect(found?.status?.phase).toBe("Running");
    expect(found?.status?.containerStatuses?.[0]).toMatchObject({
      ready: false,
      restartCount: 1,
      lastState: { terminated: { exitCode: 3, reason: "Error" } },
    });
    const log = join(folder, "pods", found?.metadata.uid ?? "", "app", "1.out");
    expect(readFileSync(log, "utf8")).toBe("hello\n");
  });

  test("ends with its commands when they are not restarted", async () => {
    const containers = [{ name: "app", image: "once:1" }];
    await store.create(Pods, pod("done", { containers, restartPolicy: "Never" }));
    await until("done", (found) => found?.status?.phase === "Failed");
  });

  test("takes over the pods of the agent before it, without a change that anybody could see", async () => {
    await store.create(Pods, pod("kept"));
    const before = await until("kept", isReady);
    await agent.dispose();
    await startAgent();
    await store.create(Pods, pod("next"));
    const next = await until("next", isReady);
    expect(await read("kept")).toEqual(before);
    expect(next?.status?.podIP).toBe("127.244.0.3");
  });
});

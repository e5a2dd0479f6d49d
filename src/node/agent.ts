// The agent of one node: what a kubelet is on a real one. It registers the Node, follows the pods that are bound to it, and has
// one worker for each; sandboxes that are wanted or to be removed in one turn are made or removed together. Runs in the
// control process; the stand-in process and commands live on when that ends, and are found again.

import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Events, type Pod, type Service } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { formatTime } from "../api/strategy.ts";
import { parseCidr } from "../base/cidr.ts";
import type { Clock } from "../base/clock.ts";
import type { AsyncDisposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { killByPidFiles } from "../base/process-id.ts";
import type { Batch, Collection } from "../collections/collection.ts";
import { deepEqual } from "../collections/equal.ts";
import type { Store } from "../store/store.ts";
import { AddressPool } from "./addresses.ts";
import { Batcher } from "./batcher.ts";
import { type HostPorts, podHostPorts } from "./host-ports/host-ports.ts";
import type { ImageCommand } from "./image-commands.ts";
import type { NodePlace, PodNetwork, PodSandbox } from "./network.ts";
import { registerNode } from "./node-object.ts";
import { podFiles, podsFolder } from "./pod-files.ts";
import type { PodSources } from "./pod-sources.ts";
import { PodWorker } from "./pod-worker.ts";
import { selects, servicePortsFor, servicesBySelector } from "./service-ports.ts";
import type { StandIns } from "./standin/stand-ins.ts";
import type { PodResolvConf, WorkerHost } from "./worker-host.ts";

export interface AgentOptions {
  readonly place: NodePlace;
  readonly zone?: string;
  readonly region?: string;
  /** Shown as the node's kubelet version. */
  readonly version: string;
  readonly store: Store;
  /** Pods, those of other nodes included. Must hold the first list already (`ready`). */
  readonly pods: Collection<KubeObject>;
  readonly sources: PodSources;
  readonly network: PodNetwork;
  readonly standIns: StandIns;
  /** Serves host ports; without it a pod that wants some comes up without them. */
  readonly hostPorts?: HostPorts;
  readonly commands: readonly ImageCommand[];
  /** This node's own; pods' files are kept under `pods/`. */
  readonly stateDir: string;
  /** Where commands run: the folder that `fairlead up` was called in. */
  readonly workingDir: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly resolvConf: (pod: Pod) => PodResolvConf;
  /** Resolves when no rule and no proxy sends new connections to this pod, which is being deleted. */
  readonly endpointsGone: (pod: Pod) => Promise<void>;
}

export interface NodeAgent extends AsyncDisposable {
  readonly node: string;
  /** Stops following, and leaves all that runs as it is: the next agent finds it. */
  dispose(): Promise<void>;
}

/** Registers the node and starts to follow its pods. */
export async function startNodeAgent(options: AgentOptions): Promise<NodeAgent> {
  const { place, zone, region, version, store, clock } = options;
  mkdirSync(podsFolder(options.stateDir), { recursive: true, mode: 0o700 });
  const agent = new Agent(options);
  await agent.adopt();
  await registerNode(store, { place, version, ...(zone ? { zone } : {}), ...(region ? { region } : {}) }, clock.now());
  return agent;
}

class Agent implements NodeAgent {
  readonly node: string;
  readonly #options: AgentOptions;
  readonly #log: Logger;
  readonly #workers = new Map<string, PodWorker>();
  /** One of each of the node's pod ranges. */
  readonly #addresses: readonly AddressPool[];
  readonly #host: WorkerHost;
  readonly #subscriptions: { dispose(): void }[] = [];

  constructor(options: AgentOptions) {
    const { place, network } = options;
    this.node = place.name;
    this.#options = options;
    this.#log = options.log.child("node", { node: place.name });
    this.#addresses = place.podRanges.map((text) => {
      const range = parseCidr(text);
      if (!range) throw new Error(`${text} is no range of pod addresses`);
      return new AddressPool(range);
    });
    const services = options.sources.services && servicesBySelector(options.sources.services, place.name);
    if (services) this.#subscriptions.push(services);
    const adding = new Batcher<PodSandbox>((sandboxes) => network.addPods(sandboxes));
    const removing = new Batcher<string>((uids) => network.removePods(uids));
    this.#host = {
      ...options,
      log: this.#log,
      extraPorts: (pod) => (services ? servicePortsFor(pod, services) : []),
      takeAddresses: (pod) => this.#takeAddresses(pod),
      releaseAddresses: (pod) => this.#releaseAddresses(pod),
      addSandbox: (sandbox) => adding.add(sandbox),
      removeSandbox: (uid) => removing.add(uid),
      event: (pod, type, reason, message) => this.#event(pod, type, reason, message),
    };
  }

  /** Takes over the pods that are there, throws out what is left of those that went meanwhile, and follows changes. */
  async adopt(): Promise<void> {
    const { pods, sources, standIns, stateDir } = this.#options;
    const bound = ([...pods.values()] as Pod[]).filter((pod) => pod.spec?.nodeName === this.node);
    const own = bound.filter((pod) => this.#isOwn(pod));
    this.#sweep(new Set(bound.map((pod) => pod.metadata.uid)), stateDir);
    // The other nodes' pods are in the collection as well: whoever starts first clears for all.
    const all = [...pods.values()].map(({ metadata }) => ({ uid: metadata.uid ?? "", name: metadata.name }));
    await this.#options.network.removePodsExcept(all);
    // Addresses in use first, so that no new pod gets one of them.
    for (const pod of own) if (pod.status?.podIP && !pod.spec?.hostNetwork) this.#takeAddresses(pod);
    standIns.keep(own.map(({ metadata }) => metadata.uid ?? ""));
    await this.#loadHostPorts(own);
    this.#subscriptions.push(
      standIns.onState((state) => this.#workers.get(state.uid)?.standInState(state)),
      pods.subscribe((batch) => this.#follow(batch)),
      sources.configMaps.subscribe((batch) => this.#sourcesChanged(batch)),
      sources.secrets.subscribe((batch) => this.#sourcesChanged(batch)),
    );
    const services = sources.services?.subscribe((batch) => this.#servicesChanged(batch));
    if (services) this.#subscriptions.push(services);
    for (const pod of own) this.#take(pod);
  }

  async #loadHostPorts(own: readonly Pod[]): Promise<void> {
    const known = own.map((pod) =>
      podHostPorts(
        pod,
        (pod.status?.podIPs ?? []).map(({ ip }) => ip),
      ),
    );
    try {
      await this.#options.hostPorts?.load(known);
    } catch (error) {
      // The pods' workers try again, and say it in Events.
      this.#log.warn("host ports could not be taken over", { error: messageOf(error) });
    }
  }

  /** All or none: a pod that lacks a family would answer on half of its Services. */
  #takeAddresses(pod: Pod): readonly string[] | undefined {
    const owner = pod.metadata.uid ?? "";
    const had = pod.status?.podIPs?.map(({ ip }) => ip) ?? [];
    const taken = this.#addresses.map((pool) =>
      pool.take(
        owner,
        had.find((ip) => pool.has(ip)),
      ),
    );
    const addresses = taken.filter((address) => address !== undefined);
    if (addresses.length === taken.length) return addresses;
    this.#releaseAddresses(pod);
    return undefined;
  }

  #releaseAddresses(pod: Pod): void {
    for (const pool of this.#addresses) pool.release(pod.metadata.uid ?? "");
  }

  async dispose(): Promise<void> {
    for (const worker of this.#workers.values()) worker.release();
    for (const subscription of this.#subscriptions) subscription.dispose();
    this.#subscriptions.length = 0;
  }

  #isOwn(pod: Pod): boolean {
    const phase = pod.status?.phase;
    const finished = (phase === "Succeeded" || phase === "Failed") && pod.metadata.deletionTimestamp === undefined;
    return pod.spec?.nodeName === this.node && !finished;
  }

  #follow(batch: Batch<KubeObject>): void {
    for (const { before, after } of batch) {
      const old = before as Pod | undefined;
      const pod = after as Pod | undefined;
      const uid = old?.metadata.uid ?? "";
      if (old && uid !== pod?.metadata.uid) {
        const worker = this.#workers.get(uid);
        this.#workers.delete(uid);
        if (worker) void worker.gone();
      }
      if (!pod || pod.spec?.nodeName !== this.node) continue;
      const worker = this.#workers.get(pod.metadata.uid ?? "");
      if (worker) worker.update(pod);
      else if (this.#isOwn(pod)) this.#take(pod);
    }
  }

  #take(pod: Pod): void {
    const worker = new PodWorker(pod, this.#host);
    this.#workers.set(worker.uid, worker);
    worker.live().catch((error) => this.#log.error("a pod could not be run", { pod: pod.metadata.name, error }));
  }

  #servicesChanged(batch: Batch<KubeObject>): void {
    for (const { before, after } of batch) {
      const services = [before as Service | undefined, after as Service | undefined];
      if (deepEqual(services[0]?.spec, services[1]?.spec)) continue;
      for (const worker of this.#workers.values()) {
        if (services.some((service) => selects(service, worker.pod()))) worker.portsChanged();
      }
    }
  }

  #sourcesChanged(batch: Batch<KubeObject>): void {
    const namespaces = new Set(batch.map(({ before, after }) => (after ?? before)?.metadata.namespace));
    for (const worker of this.#workers.values()) {
      if (namespaces.has(worker.pod().metadata.namespace)) worker.poke();
    }
  }

  /** Ends commands and removes files of pods that are gone.  */
  #sweep(known: ReadonlySet<string | undefined>, stateDir: string): void {
    for (const uid of readdirSync(podsFolder(stateDir))) {
      if (known.has(uid)) continue;
      const { folder } = podFiles(stateDir, uid);
      const pidFiles = readdirSync(folder, { withFileTypes: true })
        .filter((entry) => entry.isDirectory())
        .map((entry) => join(folder, entry.name, "pid"))
        .filter((file) => existsSync(file));
      killByPidFiles(pidFiles);
      rmSync(folder, { recursive: true, force: true });
    }
  }

  #event(pod: Pod, type: "Normal" | "Warning", reason: string, message: string): void {
    const { store, clock } = this.#options;
    const { namespace = "default", name, uid, resourceVersion } = pod.metadata;
    const now = clock.now();
    const time = formatTime(now);
    const event: KubeObject = {
      apiVersion: "v1",
      kind: "Event",
      metadata: { namespace, name: `${name}.${uniqueSuffix(now)}` },
      involvedObject: { apiVersion: "v1", kind: "Pod", namespace, name, uid, resourceVersion },
      type,
      reason,
      message: message.slice(0, 1024),
      source: { component: "kubelet", host: this.node },
      reportingComponent: "kubelet",
      reportingInstance: this.node,
      firstTimestamp: time,
      lastTimestamp: time,
      count: 1,
    };
    store.create(Events, event).catch((error) => {
      this.#log.debug("an event could not be written", { pod: name, reason, error: messageOf(error) });
    });
  }
}

let counter = 0;
function uniqueSuffix(now: number): string {
  counter = (counter + 1) % 0x100000;
  return (BigInt(now) * 0x100000n + BigInt(counter)).toString(16);
}

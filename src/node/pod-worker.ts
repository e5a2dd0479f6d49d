// One pod on its node, from its binding to its end: sandbox, volumes, init containers, containers; then, when it is deleted,
// endpoints leave → preStop → SIGTERM → grace → sandbox removed → object removed. Written once, top to bottom.

import { rmSync } from "node:fs";
import { type Container, type Pod, type PodStatus, Pods } from "../api/kinds.ts";
import { describeObject } from "../api/object.ts";
import { isStatusReason } from "../api/status-error.ts";
import { backoff } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import { messageOf } from "../base/errors.ts";
import { deepEqual } from "../collections/equal.ts";
import { commandSpec } from "./command-spec.ts";
import { CommandRun, type ContainerHost, type RunningContainer } from "./container.ts";
import { environmentOf } from "./environment.ts";
import { podHostPorts } from "./host-ports/host-ports.ts";
import { hostsFile, podHostname } from "./hosts-file.ts";
import { commandFor } from "./image-commands.ts";
import type { PodFacts } from "./pod-fields.ts";
import { type PodFiles, podFiles } from "./pod-files.ts";
import { PodStandIns } from "./pod-stand-ins.ts";
import { isSidecar, podStatus } from "./pod-status.ts";
import { PodStatusWriter } from "./pod-status-writer.ts";
import { PodVolumes } from "./pod-volumes.ts";
import { StandInRun } from "./stand-in-run.ts";
import type { StandInState } from "./standin/protocol.ts";
import type { WorkerHost } from "./worker-host.ts";

/** Milliseconds that a pod may take to come up before its status says that it is on its way. */
const moment = 25;

export class PodWorker implements ContainerHost {
  readonly uid: string;
  readonly clock: Clock;
  readonly #host: WorkerHost;
  readonly #files: PodFiles;
  readonly #startTime: number;
  readonly #writer: PodStatusWriter;
  /** None until its sandbox is there. */
  #podIPs: readonly string[] = [];
  #init: RunningContainer[] = [];
  #containers: RunningContainer[] = [];
  #ending = false;
  #over = false;
  /** Resolves when its sandbox is gone before the object is; undefined while it may still run. */
  #finished: Promise<void> | undefined;
  readonly #volumes: PodVolumes;
  readonly #standIns: PodStandIns;
  #sandboxing: Promise<boolean> = Promise.resolve(false);

  constructor(pod: Pod, host: WorkerHost) {
    this.uid = pod.metadata.uid ?? "";
    this.#podIPs = (pod.status?.podIPs ?? []).map(({ ip }) => ip);
    this.#host = host;
    this.clock = host.clock;
    this.#files = podFiles(host.stateDir, this.uid);
    this.#startTime = host.clock.now();
    const { store, clock, log } = host;
    this.#writer = new PodStatusWriter(pod, { store, clock, log, statusOf: (newest) => this.#status(newest) });
    const [files, changed] = [this.#files, () => this.changed()];
    this.#standIns = new PodStandIns({ host, files, pod: () => this.pod(), changed });
    const failed = (message: string) => {
      this.event("Warning", "FailedMount", message);
      changed();
    };
    this.#volumes = new PodVolumes({ host, files, pod: () => this.pod(), facts: () => this.#facts(), failed });
  }

  pod(): Pod {
    return this.#writer.pod;
  }

  /** Brings the pod up. Never rejects: what fails is an Event and is tried again. */
  async live(): Promise<void> {
    this.#containers = (this.pod().spec?.containers ?? []).map((container) => this.#containerOf(container, false));
    this.#init = (this.pod().spec?.initContainers ?? []).map((container) => this.#containerOf(container, true));
    if (this.pod().metadata.deletionTimestamp !== undefined) {
      // It was about to end when we were started: find its sandbox, so that it can be removed.
      const { phase, podIP } = this.pod().status ?? {};
      const had = podIP !== undefined && phase !== "Succeeded" && phase !== "Failed";
      this.#sandboxing = had ? this.#makeSandbox() : Promise.resolve(true);
      await this.#sandboxing;
      return void this.#end();
    }
    this.#sandboxing = this.#makeSandbox();
    if (!(await this.#sandboxing) || !(await this.#volumes.make())) return;
    const initialized = await this.#initialize();
    if (this.#ending) return;
    if (!initialized) return void this.#finish();
    for (const container of this.#containers) this.#begin(container);
    void Promise.all(this.#containers.map(({ over }) => over)).then(() => this.#finish());
    // What is up in a moment is not written as "creating" first: each write makes others (slices, ReplicaSets) look.
    this.clock.after(moment, () => this.changed());
  }

  /** The object as it is now. */
  update(pod: Pod): void {
    const before = this.pod();
    this.#writer.pod = pod;
    if (pod.metadata.deletionTimestamp !== undefined) {
      if (this.#ending) this.#shorten(before, pod);
      else void this.#end();
      return;
    }
    if (this.#ending) return;
    const standInSees = before.metadata.labels !== pod.metadata.labels;
    if (standInSees) this.#standIns.tell();
    if (!deepEqual(before.metadata.annotations, pod.metadata.annotations)) this.poke();
    if (pod.metadata.generation !== before.metadata.generation || !deepEqual(before.status, pod.status)) this.changed();
  }

  /** The object is gone without us (deleted by force): stop at once. */
  async gone(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    this.#ending = true;
    this.#writer.stop();
    this.#volumes.stop();
    for (const container of [...this.#init, ...this.#containers]) container.kill();
    await this.#clean();
  }

  /** Our own end, not the pod's: leaves all that runs as it is. */
  release(): void {
    this.#over = true;
    this.#ending = true;
    this.#volumes.stop();
    this.#writer.stop();
    for (const container of [...this.#init, ...this.#containers]) container.release();
  }

  /** A ConfigMap or Secret changed. */
  poke(): void {
    this.#volumes.refresh();
  }

  /** More or fewer ports are wanted of its stand-ins. */
  portsChanged(): void {
    if (!this.#ending) this.#standIns.tell();
  }

  /** What the stand-in process says of this pod. */
  standInState(state: StandInState): void {
    if (!this.#ending) this.#standIns.heard(state);
  }

  changed(): void {
    this.#writer.changed();
  }

  event(type: "Normal" | "Warning", reason: string, message: string): void {
    this.#host.event(this.pod(), type, reason, message);
  }

  commandSpec(container: Container, argv: readonly string[], attempt: number) {
    const { sources, network, workingDir } = this.#host;
    const warn = (reason: string, message: string) => this.event("Warning", reason, message);
    const [pod, facts, files] = [this.pod(), this.#facts(), this.#files];
    // As kubelets do, keep the log of one run before this one.
    rmSync(files.commandLog(container.name, attempt - 2), { force: true });
    return commandSpec({ pod, container, argv, attempt, facts, sources, network, files, workingDir, warn });
  }

  probeTarget(container: Container) {
    const { network, sources } = this.#host;
    return {
      address: this.#podIPs[0] ?? "",
      container,
      effectivePort: (port: number) => network.effectivePort(port),
      exec: (argv: readonly string[], timeout: number) =>
        network.run({ pod: this.uid }, argv, {
          timeout,
          env: environmentOf(this.pod(), container, this.#facts(), sources),
        }),
    };
  }

  #containerOf(spec: Container, isInit: boolean): RunningContainer {
    const statuses = isInit ? this.pod().status?.initContainerStatuses : this.pod().status?.containerStatuses;
    const before = statuses?.find((one) => one.name === spec.name);
    const argv = commandFor(this.pod(), spec, this.#host.commands);
    const waiting = this.pod().spec?.initContainers?.length ? "PodInitializing" : "ContainerCreating";
    if (argv) return new CommandRun(spec, argv, this.uid, before, this, isInit, waiting);
    return new StandInRun(spec, this.uid, before, waiting);
  }

  async #makeSandbox(): Promise<boolean> {
    let told = "";
    for (let attempt = 0; !this.#ending; attempt++) {
      try {
        const hostNetwork = this.pod().spec?.hostNetwork === true;
        const addresses = hostNetwork ? this.#host.place.addresses : this.#host.takeAddresses(this.pod());
        if (!addresses) throw new Error(`no address is left in ${this.#host.place.podRanges.join(", ")}`);
        podHostname(this.pod());
        const { text, problems } = this.#host.resolvConf(this.pod());
        for (const problem of attempt === 0 ? problems : []) this.event("Warning", "DNSConfigForming", problem);
        await this.#host.addSandbox({
          uid: this.uid,
          namespace: this.pod().metadata.namespace ?? "default",
          name: this.pod().metadata.name,
          node: this.#host.place.name,
          addresses,
          hostNetwork,
          resolvConf: text,
          hosts: hostsFile(this.pod(), addresses),
        });
        await this.#mapHostPorts(addresses);
        this.#podIPs = addresses;
        return !this.#ending;
      } catch (error) {
        const message = `Failed to create pod sandbox: ${messageOf(error)}`;
        if (message !== told) this.event("Warning", "FailedCreatePodSandBox", message);
        told = message;
        await this.#pause(backoff(attempt, { initial: 200, max: 10_000 }));
      }
    }
    return false;
  }

  /** As a CNI plugin does: after the sandbox, before the first container. */
  async #mapHostPorts(podIPs: readonly string[]): Promise<void> {
    const problems = (await this.#host.hostPorts?.add(podHostPorts(this.pod(), podIPs))) ?? [];
    for (const problem of problems) this.event("Warning", "HostPortNotServed", problem);
  }

  /** Init containers one after the other; sidecars among them stay. False when the pod has failed by one of them. */
  async #initialize(): Promise<boolean> {
    for (const container of this.#init) {
      if (this.#ending) return false;
      this.#begin(container);
      // What an init container comes to is seen, while what is up in a moment is not.
      if (container instanceof CommandRun) this.changed();
      await (isSidecar(container.spec) ? container.started : container.over);
      const { state } = container.view();
      if (state.kind === "terminated" && state.exitCode !== 0) return false;
    }
    return !this.#ending;
  }

  #begin(container: RunningContainer): void {
    if (container instanceof CommandRun) container.start();
    else if (container instanceof StandInRun) {
      if (this.#hasTask(container)) container.ended(this.clock.now());
      else this.#standIns.begin(container);
    }
  }

  /** What is expected to end, an init container or a Job's container: a stand-in for it does nothing, and does it at once. */
  #hasTask(container: RunningContainer): boolean {
    if (this.#init.includes(container)) return !isSidecar(container.spec);
    return this.pod().metadata.ownerReferences?.some(({ kind, controller }) => controller && kind === "Job") ?? false;
  }

  /** All containers have ended for good: sidecars end, and the sandbox goes with its address. The object stays. */
  async #finish(): Promise<void> {
    if (this.#ending || this.#finished) return;
    const grace = (this.pod().spec?.terminationGracePeriodSeconds ?? 30) * 1000;
    await this.#stopSidecars(this.clock.now() + grace);
    if (this.#ending) return;
    this.changed();
    this.#finished = this.#tearDown();
    await this.#finished;
  }

  async #stopSidecars(deadline: number): Promise<void> {
    for (const sidecar of this.#init.filter((one) => isSidecar(one.spec)).reverse()) {
      await this.#stopContainer(sidecar, Math.max(deadline, this.clock.now() + 2000));
    }
  }

  async #end(): Promise<void> {
    if (this.#ending) return;
    this.#ending = true;
    this.#volumes.stop();
    const { clock, endpointsGone, log, standIns } = this.#host;
    const asked = Date.parse(this.pod().metadata.deletionTimestamp ?? "");
    const deadline = Number.isNaN(asked) ? clock.now() + 30_000 : Math.max(asked, clock.now() + 1000);
    // Nothing is asked to stop while rules may still send to it.
    await Promise.race([
      endpointsGone(this.pod()).catch((error) => log.warn("endpoints of a pod did not leave", { error })),
      this.#pause(deadline - clock.now()),
    ]);
    const first = [...this.#containers, ...this.#init.filter((one) => !isSidecar(one.spec))];
    const drain = () => standIns.drain(this.uid, deadline);
    // Stand-ins drain together; where only sidecars are stand-ins, they go on until the containers are over.
    const early = this.#containers.some((one) => one instanceof StandInRun);
    await Promise.all([early && drain(), ...first.map((container) => this.#stopContainer(container, deadline))]);
    if (!early) await drain();
    await this.#stopSidecars(deadline);
    if (this.#over) return;
    this.#writer.stop();
    await this.#writer.last();
    this.#over = true;
    await this.#clean();
    await this.#deleteObject();
  }

  /** A second, more impatient delete. */
  #shorten(before: Pod, after: Pod): void {
    const [old, fresh] = [before, after].map(({ metadata }) => Date.parse(metadata.deletionTimestamp ?? ""));
    if (fresh === undefined || old === undefined || !(fresh < old)) return;
    this.clock.after(Math.max(0, fresh - this.clock.now()), () => {
      for (const container of [...this.#init, ...this.#containers]) container.kill();
      this.#host.standIns.remove(this.uid);
    });
  }

  async #stopContainer(container: RunningContainer, deadline: number): Promise<void> {
    await container.stop(Math.max(deadline, this.clock.now() + 2000));
    if (container instanceof StandInRun) container.ended(this.clock.now());
  }

  async #clean(): Promise<void> {
    await (this.#finished ?? this.#tearDown());
    rmSync(this.#files.folder, { recursive: true, force: true });
  }

  async #tearDown(): Promise<void> {
    this.#host.standIns.remove(this.uid);
    await this.#sandboxing;
    try {
      await this.#host.hostPorts?.remove(this.uid);
      await this.#host.removeSandbox(this.uid);
    } catch (error) {
      const pod = describeObject(this.pod());
      this.#host.log.error("a sandbox could not be removed", { pod, error: messageOf(error) });
    }
    this.#host.releaseAddresses(this.pod());
  }

  async #deleteObject(): Promise<void> {
    const { namespace = "default", name } = this.pod().metadata;
    for (let attempt = 0; ; attempt++) {
      try {
        const options = { gracePeriodSeconds: 0, preconditions: { uid: this.uid } };
        await this.#host.store.delete({ resource: Pods, namespace, name }, options);
        return;
      } catch (error) {
        if (isStatusReason(error, "NotFound") || isStatusReason(error, "Conflict")) return;
        this.#host.log.warn("a pod could not be removed from the store", { pod: name, error: messageOf(error) });
        await this.#pause(backoff(attempt, { initial: 100, max: 5000 }));
      }
    }
  }

  #status(pod: Pod): PodStatus {
    const view = {
      hostIPs: this.#host.place.addresses,
      podIPs: this.#podIPs,
      startTime: this.#startTime,
      initContainers: this.#init.map((one) => one.view()),
      containers: this.#containers.map((one) => one.view()),
    };
    return podStatus(pod, view, this.clock.now());
  }

  #facts(): PodFacts {
    const { place } = this.#host;
    return { podIPs: this.#podIPs, hostIPs: place.addresses, node: place.name };
  }

  #pause(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      this.clock.after(Math.max(0, milliseconds), resolve);
    });
  }
}

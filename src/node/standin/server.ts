// All pods that one stand-in process serves: makes what is open equal to what the agent wants. One process per node.

import { messageOf } from "../../base/errors.ts";
import { ContainerLog } from "./container-log.ts";
import { HttpPort } from "./http-port.ts";
import type { StandInContainer, StandInPod, StandInState } from "./protocol.ts";
import { openUdpPort, type UdpPort } from "./udp-port.ts";

/**
 * A draining pod still takes connections and requests on open ones, from clients that chose it a moment ago: until none has come
 * for `linger` milliseconds (on a busy machine they wait in the kernel's queue), and no longer than `longestLinger`.
 */
const linger = 250;
const longestLinger = 2_000;

interface ServedContainer {
  readonly attempt: number;
  readonly log: ContainerLog;
  readonly http: Map<number, HttpPort>;
  readonly udp: Map<number, UdpPort>;
  problems: string[];
}

interface ServedPod {
  pod: StandInPod;
  readonly containers: Map<string, ServedContainer>;
  drainUntil: number | undefined;
  drained: boolean;
}

export class StandInServer {
  readonly #pods = new Map<string, ServedPod>();
  readonly #changed: () => void;
  #applying: Promise<void> = Promise.resolve();
  #retried = 0;

  /** `changed` is called when `state()` has something new to say outside of `serve`. */
  constructor(changed: () => void) {
    this.#changed = changed;
    setInterval(() => this.#tick(Date.now()), 100);
  }

  /** Serves these pods, keeps those (uids) as they are, and no others. Calls are done one after the other. */
  serve(pods: readonly StandInPod[], keep: readonly string[] = []): Promise<void> {
    this.#applying = this.#applying.then(() => this.#apply(pods, keep));
    return this.#applying;
  }

  state(): StandInState[] {
    return [...this.#pods.values()].map(({ pod, containers, drained }) => {
      const problems = [...containers.values()].flatMap((container) => container.problems);
      const open = [...containers].filter(([, one]) => one.problems.length === 0).map(([name]) => name);
      return { uid: pod.uid, serving: problems.length === 0, open, problems, drained };
    });
  }

  flushLogs(now: number): void {
    for (const { containers } of this.#pods.values()) for (const { log } of containers.values()) log.flush(now);
  }

  async #apply(pods: readonly StandInPod[], keep: readonly string[] = []): Promise<void> {
    const wanted = new Set([...pods.map((pod) => pod.uid), ...keep]);
    for (const [uid, served] of this.#pods) {
      if (wanted.has(uid)) continue;
      for (const container of served.containers.values()) closeContainer(container);
      this.#pods.delete(uid);
    }
    for (const pod of pods) {
      let served = this.#pods.get(pod.uid);
      if (!served) {
        served = { pod, containers: new Map(), drainUntil: undefined, drained: false };
        this.#pods.set(pod.uid, served);
      }
      await this.#applyPod(served, pod);
    }
  }

  async #applyPod(served: ServedPod, pod: StandInPod): Promise<void> {
    const moved =
      served.pod.netnsId !== pod.netnsId || served.pod.listenAddresses.join() !== pod.listenAddresses.join();
    served.pod = pod;
    const names = new Set(pod.containers.map((container) => container.name));
    for (const [name, container] of served.containers) {
      const attempt = pod.containers.find((one) => one.name === name)?.attempt;
      if (names.has(name) && attempt === container.attempt && !moved) continue;
      closeContainer(container);
      served.containers.delete(name);
    }
    if (served.drained) return;
    for (const container of pod.containers) {
      let open = served.containers.get(container.name);
      if (!open) {
        const log = new ContainerLog(container.logFile);
        open = { attempt: container.attempt, log, http: new Map(), udp: new Map(), problems: [] };
        served.containers.set(container.name, open);
        log.line(opening(container), Date.now());
      }
      if (pod.drainUntil === undefined) await openPorts(pod, container, open);
      for (const port of open.http.values()) port.describe(pod);
    }
    if (pod.drainUntil !== undefined && served.drainUntil === undefined) this.#drain(served);
    served.drainUntil = pod.drainUntil;
  }

  #drain(served: ServedPod): void {
    const ports = () => [...served.containers.values()].flatMap((container) => [...container.http.values()]);
    const begun = performance.now();
    for (const port of ports()) port.drain();
    const look = () => {
      const now = performance.now();
      const last = Math.max(begun, ...ports().map((port) => port.lastOpened));
      const rest = Math.min(last + linger, begun + longestLinger) - now;
      if (rest > 0) return void setTimeout(look, rest);
      for (const port of ports()) port.stopAccepting();
      this.#tick(Date.now());
    };
    setTimeout(look, linger);
  }

  #tick(now: number): void {
    let changed = false;
    let again = false;
    for (const served of this.#pods.values()) {
      for (const { log } of served.containers.values()) log.flush(now);
      if (served.drainUntil !== undefined && !served.drained) changed = this.#finishDrain(served, now) || changed;
      const failed = [...served.containers.values()].some((container) => container.problems.length > 0);
      if (failed && served.drainUntil === undefined) again = true;
    }
    // A port that was taken may be free by now.
    if (again && now - this.#retried > 1000) {
      this.#retried = now;
      const retry = () => this.#apply([...this.#pods.values()].map(({ pod }) => pod));
      this.#applying = this.#applying.then(retry);
      void this.#applying.then(this.#changed);
    }
    if (changed) this.#changed();
  }

  #finishDrain(served: ServedPod, now: number): boolean {
    const open = [...served.containers.values()].flatMap((container) => [...container.http.values()]);
    for (const port of open) if (!port.isAccepting) port.endIdle();
    const busy = open.some((port) => port.isAccepting || port.connections.size > 0);
    if (busy && now < served.drainUntil!) return false;
    for (const container of served.containers.values()) closeContainer(container);
    served.drained = true;
    return true;
  }
}

function opening(container: StandInContainer): string {
  const ports = container.ports.map(({ port, listenPort, protocol }) => {
    return `${port}/${protocol}${port === listenPort ? "" : ` (as ${listenPort})`}`;
  });
  return `stand-in for ${container.image} serves ${ports.length > 0 ? ports.join(", ") : "no port"}`;
}

async function openPorts(pod: StandInPod, container: StandInContainer, open: ServedContainer): Promise<void> {
  open.problems = [];
  for (const { port, listenPort, protocol } of container.ports) {
    const options = { pod, container: container.name, port, listenPort, log: open.log };
    try {
      if (protocol === "TCP" && !open.http.has(port)) open.http.set(port, new HttpPort(options));
      if (protocol === "UDP" && !open.udp.has(port)) open.udp.set(port, await openUdpPort(options));
    } catch (error) {
      open.problems.push(`container ${container.name}: port ${port}/${protocol}: ${messageOf(error)}`);
    }
  }
}

function closeContainer(container: ServedContainer): void {
  for (const port of container.http.values()) port.close();
  for (const port of container.udp.values()) port.close();
  container.http.clear();
  container.udp.clear();
  container.log.flush(Date.now());
}

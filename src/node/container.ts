// One container of a pod while it is on its node, and the one that is a command, with its restarts, hooks and probes (a stand-in
// is in `stand-in-run.ts`). What the pod's status says of it is its `view`.

import type { Container, ContainerStatus, Pod, Probe } from "../api/kinds.ts";
import type { Clock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import { CommandProcess, type CommandSpec, type Exit, keepOutputShort } from "./command-process.ts";
import { type ContainerLife, type ContainerView, type Ended, isRestarted } from "./pod-status.ts";
import { Prober, type ProbeTarget, probeOnce } from "./probe.ts";

/** What a container needs of its pod. */
export interface ContainerHost {
  readonly clock: Clock;
  pod(): Pod;
  /** To be called after each change of the view. */
  changed(): void;
  event(type: "Normal" | "Warning", reason: string, message: string): void;
  /** How a command runs now; throws when something it needs is not there. */
  commandSpec(container: Container, argv: readonly string[], attempt: number): CommandSpec;
  probeTarget(container: Container): ProbeTarget;
}

export interface RunningContainer {
  readonly spec: Container;
  readonly kind: "stand-in" | "command";
  readonly restartCount: number;
  view(): ContainerView;
  /** Resolves when it runs and its startup probe has passed, or it has ended for good. */
  readonly started: Promise<void>;
  /** Resolves when it has ended for good. */
  readonly over: Promise<void>;
  /** Ends it: asked first, forced at `deadline` (ms since the epoch). Resolves when it has ended. */
  stop(deadline: number): Promise<void>;
  /** Ends it now. */
  kill(): void;
  /** Leaves it as it is, and does nothing more about it. */
  release(): void;
}

/** What a container that has not run yet waits for, as kubelets say it: its sandbox, or the init containers. */
export type WaitingReason = "ContainerCreating" | "PodInitializing";

/** The first restart is at once; then 10 s, doubled each time, at most 5 minutes (pkg/kubelet MaxContainerBackOff). */
export function restartDelay(restarts: number): number {
  return restarts === 0 ? 0 : Math.min(300_000, 10_000 * 2 ** (restarts - 1));
}
/** How often the size of a command's output is looked at, in milliseconds. */
const outputLook = 10_000;
/** A run this long makes the next restart a first one. */
const settled = 600_000;

export class CommandRun implements RunningContainer {
  readonly kind = "command";
  readonly spec: Container;
  readonly #argv: readonly string[];
  readonly #host: ContainerHost;
  readonly #uid: string;
  readonly #isInit: boolean;
  #state: ContainerLife;
  /** It has ended and is not started again. */
  #done = false;
  #last: Ended | undefined;
  #restarts: number;
  #failures = 0;
  #started = false;
  #ready = false;
  #process: CommandProcess | undefined;
  #probers: Disposable[] = [];
  /** Goes on until the process has ended, so that one which finishes its work can say that it takes no more. */
  #readiness: Disposable | undefined;
  #timer: Disposable | undefined;
  #stopping = false;
  #whenEnded: (() => void)[] = [];
  #whenStarted: (() => void)[] = [];

  /** `before` is what the pod's status says: it stands until `start` finds out how it is now. */
  constructor(
    spec: Container,
    argv: readonly string[],
    uid: string,
    before: ContainerStatus | undefined,
    host: ContainerHost,
    isInit: boolean,
    waiting: WaitingReason,
  ) {
    this.spec = spec;
    this.#state = { kind: "waiting", reason: waiting };
    this.#isInit = isInit;
    this.#argv = argv;
    this.#uid = uid;
    this.#restarts = before?.restartCount ?? 0;
    this.#host = host;
    const { running, terminated } = before?.state ?? {};
    if (terminated) {
      const { exitCode, reason = "Completed", startedAt = "", finishedAt = "" } = terminated;
      this.#state = {
        kind: "terminated",
        exitCode,
        reason,
        startedAt: Date.parse(startedAt) || 0,
        finishedAt: Date.parse(finishedAt) || 0,
      };
    }
    if (running?.startedAt === undefined) return;
    this.#state = { kind: "running", startedAt: Date.parse(running.startedAt) };
    this.#started = before?.started ?? false;
    this.#ready = before?.ready ?? false;
  }

  get restartCount(): number {
    return this.#restarts;
  }

  view(): ContainerView {
    return {
      name: this.spec.name,
      image: this.spec.image ?? "",
      kind: this.kind,
      id: `fairlead://${this.#uid}/${this.spec.name}/${this.#restarts}`,
      state: this.#state,
      ...(this.#last ? { last: this.#last } : {}),
      restartCount: this.#restarts,
      started: this.#started,
      // An init container that has done its part counts as ready.
      ready: this.#ready || (this.#isInit && this.#state.kind === "terminated" && this.#state.exitCode === 0),
    };
  }

  get over(): Promise<void> {
    if (this.#done) return Promise.resolve();
    return new Promise((resolve) => this.#whenEnded.push(resolve));
  }

  get started(): Promise<void> {
    if (this.#started || this.#done) return Promise.resolve();
    return new Promise((resolve) => {
      this.#whenStarted.push(resolve);
      this.#whenEnded.push(resolve);
    });
  }

  /** Starts it, or goes on with the run that was started before we were. Nothing when it has ended for good. */
  start(): void {
    const { clock } = this.#host;
    if (this.#stopping) return;
    if (this.#state.kind === "terminated" && !this.#isRestarted(this.#state.exitCode)) {
      this.#endForGood();
      return;
    }
    let spec: CommandSpec;
    try {
      spec = this.#host.commandSpec(this.spec, this.#argv, this.#restarts);
    } catch (error) {
      this.#state = { kind: "waiting", reason: "CreateContainerConfigError", message: messageOf(error) };
      this.#host.changed();
      // What is missing may come: kubelets try again as well.
      this.#timer = clock.after(1000, () => this.start());
      return;
    }
    const found = CommandProcess.find(spec.pidFile, clock);
    const known = this.#state.kind === "running" ? this.#state.startedAt : undefined;
    if (!found && known !== undefined) {
      // It ended while nobody looked; what its exit code was is not known.
      const now = clock.now();
      this.#afterEnd({ exitCode: 255, reason: "Unknown", startedAt: known, finishedAt: now });
      return;
    }
    try {
      const child = found ?? CommandProcess.start(spec);
      this.#process = child;
      void child.exited.then((exit) => this.#exited(child, exit));
    } catch (error) {
      const message = messageOf(error);
      this.#host.event("Warning", "Failed", `Error: failed to start container "${this.spec.name}": ${message}`);
      this.#afterEnd({ exitCode: 128, reason: "StartError", message, startedAt: clock.now(), finishedAt: clock.now() });
      return;
    }
    this.#state = { kind: "running", startedAt: known ?? clock.now() };
    if (!found) this.#host.event("Normal", "Started", `Container started as a command in place of ${this.spec.image}`);
    this.#probers.push(this.#host.clock.every(outputLook, () => keepOutputShort(spec.logFile)));
    this.#probe(found !== undefined);
    this.#host.changed();
    if (!found) void this.#postStart();
  }

  async #postStart(): Promise<void> {
    const action = this.spec.lifecycle?.postStart;
    const child = this.#process;
    if (!action || !child) return;
    const result = action.sleep
      ? { ok: true, message: "" }
      : await probeOnce(action, this.#host.probeTarget(this.spec));
    if (result.ok || this.#process !== child || this.#stopping) return;
    this.#host.event("Warning", "FailedPostStartHook", `PostStartHook failed: ${result.message}`);
    this.#kill("FailedPostStartHook");
  }

  async stop(deadline: number): Promise<void> {
    this.#stopping = true;
    this.#timer?.dispose();
    this.#endRestartProbes();
    if (this.#process) await this.#preStop(deadline);
    const child = this.#process;
    if (child) {
      const signal = (this.spec.lifecycle?.stopSignal ?? "SIGTERM") as NodeJS.Signals;
      await child.stop(deadline - this.#host.clock.now(), this.#host.clock, signal);
    } else if (this.#state.kind === "waiting") {
      const now = this.#host.clock.now();
      this.#state = { kind: "terminated", exitCode: 137, reason: "Error", startedAt: now, finishedAt: now };
      this.#endForGood();
    } else this.#endForGood();
  }

  kill(): void {
    this.#stopping = true;
    this.#timer?.dispose();
    this.#endProbes();
    this.#process?.kill();
  }

  async #preStop(deadline: number): Promise<void> {
    const { clock } = this.#host;
    const { sleep, exec, httpGet, tcpSocket } = this.spec.lifecycle?.preStop ?? {};
    const left = Math.max(0, deadline - clock.now());
    if (sleep) {
      await new Promise<void>((resolve) => clock.after(Math.min(left, sleep.seconds * 1000), resolve));
      return;
    }
    const action = exec ? { exec } : httpGet ? { httpGet } : tcpSocket ? { tcpSocket } : undefined;
    if (!action) return;
    const probe = { ...action, timeoutSeconds: Math.max(1, left / 1000) };
    const result = await probeOnce(probe, this.#host.probeTarget(this.spec));
    if (!result.ok) this.#host.event("Warning", "FailedPreStopHook", `PreStopHook failed: ${result.message}`);
  }

  release(): void {
    this.#stopping = true;
    this.#process = undefined;
    this.#timer?.dispose();
    this.#endProbes();
  }

  #exited(child: CommandProcess, exit: Exit): void {
    if (this.#process !== child) return;
    this.#process = undefined;
    const now = this.#host.clock.now();
    this.#afterEnd({
      ...exit,
      reason: exit.exitCode === 0 ? "Completed" : "Error",
      startedAt: this.#state.kind === "running" ? this.#state.startedAt : now,
      finishedAt: now,
    });
  }

  #afterEnd(ended: Ended): void {
    this.#endProbes();
    this.#started = false;
    this.#ready = false;
    if (this.#stopping || !this.#isRestarted(ended.exitCode)) {
      this.#state = { kind: "terminated", ...ended };
      this.#host.changed();
      this.#endForGood();
      return;
    }
    if (ended.finishedAt - ended.startedAt > settled) this.#failures = 0;
    const delay = restartDelay(this.#failures++);
    this.#last = ended;
    if (delay > 0) {
      const message = `back-off ${delay / 1000}s restarting failed container=${this.spec.name}`;
      this.#state = { kind: "waiting", reason: "CrashLoopBackOff", message };
      this.#host.event("Warning", "BackOff", `Back-off restarting failed container ${this.spec.name}`);
    } else this.#state = { kind: "terminated", ...ended };
    this.#host.changed();
    this.#timer = this.#host.clock.after(delay, () => {
      if (this.#stopping) return;
      this.#restarts++;
      this.start();
    });
  }

  /** A run that was found keeps what was known of it until a probe says otherwise. */
  #probe(found: boolean): void {
    const { startupProbe, readinessProbe, livenessProbe } = this.spec;
    this.#started = !startupProbe || (found && this.#started);
    this.#ready = this.#started && (!readinessProbe || (found && this.#ready));
    if (startupProbe && !this.#started) {
      const startup = this.#watch(startupProbe, "Startup", (passing, message, prober) => {
        if (!passing) return this.#unhealthy("startup", message);
        prober.dispose();
        this.#started = true;
        for (const resolve of this.#whenStarted.splice(0)) resolve();
        this.#ready = !readinessProbe;
        this.#probeRunning(readinessProbe, livenessProbe);
        this.#host.changed();
      });
      this.#probers.push(startup);
    } else this.#probeRunning(readinessProbe, livenessProbe);
  }

  #probeRunning(readiness: Probe | undefined, liveness: Probe | undefined): void {
    if (readiness) {
      this.#readiness = this.#watch(readiness, "Readiness", (passing) => {
        this.#ready = passing;
        this.#host.changed();
      });
    }
    if (liveness) {
      const prober = this.#watch(liveness, "Liveness", (passing, message) => {
        if (!passing) this.#unhealthy("liveness", message);
      });
      this.#probers.push(prober);
    }
  }

  #watch(
    probe: Probe,
    name: string,
    then: (passing: boolean, message: string, prober: Disposable) => void,
  ): Disposable {
    const target = this.#host.probeTarget(this.spec);
    const once = () => probeOnce(probe, target);
    const prober = new Prober(probe, once, this.#host.clock, (passing, message) => {
      if (!passing) this.#host.event("Warning", "Unhealthy", `${name} probe failed: ${message}`);
      then(passing, message, prober);
    });
    return prober;
  }

  /** A failed startup or liveness probe ends the run; the restart policy decides what comes. */
  #unhealthy(which: string, message: string): void {
    this.#kill(`Container ${this.spec.name} failed ${which} probe, will be restarted: ${message}`);
  }

  #kill(why: string): void {
    const grace = (this.#host.pod().spec?.terminationGracePeriodSeconds ?? 30) * 1000;
    this.#host.event("Normal", "Killing", why);
    this.#endProbes();
    void this.#process?.stop(grace, this.#host.clock);
  }

  #endForGood(): void {
    this.#done = true;
    for (const resolve of this.#whenEnded.splice(0)) resolve();
  }

  #isRestarted(exitCode: number): boolean {
    return isRestarted(this.#host.pod(), this.spec, exitCode, this.#isInit);
  }

  #endProbes(): void {
    this.#readiness?.dispose();
    this.#readiness = undefined;
    this.#endRestartProbes();
  }

  /** Those that would start the process again. */
  #endRestartProbes(): void {
    for (const prober of this.#probers) prober.dispose();
    this.#probers = [];
  }
}

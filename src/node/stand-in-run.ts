// A container that a stand-in takes the place of: no process of its own, but a part of what the node's stand-in process serves.

import type { Container, ContainerStatus } from "../api/kinds.ts";
import type { RunningContainer, WaitingReason } from "./container.ts";
import type { ContainerLife, ContainerView } from "./pod-status.ts";

export class StandInRun implements RunningContainer {
  readonly kind = "stand-in";
  readonly spec: Container;
  readonly #uid: string;
  readonly #started = Promise.withResolvers<void>();
  readonly #over = Promise.withResolvers<void>();
  #state: ContainerLife;
  readonly restartCount: number;

  /** `before` is what the pod's status says: a stand-in that ran goes on running when an agent is started anew. */
  constructor(spec: Container, uid: string, before: ContainerStatus | undefined, waiting: WaitingReason) {
    this.spec = spec;
    this.#uid = uid;
    this.#state = { kind: "waiting", reason: waiting };
    this.restartCount = before?.restartCount ?? 0;
    const { running, terminated } = before?.state ?? {};
    if (running?.startedAt !== undefined) this.#state = { kind: "running", startedAt: Date.parse(running.startedAt) };
    if (terminated) {
      const { startedAt = "", finishedAt = "" } = terminated;
      this.#end(Date.parse(startedAt) || 0, Date.parse(finishedAt) || 0);
    }
  }

  get started(): Promise<void> {
    return this.#started.promise;
  }

  get over(): Promise<void> {
    return this.#over.promise;
  }

  view(): ContainerView {
    const running = this.#state.kind === "running";
    return {
      name: this.spec.name,
      image: this.spec.image ?? "",
      kind: this.kind,
      id: `fairlead://${this.#uid}/${this.spec.name}/${this.restartCount}`,
      state: this.#state,
      restartCount: this.restartCount,
      started: running,
      ready: running,
    };
  }

  /** Its ports are open. */
  serving(now: number): void {
    if (this.#state.kind !== "running") this.#state = { kind: "running", startedAt: now };
    this.#started.resolve();
  }

  waiting(message: string): void {
    this.#state = { kind: "waiting", reason: "ContainerCreating", message };
  }

  ended(now: number): void {
    if (this.#state.kind === "terminated") return;
    this.#end(this.#state.kind === "running" ? this.#state.startedAt : now, now);
  }

  #end(startedAt: number, finishedAt: number): void {
    this.#state = { kind: "terminated", exitCode: 0, reason: "Completed", startedAt, finishedAt };
    this.#started.resolve();
    this.#over.resolve();
  }

  async stop(): Promise<void> {}
  kill(): void {}
  release(): void {}
}

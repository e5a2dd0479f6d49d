// The agent's side of a stand-in process: keeps it running, tells it what to serve, and knows what it says. The process may die
// or be older than us; either way it is told the whole state again when the connection is there.

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Socket } from "bun";
import { type Clock, systemClock } from "../../base/clock.ts";
import type { Disposable } from "../../base/disposal.ts";
import type { Logger } from "../../base/log.ts";
import { type SupervisedState, Supervisor } from "../supervisor.ts";
import { encodeFrame, FrameReader, type StandInPod, type StandInState, type StateMessage } from "./protocol.ts";

/** What an agent needs of it; tests give a fake. */
export interface StandIns {
  /** Serves this pod from now on, or as it is now; told to the process with the others of the same turn. */
  /** Pods that will be served again, or removed: until then what is served of them stays as it is. */
  keep(uids: readonly string[]): void;
  serve(pod: StandInPod): void;
  /** Ends it: requests under way are finished until `until` (ms since the epoch). Resolves when it has drained. */
  drain(uid: string, until: number): Promise<void>;
  /** Forgets it; what is open is closed. */
  remove(uid: string): void;
  /** Called when what the process says about a pod changes. */
  onState(listener: (state: StandInState) => void): Disposable;
  state(uid: string): StandInState | undefined;
}

export interface StandInProcessOptions {
  readonly node: string;
  /** Socket and pid files are made here. */
  readonly stateDir: string;
  /** The log file is made here; in `stateDir` unless given. */
  readonly logDir?: string;
  readonly log: Logger;
  readonly clock?: Clock;
}

/** The command that runs the program. */
const program = [process.execPath, join(import.meta.dir, "main.ts")];

interface Link {
  readonly reader: FrameReader<StateMessage>;
  rest: Buffer;
}

export class StandInProcess implements StandIns {
  readonly #supervisor: Supervisor;
  readonly #socketPath: string;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #pods = new Map<string, StandInPod>();
  readonly #kept = new Set<string>();
  readonly #states = new Map<string, StandInState>();
  readonly #drains = new Map<string, (() => void)[]>();
  readonly #listeners = new Set<(state: StandInState) => void>();
  #link: Socket<Link> | undefined;
  #dirty = false;
  #ended = false;
  #retry: Disposable | undefined;

  constructor(options: StandInProcessOptions) {
    const { node, stateDir, logDir = stateDir, log } = options;
    this.#socketPath = join(stateDir, `stand-in-${node}.sock`);
    this.#log = log.child("stand-ins", { node });
    this.#clock = options.clock ?? systemClock;
    this.#supervisor = new Supervisor(
      {
        name: `stand-in ${node}`,
        argv: [...program, "--socket", this.#socketPath],
        logFile: join(logDir, `stand-in-${node}.log`),
        pidFile: join(stateDir, `stand-in-${node}.pid`),
      },
      { log: this.#log, clock: this.#clock, onStart: () => this.#connect() },
    );
  }

  start(): void {
    this.#ended = false;
    this.#supervisor.start();
  }

  /** Ends the process. */
  async stop(): Promise<void> {
    this.#disconnect();
    await this.#supervisor.stop(2000);
  }

  /** Lets it serve on without us. */
  release(): void {
    this.#disconnect();
    this.#supervisor.release();
  }

  #disconnect(): void {
    this.#ended = true;
    this.#retry?.dispose();
    this.#link?.end();
  }

  process(): SupervisedState {
    return this.#supervisor.state();
  }

  keep(uids: readonly string[]): void {
    for (const uid of uids) this.#kept.add(uid);
  }

  serve(pod: StandInPod): void {
    this.#kept.delete(pod.uid);
    this.#pods.set(pod.uid, pod);
    this.#tell();
  }

  drain(uid: string, until: number): Promise<void> {
    const pod = this.#pods.get(uid);
    if (!pod || this.#states.get(uid)?.drained) return Promise.resolve();
    this.#pods.set(uid, { ...pod, drainUntil: until });
    this.#tell();
    return new Promise((resolve) => {
      this.#drains.set(uid, [...(this.#drains.get(uid) ?? []), resolve]);
      // The process may die meanwhile; then nothing is under way any more.
      this.#clock.after(Math.max(0, until - this.#clock.now()) + 1000, () => this.#drained(uid));
    });
  }

  remove(uid: string): void {
    this.#states.delete(uid);
    this.#drained(uid);
    const kept = this.#kept.delete(uid);
    if (this.#pods.delete(uid) || kept) this.#tell();
  }

  onState(listener: (state: StandInState) => void): Disposable {
    this.#listeners.add(listener);
    return { dispose: () => this.#listeners.delete(listener) };
  }

  state(uid: string): StandInState | undefined {
    return this.#states.get(uid);
  }

  #drained(uid: string): void {
    const waiting = this.#drains.get(uid);
    this.#drains.delete(uid);
    for (const resolve of waiting ?? []) resolve();
  }

  /** Sends the whole state once a turn. */
  #tell(): void {
    if (this.#dirty) return;
    this.#dirty = true;
    queueMicrotask(() => {
      this.#dirty = false;
      const link = this.#link;
      if (link) send(link, encodeFrame({ type: "serve", pods: [...this.#pods.values()], keep: [...this.#kept] }));
    });
  }

  #connect(): void {
    if (this.#ended) return;
    const again = () => {
      this.#retry?.dispose();
      this.#retry = this.#clock.after(10, () => this.#connect());
    };
    if (this.#link) return;
    if (!existsSync(this.#socketPath)) {
      again();
      return;
    }
    Bun.connect<Link>({
      unix: this.#socketPath,
      socket: {
        open: (socket) => {
          socket.data = { reader: new FrameReader(), rest: Buffer.alloc(0) };
          this.#link = socket;
          this.#tell();
        },
        data: (socket, chunk) => {
          for (const message of socket.data.reader.read(chunk)) this.#heard(message);
        },
        drain: (socket) => send(socket, Buffer.alloc(0)),
        close: (socket) => {
          if (this.#link !== socket) return;
          this.#link = undefined;
          if (!this.#ended) again();
        },
        error: () => {},
      },
    }).catch(again);
  }

  #heard(message: StateMessage): void {
    for (const state of message.pods) {
      if (!this.#pods.has(state.uid)) continue;
      const before = this.#states.get(state.uid);
      this.#states.set(state.uid, state);
      if (state.drained) this.#drained(state.uid);
      const same = before?.serving === state.serving && before.drained === state.drained;
      if (same && before.open.join() === state.open.join()) continue;
      for (const listener of this.#listeners) listener(state);
      if (state.problems.length > 0) this.#log.warn("a port cannot be opened", { problems: state.problems });
    }
  }
}

function send(socket: Socket<Link>, bytes: Buffer): void {
  const all = socket.data.rest.length > 0 ? Buffer.concat([socket.data.rest, bytes]) : bytes;
  const taken = Math.max(0, socket.write(all));
  socket.data.rest = all.subarray(taken);
}

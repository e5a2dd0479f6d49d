// The proxy's end of the control socket (`model/wire.ts`): says what it has, takes updates, answers each with what it could not
// take. Tries again for ever when the control process is away; traffic does not depend on it.

import type { Socket } from "bun";
import { backoff } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { encodeFrame } from "../model/frame.ts";
import { FrameIntake } from "../model/frame-intake.ts";
import type { Ahead, FromProxy, Rejection, ToProxy, Update } from "../model/wire.ts";
import { joinedUpdate } from "../model/wire-codec.ts";

export interface ControlEvents {
  /** Asked for each connection anew. */
  hello(): Promise<Extract<FromProxy, { type: "hello" }>>;
  update(update: Update): Promise<readonly Rejection[]>;
  drain(deadline: number, successors: number | undefined): void;
}

/** Longest wait between attempts, in milliseconds: a restarted control process is found again within it. */
const longestWait = 1_000;

/** Parts of an update that are taken before the update itself: far more than one of usual frames has. */
const mostAhead = 16_384;

interface Link {
  intake: FrameIntake | undefined;
  /** What was sent ahead of the update that is to come. */
  ahead: Ahead[];
  /** What the socket did not take. */
  backlog: Uint8Array[];
}

export class ControlConnection implements Disposable {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #events: ControlEvents;
  #attempt = 0;
  #socket: Socket<Link> | undefined;
  #timer: Disposable | undefined;
  #disposed = false;

  constructor(path: string, clock: Clock, log: Logger, events: ControlEvents) {
    this.#path = path;
    this.#clock = clock;
    this.#log = log;
    this.#events = events;
    this.#connect();
  }

  get connected(): boolean {
    return this.#socket !== undefined;
  }

  #connect(): void {
    if (this.#disposed) return;
    let lost = false;
    const again = (reason: string) => {
      if (lost || this.#disposed) return;
      lost = true;
      if (this.#socket || this.#attempt === 0)
        this.#log.warn("no connection to the control process; trying again", { reason });
      this.#socket = undefined;
      this.#timer = this.#clock.after(backoff(this.#attempt++, { initial: 50, max: longestWait }), () =>
        this.#connect(),
      );
    };
    Bun.connect<Link>({
      unix: this.#path,
      data: { intake: undefined, ahead: [], backlog: [] },
      socket: {
        open: (socket) => {
          this.#socket = socket;
          this.#attempt = 0;
          this.#log.info("connected to the control process");
          socket.data.intake = new FrameIntake(socket, {
            take: (message) => this.#take(socket, message as ToProxy),
            failed: (error) => {
              this.#log.error("the control process sent what is no message", { reason: messageOf(error) });
              socket.terminate();
              again("protocol error");
            },
          });
          this.#events.hello().then(
            (hello) => {
              if (this.#socket === socket) this.#send(socket, hello);
            },
            (error) => {
              this.#log.error("what is in force cannot be told", { reason: messageOf(error) });
              socket.terminate();
            },
          );
        },
        data: (socket, bytes) => socket.data.intake?.push(bytes),
        drain: (socket) => flush(socket),
        close: (socket) => {
          // What it had begun to say comes whole over the next connection.
          socket.data.intake?.end();
          again("closed");
        },
        error: (_socket, error) => again(messageOf(error)),
        connectError: (_socket, error) => again(messageOf(error)),
      },
    }).catch((error) => again(messageOf(error)));
  }

  #take(socket: Socket<Link>, message: ToProxy): void {
    if (message.type === "drain") {
      this.#events.drain(message.deadline, message.successors);
      return;
    }
    const { ahead } = socket.data;
    if (message.type === "ahead") {
      if (ahead.push(message) > mostAhead) throw new Error(`more than ${mostAhead} parts ahead of an update`);
      return;
    }
    if (message.type !== "update") return;
    socket.data.ahead = [];
    this.#events.update(joinedUpdate(ahead, message)).then(
      (rejected) => {
        if (this.#socket === socket) this.#send(socket, { type: "applied", version: message.version, rejected });
      },
      (error) => {
        // The two ends do not agree on what is in force: a new connection says it anew.
        this.#log.error("an update cannot be applied; connecting anew", { reason: messageOf(error) });
        socket.terminate();
      },
    );
  }

  #send(socket: Socket<Link>, message: FromProxy): void {
    socket.data.backlog.push(encodeFrame(message));
    flush(socket);
  }

  dispose(): void {
    this.#disposed = true;
    this.#timer?.dispose();
    this.#socket?.data.intake?.end();
    this.#socket?.end();
    this.#socket = undefined;
  }
}

function flush(socket: Socket<Link>): void {
  const { backlog } = socket.data;
  while (backlog.length > 0) {
    const bytes = backlog[0]!;
    const taken = Math.max(0, socket.write(bytes));
    if (taken < bytes.length) {
      backlog[0] = bytes.subarray(taken);
      return;
    }
    backlog.shift();
  }
}

// The proxy's end of the control socket (`model/wire.ts`): says what it has, takes updates, answers each with what it could not
// take. Tries again for ever when the control process is away; traffic does not depend on it.

import type { Socket } from "bun";
import { backoff } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { encodeFrame, FrameDecoder } from "../model/frame.ts";
import type { FromProxy, Rejection, ToProxy } from "../model/wire.ts";

export interface ControlEvents {
  hello(): Extract<FromProxy, { type: "hello" }>;
  update(update: Extract<ToProxy, { type: "update" }>): Promise<readonly Rejection[]>;
  drain(deadline: number, successors: number | undefined): void;
}

/** Longest wait between attempts, in milliseconds: a restarted control process is found again within it. */
const longestWait = 1_000;

interface Link {
  decoder: FrameDecoder;
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
      data: { decoder: new FrameDecoder(), backlog: [] },
      socket: {
        open: (socket) => {
          this.#socket = socket;
          this.#attempt = 0;
          this.#log.info("connected to the control process");
          this.#send(socket, this.#events.hello());
        },
        data: (socket, bytes) => {
          try {
            for (const message of socket.data.decoder.push(bytes)) this.#take(socket, message as ToProxy);
          } catch (error) {
            this.#log.error("the control process sent what is no message", { reason: messageOf(error) });
            socket.terminate();
            again("protocol error");
          }
        },
        drain: (socket) => flush(socket),
        close: () => again("closed"),
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
    if (message.type !== "update") return;
    this.#events.update(message).then(
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

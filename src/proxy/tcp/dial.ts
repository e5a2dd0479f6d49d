// One attempt of a relayed connection to reach an endpoint, and its socket. With TLS it is open when the handshake is done and the
// endpoint is the one that was meant.

import type { Socket } from "bun";
import { inNetns } from "../../base/setns.ts";
import type { Reason } from "../reason.ts";
import { openSocket } from "../upstream/open-socket.ts";
import { beginTurn, endTurn } from "../wire.ts";
import type { Target } from "./targets.ts";

/** Whom it tells, of itself: attempts before the last one are nobody's. */
export interface DialOwner {
  opened(dial: Dial, socket: Socket<Dial>): void;
  notOpened(dial: Dial, reason: Reason): void;
  upstreamData(dial: Dial, bytes: Buffer): void;
  upstreamDrained(dial: Dial): void;
  upstreamEnd(dial: Dial): void;
  /** The socket is gone; `broken`: not by an end. */
  upstreamClosed(dial: Dial, broken: boolean): void;
}

export class Dial {
  readonly owner: DialOwner;
  readonly #target: Target;
  #socket: Socket<Dial> | undefined = undefined;
  #abandoned = false;

  constructor(owner: DialOwner, target: Target) {
    this.owner = owner;
    this.#target = target;
    const connect = () => openSocket<Dial>({ ...target, allowHalfOpen: true }, this, handlers, secureHandlers);
    connectIn(target.namespace, connect).catch(() => {
      // Told through `connectError`, or here when there is not even an attempt (no such address).
      inTurn(() => owner.notOpened(this, "connect_failed"));
    });
  }

  connected(socket: Socket<Dial>): void {
    this.#socket = socket;
    const { tls } = this.#target;
    if (this.#abandoned) socket.terminate();
    else if (tls) tls.resume(socket, this.#endpoint);
    else this.owner.opened(this, socket);
  }

  shaken(socket: Socket<Dial>, done: boolean, error: Error | null): void {
    if (this.#abandoned) return;
    const problem = this.#target.tls!.problem(socket, done, error, this.#target.address);
    if (problem) this.owner.notOpened(this, problem);
    else this.owner.opened(this, socket);
  }

  resumable(session: Uint8Array): void {
    if (!this.#abandoned) this.#target.tls!.keepSession(this.#endpoint, session);
  }

  get #endpoint(): string {
    return `${this.#target.address} ${this.#target.port}`;
  }

  abandon(): void {
    this.#abandoned = true;
    this.#socket?.terminate();
  }
}

/** A namespace that is gone is a connection that cannot be made. */
async function connectIn<T>(namespace: string | undefined, connect: () => Promise<T>): Promise<T> {
  return await inNetns(namespace, connect);
}

function inTurn(run: () => void): void {
  beginTurn();
  run();
  endTurn();
}

const handlers = {
  open: (socket: Socket<Dial>) => inTurn(() => socket.data.connected(socket)),
  data: (socket: Socket<Dial>, bytes: Buffer) => inTurn(() => socket.data.owner.upstreamData(socket.data, bytes)),
  drain: (socket: Socket<Dial>) => inTurn(() => socket.data.owner.upstreamDrained(socket.data)),
  end: (socket: Socket<Dial>) => inTurn(() => socket.data.owner.upstreamEnd(socket.data)),
  close: (socket: Socket<Dial>, error?: Error) =>
    inTurn(() => socket.data.owner.upstreamClosed(socket.data, error !== undefined)),
  error: (socket: Socket<Dial>) => inTurn(() => socket.data.owner.upstreamClosed(socket.data, true)),
  connectError: (socket: Socket<Dial>) => inTurn(() => socket.data.owner.notOpened(socket.data, "connect_failed")),
};

const secureHandlers = {
  ...handlers,
  handshake: (socket: Socket<Dial>, done: boolean, error: Error | null) =>
    inTurn(() => socket.data.shaken(socket, done, error)),
  session: (socket: Socket<Dial>, session: Uint8Array) => socket.data.resumable(session),
};

// A connection to an endpoint that is being made, and afterwards the way from its socket to its codec. Its deadline is the
// connect timeout, which ends when the codec says that requests may be sent. With TLS there is no codec before the handshake is
// done and the endpoint is the one that was meant.

import type { Socket } from "bun";
import { Deadline, type Deadlines } from "../deadlines.ts";
import type { Reason } from "../reason.ts";
import { beginTurn, endTurn, type Wire } from "../wire.ts";
import type { Attempt, SocketCodec } from "./connections.ts";
import { openSocket, type SocketWay } from "./open-socket.ts";

export interface ConnectingOwner {
  /** The socket is open: makes its codec; undefined when it is not wanted any more. */
  opened(wire: Wire, attempt: Attempt): SocketCodec | undefined;
  /** Requests may be sent. */
  settled(): void;
  /** There will be no connection. */
  refused(reason: Reason): void;
}

export class Connecting extends Deadline implements Attempt {
  #codec: SocketCodec | undefined = undefined;
  readonly #owner: ConnectingOwner;
  readonly #deadlines: Deadlines;
  #socket: Socket<Connecting> | undefined = undefined;
  #over = false;
  readonly #way: SocketWay;

  /** Begins at once; `timeout` in milliseconds. */
  constructor(owner: ConnectingOwner, deadlines: Deadlines, way: SocketWay, timeout: number) {
    super();
    this.#owner = owner;
    this.#deadlines = deadlines;
    this.#way = way;
    deadlines.arm(this, timeout);
    openSocket<Connecting>(way, this, handlers, secureHandlers).catch(() => {
      // Told through `connectError`, or here when there is not even an attempt (no such address).
      this.failed("connect_failed");
    });
  }

  get codec(): SocketCodec | undefined {
    return this.#codec;
  }

  opened(socket: Socket<Connecting>): void {
    if (this.#over) {
      socket.terminate();
      return;
    }
    this.#socket = socket;
    socket.setNoDelay(true);
    const { tls } = this.#way;
    if (tls === undefined) this.#begin(socket);
    else tls.resume(socket, this.#endpoint);
  }

  #begin(socket: Socket<Connecting>): void {
    this.#codec = this.#owner.opened(socket, this);
    if (!this.#codec) this.failed("connect_failed");
  }

  get #endpoint(): string {
    return `${this.#way.address} ${this.#way.port}`;
  }

  /** The handshake is over, one way or the other. */
  shaken(socket: Socket<Connecting>, done: boolean, error: Error | null): void {
    if (this.#over) return;
    const problem = this.#way.tls!.problem(socket, done, error, this.#way.address);
    if (problem) this.failed(problem);
    else this.#begin(socket);
  }

  /** The endpoint has given something to resume the session with. */
  resumable(session: Uint8Array): void {
    if (this.#codec) this.#way.tls!.keepSession(this.#endpoint, session);
  }

  /** Requests may be sent. */
  settled(): void {
    this.#end();
    this.#owner.settled();
  }

  #end(): void {
    this.#over = true;
    this.#deadlines.disarm(this);
  }

  failed(reason: Reason): void {
    if (this.#over) return;
    this.#end();
    this.#owner.refused(reason);
    this.#socket?.terminate();
  }

  expired(): void {
    this.failed("connect_timeout");
  }

  /** The socket is gone. */
  closed(broken: boolean): void {
    this.#codec?.onClose(broken);
    this.failed("connect_failed");
  }
}

const handlers = {
  open(socket: Socket<Connecting>) {
    beginTurn();
    socket.data.opened(socket);
    endTurn();
  },
  data(socket: Socket<Connecting>, bytes: Buffer) {
    beginTurn();
    socket.data.codec?.onData(bytes);
    endTurn();
  },
  drain(socket: Socket<Connecting>) {
    beginTurn();
    socket.data.codec?.onDrain();
    endTurn();
  },
  end(socket: Socket<Connecting>) {
    beginTurn();
    const { codec } = socket.data;
    if (codec?.onEnd) codec.onEnd();
    else codec?.onClose();
    endTurn();
  },
  close(socket: Socket<Connecting>, error?: Error) {
    beginTurn();
    socket.data.closed(error !== undefined);
    endTurn();
  },
  error(socket: Socket<Connecting>) {
    beginTurn();
    socket.data.closed(true);
    socket.terminate();
    endTurn();
  },
  connectError(socket: Socket<Connecting>) {
    beginTurn();
    socket.data.failed("connect_failed");
    endTurn();
  },
};

const secureHandlers = {
  ...handlers,
  handshake(socket: Socket<Connecting>, done: boolean, error: Error | null) {
    beginTurn();
    socket.data.shaken(socket, done, error);
    endTurn();
  },
  session(socket: Socket<Connecting>, session: Uint8Array) {
    socket.data.resumable(session);
  },
};

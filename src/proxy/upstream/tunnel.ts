// The backend's end of a CONNECT that ends here (RFC 9110 §9.3.6): a connection for one client alone, whose bytes are the tunnel's.
// To the middle of the proxy it is what any upstream codec is, with an answer 101 as soon as there is a connection. A side that
// sends no more still receives.

import type { Deadlines } from "../deadlines.ts";
import type { Upstream, UpstreamEvents } from "../exchange.ts";
import { HeaderBlock } from "../headers.ts";
import type { ListenerWire } from "../listener/served.ts";
import type { Reason } from "../reason.ts";
import { inTurn, Outlet, turn, type Wire } from "../wire.ts";
import type { Attempt, Connections, ConnectionsOwner, Reusable, SocketCodec } from "./connections.ts";

/** Without a byte either way, in milliseconds: as long as a connection that is passed through (Envoy's default for those). */
const idleMilliseconds = 3_600_000;
/** How long what was said last may take to leave, once nobody listens to the backend any more. */
const lingerMilliseconds = 60_000;

class Tunnel extends Outlet implements Upstream, Reusable, SocketCodec {
  readonly hasRoom = false;
  readonly #owner: ConnectionsOwner;
  readonly #deadlines: Deadlines;
  #events: UpstreamEvents | undefined = undefined;
  /** The client has been told: what it sends from now on is the tunnel's. */
  #open = false;
  /** The client sends no more, or the backend does not. */
  #ended = false;
  #halfEnded = false;
  #held = false;
  #used = false;
  #left = false;
  #active = turn.now;

  constructor(socket: Wire, owner: ConnectionsOwner) {
    super({
      write: (data, offset, length) => socket.write(data, offset, length),
      pause: () => socket.pause(),
      resume: () => socket.resume(),
      end: () => (socket as ListenerWire).shutdown(),
      terminate: () => socket.terminate(),
    });
    this.#owner = owner;
    this.#deadlines = owner.deadlines;
  }

  open(): Upstream {
    this.#used = true;
    return this;
  }

  // ------------------------------------------------------------------------------------------------------ from the client

  begin(events: UpstreamEvents): void {
    this.#events = events;
  }

  /** Not told at once: whoever sends does not expect to be called back before it is done. */
  send(): void {
    this.#deadlines.arm(this, idleMilliseconds);
    this.pauseBody();
    queueMicrotask(() => inTurn(() => this.#answer()));
  }

  #answer(): void {
    if (this.#events === undefined) return;
    this.#open = true;
    this.#active = turn.now;
    this.#events.responded({ status: 101, phrase: "", headers: new HeaderBlock(), length: 0 });
    this.resumeBody();
  }

  write(chunk: Buffer, start: number, end: number): boolean {
    this.#active = turn.now;
    this.bytes(chunk, start, end);
    return this.queued === 0;
  }

  /** The request that asks for a tunnel has no end of its own; the tunnel's first half has. */
  end(): void {
    if (!this.#open || this.#ended) return;
    this.#ended = true;
    this.endAfterFlush();
    if (this.#halfEnded) this.#complete();
  }

  cancel(): void {
    this.#events = undefined;
    this.#leave(true);
  }

  /** Nobody wants it. */
  retire(): void {
    this.#leave(true);
  }

  pauseBody(): void {
    if (this.#held || this.closed) return;
    this.#held = true;
    this.wire.pause();
  }

  resumeBody(): void {
    if (!this.#held || this.closed) return;
    this.#held = false;
    this.#active = turn.now;
    this.wire.resume();
  }

  protected drained(): void {
    this.#active = turn.now;
    this.#events?.upstreamDrained();
  }

  // ----------------------------------------------------------------------------------------------------- from the backend

  onData(bytes: Buffer): void {
    this.#active = turn.now;
    if (this.#events && !this.#events.responseData(bytes, 0, bytes.length)) this.pauseBody();
  }

  /** The backend sends no more. It is told what the client still says, until that ends, too. */
  onEnd(): void {
    if (this.#halfEnded) return;
    this.#halfEnded = true;
    if (this.#ended || !this.#events?.responseHalfEnd) this.#complete();
    else this.#events.responseHalfEnd();
  }

  /** Both sides have ended; what was said last may still have to leave. */
  #complete(): void {
    const events = this.#events;
    this.#events = undefined;
    events?.responseEnd(undefined);
    if (this.closed) return;
    this.endAfterFlush();
    this.#deadlines.arm(this, lingerMilliseconds);
  }

  /** After our own end a socket's last event is this one. */
  onClose(broken = false): void {
    const events = this.#events;
    this.#events = undefined;
    this.#leave(false);
    if (this.#ended && !broken) events?.responseEnd(undefined);
    else events?.upstreamFailed("upstream_closed", "never");
  }

  expired(): void {
    if (this.closed) return;
    const left = idleMilliseconds - (turn.now - this.#active);
    if (this.#events && (left > 0 || this.#held)) this.#deadlines.arm(this, Math.max(left, lingerMilliseconds));
    else this.#fail("upstream_idle");
  }

  #fail(reason: Reason): void {
    const events = this.#events;
    this.#events = undefined;
    this.#leave(true);
    events?.upstreamFailed(reason, "never");
  }

  #leave(terminate: boolean): void {
    if (this.#left) return;
    this.#left = true;
    this.discard();
    this.#deadlines.disarm(this);
    if (terminate) this.wire.terminate();
    this.#owner.closed(this.#used);
  }
}

/** What a pool makes a tunnel's connection by. */
export class TunnelConnections implements Connections {
  readonly protocol = "http1";
  readonly size = 0;
  readonly idle = 0;
  readonly share = 1;
  readonly #owner: ConnectionsOwner;

  constructor(owner: ConnectionsOwner) {
    this.#owner = owner;
  }

  take(): undefined {
    return undefined;
  }

  add(wire: Wire, attempt: Attempt): SocketCodec {
    const tunnel = new Tunnel(wire, this.#owner);
    attempt.settled();
    if (!this.#owner.offered(tunnel)) tunnel.retire();
    return tunnel;
  }

  sweep(): void {}

  retireIdle(): boolean {
    return false;
  }

  retireAll(): void {}
}

// One connection passed through to an endpoint, byte by byte: each side waits for the slower, and one that sends no more may still
// receive (half-close). The endpoint is chosen when the connection comes, because many protocols let the server speak first.

import type { Socket } from "bun";
import { Deadline, type Deadlines } from "../deadlines.ts";
import { type Accepted, arrivedAt, type ClientAddresses, type ListenerWire } from "../listener/served.ts";
import type { Reason } from "../reason.ts";
import type { ClientConnection } from "../server.ts";
import { Outlet, turn } from "../wire.ts";
import type { RelayCount } from "./counts.ts";
import { Dial, type DialOwner } from "./dial.ts";
import type { OwnEnd, OwnEnds } from "./own-ends.ts";
import type { Target, Targets } from "./targets.ts";

/** What is said of a connection when it is over. */
export interface RelayEnd {
  /** Undefined: both sides have closed it. */
  readonly reason: Reason | undefined;
  readonly backend: string;
  /** Undefined when none was tried. */
  readonly endpoint: { readonly address: string; readonly port: number } | undefined;
  /** Bytes from the client, and to it. */
  readonly received: number;
  readonly sent: number;
  readonly milliseconds: number;
  readonly attempts: number;
}

export interface RelayOwner {
  readonly deadlines: Deadlines;
  /** Milliseconds without a byte either way; 0: no limit. */
  readonly idleTimeout: number;
  readonly ownEnds: OwnEnds;
  count(backend: string): RelayCount;
  /** Called once. */
  ended(relay: TcpRelay, end: RelayEnd): void;
}

/** One side's outgoing bytes. Ending it leaves the other direction open. */
class Side extends Outlet {
  readonly #socket: ListenerWire;
  readonly #onDrained: () => void;
  paused = false;
  /** It sends no more. */
  ended = false;

  constructor(socket: ListenerWire, onDrained: () => void) {
    super({
      write: (data, offset, length) => socket.write(data, offset, length),
      pause: () => socket.pause(),
      resume: () => socket.resume(),
      end: () => socket.shutdown(),
      terminate: () => socket.terminate(),
    });
    this.#socket = socket;
    this.#onDrained = onDrained;
  }

  protected drained(): void {
    this.#onDrained();
  }

  expired(): void {}

  pause(): void {
    if (this.paused || this.closed) return;
    this.paused = true;
    this.#socket.pause();
  }

  resume(): void {
    if (!this.paused || this.closed) return;
    this.paused = false;
    this.#socket.resume();
  }

  /** Closes what is left, after all has been sent. */
  finish(): void {
    if (this.closed) return;
    this.discard();
    this.#socket.end();
  }

  /** Closes both directions at once; the peer sees a reset. */
  cut(): void {
    if (this.closed) return;
    this.flush();
    this.discard();
    this.#socket.terminate();
  }

  /** The socket is gone. */
  gone(): void {
    this.discard();
  }
}

export class TcpRelay extends Deadline implements ClientConnection, DialOwner {
  readonly accepted: Accepted;
  readonly addresses: ClientAddresses;
  readonly #owner: RelayOwner;
  readonly #wire: ListenerWire;
  readonly #client: Side;
  readonly #began = turn.now;
  #targets: Targets | undefined = undefined;
  #count: RelayCount | undefined = undefined;
  #target: Target | undefined = undefined;
  #reached: Target | undefined = undefined;
  #upstream: Side | undefined = undefined;
  /** The attempt under way; events of those before it are nobody's. */
  #dialing: Dial | undefined = undefined;
  #ownEnd: OwnEnd | undefined = undefined;
  #attempts = 0;
  /** When the attempt under way began, by `turn.now`. */
  #dialed = 0;
  #early: Buffer[] = [];
  #received = 0;
  #sent = 0;
  #active = turn.now;
  /** By `turn.now`: it must be gone then. */
  #leaveBy = Number.POSITIVE_INFINITY;
  #over = false;

  constructor(owner: RelayOwner, wire: ListenerWire, accepted: Accepted, addresses: ClientAddresses) {
    super();
    this.#owner = owner;
    this.#wire = wire;
    this.accepted = accepted;
    this.addresses = addresses;
    this.#client = new Side(wire, () => this.#upstream?.resume());
  }

  /** Connects to one of the targets; a reason instead ends it at once. */
  begin(targets: Targets | Reason): void {
    if (typeof targets === "string") {
      this.#end(targets);
      return;
    }
    this.#targets = targets;
    this.#count = this.#owner.count(targets.name);
    this.#count.opened++;
    this.#count.open++;
    this.#client.pause();
    this.#dial("no_endpoints");
  }

  /** Tries the next target; when there is none, it ends for this reason. */
  #dial(otherwise: Reason): void {
    const target = this.#targets!.next();
    if (target === undefined || typeof target === "string") {
      this.#end(target ?? otherwise);
      return;
    }
    this.#attempts++;
    this.#dialed = turn.now;
    this.#target = target;
    this.#reached = target;
    this.#owner.deadlines.arm(this, target.connectTimeout);
    this.#dialing = new Dial(this, target);
  }

  // ------------------------------------------------------------------------------------------------- from the endpoint

  opened(dial: Dial, socket: Socket<Dial>): void {
    if (dial !== this.#dialing || this.#over) {
      socket.terminate();
      return;
    }
    this.#target!.connected(turn.now - this.#dialed);
    const { ownEnds } = this.#owner;
    if (!this.#target!.source)
      this.#ownEnd = ownEnds.add(socket.localAddress, socket.localPort, {
        address: socket.remoteAddress,
        port: socket.remotePort,
      });
    // Looked at here: when it was accepted, its other end may not have been told yet that it is connected.
    const { peer } = this.accepted;
    if (ownEnds.has(peer.address, peer.port, () => peer.destination ?? arrivedAt(this.#wire, peer.address, 0))) {
      this.#end("loop_detected");
      return;
    }
    socket.setNoDelay(true);
    const upstream = new Side(socket, () => this.#client.resume());
    this.#upstream = upstream;
    this.#active = turn.now;
    for (const bytes of this.#early) this.#toUpstream(bytes);
    this.#early = [];
    this.#client.resume();
    if (this.#client.ended) upstream.endAfterFlush();
    this.#armIdle();
  }

  notOpened(dial: Dial, reason: Reason): void {
    if (dial !== this.#dialing || this.#over) return;
    const target = this.#target!;
    this.#dialing = undefined;
    this.#target = undefined;
    dial.abandon();
    target.failed(turn.now - this.#dialed);
    target.release();
    this.#dial(reason);
  }

  upstreamData(dial: Dial, bytes: Buffer): void {
    if (dial !== this.#dialing || this.#over) return;
    this.#active = turn.now;
    this.#sent += bytes.length;
    this.#count!.bytesIn += bytes.length;
    this.#client.bytes(bytes, 0, bytes.length);
    if (this.#client.queued > 0) this.#upstream!.pause();
  }

  upstreamDrained(dial: Dial): void {
    if (dial !== this.#dialing) return;
    this.#upstream?.onDrain();
    this.#settle();
  }

  upstreamEnd(dial: Dial): void {
    if (dial !== this.#dialing || this.#over) return;
    this.#upstream!.ended = true;
    this.#client.endAfterFlush();
    this.#settle();
  }

  /** The socket is gone: both sides had ended, or it was cut off. */
  upstreamClosed(dial: Dial, broken: boolean): void {
    if (dial !== this.#dialing || this.#over) return;
    const upstream = this.#upstream;
    if (!upstream) {
      this.notOpened(dial, "connect_failed");
      return;
    }
    upstream.gone();
    if (!upstream.ended && (broken || !this.#client.ended)) {
      this.#end("upstream_closed");
      return;
    }
    // After our own end a socket's last event is this one.
    upstream.ended = true;
    this.#client.endAfterFlush();
    this.#client.resume();
    this.#settle();
  }

  // --------------------------------------------------------------------------------------------------- from the client

  onData(bytes: Buffer): void {
    if (this.#over) return;
    this.#active = turn.now;
    this.#received += bytes.length;
    if (this.#upstream) this.#toUpstream(bytes);
    else this.#early.push(bytes);
  }

  #toUpstream(bytes: Buffer): void {
    const upstream = this.#upstream!;
    if (upstream.closed) return;
    this.#count!.bytesOut += bytes.length;
    upstream.bytes(bytes, 0, bytes.length);
    if (upstream.queued > 0) this.#client.pause();
  }

  onDrain(): void {
    this.#client.onDrain();
    this.#settle();
  }

  onEnd(): void {
    if (this.#over) return;
    this.#client.ended = true;
    this.#upstream?.endAfterFlush();
    this.#settle();
  }

  onClose(): void {
    if (this.#over) return;
    this.#client.gone();
    if (!this.#upstream || !(this.#client.ended || this.#upstream.ended)) {
      this.#end("client_closed");
      return;
    }
    this.#client.ended = true;
    this.#upstream.endAfterFlush();
    this.#settle();
  }

  /** It is over when each side has ended, or is gone, and has what the other sent. */
  #settle(): void {
    const client = this.#client;
    const upstream = this.#upstream;
    if (this.#over || !upstream) return;
    const toUpstream = upstream.closed || (client.ended && upstream.queued === 0);
    const toClient = client.closed || (upstream.ended && client.queued === 0);
    if (toUpstream && toClient) this.#end(undefined);
  }

  /** Nobody but the two sides knows when they are done: it gets the time that a drain gives it, and at most so long. */
  closeWhenIdle(): void {
    this.leaveWithin(drainMilliseconds);
  }

  leaveWithin(milliseconds: number): void {
    this.#leaveBy = Math.min(this.#leaveBy, turn.source() + milliseconds);
    if (this.#upstream) this.#armIdle();
  }

  terminate(): void {
    this.#end(this.#leaveBy < Number.POSITIVE_INFINITY ? "draining" : "client_closed");
  }

  // ------------------------------------------------------------------------------------------------------------ the end

  #armIdle(): void {
    const idle = this.#owner.idleTimeout > 0 ? this.#owner.idleTimeout - (turn.now - this.#active) : longest;
    const leave = this.#leaveBy - turn.now;
    this.#owner.deadlines.arm(this, Math.max(1, Math.min(idle, leave, longest)));
  }

  expired(): void {
    if (this.#over) return;
    if (!this.#upstream) {
      if (this.#dialing) this.notOpened(this.#dialing, "connect_timeout");
      return;
    }
    if (turn.now >= this.#leaveBy) this.#end("draining");
    else if (this.#owner.idleTimeout > 0 && turn.now - this.#active >= this.#owner.idleTimeout) this.#end("idle");
    else this.#armIdle();
  }

  #end(reason: Reason | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#owner.deadlines.disarm(this);
    this.#owner.ownEnds.delete(this.#ownEnd);
    const dial = this.#dialing;
    this.#dialing = undefined;
    if (reason === undefined) {
      this.#client.finish();
      this.#upstream?.finish();
    } else {
      this.#client.cut();
      this.#upstream?.cut();
      dial?.abandon();
    }
    this.#target?.release();
    if (this.#count) this.#count.open--;
    this.#owner.ended(this, {
      reason,
      backend: this.#targets?.name ?? "",
      endpoint: this.#reached,
      received: this.#received,
      sent: this.#sent,
      milliseconds: turn.now - this.#began,
      attempts: this.#attempts,
    });
  }
}

/** As long as Envoy's drain time. */
const drainMilliseconds = 600_000;
const longest = 3_600_000;

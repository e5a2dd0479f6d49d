// Datagrams passed through: a client's address and port stay with one endpoint for as long as something comes (a session), so that
// answers find their way; and answers come from the address that the client asked. What a session is chosen by is what a TCP
// connection is chosen by.

import type { udp } from "bun";
import { sendDatagram } from "../../base/datagram.ts";
import { unmapped } from "../../base/ip.ts";
import { inNetns } from "../../base/setns.ts";
import type { Listener } from "../../model/model.ts";
import { Deadline } from "../deadlines.ts";
import type { Destination } from "../listener/original-destination.ts";
import type { LiveConnection } from "../listener/served.ts";
import type { Reason } from "../reason.ts";
import type { ProxyRuntime } from "../runtime.ts";
import { original, type RelayCount } from "../tcp/counts.ts";
import type { OwnEnd } from "../tcp/own-ends.ts";
import type { Original } from "../tcp/served.ts";
import type { Shares } from "../tcp/shares.ts";
import { tellRelayed } from "../telemetry/relayed.ts";
import type { ListenerTelemetry } from "../telemetry/watched.ts";
import { type Source, speakFrom } from "../upstream/original-source.ts";
import { turn } from "../wire.ts";

/** Milliseconds without a datagram either way after which a session ends (Envoy's default, too). */
const defaultIdle = 60_000;
/** Sessions of one listener, each of which is a socket; beyond, the longest unused ends. */
const maxSessions = 4_096;
/** Datagrams that wait for a session's socket. */
const maxWaiting = 64;
/** Milliseconds without a datagram after which a session ends whose listener is gone: an answer may be on its way. And the longest that it stays. */
const finishingIdle = 1_000;
const longestFinish = 30_000;

/** What a session is asked to send its answers by. */
export type Answer = (bytes: Buffer, port: number, address: string) => void;

/** How a flow's answers leave, where it is not by the listener's socket. */
export interface Way {
  /** Where the client wanted to go. */
  readonly destination: Destination;
  readonly answer: Answer;
  /** Its session is over. */
  gone(): void;
}

/** Whom a session talks to. */
interface Goal {
  readonly name: string;
  readonly place: Destination;
  readonly namespace: string | undefined;
  readonly source: Source | undefined;
  /** It is not there any more. */
  isGone(): boolean;
  failed(): void;
  release(): void;
}

export class ServedUdp {
  idleTimeout = defaultIdle;
  /** What is told of its sessions; undefined: nothing. */
  telemetry: ListenerTelemetry | undefined = undefined;
  readonly runtime: ProxyRuntime;
  #shares: Shares | Original | undefined = undefined;
  readonly #listener: Listener;
  /** In the order of their use. */
  readonly #sessions = new Map<string, Session>();
  /** Those of sockets that hear nothing any more. */
  readonly #finishing = new Set<Answer>();
  #drains = false;

  constructor(runtime: ProxyRuntime, listener: Listener) {
    this.runtime = runtime;
    this.#listener = listener;
  }

  /** For sessions from now on; the time, in milliseconds, for all (undefined is the default). */
  configure(shares: Shares | Original, idleTimeout: number | undefined): void {
    this.#shares = shares;
    this.idleTimeout = idleTimeout ?? defaultIdle;
  }

  get size(): number {
    return this.#sessions.size;
  }

  *live(listener: string): Generator<LiveConnection> {
    const now = turn.source();
    for (const { client, began } of this.#sessions.values())
      yield { listener, source: client, protocol: "UDP", age: Math.round(now - began) };
  }

  /** A datagram came from a client, to the listener or (with a way) to another destination. */
  datagram(bytes: Buffer, port: number, address: string, answer: Answer, way?: Way): void {
    const key = way ? `${address} ${port} ${way.destination.address} ${way.destination.port}` : `${address} ${port}`;
    let session = this.#sessions.get(key);
    if (session?.goal.isGone()) {
      // Its way is the next one's.
      session.way = undefined;
      session.end(undefined);
      session = undefined;
    }
    if (!session) {
      if (this.runtime.ownEnds.udp.has(address, port)) {
        this.runtime.metrics.ended("loop_detected");
        way?.gone();
        return;
      }
      session = this.#begin(key, { address, port }, answer, way);
      if (!session) {
        way?.gone();
        return;
      }
    } else this.#sessions.delete(key);
    this.#sessions.set(key, session);
    session.send(bytes);
  }

  #begin(key: string, client: Destination, answer: Answer, way: Way | undefined): Session | undefined {
    const goal = this.#goal(client, way?.destination);
    if (typeof goal === "string") {
      this.runtime.metrics.ended(goal);
      return undefined;
    }
    if (this.#sessions.size >= maxSessions) {
      const [longestUnused] = this.#sessions.values();
      longestUnused?.end("overflow");
    }
    const session = new Session(this, key, goal, client, answer, way);
    if (this.#drains || this.#finishing.has(answer)) session.finish();
    return session;
  }

  #goal(client: Destination, destination: Destination | undefined): Goal | Reason {
    const source = unmapped(client.address);
    if (this.#shares && "originalSource" in this.#shares) {
      const { address, port, namespace } = this.#listener;
      // One that wanted to come here would go round in circles.
      const here = destination?.port === port && (destination.address === address || isAny(address));
      if (destination === undefined || here) return "no_destination";
      const { originalSource } = this.#shares;
      const nothing = () => {};
      return {
        name: original,
        place: destination,
        namespace,
        source: originalSource && { address: source, mark: originalSource.mark },
        isGone: () => false,
        failed: nothing,
        release: nothing,
      };
    }
    const backend = this.#shares?.next() ?? "no_backend";
    if (typeof backend === "string") return backend;
    // What should be encrypted must not go in clear, and there is no DTLS here.
    const pool = backend.tls ? "handshake_failed" : backend.reserve([]);
    if (typeof pool === "string") return pool;
    const { originalSource } = backend;
    return {
      name: backend.name,
      place: pool,
      namespace: undefined,
      source: originalSource && { address: source, mark: originalSource.mark },
      isGone: () => pool.removed,
      failed: () => void backend.connectFailures++,
      release: () => backend.release(pool),
    };
  }

  /**
   * Nothing more is heard by a listener's socket: sessions whose answers leave by it end after a short silence, also those that begin
   * with what is in its queue. `done` is called when there are none any more.
   */
  finish(answer: Answer, done: () => void): void {
    this.#finishing.add(answer);
    const theirs = () => [...this.#sessions.values()].filter((session) => session.answer === answer);
    for (const session of theirs()) session.finish();
    const check = this.runtime.clock.every(finishingIdle, () => {
      if (theirs().length > 0) return;
      check.dispose();
      this.#finishing.delete(answer);
      done();
    });
  }

  /** A session is over. */
  ended(session: Session, reason: Reason | undefined): void {
    this.#sessions.delete(session.key);
    session.way?.gone();
    const { metrics, clock } = this.runtime;
    if (reason) metrics.ended(reason);
    if (!this.telemetry) return;
    const { address, port } = session.destination ?? this.telemetry.local;
    tellRelayed(this.telemetry, clock.now(), {
      protocol: "UDP",
      addresses: { source: session.client, sourcePort: session.port, destination: address, destinationPort: port },
      reason,
      backend: session.goal.name,
      endpoint: session.goal.place,
      received: session.received,
      sent: session.sent,
      milliseconds: turn.source() - session.began,
      attempts: 1,
    });
  }

  /** The listener is gone: its sessions go on until a short silence, as an answer may be on its way. */
  drain(): void {
    this.#drains = true;
    for (const session of [...this.#sessions.values()]) session.finish();
  }

  /** What comes by a flow's own socket finds another chain from now on, and must find that socket unused. */
  endFlows(): void {
    for (const session of [...this.#sessions.values()]) if (session.way) session.end(undefined);
  }

  terminate(): void {
    for (const session of [...this.#sessions.values()]) session.end(undefined);
  }
}

class Session extends Deadline {
  readonly client: string;
  readonly port: number;
  readonly key: string;
  readonly goal: Goal;
  readonly destination: Destination | undefined;
  readonly answer: Answer;
  way: Way | undefined;
  readonly began = turn.source();
  received = 0;
  sent = 0;
  readonly #owner: ServedUdp;
  readonly #count: RelayCount;
  #ownEnd: OwnEnd | undefined = undefined;
  #socket: udp.ConnectedSocket<"buffer"> | undefined = undefined;
  #waiting: Buffer[] = [];
  #active: number;
  /** When it ends at the latest. */
  #latest = Number.POSITIVE_INFINITY;
  #over = false;

  constructor(owner: ServedUdp, key: string, goal: Goal, client: Destination, answer: Answer, way: Way | undefined) {
    super();
    this.#owner = owner;
    this.key = key;
    this.goal = goal;
    this.way = way;
    this.answer = answer;
    this.destination = way?.destination;
    this.client = client.address;
    this.port = client.port;
    this.#count = owner.runtime.relays.of("udp", goal.name);
    this.#count.opened++;
    this.#count.open++;
    const { deadlines } = owner.runtime;
    this.#active = deadlines.now();
    this.#arm();
    const { place, namespace } = goal;
    const open = () =>
      Bun.udpSocket({
        // Of the endpoint's family: a socket for 0.0.0.0 does not reach the other.
        hostname: place.address.includes(":") ? "::" : "0.0.0.0",
        connect: { hostname: place.address, port: place.port },
        binaryType: "buffer",
        socket: {
          data: (_socket, bytes) => {
            if (this.#over) return;
            this.#active = deadlines.now();
            this.sent += bytes.length;
            this.#count.bytesIn += bytes.length;
            answer(bytes, this.port, this.client);
          },
          // The endpoint has refused what was sent (nobody listens): the client's next datagram may go to another one.
          error: () => this.#failed(),
        },
      });
    inNetns(namespace, open).then(
      (socket) => this.#opened(socket),
      () => this.#failed(),
    );
  }

  #opened(socket: udp.ConnectedSocket<"buffer">): void {
    if (this.#over) {
      socket.close();
      return;
    }
    this.#socket = socket;
    const { source, place } = this.goal;
    if (source) {
      try {
        // Bun's types do not name `fd`.
        speakFrom((socket as { fd?: number }).fd ?? -1, source, place.address, place.port);
      } catch {
        this.#failed();
        return;
      }
    }
    // Before it sends: what comes of that must be known.
    else this.#ownEnd = this.#owner.runtime.ownEnds.udp.add(socket.address.address, socket.address.port);
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const bytes of waiting) this.#out(socket, bytes);
  }

  send(bytes: Buffer): void {
    this.#active = this.#owner.runtime.deadlines.now();
    this.received += bytes.length;
    this.#count.bytesOut += bytes.length;
    if (this.#socket) this.#out(this.#socket, bytes);
    else if (this.#waiting.length < maxWaiting) this.#waiting.push(Buffer.from(bytes));
  }

  #out(socket: udp.ConnectedSocket<"buffer">, bytes: Buffer): void {
    try {
      // What the kernel does not take is lost, as datagrams are.
      sendDatagram(() => socket.send(bytes));
    } catch {
      this.#failed();
    }
  }

  #failed(): void {
    if (this.#over) return;
    this.goal.failed();
    this.end("connect_failed");
  }

  /** Ends after a short silence, and at the latest when a long time is over. */
  finish(): void {
    if (this.#latest < Number.POSITIVE_INFINITY) return;
    this.#latest = this.#owner.runtime.deadlines.now() + longestFinish;
    this.#arm();
  }

  /** When it is over unless something comes; infinite where it waits for ever. */
  #end(): number {
    const { idleTimeout } = this.#owner;
    const finishes = this.#latest < Number.POSITIVE_INFINITY;
    const idle = idleTimeout > 0 ? idleTimeout : Number.POSITIVE_INFINITY;
    return Math.min(this.#latest, this.#active + (finishes ? Math.min(idle, finishingIdle) : idle));
  }

  #arm(): void {
    const { deadlines } = this.#owner.runtime;
    deadlines.arm(this, Math.max(1, Math.min(3_600_000, this.#end() - deadlines.now())));
  }

  expired(): void {
    if (this.#owner.runtime.deadlines.now() >= this.#end()) this.end(undefined);
    else this.#arm();
  }

  end(reason: Reason | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#owner.runtime.deadlines.disarm(this);
    this.#owner.runtime.ownEnds.udp.delete(this.#ownEnd);
    this.#socket?.close();
    this.#waiting = [];
    this.goal.release();
    this.#count.open--;
    this.#owner.ended(this, reason);
  }
}

const isAny = (address: string) => address === "0.0.0.0" || address === "::";

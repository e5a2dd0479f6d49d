// Datagrams passed through: a client's address and port stay with one endpoint for as long as something comes (a session), so that
// answers find their way; and answers come from the address that the client asked. What a session is chosen by is what a TCP
// connection is chosen by.

import type { udp } from "bun";
import { sendDatagram } from "../../base/datagram.ts";
import { unmapped } from "../../base/ip.ts";
import { Deadline } from "../deadlines.ts";
import type { LiveConnection } from "../listener/served.ts";
import type { Reason } from "../reason.ts";
import type { ProxyRuntime } from "../runtime.ts";
import type { RelayCount } from "../tcp/counts.ts";
import type { Shares } from "../tcp/shares.ts";
import { tellRelayed } from "../telemetry/relayed.ts";
import type { ListenerTelemetry } from "../telemetry/watched.ts";
import type { BackendRuntime } from "../upstream/backend.ts";
import { speakFrom } from "../upstream/original-source.ts";
import type { EndpointPool } from "../upstream/pool.ts";
import { turn } from "../wire.ts";

/** Milliseconds without a datagram either way after which a session ends (Envoy's default, too). */
const defaultIdle = 60_000;
/** Sessions of one listener, each of which is a socket; beyond, the longest unused ends. */
const maxSessions = 4_096;
/** Datagrams that wait for a session's socket. */
const maxWaiting = 64;

/** What a session is asked to send its answers by. */
export type Answer = (bytes: Buffer, port: number, address: string) => void;

export class ServedUdp {
  idleTimeout = defaultIdle;
  /** What is told of its sessions; undefined: nothing. */
  telemetry: ListenerTelemetry | undefined = undefined;
  readonly runtime: ProxyRuntime;
  #shares: Shares | undefined = undefined;
  /** In the order of their use. */
  readonly #sessions = new Map<string, Session>();

  constructor(runtime: ProxyRuntime) {
    this.runtime = runtime;
  }

  /** For sessions from now on; the time, in milliseconds, for all (undefined is the default). */
  configure(shares: Shares, idleTimeout: number | undefined): void {
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

  /** A datagram came from a client. */
  datagram(bytes: Buffer, port: number, address: string, answer: Answer): void {
    const key = `${address} ${port}`;
    let session = this.#sessions.get(key);
    if (session?.isStale) {
      session.end(undefined);
      session = undefined;
    }
    if (!session) {
      session = this.#begin(port, address, answer);
      if (!session) return;
    } else this.#sessions.delete(key);
    this.#sessions.set(key, session);
    session.send(bytes);
  }

  #begin(port: number, address: string, answer: Answer): Session | undefined {
    const backend = this.#shares?.next() ?? "no_backend";
    const pool = typeof backend === "string" ? backend : endpointOf(backend);
    if (typeof pool === "string") {
      this.runtime.metrics.ended(pool);
      return undefined;
    }
    if (this.#sessions.size >= maxSessions) {
      const [longestUnused] = this.#sessions.values();
      longestUnused?.end("overflow");
    }
    return new Session(this, backend as BackendRuntime, pool, { address, port }, answer);
  }

  /** A session is over. */
  ended(session: Session, reason: Reason | undefined): void {
    this.#sessions.delete(`${session.client} ${session.port}`);
    const { metrics, clock } = this.runtime;
    if (reason) metrics.ended(reason);
    if (!this.telemetry) return;
    const { address, port } = this.telemetry.local;
    tellRelayed(this.telemetry, clock.now(), {
      protocol: "UDP",
      addresses: { source: session.client, sourcePort: session.port, destination: address, destinationPort: port },
      reason,
      backend: session.backend.name,
      endpoint: session.pool,
      received: session.received,
      sent: session.sent,
      milliseconds: turn.source() - session.began,
      attempts: 1,
    });
  }

  /** A session's answers leave by the listener's socket, which is gone: nothing is left to wait for. */
  drain(): void {
    this.terminate();
  }

  terminate(): void {
    for (const session of [...this.#sessions.values()]) session.end(undefined);
  }
}

class Session extends Deadline {
  readonly client: string;
  readonly port: number;
  readonly backend: BackendRuntime;
  readonly pool: EndpointPool;
  readonly began = turn.source();
  received = 0;
  sent = 0;
  readonly #owner: ServedUdp;
  readonly #count: RelayCount;
  #socket: udp.ConnectedSocket<"buffer"> | undefined = undefined;
  #waiting: Buffer[] = [];
  #active: number;
  #over = false;

  constructor(
    owner: ServedUdp,
    backend: BackendRuntime,
    pool: EndpointPool,
    client: { readonly address: string; readonly port: number },
    answer: Answer,
  ) {
    super();
    this.#owner = owner;
    this.backend = backend;
    this.pool = pool;
    this.client = client.address;
    this.port = client.port;
    this.#count = owner.runtime.relays.of("udp", backend.name);
    this.#count.opened++;
    this.#count.open++;
    const { deadlines } = owner.runtime;
    this.#active = deadlines.now();
    this.#arm();
    Bun.udpSocket({
      // Of the endpoint's family: a socket for 0.0.0.0 does not reach the other.
      hostname: pool.address.includes(":") ? "::" : "0.0.0.0",
      connect: { hostname: pool.address, port: pool.port },
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
    }).then(
      (socket) => this.#opened(socket),
      () => this.#failed(),
    );
  }

  /** Its endpoint is gone. */
  get isStale(): boolean {
    return this.pool.removed;
  }

  #opened(socket: udp.ConnectedSocket<"buffer">): void {
    if (this.#over) {
      socket.close();
      return;
    }
    this.#socket = socket;
    const { originalSource } = this.backend;
    if (originalSource) {
      try {
        const source = { address: unmapped(this.client), mark: originalSource.mark };
        // Bun's types do not name `fd`.
        speakFrom((socket as { fd?: number }).fd ?? -1, source, this.pool.address, this.pool.port);
      } catch {
        this.#failed();
        return;
      }
    }
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
    this.backend.connectFailures++;
    this.end("connect_failed");
  }

  #arm(): void {
    const { idleTimeout, runtime } = this.#owner;
    const left = idleTimeout > 0 ? idleTimeout - (runtime.deadlines.now() - this.#active) : 3_600_000;
    runtime.deadlines.arm(this, Math.max(1, left));
  }

  expired(): void {
    const { idleTimeout, runtime } = this.#owner;
    if (idleTimeout > 0 && runtime.deadlines.now() - this.#active >= idleTimeout) this.end(undefined);
    else this.#arm();
  }

  end(reason: Reason | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#owner.runtime.deadlines.disarm(this);
    this.#socket?.close();
    this.#waiting = [];
    this.backend.release(this.pool);
    this.#count.open--;
    this.#owner.ended(this, reason);
  }
}

/** What should be encrypted must not go in clear, and there is no DTLS here. */
function endpointOf(backend: BackendRuntime): EndpointPool | Reason {
  return backend.tls ? "handshake_failed" : backend.reserve([]);
}

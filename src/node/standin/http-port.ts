// One TCP port of a stand-in: a listener and its connections, which speak HTTP/1.1 or, if they begin with its preface, HTTP/2. Draining:
// what is under way is finished, connections that rest are closed after a moment.

import type { Socket, TCPSocketListener } from "bun";
import { unmapped } from "../../base/ip.ts";
import { inNetns } from "../../base/setns.ts";
import { identityOf, type Peer } from "./answer.ts";
import type { ContainerLog } from "./container-log.ts";
import { Http1Connection } from "./http1-connection.ts";
import { Http2Connection, preface } from "./http2-connection.ts";
import type { Port, PortConnection } from "./port-connection.ts";
import type { StandInPod } from "./protocol.ts";
import type { StandInRequest } from "./request.ts";

export interface HttpPortOptions {
  readonly pod: StandInPod;
  readonly container: string;
  readonly port: number;
  readonly listenPort: number;
  readonly log: ContainerLog;
}

export class HttpPort implements Port {
  pod: StandInPod;
  readonly #log: ContainerLog;
  readonly connections = new Set<PortConnection>();
  identity: string;
  draining = false;
  /** When the newest connection came, by `performance.now()`. */
  lastOpened = 0;
  readonly #listeners: readonly TCPSocketListener<PortConnection>[];
  readonly #options: HttpPortOptions;
  #stopped = false;

  /** Opens the listener. Throws when the port cannot be had. */
  constructor(options: HttpPortOptions) {
    this.#options = options;
    this.pod = options.pod;
    this.#log = options.log;
    this.identity = identityOf(options.pod, options.container, options.port);
    this.#listeners = openAll(options.pod, (hostname) =>
      Bun.listen<PortConnection>({
        hostname,
        port: options.listenPort,
        allowHalfOpen: true,
        socket: {
          open: (socket) => {
            this.seat(socket, new FirstBytes(this, socket));
            this.lastOpened = performance.now();
          },
          data: (socket, chunk) => socket.data.read(chunk),
          drain: (socket) => socket.data.drained(),
          end: (socket) => socket.data.ended(),
          // Who has reset it by now (as checks of health do) was never opened.
          close: (socket) => socket.data?.closed(),
          error: (socket) => socket.data?.closed(),
        },
      }),
    );
  }

  /** The socket's events are this connection's from now on. */
  seat(socket: Socket<PortConnection>, connection: PortConnection): void {
    if (socket.data) this.connections.delete(socket.data);
    socket.data = connection;
    this.connections.add(connection);
  }

  left(connection: PortConnection): void {
    this.connections.delete(connection);
  }

  logRequest(client: string, { method, target, version }: StandInRequest, status: number | string, length: number) {
    if (this.#log.wantsMore)
      this.#log.line(`${client} "${method} ${target} HTTP/${version}" ${status} ${length}`, Date.now());
  }

  logRefusal(client: string, status: number, reason: string): void {
    if (this.#log.wantsMore) this.#log.line(`${client} ${status} ${reason}`, Date.now());
  }

  get isAccepting(): boolean {
    return !this.#stopped;
  }

  /** Labels may change while a pod runs. */
  describe(pod: StandInPod): void {
    this.pod = pod;
    this.identity = identityOf(pod, this.#options.container, this.#options.port);
  }

  /** From now on every answer closes its connection, but new ones are still taken. */
  drain(): void {
    this.draining = true;
  }

  /** Takes no more connections and closes those that rest. */
  stopAccepting(): void {
    if (!this.#stopped) for (const listener of this.#listeners) listener.stop(false);
    this.#stopped = true;
    this.endIdle();
  }

  endIdle(): void {
    for (const connection of this.connections) connection.endIfIdle();
  }

  close(): void {
    for (const listener of this.#listeners) listener.stop(true);
    this.#stopped = true;
    for (const connection of this.connections) connection.terminate();
    this.connections.clear();
  }
}

/** Opens one socket an address, all or none of them, where the pod is. */
function openAll(
  pod: Pick<StandInPod, "netns" | "listenAddresses">,
  open: (hostname: string) => TCPSocketListener<PortConnection>,
): readonly TCPSocketListener<PortConnection>[] {
  const opened: TCPSocketListener<PortConnection>[] = [];
  try {
    inNetns(pod.netns, () => {
      for (const address of pod.listenAddresses) opened.push(open(address));
    });
    return opened;
  } catch (error) {
    for (const one of opened) one.stop(true);
    throw error;
  }
}

/** A connection of which is not known yet what it speaks. */
class FirstBytes implements PortConnection {
  readonly #port: HttpPort;
  readonly #socket: Socket<PortConnection>;
  readonly #http1: Http1Connection;
  #seen = Buffer.alloc(0);

  constructor(port: HttpPort, socket: Socket<PortConnection>) {
    this.#port = port;
    this.#socket = socket;
    this.#http1 = new Http1Connection(port, socket, peerOf(socket));
  }

  read(chunk: Buffer): void {
    const all = this.#seen.length === 0 ? chunk : Buffer.concat([this.#seen, chunk]);
    const length = Math.min(all.length, preface.length);
    if (!all.subarray(0, length).equals(preface.subarray(0, length))) this.#becomes(this.#http1, all);
    else if (length < preface.length) this.#seen = Buffer.from(all);
    else this.#becomes(new Http2Connection(this.#port, this.#socket, peerOf(this.#socket)), all);
  }

  #becomes(connection: PortConnection, bytes: Buffer): void {
    this.#port.seat(this.#socket, connection);
    connection.read(bytes);
  }

  drained(): void {}

  ended(): void {
    this.#becomes(this.#http1, this.#seen);
    this.#http1.ended();
  }

  closed(): void {
    this.#port.left(this);
  }

  endIfIdle(): void {
    this.#http1.endIfIdle();
  }

  terminate(): void {
    this.#socket.terminate();
  }
}

function peerOf(socket: Socket<PortConnection>): Peer {
  return {
    client: unmapped(socket.remoteAddress),
    clientPort: socket.remotePort,
    local: unmapped(socket.localAddress),
    localPort: socket.localPort,
  };
}

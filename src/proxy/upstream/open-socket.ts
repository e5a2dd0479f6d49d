// How a socket to an endpoint is opened: in one step where Bun has it, or by way of a descriptor that bears the client's address,
// a PROXY header in the clear, and TLS on top of both. Whoever opens one is told of what it would be told of the plain one:
// `open` comes when there is a connection that the header was sent on, and nothing of what is beneath TLS.

import type { Socket } from "bun";
import type { Backend } from "../../model/model.ts";
import { type ProxyAddresses, writeProxyHeader } from "../listener/proxy-protocol.ts";
import { connectFrom, type Source } from "./original-source.ts";
import { keepAlive } from "./tcp-keepalive.ts";
import type { TlsClient } from "./tls.ts";

export interface SocketWay {
  readonly address: string;
  readonly port: number;
  readonly tls?: TlsClient | undefined;
  /** Undefined: the machine's own address. */
  readonly source?: Source | undefined;
  /** What the connection begins with, before TLS. */
  readonly preface?: Buffer | undefined;
  readonly allowHalfOpen?: boolean;
  readonly tcpKeepalive?: Backend["tcpKeepalive"];
}

type Telling = Pick<Backend, "proxyProtocol" | "originalSource">;

/** Whether a backend is told of clients by its connections themselves: none of them may serve two clients. */
export function speaksForClients({ proxyProtocol, originalSource }: Telling): boolean {
  return proxyProtocol !== undefined || originalSource !== undefined;
}

/** Of nobody: the header then says that the connection is the proxy's own. */
const unknown: ProxyAddresses = { source: "", sourcePort: 0, destination: "", destinationPort: 0 };

/** What a connection has of its client; without one it is the proxy's own. */
export function speakingFor(
  client: ProxyAddresses | undefined,
  { proxyProtocol, originalSource }: Telling,
): Pick<SocketWay, "source" | "preface"> {
  return {
    preface: proxyProtocol && writeProxyHeader(proxyProtocol, client ?? unknown),
    source: originalSource && client && { address: client.source, mark: originalSource.mark },
  };
}

/** Shared by all sockets of a kind, as Bun takes them. */
export interface SocketEvents<D> {
  open(socket: Socket<D>): void;
  data(socket: Socket<D>, bytes: Buffer): void;
  drain(socket: Socket<D>): void;
  end(socket: Socket<D>): void;
  close(socket: Socket<D>, error?: Error): void;
  error(socket: Socket<D>, error: Error): void;
  connectError(socket: Socket<D>): void;
}

export interface SecureEvents<D> extends SocketEvents<D> {
  /** `open` has been before; there is `close` or an `end` where there is none. */
  handshake(socket: Socket<D>, done: boolean, error: Error | null): void;
  session(socket: Socket<D>, session: Uint8Array): void;
}

/** Begins at once; rejects, or tells `connectError`, when there is no connection. The address must be one, and no name. */
export async function openSocket<D>(
  way: SocketWay,
  data: D,
  plain: SocketEvents<D>,
  secure: SecureEvents<D>,
): Promise<void> {
  const { address, port, tls, source, preface, allowHalfOpen = false } = way;
  if (!source && !(tls && preface)) {
    const how = { hostname: address, port, allowHalfOpen, data };
    if (tls) await Bun.connect<D>({ ...how, tls: tls.options, socket: beginning(way, secure) });
    else await Bun.connect<D>({ ...how, socket: beginning(way, plain) });
    return;
  }
  const socket = new Beneath(way, data, plain, secure).events;
  if (source) {
    // Bun's types do not name `fd`.
    const fd: object = { fd: connectFrom(source, address, port) };
    await Bun.connect<D>({ ...fd, hostname: address, port, allowHalfOpen, data, socket });
  } else await Bun.connect<D>({ hostname: address, port, allowHalfOpen, data, socket });
}

/** The events of a socket that is told something before them; with TLS there is no preface here. */
function beginning<D, E extends SocketEvents<D>>(way: SocketWay, events: E): E {
  if (!way.preface && !way.tcpKeepalive) return events;
  return {
    ...events,
    open(socket) {
      begin(way, socket);
      events.open(socket);
    },
  };
}

function begin<D>({ preface, tcpKeepalive }: SocketWay, socket: Socket<D>): void {
  // Bun's types do not name `fd`.
  const { fd } = socket as { fd?: number };
  if (tcpKeepalive && fd !== undefined) keepAlive(fd, tcpKeepalive);
  // The first bytes of a connection: there is room for them.
  if (preface) socket.write(preface);
}

/** The socket beneath, until it is what was asked for. */
class Beneath<D> {
  readonly events: SocketEvents<D>;
  #is: "arriving" | "open" | "covered" | "gone" = "arriving";
  readonly #way: SocketWay;
  readonly #data: D;
  readonly #plain: SocketEvents<D>;
  readonly #secure: SecureEvents<D>;

  constructor(way: SocketWay, data: D, plain: SocketEvents<D>, secure: SecureEvents<D>) {
    this.#way = way;
    this.#data = data;
    this.#plain = plain;
    this.#secure = secure;
    this.events = {
      // A descriptor is opened at once, connected or not; it can be written to when it is, or when it has failed.
      open: (socket) => (way.source ? undefined : this.#arrived(socket)),
      drain: (socket) => (this.#is === "arriving" ? this.#arrived(socket) : this.#on(() => plain.drain(socket))),
      data: (socket, bytes) => {
        if (this.#is === "arriving") this.#arrived(socket);
        this.#on(() => plain.data(socket, bytes));
      },
      end: (socket) => (this.#is === "arriving" ? this.#failed(socket) : this.#on(() => plain.end(socket))),
      close: (socket, error) =>
        this.#is === "arriving" ? this.#failed(socket) : this.#on(() => plain.close(socket, error)),
      error: (socket, error) =>
        this.#is === "arriving" ? this.#failed(socket) : this.#on(() => plain.error(socket, error)),
      connectError: (socket) => this.#failed(socket),
    };
  }

  #on(tell: () => void): void {
    if (this.#is === "open") tell();
  }

  #arrived(socket: Socket<D>): void {
    const peer: string | undefined = socket.remoteAddress;
    if (peer === undefined) {
      this.#failed(socket);
      return;
    }
    const { tls } = this.#way;
    begin(this.#way, socket);
    if (!tls) {
      this.#is = "open";
      this.#plain.open(socket);
      return;
    }
    this.#is = "covered";
    socket.upgradeTLS<D>({ data: this.#data, tls: tls.options!, socket: this.#secure });
  }

  #failed(socket: Socket<D>): void {
    if (this.#is !== "arriving") return;
    this.#is = "gone";
    this.#plain.connectError(socket);
    socket.terminate();
  }
}

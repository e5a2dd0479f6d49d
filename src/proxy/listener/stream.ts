// A listener that may have to end TLS: on node's sockets, whose bytes can be put back before a handshake (Bun's own TLS listener
// takes one certificate and keeps it). What is not ended is served on the same sockets: TLS by name, or plain text.

import net from "node:net";
import type tls from "node:tls";
import { beginTurn, endTurn } from "../wire.ts";
import { type Accepting, type Listening, shared } from "./plain.ts";
import { alert, type Chain, type Reception, type Terminate } from "./reception.ts";
import type { Accepted, ListenerWire, Seat } from "./served.ts";
import { Handshake, protocolFor } from "./termination.ts";
import { listenTransparently } from "./transparent.ts";

/** Resolves when it listens; rejects with an Error with `code` when the address cannot be had. */
export function listenStream({ address, port, transparent }: Listening, reception: Reception): Promise<Accepting> {
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    if (socket.remoteAddress === undefined) {
      // Reset before it was accepted.
      socket.destroy();
      return;
    }
    const seat: Seat = { connection: undefined };
    const wire = new StreamWire(socket);
    const { fd } = (socket as { _handle?: { fd?: number } })._handle ?? {};
    const peer = reception.peer(socket.remoteAddress, socket.remotePort ?? 0, fd, wire);
    const unbind = bind(socket, wire, seat, reception);
    const terminate: Terminate = (chain, hello, rest, accepted) => {
      const protocol = protocolFor(chain.termination!, hello.protocols);
      if (protocol === "refused") {
        reception.refuse(wire, alert.noApplicationProtocol);
        return;
      }
      unbind();
      socket.pause();
      socket.unshift(rest);
      new Handshake(reception, chain, hello, protocol, accepted, socket, (secured, told) =>
        serve(secured, socket, chain, told, reception),
      );
    };
    if (!reception.receive(seat, wire, peer, terminate)) socket.destroy();
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: address, port, exclusive: true, ...shared }, () => {
      server.off("error", reject);
      server.on("error", () => {});
      const { fd } = (server as { _handle?: { fd?: number } })._handle ?? {};
      if (transparent) {
        try {
          listenTransparently(fd, address);
        } catch (error) {
          server.close();
          reject(error);
          return;
        }
      }
      resolve({ close: () => server.close() });
    });
  });
}

function serve(
  socket: tls.TLSSocket,
  beneath: net.Socket,
  chain: Chain,
  accepted: Accepted,
  reception: Reception,
): void {
  const seat: Seat = { connection: undefined };
  const wire = new StreamWire(socket, beneath);
  beginTurn();
  if (chain.served.accept(seat, wire, accepted)) bind(socket, wire, seat, reception);
  else socket.destroy();
  endTurn();
}

/** Gives the socket's events to who has the seat. Returns how to take them away again. */
function bind(socket: net.Socket, wire: StreamWire, seat: Seat, reception: Reception): () => void {
  const inTurn = (run: () => void) => {
    beginTurn();
    try {
      run();
    } catch (error) {
      reception.faulted(error);
      seat.connection?.terminate();
    }
    endTurn();
  };
  const events = {
    data: (bytes: Buffer) => inTurn(() => seat.connection?.onData(bytes)),
    drain: () =>
      inTurn(() => {
        wire.full = false;
        seat.connection?.onDrain();
      }),
    end: () => inTurn(() => seat.connection?.onEnd()),
    close: () => inTurn(() => seat.connection?.onClose()),
    // `close` follows.
    error: () => {},
  };
  for (const [name, handler] of Object.entries(events)) socket.on(name, handler);
  return () => {
    for (const [name, handler] of Object.entries(events)) if (name !== "error") socket.off(name, handler);
  };
}

/** Fewer bytes cost less to copy than to be told that they are done with. */
const worthGiving = 16 * 1024;

/** A node stream as a wire: it takes everything until it says that it is full. */
class StreamWire implements ListenerWire {
  full = false;
  readonly #socket: net.Socket;
  readonly #beneath: net.Socket;

  /** `beneath`: what TLS is ended on. */
  constructor(socket: net.Socket, beneath = socket) {
    this.#socket = socket;
    this.#beneath = beneath;
  }

  get localAddress(): string | undefined {
    return this.#beneath.localAddress;
  }

  get localPort(): number | undefined {
    return this.#beneath.localPort;
  }

  write(data: Uint8Array, offset: number, length: number): number {
    if (this.full) return 0;
    // The stream keeps what it is given, and the caller goes on using its buffer.
    this.full = !this.#socket.write(Buffer.from(data.subarray(offset, offset + length)));
    return length;
  }

  give(bytes: Uint8Array, done?: () => void): boolean {
    if (this.full || bytes.length < worthGiving) return false;
    this.full = !this.#socket.write(bytes, done);
    return true;
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  shutdown(): void {
    this.#socket.end();
  }

  end(): void {
    // Behind a `shutdown` another end would wait for the peer's.
    if (this.#socket.writableEnded) this.#socket.destroySoon();
    else this.#socket.end();
  }

  terminate(): void {
    this.#socket.destroy();
  }
}

// What a listener hands its connections to: one for each of its chains. What they have in common, whatever they serve.

import { unmapped } from "../../base/ip.ts";
import type { ClientConnection } from "../server.ts";
import type { Wire } from "../wire.ts";
import type { ClientIdentity } from "./client-identity.ts";
import type { Destination } from "./original-destination.ts";
import type { ProxyAddresses } from "./proxy-protocol.ts";

/** Where a socket's events find its connection, which may be replaced while nothing has been served. */
export interface Seat {
  connection: ClientConnection | undefined;
  /** For people: who connected, and when (by `turn.now`). */
  source?: string;
  since?: number;
}

/** A connection as the admin interface shows it. */
export interface LiveConnection {
  readonly listener: string;
  readonly source: string;
  readonly protocol: "HTTP/1.1" | "HTTP/2" | "TCP" | "UDP";
  /** Milliseconds since it was accepted. */
  readonly age: number;
}

/** A socket of a listener. */
export interface ListenerWire extends Wire {
  /** Sends no more, once what was taken has been sent; what comes is still read. */
  shutdown(): void;
}

/** Who connected. */
export interface Peer {
  readonly address: string;
  readonly port: number;
  /** Where it wanted to go, if the kernel was asked. */
  readonly destination?: Destination | undefined;
}

/** A connection that was let in, as its chain is told of it. */
export interface Accepted {
  readonly peer: Peer;
  /** The client's address: who connected, or for whom a PROXY header says that it connects. */
  readonly source: string;
  readonly sourcePort: number;
  /** Where the client wanted to go, if that was found out: of the PROXY header, or before the kernel redirected it. */
  readonly destination?: Destination | undefined;
  /** What TLS agreed on, as far as requests are concerned. */
  readonly protocol: "h2" | "http/1.1";
  readonly serverName?: string | undefined;
  /** `TLSv1.2` or `TLSv1.3`, where TLS was ended here. */
  readonly tlsVersion?: string | undefined;
  /** By a certificate that was verified. */
  readonly client?: ClientIdentity | undefined;
  /** What backends are told of a certificate that was not. */
  readonly shown?: string | undefined;
}

/** Where a connection arrived: its address here. Of one that is closed: no address at all, and the listener's port. */
export function arrivedAt(wire: ListenerWire, source: string, port: number): Destination {
  const { localAddress, localPort } = wire;
  if (localAddress && localPort) return { address: unmapped(localAddress), port: localPort };
  return { address: source.includes(":") ? "::" : "0.0.0.0", port };
}

/** What backends are told of a connection. Its own address is asked for when that is needed, because that is a system call. */
export class ClientAddresses implements ProxyAddresses {
  readonly source: string;
  readonly sourcePort: number;
  #there: Destination | undefined;
  readonly #wire: ListenerWire;
  readonly #port: number;

  /** `port` is the listener's. */
  constructor({ source, sourcePort, destination }: Accepted, wire: ListenerWire, port: number) {
    this.source = unmapped(source);
    this.sourcePort = sourcePort;
    this.#there = destination;
    this.#wire = wire;
    this.#port = port;
  }

  get destination(): string {
    return this.#destination().address;
  }

  get destinationPort(): number {
    return this.#destination().port;
  }

  #destination(): Destination {
    this.#there ??= arrivedAt(this.#wire, this.source, this.#port);
    return this.#there;
  }
}

export interface Served {
  /** Connections that are there. */
  readonly size: number;
  live(listener: string): Iterable<LiveConnection>;
  /** A connection takes the seat. False when there are too many: the caller closes it. */
  accept(seat: Seat, wire: ListenerWire, accepted: Accepted): boolean;
  /** Connections close as soon as they owe nothing. */
  drain(): void;
  /** The end of a drain's patience. */
  terminate(): void;
}

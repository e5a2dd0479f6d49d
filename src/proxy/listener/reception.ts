// How the connections of one listener find their chains: at once where there is one chain for all of them, else by what their
// first bytes say. Knows nothing of how sockets are made; TLS is terminated by who has the socket (`stream.ts`).

import type { ChainCondition, Listener } from "../../model/model.ts";
import type { Reason } from "../reason.ts";
import type { ProxyRuntime } from "../runtime.ts";
import { chainFor } from "./chains.ts";
import type { ClientHello } from "./client-hello.ts";
import type { Introduction, Wanted } from "./first-bytes.ts";
import { Opening, type OpeningProblem } from "./opening.ts";
import { originalDestination } from "./original-destination.ts";
import type { Accepted, ListenerWire, Seat, Served } from "./served.ts";
import type { Termination } from "./termination.ts";

export interface Chain {
  readonly when: ChainCondition;
  /** Undefined: what comes is served as it is. */
  readonly termination: Termination | undefined;
  readonly served: Served;
}

export interface TlsCounts {
  handshakes: number;
  failures: number;
  unknownNames: number;
}

/** Who connected. */
export interface Peer {
  readonly address: string;
  readonly port: number;
  readonly destination?: Accepted["destination"];
}

/** Ends TLS on a connection whose ClientHello is in `rest`, and seats it with the chain. */
export type Terminate = (chain: Chain, hello: ClientHello, rest: Buffer, accepted: Accepted) => void;

/** TLS alerts (RFC 8446 §6). */
export const alert = { decodeError: 50, unrecognizedName: 112, noApplicationProtocol: 120 } as const;

const problems: { readonly [P in OpeningProblem]: Reason } = {
  bad_proxy_header: "bad_proxy_header",
  bad_hello: "bad_hello",
  slow: "request_slow",
  gone: "client_closed",
};

export class Reception {
  readonly runtime: ProxyRuntime;
  readonly counts: TlsCounts;
  #chains: readonly Chain[] = [];
  #plain: Chain | undefined = undefined;
  #wanted: Wanted = { proxyHeader: false, hello: false };
  /** Connections are asked where they wanted to go. */
  #original = false;
  readonly #openings = new Set<Opening>();

  constructor(runtime: ProxyRuntime, counts: TlsCounts) {
    this.runtime = runtime;
    this.counts = counts;
  }

  /** For connections from now on. */
  set(chains: readonly Chain[], listener: Listener): void {
    this.#chains = chains;
    this.#original = listener.originalDestination === true;
    this.#plain = chains.find(({ when }) => when.kind === "plain");
    this.#wanted = {
      proxyHeader: listener.proxyProtocol === true,
      hello: chains.some(({ when }) => when.kind !== "plain"),
    };
  }

  /** Who connected, on a socket of this descriptor. */
  peer(address: string, port: number, fd: number | undefined): Peer {
    if (!this.#original || fd === undefined) return { address, port };
    return { address, port, destination: originalDestination(fd, address) };
  }

  /** A connection was accepted. False: there are too many, and the caller closes it. */
  receive(seat: Seat, wire: ListenerWire, peer: Peer, terminate: Terminate | undefined): boolean {
    const { proxyHeader, hello } = this.#wanted;
    if (!proxyHeader && !hello) {
      const { address, port, destination } = peer;
      const accepted = { source: address, sourcePort: port, destination, protocol: "http/1.1" } as const;
      return this.#plain!.served.accept(seat, wire, accepted);
    }
    const { connections } = this.runtime;
    if (connections.open >= connections.most) {
      connections.refused++;
      return false;
    }
    connections.open++;
    const over = () => {
      this.#openings.delete(opening);
      connections.open--;
      seat.connection = undefined;
    };
    const opening: Opening = new Opening(
      {
        introduced: (introduction) => {
          over();
          this.#introduced(seat, wire, peer, introduction, terminate);
        },
        failed: (problem) => {
          over();
          this.runtime.metrics.ended(problems[problem]);
          if (problem === "bad_hello") this.refuse(wire, alert.decodeError);
          else wire.terminate();
        },
      },
      this.#wanted,
      this.runtime.deadlines,
    );
    this.#openings.add(opening);
    seat.connection = opening;
    return true;
  }

  #introduced(
    seat: Seat,
    wire: ListenerWire,
    peer: Peer,
    { told, hello, rest }: Introduction,
    terminate: Terminate | undefined,
  ): void {
    const chain = hello ? chainFor(this.#chains, hello.serverName) : this.#plain;
    if (!chain) {
      this.runtime.metrics.ended("no_chain");
      if (hello) {
        if (hello.serverName !== undefined) this.counts.unknownNames++;
        this.refuse(wire, alert.unrecognizedName);
      } else {
        this.counts.failures++;
        wire.terminate();
      }
      return;
    }
    const accepted: Accepted = {
      source: told?.source?.address ?? peer.address,
      sourcePort: told?.source?.port ?? peer.port,
      destination: told?.destination ?? peer.destination,
      protocol: "http/1.1",
      serverName: hello?.serverName,
    };
    if (hello && chain.termination) {
      terminate!(chain, hello, rest, accepted);
      return;
    }
    if (!chain.served.accept(seat, wire, accepted)) {
      wire.terminate();
      return;
    }
    // `accept` has taken the seat.
    if (rest.length > 0) (seat as { connection?: Seat["connection"] }).connection?.onData(rest);
  }

  /** A handler threw: a fault of ours, which costs its connection and no other. */
  faulted(error: unknown): void {
    this.runtime.log.error("a client connection was closed by a fault", { error, stack: (error as Error).stack });
  }

  /** Ends a connection in a handshake with an alert, before there are keys: a client can say why. */
  refuse(wire: ListenerWire, description: number): void {
    this.counts.failures++;
    const record = Buffer.from([21, 3, 3, 0, 2, 2, description]);
    wire.write(record, 0, record.length);
    wire.end();
  }

  /** Connections that have not said what they want are closed. */
  close(): void {
    for (const opening of [...this.#openings]) opening.terminate();
  }
}

// How the connections of one listener find their chains: at once where there is one chain for all of them, else by what their
// first bytes say. Knows nothing of how sockets are made; TLS is terminated by who has the socket (`stream.ts`).

import type { Listener } from "../../model/model.ts";
import type { Reason } from "../reason.ts";
import type { ProxyRuntime } from "../runtime.ts";
import { type Arrived, type Condition, chainFor } from "./chains.ts";
import type { ClientHello } from "./client-hello.ts";
import type { Introduction, Wanted } from "./first-bytes.ts";
import { Opening, type OpeningProblem } from "./opening.ts";
import { originalDestination } from "./original-destination.ts";
import { type Accepted, arrivedAt, type ListenerWire, type Peer, type Seat, type Served } from "./served.ts";
import type { Termination } from "./termination.ts";

export interface Chain extends Condition {
  /** Undefined: what comes is served as it is. */
  readonly termination: Termination | undefined;
  readonly served: Served;
}

export interface TlsCounts {
  handshakes: number;
  failures: number;
  unknownNames: number;
}

const nothingOffered: readonly string[] = [];

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
  /** That serves all there is, whoever comes and whatever for. */
  #only: Chain | undefined = undefined;
  #wanted: Wanted = { proxyHeader: false, hello: false };
  /** Connections are asked where they wanted to go, of the rules that sent them here or of themselves. */
  #original: "redirected" | "transparent" | undefined = undefined;
  #port = 0;
  readonly #openings = new Set<Opening>();

  constructor(runtime: ProxyRuntime, counts: TlsCounts) {
    this.runtime = runtime;
    this.counts = counts;
  }

  /** For connections from now on. */
  set(chains: readonly Chain[], listener: Listener): void {
    this.#chains = chains;
    this.#original = listener.originalDestination ? "redirected" : listener.transparent ? "transparent" : undefined;
    this.#port = listener.port;
    const [first] = chains;
    this.#only = first?.when.kind === "plain" && !first.takes ? first : undefined;
    this.#wanted = {
      proxyHeader: listener.proxyProtocol === true,
      hello: chains.some(({ when }) => when.kind !== "plain"),
    };
  }

  /** Who connected, on a socket of this descriptor. */
  peer(address: string, port: number, fd: number | undefined, wire: ListenerWire): Peer {
    if (this.#original === undefined || fd === undefined) return { address, port };
    if (this.#original === "transparent") return { address, port, destination: arrivedAt(wire, address, this.#port) };
    return { address, port, destination: originalDestination(fd, address) };
  }

  /** A connection was accepted. False: there are too many, and the caller closes it. */
  receive(seat: Seat, wire: ListenerWire, peer: Peer, terminate: Terminate | undefined): boolean {
    const { proxyHeader, hello } = this.#wanted;
    if (!proxyHeader && !hello) {
      const { address, port, destination } = peer;
      const accepted = { peer, source: address, sourcePort: port, destination, protocol: "http/1.1" } as const;
      const chain = this.#only ?? this.#chainFor(accepted, wire, undefined);
      if (chain) return chain.served.accept(seat, wire, accepted);
      this.runtime.metrics.ended("no_chain");
      return false;
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
    const accepted: Accepted = {
      peer,
      source: told?.source?.address ?? peer.address,
      sourcePort: told?.source?.port ?? peer.port,
      destination: told?.destination ?? peer.destination,
      protocol: "http/1.1",
      serverName: hello?.serverName,
    };
    const chain = this.#chainFor(accepted, wire, hello);
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

  /** `hello` is undefined without TLS. */
  #chainFor(accepted: Accepted, wire: ListenerWire, hello: ClientHello | undefined): Chain | undefined {
    const port = this.#port;
    const arrived: Arrived = {
      source: accepted.source,
      // Asked for only where a chain wants to know.
      get destination() {
        return accepted.destination ?? arrivedAt(wire, accepted.source, port);
      },
      protocols: hello?.protocols ?? nothingOffered,
    };
    return chainFor(this.#chains, hello !== undefined, hello?.serverName, arrived);
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

// Whom a relayed connection is connected to: endpoints of a backend, another one when the first takes no connection; or the one
// address that the client wanted to go to.

import type { Destination } from "../listener/original-destination.ts";
import type { ProxyAddresses } from "../listener/proxy-protocol.ts";
import type { Reason } from "../reason.ts";
import type { BackendRuntime } from "../upstream/backend.ts";
import { type SocketWay, speakingFor } from "../upstream/open-socket.ts";
import type { Source } from "../upstream/original-source.ts";
import type { EndpointPool } from "../upstream/pool.ts";
import { original } from "./counts.ts";

/** One attempt's goal. */
export interface Target extends Omit<SocketWay, "allowHalfOpen"> {
  /** Where the connection is made from; undefined: the proxy's own network namespace. */
  readonly namespace: string | undefined;
  /** Milliseconds. */
  readonly connectTimeout: number;
  /** Told of what became of it, after so many milliseconds. */
  connected(milliseconds: number): void;
  failed(milliseconds: number): void;
  /** It is not used any more; told once, also after a failure. */
  release(): void;
}

export interface Targets {
  /** For metrics and logs. */
  readonly name: string;
  /** The first, or another one; a reason when there is none, undefined when enough were tried. */
  next(): Target | Reason | undefined;
}

/** Endpoints that are tried for one connection, the first included. */
const maxAttempts = 3;
/** As a backend's that says nothing. */
const defaultConnectTimeout = 5_000;

export class BackendTargets implements Targets {
  readonly #backend: BackendRuntime;
  readonly #addresses: ProxyAddresses;
  readonly #tried: EndpointPool[] = [];

  /** `addresses` are the client's. */
  constructor(backend: BackendRuntime, addresses: ProxyAddresses) {
    this.#backend = backend;
    this.#addresses = addresses;
  }

  get name(): string {
    return this.#backend.name;
  }

  next(): Target | Reason | undefined {
    const backend = this.#backend;
    const tried = this.#tried.length;
    if (tried > 0 && (tried >= maxAttempts || backend.usable <= tried)) return undefined;
    const pool = backend.reserve(this.#tried);
    if (typeof pool === "string") return pool;
    this.#tried.push(pool);
    return {
      address: pool.address,
      port: pool.port,
      namespace: undefined,
      connectTimeout: backend.connectTimeout,
      tls: backend.tls,
      tcpKeepalive: backend.tcpKeepalive,
      ...speakingFor(this.#addresses, backend),
      // A connection is all that health can be told of.
      connected: (milliseconds) => backend.watch?.answered(pool, 200, milliseconds),
      failed: (milliseconds) => {
        backend.connectFailures++;
        backend.watch?.failed(pool, "connectFailure", milliseconds);
      },
      release: () => backend.release(pool),
    };
  }
}

export class OriginalTarget implements Targets {
  readonly name = original;
  readonly #destination: Destination;
  readonly #namespace: string | undefined;
  readonly #source: Source | undefined;
  #asked = false;

  /** `source`: whose address the connection bears. */
  constructor(destination: Destination, namespace: string | undefined, source: Source | undefined) {
    this.#destination = destination;
    this.#namespace = namespace;
    this.#source = source;
  }

  next(): Target | undefined {
    if (this.#asked) return undefined;
    this.#asked = true;
    const { address, port } = this.#destination;
    const nothing = () => {};
    const told = { connected: nothing, failed: nothing, release: nothing };
    const made = { namespace: this.#namespace, source: this.#source, connectTimeout: defaultConnectTimeout };
    return { address, port, ...made, ...told };
  }
}

// What serves the connections of a chain that is passed through: backends by weight, and the connections that it has.

import { unmapped } from "../../base/ip.ts";
import type { Listener, OriginalSource } from "../../model/model.ts";
import {
  type Accepted,
  ClientAddresses,
  type ListenerWire,
  type LiveConnection,
  type Seat,
  type Served,
} from "../listener/served.ts";
import type { Reason } from "../reason.ts";
import type { ProxyRuntime } from "../runtime.ts";
import { tellRelayed } from "../telemetry/relayed.ts";
import type { ListenerTelemetry } from "../telemetry/watched.ts";
import { turn } from "../wire.ts";
import type { RelayCount } from "./counts.ts";
import type { OwnEnds } from "./own-ends.ts";
import { type RelayEnd, type RelayOwner, TcpRelay } from "./relay.ts";
import type { Shares } from "./shares.ts";
import { BackendTargets, OriginalTarget, type Targets } from "./targets.ts";

/** To where clients wanted to go, perhaps with their addresses. */
export interface Original {
  readonly originalSource: OriginalSource | undefined;
}

const isOriginal = (to: Shares | Original | undefined): to is Original => to !== undefined && "originalSource" in to;

const isAny = (address: string) => address === "0.0.0.0" || address === "::";

/** Envoy's default for connections, too. */
const defaultIdle = 3_600_000;

export class ServedTcp implements Served, RelayOwner {
  idleTimeout = defaultIdle;
  /** What is told of its connections; undefined: nothing. */
  telemetry: ListenerTelemetry | undefined = undefined;
  #shares: Shares | Original | undefined = undefined;
  readonly #runtime: ProxyRuntime;
  readonly #listener: Listener;
  readonly #relays = new Map<TcpRelay, Seat>();

  constructor(runtime: ProxyRuntime, listener: Listener) {
    this.#runtime = runtime;
    this.#listener = listener;
  }

  /** For connections from now on; the time, in milliseconds, for all (undefined is the default). */
  configure(shares: Shares | Original, idleTimeout: number | undefined): void {
    this.#shares = shares;
    this.idleTimeout = idleTimeout ?? defaultIdle;
  }

  get size(): number {
    return this.#relays.size;
  }

  get deadlines() {
    return this.#runtime.deadlines;
  }

  *live(listener: string): Generator<LiveConnection> {
    const now = turn.source();
    for (const { source = "", since = now } of this.#relays.values())
      yield { listener, source, protocol: "TCP", age: Math.round(now - since) };
  }

  accept(seat: Seat, wire: ListenerWire, accepted: Accepted): boolean {
    const { connections } = this.#runtime;
    if (connections.open >= connections.most) {
      connections.refused++;
      return false;
    }
    connections.open++;
    connections.accepted++;
    seat.source = accepted.source;
    seat.since = turn.now;
    const addresses = new ClientAddresses(accepted, wire, this.#listener.port);
    // Asked for while it can be: a connection that is closed has no address any more.
    if (this.telemetry) void addresses.destination;
    const relay = new TcpRelay(this, wire, accepted, addresses);
    seat.connection = relay;
    this.#relays.set(relay, seat);
    relay.begin(this.#targets(accepted, addresses));
    return true;
  }

  #targets(accepted: Accepted, addresses: ClientAddresses): Targets | Reason {
    if (!isOriginal(this.#shares)) {
      const backend = this.#shares?.next() ?? "no_backend";
      return typeof backend === "string" ? backend : new BackendTargets(backend, addresses);
    }
    const { destination } = accepted;
    const { address, port, namespace } = this.#listener;
    // One that wanted to come here would go round in circles.
    const here = destination?.port === port && (destination.address === address || isAny(address));
    if (destination === undefined || here) return "no_destination";
    const { originalSource } = this.#shares;
    const source = originalSource && { address: unmapped(accepted.source), mark: originalSource.mark };
    return new OriginalTarget(destination, namespace, source);
  }

  get ownEnds(): OwnEnds {
    return this.#runtime.ownEnds.tcp;
  }

  count(backend: string): RelayCount {
    return this.#runtime.relays.of("tcp", backend);
  }

  ended(relay: TcpRelay, end: RelayEnd): void {
    this.#relays.delete(relay);
    this.#runtime.connections.open--;
    const { metrics, clock } = this.#runtime;
    const { reason } = end;
    if (reason) metrics.ended(reason);
    if (!this.telemetry) return;
    const { serverName, tlsVersion, client } = relay.accepted;
    const told = { protocol: "TCP", addresses: relay.addresses, serverName, tlsVersion, client } as const;
    tellRelayed(this.telemetry, clock.now(), { ...told, ...end });
  }

  drain(): void {
    for (const relay of [...this.#relays.keys()]) relay.closeWhenIdle();
  }

  terminate(): void {
    for (const relay of [...this.#relays.keys()]) relay.terminate();
  }
}

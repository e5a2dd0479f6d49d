// The userspace Service proxy of the loopback network: listens on Services' addresses and carries connections to their ready
// endpoints (the oldest of kube-proxy's modes in spirit). It follows the same table as the kernel's backends, and has no
// rules to read back: its listeners are its state. A port without endpoints has no listener, so that it refuses.

import type { TCPSocketListener } from "bun";
import { contains, parseCidr } from "../../base/cidr.ts";
import { type Clock, systemClock } from "../../base/clock.ts";
import type { AsyncDisposable } from "../../base/disposal.ts";
import { messageOf } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Batch, Collection } from "../../collections/collection.ts";
import type { Protocol } from "../../services/objects.ts";
import type { ServicePort, TableEndpoint } from "../../services/service-table.ts";
import { Balance, endpointKey } from "./balance.ts";
import { type RelayTarget, relayHandlers } from "./relay.ts";
import { openUdpRelay, type UdpRelay } from "./udp-relay.ts";

export interface ForwarderOptions {
  readonly table: Collection<ServicePort>;
  /** The node's own addresses, for node ports. */
  readonly nodeAddresses: readonly string[];
  /** Whether Services' own addresses are served here, and not node ports only: where nodes share them, one of them does. */
  readonly servesShared?: boolean;
  /** Where a port is really listened on (`PodNetwork.effectivePort`); applied to endpoints as well. */
  readonly effectivePort: (port: number) => number;
  /** Told once of each address that cannot be listened on. */
  readonly failed?: (row: ServicePort, address: string, message: string) => void;
  readonly log: Logger;
  readonly clock?: Clock;
}

/** One address that a Service port is reached at. */
interface Frontend {
  readonly hostname: string;
  readonly port: number;
  /** From outside: the external policy's endpoints. */
  readonly external: boolean;
  /** Only sources in the row's source ranges are let through. */
  readonly restricted: boolean;
}

interface Listening {
  close(): void;
}

interface Served {
  row: ServicePort;
  readonly cluster: Balance;
  readonly local: Balance;
  readonly listeners: Map<string, Listening>;
}

/** Endpoints tried for one connection. */
const mostAttempts = 4;

/** How often what could not be listened on is tried again, in milliseconds. */
const retryEvery = 1000;

export class UserspaceForwarder implements AsyncDisposable {
  readonly mode = "userspace";
  readonly #options: ForwarderOptions;
  readonly #clock: Clock;
  readonly #served = new Map<string, Served>();
  readonly #problems = new Map<string, string>();
  readonly #subscription: { dispose(): void };
  readonly #retry: { dispose(): void };
  #work: Promise<void> = Promise.resolve();

  constructor(options: ForwarderOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#subscription = options.table.subscribe((batch) => this.#follow(batch), { replay: true });
    this.#retry = this.#clock.every(retryEvery, () => {
      if (this.#problems.size > 0) this.#then(() => this.#syncAll());
    });
  }

  /** Resolves when what the table says now is in force. */
  settled(): Promise<void> {
    return this.#work;
  }

  /** Why an address and port of a Service are not served; undefined when they are. */
  unserved(protocol: Protocol, address: string, port: number): string | undefined {
    const at = endpointKey({ address, port: this.#options.effectivePort(port) });
    return this.#problems.get(`${protocol} ${at}`);
  }

  /** Addresses that could not be listened on, with the reason; shown in `status`. */
  problems(): ReadonlyMap<string, string> {
    return this.#problems;
  }

  async dispose(): Promise<void> {
    this.#subscription.dispose();
    this.#retry.dispose();
    await this.#work;
    for (const { listeners } of this.#served.values()) for (const listener of listeners.values()) listener.close();
    this.#served.clear();
  }

  #follow(batch: Batch<ServicePort>): void {
    // Endpoints change at once; listeners in order, since opening one may take a moment.
    for (const { key, after } of batch) {
      if (after?.family === 6) continue;
      const served = this.#served.get(key);
      if (after && served) setEndpoints(served, after);
      else if (after) {
        const fresh: Served = { row: after, cluster: new Balance(), local: new Balance(), listeners: new Map() };
        setEndpoints(fresh, after);
        this.#served.set(key, fresh);
      } else if (served) {
        setEndpoints(served, { ...served.row, clusterEndpoints: [], localEndpoints: [] });
      }
    }
    this.#then(async () => {
      for (const { key, after } of batch) {
        const served = this.#served.get(key);
        if (!served) continue;
        await this.#sync(served, after !== undefined);
        if (!after && !this.#options.table.has(key)) this.#served.delete(key);
      }
    });
  }

  #then(work: () => Promise<void>): void {
    this.#work = this.#work.then(work).catch((error) => {
      this.#options.log.error("the Service forwarder failed", { error: messageOf(error) });
    });
  }

  async #syncAll(): Promise<void> {
    for (const served of this.#served.values()) await this.#sync(served, true);
  }

  /** Opens and closes listeners until they are what the row asks for. */
  async #sync(served: Served, present: boolean): Promise<void> {
    const wanted = new Map<string, Frontend>();
    if (present) {
      for (const frontend of this.#frontends(served.row)) {
        const balance = balanceFor(served, frontend);
        if (!balance.isEmpty) wanted.set(endpointKey({ address: frontend.hostname, port: frontend.port }), frontend);
      }
    }
    for (const [key, listener] of served.listeners) {
      if (wanted.has(key)) continue;
      listener.close();
      served.listeners.delete(key);
    }
    for (const [key, frontend] of wanted) {
      if (served.listeners.has(key)) continue;
      const name = `${served.row.protocol} ${key}`;
      try {
        served.listeners.set(key, await this.#open(served, frontend));
        this.#problems.delete(name);
      } catch (error) {
        if (this.#problems.get(name) === undefined) {
          this.#options.log.warn("a Service address cannot be served", {
            service: served.row.name,
            address: key,
            error: messageOf(error),
          });
          this.#options.failed?.(served.row, name, messageOf(error));
        }
        this.#problems.set(name, `${served.row.name}: ${messageOf(error)}`);
      }
    }
  }

  #frontends(row: ServicePort): readonly Frontend[] {
    const { effectivePort, nodeAddresses, servesShared = true } = this.#options;
    const port = effectivePort(row.port);
    const { nodePort } = row;
    if (row.protocol === "SCTP") {
      // No address of it can be served, and one refusal says so.
      return servesShared ? [{ hostname: row.clusterIP, port, external: false, restricted: false }] : [];
    }
    const shared: Frontend[] = [
      { hostname: row.clusterIP, port, external: false, restricted: false },
      ...row.loadBalancerIPs.map((hostname) => ({ hostname, port, external: true, restricted: true })),
      ...row.externalIPs.map((hostname) => ({ hostname, port, external: true, restricted: false })),
    ];
    const own = nodePort === undefined ? [] : nodeAddresses;
    return [
      ...(servesShared ? shared : []),
      ...own.map((hostname) => ({ hostname, port: nodePort!, external: true, restricted: false })),
    ];
  }

  async #open(served: Served, frontend: Frontend): Promise<Listening> {
    const { hostname, port } = frontend;
    const balance = balanceFor(served, frontend);
    // Asked anew for each connection: ranges may change while the listener stays.
    const admits = (client: string) => !frontend.restricted || admitted(served.row, client);
    if (served.row.protocol === "UDP") {
      const relay: UdpRelay = await openUdpRelay(hostname, port, this.#clock, (client) => {
        const endpoint = admits(client) ? balance.choose(client, this.#clock.now()) : undefined;
        return endpoint && this.#target(endpoint);
      });
      return relay;
    }
    if (served.row.protocol !== "TCP") throw new Error(`${served.row.protocol} is not carried in userspace`);
    const listener: TCPSocketListener<unknown> = Bun.listen({
      hostname,
      port,
      allowHalfOpen: true,
      socket: relayHandlers((client, failed) => {
        if (failed.length >= mostAttempts || !admits(client)) return undefined;
        const not = new Set(failed.map(({ key }) => key));
        const endpoint = balance.choose(client, this.#clock.now(), not);
        return endpoint && this.#target(endpoint);
      }),
    }) as TCPSocketListener<unknown>;
    // Connections that are being carried live on; only new ones are refused.
    return { close: () => listener.stop(false) };
  }

  #target(endpoint: TableEndpoint): RelayTarget {
    const { address, port } = endpoint;
    return { hostname: address, port: this.#options.effectivePort(port), key: endpointKey(endpoint) };
  }
}

function setEndpoints(served: Served, row: ServicePort): void {
  served.row = row;
  served.cluster.set(row.clusterEndpoints, row.affinitySeconds);
  served.local.set(row.localEndpoints, row.affinitySeconds);
}

/** Whether the row's source ranges let a client through. */
function admitted({ sourceRanges }: ServicePort, client: string): boolean {
  if (sourceRanges.length === 0) return true;
  return sourceRanges.some((range) => {
    const cidr = parseCidr(range);
    return cidr !== undefined && contains(cidr, client);
  });
}

function balanceFor(served: Served, frontend: Frontend): Balance {
  const local = frontend.external ? served.row.externalPolicyLocal : served.row.internalPolicyLocal;
  return local ? served.local : served.cluster;
}

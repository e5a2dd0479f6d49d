// The sockets that a proxy listens on. A change opens and closes only what differs: a listener whose address and kind stay
// keeps its socket and, chain by chain, its connections; those of a chain that went are drained.

import { inNetns } from "../../base/setns.ts";
import type { FilterChain, Listener, ListenerName } from "../../model/model.ts";
import { addressSet } from "../address-set.ts";
import type { RouteTableRuntime } from "../compile.ts";
import type { ProxyRuntime } from "../runtime.ts";
import { ServedTcp } from "../tcp/served.ts";
import { Shares } from "../tcp/shares.ts";
import { listenUdp } from "../udp/listen.ts";
import { ServedUdp, type Way } from "../udp/served.ts";
import { listenTaken } from "../udp/taken.ts";
import { checkOriginalSource } from "../upstream/original-source.ts";
import { compileCondition } from "./chains.ts";
import type { Claims } from "./claims.ts";
import { misdirection } from "./misdirected.ts";
import { checkOriginalDestination, type Destination } from "./original-destination.ts";
import { type Accepting, listenPlain } from "./plain.ts";
import { type Chain, Reception, type TlsCounts } from "./reception.ts";
import { ServedChain } from "./serve.ts";
import type { LiveConnection, Served } from "./served.ts";
import { listenSeveral } from "./several.ts";
import { listenStream } from "./stream.ts";

/** A listener with what it names looked up. */
export interface ResolvedListener {
  readonly listener: Listener;
  readonly chains: readonly ResolvedChain[];
}

export interface ResolvedChain extends Pick<Chain, "when" | "termination"> {
  readonly serve: { readonly table: RouteTableRuntime } | Extract<FilterChain["serve"], { tcp: unknown }>;
}

/** What serves a chain, while it can be reached and until its last connection is gone. */
type Kept = Pick<Served, "size" | "live" | "drain" | "terminate">;

interface OpenChain {
  readonly key: string;
  readonly served: Kept;
  /** Of UDP, whose flows find their chains here. */
  readonly takes?: Chain["takes"];
}

interface Open {
  resolved: ResolvedListener;
  readonly reception: Reception;
  chains: readonly OpenChain[];
  accepting: Accepting | undefined;
}

export class Listeners {
  readonly tlsCounts: TlsCounts = { handshakes: 0, failures: 0, unknownNames: 0 };
  readonly #runtime: ProxyRuntime;
  readonly #claims: Claims;
  readonly #sockets: number;
  readonly #open = new Map<ListenerName, Open>();
  /** Chains that no listener has any more, until their last connection is gone. */
  readonly #leaving = new Set<Kept>();

  /** `sockets`: by how many it listens for connections at each place. */
  constructor(runtime: ProxyRuntime, claims: Claims, sockets: number) {
    this.#runtime = runtime;
    this.#claims = claims;
    this.#sockets = sockets;
  }

  names(): string[] {
    return [...this.#open.keys()];
  }

  has(name: ListenerName): boolean {
    return this.#open.has(name);
  }

  connections(name: ListenerName): number {
    return this.#open.get(name)?.chains.reduce((sum, chain) => sum + chain.served.size, 0) ?? 0;
  }

  /** Every connection of a client; those of chains that went have no listener any more. */
  *live(): Generator<LiveConnection> {
    for (const [name, { chains }] of this.#open) for (const { served } of chains) yield* served.live(name);
    for (const served of this.#leaving) yield* served.live("");
  }

  /** The listener that holds this one's address now, under another name. */
  holder(listener: Listener): Listener | undefined {
    for (const [held, { resolved }] of this.#open) {
      if (held !== listener.name && sameAddress(resolved.listener, listener)) return resolved.listener;
    }
    return undefined;
  }

  /** Changes or opens a listener. Rejects with an Error when its address cannot be had: then the one before stays. */
  async put(resolved: ResolvedListener): Promise<void> {
    const { listener } = resolved;
    const before = this.#open.get(listener.name);
    if (before && sameAddress(before.resolved.listener, listener)) {
      await this.#change(before, resolved);
      return;
    }
    const open: Open = {
      resolved,
      reception: new Reception(this.#runtime, this.tlsCounts),
      chains: [],
      accepting: undefined,
    };
    this.#setChains(open, resolved);
    await this.#claims.take(listener);
    try {
      open.accepting = await this.#listen(listener, open);
    } catch (error) {
      this.#claims.release(listener);
      throw error;
    }
    if (before) this.remove(listener.name);
    this.#open.set(listener.name, open);
  }

  /** On the address that it has: its connections stay, also when other sockets must take the place of those it has. */
  async #change(open: Open, resolved: ResolvedListener): Promise<void> {
    const before = open.resolved.listener;
    if (socketKind(before) !== socketKind(resolved.listener) || before.transparent !== resolved.listener.transparent) {
      const accepting = await this.#listen(resolved.listener, open);
      open.accepting?.close();
      open.accepting = accepting;
    }
    open.resolved = resolved;
    this.#setChains(open, resolved);
  }

  #setChains(open: Open, { listener, chains }: ResolvedListener): void {
    const telemetry = this.#runtime.telemetry.of(listener);
    const before = new Map(open.chains.map((chain) => [chain.key, chain.served]));
    const trusted = listener.trusted && addressSet(listener.trusted);
    const compared = listener.chains.map(({ when, serve, tls }) => ({
      ...compileCondition(when),
      alike: JSON.stringify(["routes" in serve ? serve.routes : serve.tcp, tls?.clients]),
    }));
    const receiving: Chain[] = [];
    open.chains = chains.map(({ when, termination, serve }, index) => {
      const kind = listener.transport === "udp" ? "udp" : "table" in serve ? "http" : "tcp";
      const key = `${kind} ${JSON.stringify(when)}`;
      const served = before.get(key);
      before.delete(key);
      if ("table" in serve) {
        const scheme = when.kind === "plain" ? "http" : "https";
        const chain = (served as ServedChain) ?? new ServedChain(this.#runtime, serve.table, listener.port, scheme);
        chain.table = serve.table;
        chain.trusted = trusted;
        chain.pathNormalization = listener.pathNormalization ?? "NONE";
        chain.telemetry = telemetry;
        chain.isMisdirected = misdirection(compared, compared[index]!);
        receiving.push({ when, takes: compared[index]!.takes, termination, served: chain });
        return { key, served: chain };
      }
      const shares = new Shares(serve.tcp, this.#runtime.backends);
      if (kind === "udp") {
        const chain = (served as ServedUdp) ?? new ServedUdp(this.#runtime, listener);
        chain.configure(serve.original ? { originalSource: serve.originalSource } : shares, serve.idleTimeout);
        chain.telemetry = telemetry;
        return { key, served: chain, takes: compared[index]!.takes };
      }
      const chain = (served as ServedTcp) ?? new ServedTcp(this.#runtime, listener);
      chain.configure(serve.original ? { originalSource: serve.originalSource } : shares, serve.idleTimeout);
      chain.telemetry = telemetry;
      receiving.push({ when, takes: compared[index]!.takes, termination, served: chain });
      return { key, served: chain };
    });
    open.reception.set(receiving, listener);
    for (const served of before.values()) {
      if (served instanceof ServedUdp) served.endFlows();
      this.#leave(served);
    }
  }

  async #listen(listener: Listener, open: Open): Promise<Accepting> {
    const { reception } = open;
    const { address, port, namespace, transparent, originalDestination } = listener;
    if (originalDestination) checkOriginalDestination();
    for (const { serve } of listener.chains)
      if ("tcp" in serve && serve.originalSource) checkOriginalSource(serve.originalSource.mark);
    // All three make their sockets before they return, also those that promise one: it is in the namespace then.
    return await inNetns(namespace, () => {
      switch (socketKind(listener)) {
        case "udp":
          if (transparent) return listenTaken(address, port, namespace, (...came) => this.#take(open, ...came));
          return listenUdp(address, port, () => open.chains[0]!.served as ServedUdp);
        case "stream":
          return listenSeveral(this.#sockets, () => listenStream(listener, reception));
        case "plain":
          return listenSeveral(this.#sockets, () => listenPlain(listener, reception));
      }
    });
  }

  #take({ chains }: Open, bytes: Buffer, client: Destination, way: Way): void {
    const arrived = { source: client.address, destination: way.destination, protocols: [] };
    const chain = chains.find(({ takes }) => !takes || takes(arrived));
    if (chain) (chain.served as ServedUdp).datagram(bytes, client.port, client.address, way.answer, way);
    else {
      this.#runtime.metrics.ended("no_chain");
      way.gone();
    }
  }

  remove(name: ListenerName): void {
    const open = this.#open.get(name);
    if (!open) return;
    this.#open.delete(name);
    this.#runtime.telemetry.forget(name);
    open.accepting?.close();
    this.#claims.release(open.resolved.listener);
    open.reception.close();
    for (const { served } of open.chains) this.#leave(served);
  }

  #leave(served: Kept): void {
    for (const one of this.#leaving) if (one.size === 0) this.#leaving.delete(one);
    served.drain();
    if (served.size > 0) this.#leaving.add(served);
  }

  /** Stops accepting; connections go on, and those that are being made. */
  close(): void {
    for (const open of this.#open.values()) {
      open.accepting?.close();
      open.accepting = undefined;
    }
  }

  /** Stops accepting; connections go as they finish. */
  drain(): void {
    for (const name of [...this.#open.keys()]) this.remove(name);
  }

  /** Connections and sessions that are still there after a drain. */
  get leaving(): number {
    let sum = 0;
    for (const served of this.#leaving) sum += served.size;
    return sum;
  }

  /** Closes what a drain left. */
  terminate(): void {
    for (const served of this.#leaving) served.terminate();
  }
}

function sameAddress(a: Listener, b: Listener): boolean {
  return a.address === b.address && a.port === b.port && a.transport === b.transport && a.namespace === b.namespace;
}

/** Sockets on which TLS can be ended cost more than others. */
function socketKind(listener: Listener): "plain" | "stream" | "udp" {
  if (listener.transport === "udp") return "udp";
  return listener.chains.some(({ tls }) => tls !== undefined) ? "stream" : "plain";
}

// The sockets that a proxy listens on. A change opens and closes only what differs: a listener whose address and kind stay
// keeps its socket and, chain by chain, its connections; those of a chain that went are drained.

import type { Listener, ListenerName, WeightedBackend } from "../../model/model.ts";
import { addressSet } from "../address-set.ts";
import type { RouteTableRuntime } from "../compile.ts";
import type { ProxyRuntime } from "../runtime.ts";
import { ServedTcp } from "../tcp/served.ts";
import { Shares } from "../tcp/shares.ts";
import { misdirection } from "./misdirected.ts";
import { type Accepting, listenPlain } from "./plain.ts";
import { type Chain, Reception, type TlsCounts } from "./reception.ts";
import { ServedChain } from "./serve.ts";
import type { LiveConnection, Served } from "./served.ts";
import { listenStream } from "./stream.ts";

/** A listener with what it names looked up. */
export interface ResolvedListener {
  readonly listener: Listener;
  readonly chains: readonly ResolvedChain[];
}

export interface ResolvedChain extends Pick<Chain, "when" | "termination"> {
  readonly serve:
    | { readonly table: RouteTableRuntime }
    | { readonly tcp: readonly WeightedBackend[]; readonly idleTimeout?: number };
}

interface OpenChain extends Chain {
  readonly key: string;
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
  readonly #open = new Map<ListenerName, Open>();
  /** Chains that no listener has any more, until their last connection is gone. */
  readonly #leaving = new Set<Served>();

  constructor(runtime: ProxyRuntime) {
    this.#runtime = runtime;
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

  /** The listener now in force on an address, other than `name`. */
  holder(address: string, port: number, name: ListenerName): Listener | undefined {
    for (const [held, { resolved }] of this.#open) {
      if (held !== name && resolved.listener.address === address && resolved.listener.port === port) {
        return resolved.listener;
      }
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
    open.accepting = await listen(listener, open.reception);
    if (before) this.remove(listener.name);
    this.#open.set(listener.name, open);
  }

  /** On the address that it has: its connections stay, also when other sockets must take the place of those it has. */
  async #change(open: Open, resolved: ResolvedListener): Promise<void> {
    const before = open.resolved.listener;
    if (socketKind(before) !== socketKind(resolved.listener)) {
      const accepting = await listen(resolved.listener, open.reception);
      open.accepting?.close();
      open.accepting = accepting;
    }
    open.resolved = resolved;
    this.#setChains(open, resolved);
  }

  #setChains(open: Open, { listener, chains }: ResolvedListener): void {
    const before = new Map(open.chains.map((chain) => [chain.key, chain.served]));
    const trusted = listener.trusted && addressSet(listener.trusted);
    const compared = listener.chains.map(({ when, serve, tls }) => ({
      when,
      alike: JSON.stringify(["routes" in serve ? serve.routes : serve.tcp, tls?.clients]),
    }));
    open.chains = chains.map(({ when, termination, serve }, index) => {
      const kind = "table" in serve ? "http" : "tcp";
      const key = `${kind} ${JSON.stringify(when)}`;
      let served = before.get(key);
      before.delete(key);
      if ("table" in serve) {
        const scheme = when.kind === "plain" ? "http" : "https";
        const chain = (served as ServedChain) ?? new ServedChain(this.#runtime, serve.table, listener.port, scheme);
        chain.table = serve.table;
        chain.trusted = trusted;
        chain.isMisdirected = misdirection(compared, compared[index]!);
        served = chain;
      } else {
        const chain = (served as ServedTcp) ?? new ServedTcp(this.#runtime, listener.name);
        chain.configure(new Shares(serve.tcp, this.#runtime.backends), serve.idleTimeout);
        served = chain;
      }
      return { key, when, termination, served };
    });
    open.reception.set(open.chains, listener.proxyProtocol === true);
    for (const served of before.values()) this.#leave(served);
  }

  remove(name: ListenerName): void {
    const open = this.#open.get(name);
    if (!open) return;
    this.#open.delete(name);
    open.accepting?.close();
    open.reception.close();
    for (const { served } of open.chains) this.#leave(served);
  }

  #leave(served: Served): void {
    for (const one of this.#leaving) if (one.size === 0) this.#leaving.delete(one);
    served.drain();
    if (served.size > 0) this.#leaving.add(served);
  }

  /** Stops accepting; connections go as they finish. */
  drain(): void {
    for (const name of [...this.#open.keys()]) this.remove(name);
  }

  /** Connections that are still there after a drain. */
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
  return a.address === b.address && a.port === b.port;
}

/** Sockets on which TLS can be ended cost more than others. */
function socketKind(listener: Listener): "plain" | "stream" {
  return listener.chains.some(({ tls }) => tls !== undefined) ? "stream" : "plain";
}

async function listen(listener: Listener, reception: Reception): Promise<Accepting> {
  const { address, port } = listener;
  return socketKind(listener) === "stream"
    ? await listenStream(address, port, reception)
    : listenPlain(address, port, reception);
}

// The sockets that a proxy listens on. A change opens and closes only what differs: a listener whose address and kind stay
// keeps its socket and, chain by chain, its connections; those of a chain that went are drained.

import type { Listener, ListenerName } from "../../model/model.ts";
import { addressSet } from "../address-set.ts";
import type { RouteTableRuntime } from "../compile.ts";
import type { ProxyRuntime } from "../runtime.ts";
import { type Accepting, listenPlain } from "./plain.ts";
import { type LiveConnection, ServedChain } from "./serve.ts";
import { type AcceptingTls, listenTls, type TlsChain, type TlsCounts } from "./tls.ts";

/** A listener with what it names looked up. */
export interface ResolvedListener {
  readonly listener: Listener;
  readonly chains: readonly {
    readonly when: TlsChain["when"];
    readonly certificates: TlsChain["certificates"];
    readonly alpn: TlsChain["alpn"];
    readonly table: RouteTableRuntime;
  }[];
}

interface Open {
  resolved: ResolvedListener;
  readonly tls: boolean;
  chains: (TlsChain & { readonly key: string })[];
  accepting: Accepting | AcceptingTls | undefined;
}

export class Listeners {
  readonly tlsCounts: TlsCounts = { handshakes: 0, failures: 0, unknownNames: 0 };
  readonly #runtime: ProxyRuntime;
  readonly #open = new Map<ListenerName, Open>();
  /** Chains that no listener has any more, until their last connection is gone. */
  readonly #leaving = new Set<ServedChain>();

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
    return this.#open.get(name)?.chains.reduce((sum, chain) => sum + chain.served.connections.size, 0) ?? 0;
  }

  /** Every connection of a client; those of chains that went have no listener any more. */
  *live(): Generator<LiveConnection> {
    for (const [name, { chains }] of this.#open) for (const { served } of chains) yield* served.live(name);
    for (const served of this.#leaving) yield* served.live("");
  }

  /** Whether a listener of this shape can take over the socket of the one in force. */
  static #sameSocket(a: Listener, b: Listener): boolean {
    return a.address === b.address && a.port === b.port && isTls(a) === isTls(b);
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
    if (before && Listeners.#sameSocket(before.resolved.listener, listener)) {
      before.resolved = resolved;
      this.#setChains(before, resolved);
      if (before.accepting && "refresh" in before.accepting) before.accepting.refresh();
      return;
    }
    const open: Open = { resolved, tls: isTls(listener), chains: [], accepting: undefined };
    this.#setChains(open, resolved);
    const sameAddress =
      before?.resolved.listener.address === listener.address && before.resolved.listener.port === listener.port;
    // Plain becomes TLS or the other way round on one address: the old socket must go first.
    if (before && sameAddress) this.remove(listener.name);
    open.accepting = open.tls
      ? await listenTls(listener.address, listener.port, () => open.chains, this.tlsCounts)
      : listenPlain(listener.address, listener.port, () => open.chains[0]!.served);
    if (before && !sameAddress) this.remove(listener.name);
    this.#open.set(listener.name, open);
  }

  #setChains(open: Open, { listener, chains }: ResolvedListener): void {
    const before = new Map(open.chains.map((chain) => [chain.key, chain.served]));
    const trusted = listener.trusted && addressSet(listener.trusted);
    open.chains = chains.map(({ when, certificates, alpn, table }) => {
      const key = JSON.stringify(when);
      const served =
        before.get(key) ??
        new ServedChain(this.#runtime, table, listener.port, when.kind === "plain" ? "http" : "https");
      before.delete(key);
      served.table = table;
      served.trusted = trusted;
      return { key, when, certificates, alpn, served };
    });
    for (const served of before.values()) this.#leave(served);
  }

  remove(name: ListenerName): void {
    const open = this.#open.get(name);
    if (!open) return;
    this.#open.delete(name);
    open.accepting?.close();
    for (const { served } of open.chains) this.#leave(served);
  }

  #leave(served: ServedChain): void {
    for (const one of this.#leaving) if (one.connections.size === 0) this.#leaving.delete(one);
    served.drain();
    if (served.connections.size > 0) this.#leaving.add(served);
  }

  /** Stops accepting; connections go as they finish. */
  drain(): void {
    for (const name of [...this.#open.keys()]) this.remove(name);
  }

  /** Connections that are still there after a drain. */
  get leaving(): number {
    let sum = 0;
    for (const served of this.#leaving) sum += served.connections.size;
    return sum;
  }

  /** Closes what a drain left. */
  terminate(): void {
    for (const served of this.#leaving) served.terminate();
  }
}

export function isTls(listener: Listener): boolean {
  return listener.chains.some(({ when }) => when.kind !== "plain");
}

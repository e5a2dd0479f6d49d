// The model on its way to the proxies: keeps each subscription's differences flowing, answers barriers (what a status waits
// for, docs/decisions/0002) and feeds back whether listeners are in force. No sockets here; see `proxy-server.ts`.

import { backoff } from "../base/backoff.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import type { Collection } from "../collections/collection.ts";
import type { Graph } from "../collections/graph.ts";
import { type Source, source } from "../collections/source.ts";
import { type ResourceType, resourceTypes } from "../model/model.ts";
import type { ListenerState } from "../model/status-update.ts";
import type { Composition, Rejection } from "../model/wire.ts";
import { type ResourceId, resourceId, splitId } from "./references.ts";
import { type ModelCollections, ResourceSets, type ScopeName } from "./resource-sets.ts";
import { type Delta, type SubscriptionOptions, SubscriptionState } from "./subscription.ts";

/** A proxy's side of the exchange, as an encoder sees it. */
export interface Subscription extends Disposable {
  /** The answer to the delta of `version`; the next one may follow from inside of this call. */
  acknowledge(version: number, rejected: readonly Rejection[]): void;
}

/** One line of `fairlead status`. */
export interface ProxyState {
  readonly proxy: string;
  readonly pid: number | undefined;
  readonly program: string | undefined;
  /** Its admin socket. */
  readonly admin: string | undefined;
  /** What it is a worker of. */
  readonly composition: Composition | undefined;
  /** By how many it listens on each port of TCP. */
  readonly sockets: number;
  readonly scopes: readonly ScopeName[];
  readonly connected: boolean;
  /** Since when it is connected, or not; milliseconds since the epoch. */
  readonly since: number;
  readonly versionSent: number;
  readonly versionApplied: number;
  readonly types: {
    readonly [T in ResourceType]: { readonly count: number; readonly state: "synced" | "stale" | "rejected" };
  };
  readonly rejected: readonly Rejection[];
}

export interface DistributionOptions {
  /** The collection that states of listeners are fed back into; see {@link listenerStateSource}. */
  readonly listenerStates: Source<ListenerState>;
  readonly clock?: Clock;
}

/**
 * Where states of listeners come back in. It is made before the dialects, which read it, and given to the distribution,
 * which is made after them and writes it.
 */
export function listenerStateSource(options: { graph?: Graph } = {}): Source<ListenerState> {
  return source<ListenerState>("listener states", options);
}

interface Subscriber {
  readonly state: SubscriptionState;
  readonly send: (delta: Delta) => void;
  readonly since: number;
  /** The epoch up to which the update that was sent last has everything, and the one up to which all was answered. */
  sent: number;
  answered: number;
  /** Refusals in a row; what was refused is tried again after a growing pause. */
  attempts: number;
  retry: Disposable | undefined;
}

interface Barrier {
  readonly ids: readonly ResourceId[];
  /** Changes after this one are not waited for, so that a resource which never rests does not block a status for ever. */
  readonly epoch: number;
  readonly resolve: () => void;
  /** Where it waits: for the answer of one proxy, or for a first proxy of a scope. Looked at again only when that comes. */
  behind: Subscriber | ScopeName | undefined;
}

/** Disconnected proxies that are remembered for `proxyStates`. */
const rememberedProxies = 100;

export class Distribution implements Disposable {
  readonly listenerStates: Collection<ListenerState>;
  readonly #listenerStates: Source<ListenerState>;
  readonly #resources: ModelCollections;
  readonly #clock: Clock;
  readonly #sets: ResourceSets;
  readonly #subscribers = new Set<Subscriber>();
  readonly #gone = new Map<string, ProxyState>();
  readonly #barriers = new Map<Subscriber | ScopeName, Set<Barrier>>();
  /** Counts the times that something changed in some scope. */
  #epoch = 0;

  constructor(resources: ModelCollections, options: DistributionOptions) {
    this.#resources = resources;
    this.#listenerStates = options.listenerStates;
    this.listenerStates = options.listenerStates;
    this.#clock = options.clock ?? systemClock;
    this.#sets = new ResourceSets(resources, (changed) => this.#changed(changed));
  }

  /**
   * Connects a proxy: `send` receives one delta at a time, the first from inside of this call when the proxy's `have`
   * differs from what it should have. Disposing disconnects it.
   */
  subscribe(options: SubscriptionOptions, send: (delta: Delta) => void): Subscription {
    this.#sets.flush();
    const subscriber: Subscriber = {
      state: new SubscriptionState(this.#sets, options),
      send,
      since: this.#clock.now(),
      sent: -1,
      answered: -1,
      attempts: 0,
      retry: undefined,
    };
    this.#subscribers.add(subscriber);
    this.#gone.delete(options.proxy);
    this.#pump(subscriber);
    this.#reviewScopes(subscriber.state.scopes);
    for (const scope of subscriber.state.scopes) this.#reviewBarriers(scope);
    return {
      acknowledge: (version, rejected) => this.#acknowledge(subscriber, version, rejected),
      dispose: () => this.#leave(subscriber),
    };
  }

  /**
   * Resolves when what is wanted now of these resources is in force at, or was refused by, every connected proxy of the
   * scopes that reach them; at once when it is so already, or when no scope reaches them and no proxy has them still. While
   * no proxy of such a scope is connected, it waits for one. With `signal` it can be given up; then it never settles.
   */
  barrier(
    resources: readonly { readonly type: ResourceType; readonly name: string }[],
    signal?: AbortSignal,
  ): Promise<void> {
    if (resources.length === 0) return Promise.resolve();
    const ids = resources.map((one) => resourceId(one.type, one.name));
    return new Promise((resolve) => {
      // In a microtask: by then every subscriber of the batch that made these wanted has been told, this room included.
      queueMicrotask(() => {
        if (signal?.aborted) return;
        this.#sets.flush();
        const barrier: Barrier = { ids, epoch: this.#epoch, resolve, behind: undefined };
        this.#settleOrWait(barrier);
        signal?.addEventListener("abort", () => {
          if (barrier.behind !== undefined) this.#barriers.get(barrier.behind)?.delete(barrier);
        });
      });
    });
  }

  /** Every proxy that is connected, and those that were lately; sorted by name. */
  proxyStates(): readonly ProxyState[] {
    const connected = [...this.#subscribers].map((one) => proxyState(one, true, one.since));
    return [...connected, ...this.#gone.values()].sort((a, b) => (a.proxy < b.proxy ? -1 : 1));
  }

  dispose(): void {
    for (const one of [...this.#subscribers]) this.#leave(one);
    this.#sets.dispose();
  }

  #changed(changed: ReadonlyMap<ScopeName, ReadonlySet<ResourceId>>): void {
    this.#epoch++;
    for (const subscriber of this.#subscribers) {
      for (const scope of subscriber.state.scopes) {
        const ids = changed.get(scope);
        if (ids) subscriber.state.touch(ids);
      }
      this.#pump(subscriber);
    }
    const listeners = new Set<string>();
    for (const [scope, ids] of changed) {
      for (const id of ids) {
        const { type, name } = splitId(id);
        if (type === "listeners") listeners.add(name);
      }
      // What a scope without proxies no longer reaches is not waited for there.
      if ([...listeners].some((name) => !this.#resources.listeners.has(name))) this.#reviewBarriers(scope);
    }
    this.#reviewListeners(listeners);
  }

  #pump(subscriber: Subscriber): void {
    const delta = subscriber.state.next();
    if (!delta) return;
    if (subscriber.state.complete) subscriber.sent = this.#epoch;
    subscriber.send(delta);
  }

  #acknowledge(subscriber: Subscriber, version: number, rejected: readonly Rejection[]): void {
    if (!this.#subscribers.has(subscriber)) return;
    const answered = subscriber.state.outstanding;
    if (!subscriber.state.acknowledge(version, rejected)) return;
    subscriber.answered = subscriber.sent;
    this.#pump(subscriber);
    this.#planRetry(subscriber);
    const told = [...answered].map(splitId).filter((one) => one.type === "listeners");
    const refused = rejected.filter((one) => one.resource === "listeners");
    this.#reviewListeners(new Set([...told, ...refused].map((one) => one.name)));
    this.#reviewBarriers(subscriber);
  }

  #planRetry(subscriber: Subscriber): void {
    subscriber.retry?.dispose();
    subscriber.retry = undefined;
    if (subscriber.state.rejected.length === 0) {
      subscriber.attempts = 0;
      return;
    }
    subscriber.retry = this.#clock.after(backoff(subscriber.attempts++, { initial: 1000, max: 60_000 }), () => {
      subscriber.state.retry();
      this.#pump(subscriber);
    });
  }

  #leave(subscriber: Subscriber): void {
    if (!this.#subscribers.delete(subscriber)) return;
    subscriber.retry?.dispose();
    const { proxy } = subscriber.state;
    if (![...this.#subscribers].some((one) => one.state.proxy === proxy)) {
      this.#gone.set(proxy, proxyState(subscriber, false, this.#clock.now()));
      const oldest = this.#gone.keys().next();
      if (this.#gone.size > rememberedProxies && !oldest.done) this.#gone.delete(oldest.value);
    }
    this.#reviewScopes(subscriber.state.scopes);
    this.#reviewBarriers(subscriber);
  }

  #reviewScopes(scopes: readonly ScopeName[]): void {
    const listeners = new Set<string>();
    for (const [name, listener] of this.#resources.listeners.entries()) {
      if (scopes.includes(listener.scope)) listeners.add(name);
    }
    this.#reviewListeners(listeners);
  }

  /** The connected proxies that a resource concerns: those of its scopes, or, when no scope reaches it, all (to lose it). */
  #concerned(id: ResourceId): { scopes: readonly ScopeName[]; subscribers: readonly Subscriber[] } {
    const { type } = splitId(id);
    const takers = [...this.#subscribers].filter((one) => one.state.types.includes(type));
    const scopes = this.#sets.scopesOf(id);
    if (scopes.length === 0) return { scopes, subscribers: takers };
    return { scopes, subscribers: takers.filter((one) => scopes.some((scope) => one.state.scopes.includes(scope))) };
  }

  /** What keeps a barrier from settling; undefined when nothing does. */
  #blocker({ ids, epoch }: Barrier): Subscriber | ScopeName | undefined {
    for (const id of ids) {
      const { scopes, subscribers } = this.#concerned(id);
      const empty = scopes.find((scope) => !subscribers.some((one) => one.state.scopes.includes(scope)));
      if (empty !== undefined) return empty;
      const slow = subscribers.find((one) => one.answered < epoch && one.state.standing(id) === "waiting");
      if (slow) return slow;
    }
    return undefined;
  }

  #settleOrWait(barrier: Barrier): void {
    const behind = this.#blocker(barrier);
    barrier.behind = behind;
    if (behind === undefined) {
      barrier.resolve();
      return;
    }
    const others = this.#barriers.get(behind);
    if (others) others.add(barrier);
    else this.#barriers.set(behind, new Set([barrier]));
  }

  /** Looks again at the barriers that waited for this. */
  #reviewBarriers(behind: Subscriber | ScopeName): void {
    const barriers = this.#barriers.get(behind);
    this.#barriers.delete(behind);
    for (const one of barriers ?? []) this.#settleOrWait(one);
  }

  /**
   * A listener's state changes when its proxies have answered; while an answer is awaited, or none is connected, the last
   * state stays, so that a change of a listener or a restart of its proxy does not show as a failure.
   */
  #reviewListeners(names: ReadonlySet<string>): void {
    if (names.size === 0) return;
    this.#listenerStates.batch(() => {
      for (const name of names) {
        if (!this.#resources.listeners.has(name)) {
          this.#listenerStates.delete(name);
          continue;
        }
        const id = resourceId("listeners", name);
        const { subscribers } = this.#concerned(id);
        const refusing = subscribers.find((one) => one.state.standing(id) === "rejected");
        if (refusing) {
          const message = refusing.state.rejectionOf(id)?.reason ?? "";
          this.#listenerStates.set(name, { listener: name, state: "rejected", message });
        } else if (subscribers.length > 0 && subscribers.every((one) => one.state.standing(id) === "applied")) {
          this.#listenerStates.set(name, { listener: name, state: "applied", message: "" });
        }
      }
    });
  }
}

function proxyState(subscriber: Subscriber, connected: boolean, since: number): ProxyState {
  const { state } = subscriber;
  const types = Object.fromEntries(resourceTypes.map((type) => [type, state.summary(type)])) as ProxyState["types"];
  return {
    proxy: state.proxy,
    pid: state.pid,
    program: state.program,
    admin: state.admin,
    composition: state.composition,
    sockets: state.sockets,
    scopes: state.scopes,
    connected,
    since,
    versionSent: state.versionSent,
    versionApplied: state.versionApplied,
    types,
    rejected: state.rejected,
  };
}

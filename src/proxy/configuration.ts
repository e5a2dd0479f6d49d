// How an update becomes part of what is in force: it is prepared beside what is live, in slices between which requests are
// served (`preparation.ts`; bad resources are rejected alone, and the one before stays), then references are swapped in one step and
// listeners that differ are opened or closed. Updates are applied one after the other.

import { messageOf } from "../base/errors.ts";
import { inSlices } from "../base/steps.ts";
import { filterReferences, filtersOf } from "../model/filter-references.ts";
import {
  type Backend,
  type Listener,
  type ResourceOf,
  type ResourceType,
  resourceTypes,
  type TlsContext,
} from "../model/model.ts";
import type { FromProxy, Rejection, Update } from "../model/wire.ts";
import { RouteCompiler, type RouteTableRuntime } from "./compile.ts";
import { emptyTables, haveOf, shownOf, storedOf, type Tables } from "./in-force.ts";
import { listenProblem } from "./listener/listen-problem.ts";
import type { Listeners, ResolvedChain, ResolvedListener } from "./listener/listeners.ts";
import { PeerChecks } from "./listener/peer-checks.ts";
import type { Termination } from "./listener/termination.ts";
import { loadAuthorities } from "./listener/tls-context.ts";
import { TlsContexts } from "./listener/tls-contexts.ts";
import { type Beside, type Prepared, prepare, tlsClientOf } from "./preparation.ts";
import type { ProxyRuntime } from "./runtime.ts";

type Have = Extract<FromProxy, { type: "hello" }>["have"];
type Change = Pick<Update, "version" | "upsert" | "patch" | "rules" | "remove">;

export class Configuration {
  readonly #runtime: ProxyRuntime;
  readonly #listeners: Listeners;
  readonly #beside: Beside;
  readonly #inForce = emptyTables();
  readonly #contexts = new TlsContexts();
  readonly #tables = new Map<string, RouteTableRuntime>();
  /** The update that brought a route table, by its name. */
  readonly #broughtBy = new Map<string, number>();
  #last: Promise<unknown> = Promise.resolve();
  readonly #ending = new AbortController();
  /** The version of the last update from the control process. */
  version = 0;
  rejections = 0;

  constructor(runtime: ProxyRuntime, listeners: Listeners, scopes: readonly string[]) {
    this.#runtime = runtime;
    this.#listeners = listeners;
    this.#beside = {
      compiler: new RouteCompiler(runtime.backends, runtime.metrics, runtime.filters),
      contexts: this.#contexts,
      scopes: new Set(scopes),
      backends: runtime.backends,
      inForce: this.#inForce,
      router: (table) => this.#tables.get(table)?.router,
    };
  }

  /**
   * Applies an update behind those before it; what was refused is in the answer. Rejects when a patch refers to what is not in
   * force: the two ends must begin anew. After {@link end} nothing is applied any more, and nothing is refused.
   */
  apply(update: Change): Promise<readonly Rejection[]> {
    return this.#behind(async () => {
      if (this.#ending.signal.aborted) return [];
      for (const { name, base } of update.patch ?? []) {
        if (base !== undefined && this.#broughtBy.get(name) !== base)
          throw new Error(`route table ${name} of update ${base} is not in force`);
      }
      try {
        return await this.#swap(update, await inSlices(prepare(update, this.#beside), this.#ending.signal));
      } catch (error) {
        if (this.#ending.signal.aborted) return [];
        throw error;
      }
    });
  }

  /** Fingerprints of what is in force, once all updates so far are applied, for a new connection: patches refer to those of one. */
  connected(): Promise<Have> {
    return this.#behind(() => {
      this.#broughtBy.clear();
      return inSlices(haveOf(this.#inForce));
    });
  }

  /** What is in force stays: an update that is being prepared is given up, one that is being swapped in is waited for. */
  async end(): Promise<void> {
    this.#ending.abort();
    await this.#last;
  }

  #behind<T>(run: () => Promise<T>): Promise<T> {
    const done = this.#last.then(run);
    this.#last = done.catch(() => {});
    return done;
  }

  async #swap(
    { version, remove }: Change,
    { good, routers, tls, pools, rejected }: Prepared,
  ): Promise<readonly Rejection[]> {
    // Swap, in one step. What is named comes before what names it; removals come last.
    for (const [name, secret] of good.secrets) {
      this.#set("secrets", name, secret);
      this.#runtime.filters.users.configure(name, secret);
    }
    for (const [name, backend] of good.backends) {
      this.#set("backends", name, backend);
      this.#runtime.backends.get(name).configure(backend, tls.get(name));
    }
    this.#renewTls(good);
    for (const [name, endpoints] of good.endpoints) this.#set("endpoints", name, endpoints);
    for (const [name, ready] of pools) this.#runtime.backends.get(name).setEndpoints(ready);
    for (const [name, table] of good.routeTables) {
      this.#set("routeTables", name, table);
      this.#broughtBy.set(name, version);
      this.#table(name).router = routers.get(name);
    }

    // Listeners: those that go first, for their addresses; then the new and changed ones, and those whose certificates changed.
    for (const name of remove.listeners ?? []) {
      this.#listeners.remove(name);
      this.#unset("listeners", name);
    }
    const renewed = [...this.#inForce.listeners.values()].filter(
      (listener) => !good.listeners.has(listener.name) && namesOf(listener).some((name) => good.secrets.has(name)),
    );
    for (const listener of [...good.listeners.values(), ...renewed]) {
      try {
        await this.#listeners.put(this.#resolve(listener));
        this.#set("listeners", listener.name, listener);
      } catch (error) {
        const { name, from } = listener;
        rejected.push({ resource: "listeners", name, reason: listenProblem(error, listener), from });
        if (!this.#listeners.has(listener.name)) this.#unset("listeners", listener.name);
      }
    }

    for (const name of remove.routeTables ?? []) {
      this.#unset("routeTables", name);
      this.#broughtBy.delete(name);
      this.#table(name).router = undefined;
    }
    this.#forgetTables();
    for (const name of remove.endpoints ?? []) {
      this.#unset("endpoints", name);
      this.#runtime.backends.get(name).forgetEndpoints();
    }
    for (const name of remove.backends ?? []) {
      this.#unset("backends", name);
      this.#runtime.backends.get(name).configure(undefined);
    }
    for (const name of remove.secrets ?? []) {
      this.#unset("secrets", name);
      this.#runtime.filters.users.configure(name, undefined);
    }
    this.#contexts.forget(this.#inForce.secrets, this.#inForce.listeners.values());
    this.#runtime.backends.settled(() => this.#referredBackends());
    this.rejections += rejected.length;
    return rejected;
  }

  /** Backends whose secrets have changed make new connections with them. */
  #renewTls({ secrets, backends }: Tables): void {
    if (secrets.size === 0) return;
    for (const [name, backend] of this.#inForce.backends) {
      if (backends.has(name) || !secretsOf(backend).some((secret) => secrets.has(secret))) continue;
      try {
        this.#runtime.backends.get(name).tls = tlsClientOf(backend, this.#inForce.secrets);
      } catch (error) {
        this.#runtime.log.warn("what a backend's TLS had before stays", { backend: name, reason: messageOf(error) });
      }
    }
  }

  /** Looks up what a listener names. Throws an Error when a certificate is missing or does not fit. */
  #resolve(listener: Listener): ResolvedListener {
    const holder = this.#listeners.holder(listener);
    if (holder) throw new Error(`${listener.address}:${listener.port} is in use by listener ${holder.name}`);
    return {
      listener,
      chains: listener.chains.map(({ when, tls, serve }): ResolvedChain => {
        const termination = tls && this.#termination(tls, "tcp" in serve);
        if ("routes" in serve) return { when, termination, serve: { table: this.#table(serve.routes) } };
        return { when, termination, serve };
      }),
    };
  }

  #termination(tls: TlsContext, opaque: boolean): Termination {
    const known = (what: string, name: string) => {
      const secret = this.#inForce.secrets.get(name);
      if (!secret) throw new Error(`its ${what} ${name} is not known`);
      return secret;
    };
    const { alpn, clients } = tls;
    const authorities = clients?.authorities === undefined ? undefined : known("authorities", clients.authorities);
    const certificates = tls.certificates.map((name) =>
      this.#contexts.get(known("certificate", name), tls, authorities),
    );
    const roots = clients?.maxIntermediates === undefined ? [] : loadAuthorities(authorities!);
    const checks = clients && new PeerChecks(clients, roots, authorities);
    return { certificates, alpn, clients, checks, opaque };
  }

  /** The table of a name, known or not yet. */
  #table(name: string): RouteTableRuntime {
    let table = this.#tables.get(name);
    if (!table) {
      table = { name, router: undefined };
      this.#tables.set(name, table);
    }
    return table;
  }

  /** Lets go of tables that are neither known nor named by a listener. */
  #forgetTables(): void {
    const named = new Set(
      [...this.#inForce.listeners.values()].flatMap(({ chains }) =>
        chains.map(({ serve }) => ("routes" in serve ? serve.routes : "")),
      ),
    );
    for (const [name, table] of this.#tables) {
      if (table.router === undefined && !named.has(name)) this.#tables.delete(name);
    }
  }

  #referredBackends(): ReadonlySet<string> {
    const names = new Set<string>();
    for (const table of this.#inForce.routeTables.values()) {
      for (const filter of filtersOf(table)) for (const { name } of filterReferences(filter).backends) names.add(name);
      for (const { action } of table.hosts.flatMap(({ rules }) => rules)) {
        if (action.kind !== "forward") continue;
        for (const { target } of action.to) if ("backend" in target) names.add(target.backend);
      }
    }
    for (const { serve } of [...this.#inForce.listeners.values()].flatMap(({ chains }) => chains)) {
      if ("routes" in serve) continue;
      for (const { target } of serve.tcp) if ("backend" in target) names.add(target.backend);
    }
    return names;
  }

  #set<T extends ResourceType>(type: T, name: string, resource: ResourceOf[T]): void {
    (this.#inForce[type] as Map<string, ResourceOf[T]>).set(name, resource);
  }

  #unset(type: ResourceType, name: string): void {
    this.#inForce[type].delete(name);
  }

  /** What is in force of one type, by name. */
  inForce<T extends ResourceType>(type: T): ReadonlyMap<string, ResourceOf[T]> {
    return this.#inForce[type];
  }

  /** What is in force of a type, for people: a list as JSON in pieces, with secrets redacted. */
  shown(type: ResourceType): Iterable<string> {
    return shownOf(this.#inForce, type);
  }

  /** What is in force now as JSON, in pieces, for the state file. Private keys are in clear. */
  stored(): Iterable<string> {
    return storedOf(this.#inForce);
  }

  counts(): Record<ResourceType, number> {
    return Object.fromEntries(resourceTypes.map((type) => [type, this.#inForce[type].size])) as Record<
      ResourceType,
      number
    >;
  }
}

function secretsOf({ tls }: Backend): string[] {
  return [tls?.authorities, tls?.certificate].filter((name) => name !== undefined);
}

function namesOf(listener: Listener): string[] {
  return listener.chains.flatMap(({ tls }) => [
    ...(tls?.certificates ?? []),
    ...(tls?.clients?.authorities === undefined ? [] : [tls.clients.authorities]),
  ]);
}

// The configuration in force, and how an update becomes part of it: every resource is checked and compiled on its own beside
// what is live, bad ones are rejected alone (the one before stays), then references are swapped in one step and listeners
// that differ are opened or closed. Updates are applied one after the other.

import { messageOf } from "../base/errors.ts";
import { filterReferences, filtersOf } from "../model/filter-references.ts";
import { fingerprint } from "../model/fingerprint.ts";
import {
  type Backend,
  type Listener,
  type ResourceOf,
  type ResourceType,
  resourceName,
  resourceTypes,
  type Secret,
  type TlsContext,
} from "../model/model.ts";
import { resourceText } from "../model/resource-text.ts";
import { patchedRouteTable, type RouteTablePatch } from "../model/route-table-patch.ts";
import { validateResource } from "../model/validate.ts";
import type { FromProxy, Rejection, ToProxy, WireResource } from "../model/wire.ts";
import { fromWire } from "../model/wire-codec.ts";
import { RouteCompiler, type RouteTableRuntime } from "./compile.ts";
import type { Listeners, ResolvedChain, ResolvedListener } from "./listener/listeners.ts";
import type { Termination } from "./listener/termination.ts";
import { loadAuthorities } from "./listener/tls-context.ts";
import { TlsContexts } from "./listener/tls-contexts.ts";
import type { ProxyRuntime } from "./runtime.ts";
import { unsupportedBackend, unsupportedTable } from "./unsupported.ts";
import { TlsClient } from "./upstream/tls.ts";

type Update = Extract<ToProxy, { type: "update" }>;
type Have = Extract<FromProxy, { type: "hello" }>["have"];
type Tables = { readonly [T in ResourceType]: Map<string, ResourceOf[T]> };

/** What travels and what is kept on disk: everything, by type. Holds private keys in clear. */
export type StoredConfiguration = Required<Update["upsert"]>;

export class Configuration {
  readonly #runtime: ProxyRuntime;
  readonly #compiler: RouteCompiler;
  readonly #listeners: Listeners;
  readonly #scopes: ReadonlySet<string>;
  readonly #inForce: Tables = {
    secrets: new Map(),
    backends: new Map(),
    endpoints: new Map(),
    routeTables: new Map(),
    listeners: new Map(),
  };
  readonly #contexts = new TlsContexts();
  readonly #tables = new Map<string, RouteTableRuntime>();
  /** The update that brought a route table, by its name. */
  readonly #broughtBy = new Map<string, number>();
  #last: Promise<unknown> = Promise.resolve();
  /** The version of the last update from the control process. */
  version = 0;
  rejections = 0;

  constructor(runtime: ProxyRuntime, listeners: Listeners, scopes: readonly string[]) {
    this.#runtime = runtime;
    this.#compiler = new RouteCompiler(runtime.backends, runtime.metrics, runtime.filters);
    this.#listeners = listeners;
    this.#scopes = new Set(scopes);
  }

  /** Applies an update behind those before it. Never rejects; what was refused is in the answer. */
  apply(update: Pick<Update, "version" | "upsert" | "remove" | "patch">): Promise<readonly Rejection[]> {
    const upsert = {
      ...update.upsert,
      routeTables: [...(update.upsert.routeTables ?? []), ...this.#patched(update.patch ?? [])],
    };
    const done = this.#last.then(() => this.#apply(upsert, update.remove, update.version));
    this.#last = done;
    return done;
  }

  /** A new connection counts its updates anew; patches refer to those of one connection. */
  connected(): void {
    this.#broughtBy.clear();
  }

  /** Throws when a patch refers to what this connection has not brought: the two ends must begin anew. */
  #patched(patches: readonly RouteTablePatch[]): WireResource[] {
    return patches.map((patch) => {
      const base = this.#inForce.routeTables.get(patch.name);
      if (base && this.#broughtBy.get(patch.name) === patch.base)
        return patchedRouteTable(base, patch) as unknown as WireResource;
      throw new Error(`route table ${patch.name} of update ${patch.base} is not in force`);
    });
  }

  async #apply(upsert: Update["upsert"], remove: Update["remove"], version: number): Promise<readonly Rejection[]> {
    const rejected: Rejection[] = [];
    const refuse = <T extends ResourceType>(type: T, name: string, reason: string, from?: ResourceOf[T]["from"]) =>
      rejected.push({ resource: type, name, reason, ...(from ? { from } : {}) });

    // Check and compile, beside what is live. Between the steps requests have their turn.
    await otherTurn();
    const good = this.#check(upsert, refuse);
    const routers = new Map<string, RouteTableRuntime["router"]>();
    for (const [name, table] of good.routeTables) {
      await otherTurn();
      try {
        routers.set(name, this.#compiler.compile(table));
      } catch (error) {
        good.routeTables.delete(name);
        refuse("routeTables", name, messageOf(error), table.from);
      }
    }

    if (routers.size > 0) await otherTurn();

    // Swap, in one step. What is named comes before what names it; removals come last.
    for (const [name, secret] of good.secrets) {
      this.#set("secrets", name, secret);
      this.#runtime.filters.users.configure(name, secret);
    }
    for (const [name, backend] of good.backends) {
      this.#set("backends", name, backend);
      this.#runtime.backends.get(name).configure(backend, this.#tlsClient(backend, good.secrets));
    }
    this.#renewTls(good);
    for (const [name, endpoints] of good.endpoints) {
      this.#set("endpoints", name, endpoints);
      this.#runtime.backends.get(name).setEndpoints(endpoints);
    }
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
        refuse("listeners", listener.name, listenProblem(error, listener), listener.from);
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
      this.#runtime.backends.get(name).setEndpoints(undefined);
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
    this.#runtime.backends.prune(() => this.#referredBackends());
    this.rejections += rejected.length;
    return rejected;
  }

  #check(
    upsert: Update["upsert"],
    refuse: <T extends ResourceType>(type: T, name: string, reason: string, from?: ResourceOf[T]["from"]) => void,
  ): Tables {
    const good: Tables = {
      secrets: new Map(),
      backends: new Map(),
      endpoints: new Map(),
      routeTables: new Map(),
      listeners: new Map(),
    };
    const each = <T extends ResourceType>(type: T, more: (resource: ResourceOf[T]) => string | undefined) => {
      for (const wire of upsert[type] ?? []) {
        let name = typeof wire?.["name"] === "string" ? wire["name"] : String(wire?.["backend"] ?? "");
        try {
          const resource = fromWire(type, wire);
          name = resourceName(type, resource);
          const problem = validateResource(type, resource)[0];
          const reason = problem ? `${problem.field} ${problem.message}` : more(resource);
          if (reason === undefined) (good[type] as Map<string, ResourceOf[T]>).set(name, resource);
          else refuse(type, name, reason, problem?.from ?? resource.from);
        } catch (error) {
          refuse(type, name, `is not well formed: ${messageOf(error)}`);
        }
      }
    };
    each("secrets", (secret) => this.#secretProblem(secret));
    each("backends", (backend) => this.#backendProblem(backend, good.secrets));
    each("endpoints", () => undefined);
    each("routeTables", unsupportedTable);
    each("listeners", (listener) => this.#listenerProblem(listener));
    return good;
  }

  #secretProblem(secret: Secret): string | undefined {
    try {
      if (secret.content.kind === "certificate") this.#contexts.get(secret, { certificates: [], alpn: [] }, undefined);
      if (secret.content.kind === "authorities") loadAuthorities(secret);
      return undefined;
    } catch (error) {
      return messageOf(error);
    }
  }

  #backendProblem(backend: Backend, secrets: ReadonlyMap<string, Secret>): string | undefined {
    const unsupported = unsupportedBackend(backend);
    if (unsupported) return unsupported;
    try {
      this.#tlsClient(backend, secrets);
      return undefined;
    } catch (error) {
      return `tls: ${messageOf(error)}`;
    }
  }

  /** Of a backend that asks for TLS, with secrets of the update before those in force. Throws an Error when they do not fit. */
  #tlsClient({ tls, protocol }: Backend, secrets: ReadonlyMap<string, Secret>): TlsClient | undefined {
    if (!tls) return undefined;
    return new TlsClient(tls, protocol, (name, holds) => {
      const secret = secrets.get(name) ?? this.#inForce.secrets.get(name);
      if (!secret) throw new Error(`its ${holds} ${name} ${holds === "authorities" ? "are" : "is"} not known`);
      return secret;
    });
  }

  /** Backends whose secrets have changed make new connections with them. */
  #renewTls({ secrets, backends }: Tables): void {
    for (const [name, backend] of this.#inForce.backends) {
      if (backends.has(name) || !secretsOf(backend).some((secret) => secrets.has(secret))) continue;
      try {
        this.#runtime.backends.get(name).tls = this.#tlsClient(backend, secrets);
      } catch (error) {
        this.#runtime.log.warn("what a backend's TLS had before stays", { backend: name, reason: messageOf(error) });
      }
    }
  }

  #listenerProblem(listener: Listener): string | undefined {
    return this.#scopes.has(listener.scope)
      ? undefined
      : `has scope ${listener.scope}, which this proxy does not serve`;
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
    const authorities = clients && known("authorities", clients.authorities);
    const certificates = tls.certificates.map((name) =>
      this.#contexts.get(known("certificate", name), tls, authorities),
    );
    return { certificates, alpn, clients, opaque };
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

  /** Fingerprints of what is in force. */
  have(): Have {
    return Object.fromEntries(
      resourceTypes.map((type) => [
        type,
        Object.fromEntries([...this.#inForce[type]].map(([name, resource]) => [name, fingerprint(type, resource)])),
      ]),
    );
  }

  /** What is in force, for people: secrets redacted. */
  shown(): Record<string, readonly { name: string; fingerprint: string; resource: unknown }[]> {
    return Object.fromEntries(
      resourceTypes.map((type) => [
        type,
        [...this.#inForce[type]].map(([name, resource]) => ({
          name,
          fingerprint: fingerprint(type, resource),
          resource,
        })),
      ]),
    );
  }

  /** What is in force as the JSON of a {@link StoredConfiguration}, for the state file. Private keys are in clear. */
  stored(): string {
    const text = <T extends ResourceType>(type: T) => {
      const resources = [...(this.#inForce[type] as Map<string, ResourceOf[T]>).values()];
      return `"${type}":[${resources.map((resource) => resourceText(type, resource)).join()}]`;
    };
    return `{${resourceTypes.map(text).join()}}`;
  }

  counts(): Record<ResourceType, number> {
    return Object.fromEntries(resourceTypes.map((type) => [type, this.#inForce[type].size])) as Record<
      ResourceType,
      number
    >;
  }
}

function otherTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function secretsOf({ tls }: Backend): string[] {
  return [tls?.authorities, tls?.certificate].filter((name) => name !== undefined);
}

function namesOf(listener: Listener): string[] {
  return listener.chains.flatMap(({ tls }) => [
    ...(tls?.certificates ?? []),
    ...(tls?.clients ? [tls.clients.authorities] : []),
  ]);
}

function listenProblem(error: unknown, listener: Listener): string {
  const code = (error as { code?: string }).code;
  const where = `${listener.address}:${listener.port}`;
  if (code === "EADDRINUSE") return `${where} is in use by another process`;
  if (code === "EADDRNOTAVAIL") return `${listener.address} is no address of this machine`;
  if (code === "ENOENT" && listener.namespace !== undefined)
    return `network namespace ${listener.namespace} does not exist`;
  if (code === "EACCES") return `${where} may not be opened by this user (ports below 1024 need privileges)`;
  return messageOf(error);
}

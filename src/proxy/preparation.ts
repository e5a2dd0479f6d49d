// An update checked and compiled beside what is live, in steps, so that requests have their turn in between. Every resource is
// taken or refused on its own; nothing that is in force changes here (`configuration.ts` swaps).

import { messageOf } from "../base/errors.ts";
import type { Steps } from "../base/steps.ts";
import {
  type Backend,
  type ResourceOf,
  type ResourceType,
  type RouteTable,
  type Rule,
  resourceName,
  type Secret,
} from "../model/model.ts";
import { patchedRouteTable } from "../model/route-table-patch.ts";
import { validation } from "../model/validate.ts";
import type { Rejection, Update, WireResource } from "../model/wire.ts";
import { fromWire } from "../model/wire-codec.ts";
import { type CompiledTable, type RouteCompiler, RuleProblem } from "./compile.ts";
import { emptyTables, type Tables } from "./in-force.ts";
import { loadAuthorities } from "./listener/tls-context.ts";
import type { TlsContexts } from "./listener/tls-contexts.ts";
import { unsupportedBackend } from "./unsupported.ts";
import type { Backends } from "./upstream/backends.ts";
import type { ReadyEndpoints } from "./upstream/ready-endpoints.ts";
import { TlsClient } from "./upstream/tls.ts";

/** What an update brings, without what it takes away. */
export type Brought = Pick<Update, "upsert" | "patch" | "rules">;

export interface Prepared {
  /** Resources that can be taken. */
  readonly good: Tables;
  /** The compiled form of each route table among them. */
  readonly routers: ReadonlyMap<string, CompiledTable>;
  /** What each backend among them connects with; undefined: without TLS. */
  readonly tls: ReadonlyMap<string, TlsClient | undefined>;
  /** What runs the endpoints of each backend among them. */
  readonly pools: ReadonlyMap<string, ReadyEndpoints>;
  readonly rejected: Rejection[];
}

export interface Beside {
  readonly compiler: RouteCompiler;
  readonly contexts: TlsContexts;
  readonly scopes: ReadonlySet<string>;
  readonly backends: Backends;
  readonly inForce: Tables;
  /** The compiled form that is in force. */
  readonly router: (table: string) => CompiledTable | undefined;
}

/** Checks and compiles in steps. Throws a RangeError when a patch refers to rules that are not there. */
export function* prepare(update: Brought, beside: Beside): Steps<Prepared> {
  const tls = new Map<string, TlsClient | undefined>();
  const routers = new Map<string, CompiledTable>();
  const pools = new Map<string, ReadyEndpoints>();
  const prepared = { good: emptyTables(), routers, tls, pools, rejected: [] as Rejection[] };
  const { good, rejected } = prepared;
  yield* each("secrets", (secret) => secretProblem(secret, beside.contexts));
  yield* each("backends", (backend) => {
    const client = tlsClientFor(backend, good.secrets, beside.inForce.secrets);
    if (typeof client === "string") return client;
    tls.set(backend.name, client);
    return undefined;
  });
  yield* each("endpoints", () => undefined);
  yield* each("routeTables", () => undefined);
  for (const patch of update.patch ?? []) {
    const base = patch.base === undefined ? undefined : beside.inForce.routeTables.get(patch.name);
    yield* one("routeTables", patchedRouteTable(base, patch, update.rules ?? []) as unknown as WireResource);
  }
  yield* each("listeners", ({ scope }) =>
    beside.scopes.has(scope) ? undefined : `has scope ${scope}, which this proxy does not serve`,
  );
  for (const table of good.routeTables.values()) yield* compile(table);
  for (const [name, endpoints] of good.endpoints) pools.set(name, yield* beside.backends.get(name).readied(endpoints));
  return prepared;

  function* each<T extends ResourceType>(
    type: T,
    more: (resource: ResourceOf[T]) => string | undefined,
  ): Steps<undefined> {
    for (const wire of update.upsert[type] ?? []) yield* one(type, wire, more);
  }

  function* one<T extends ResourceType>(
    type: T,
    wire: WireResource,
    more?: (resource: ResourceOf[T]) => string | undefined,
  ): Steps<undefined> {
    yield;
    let name = typeof wire?.["name"] === "string" ? wire["name"] : String(wire?.["backend"] ?? "");
    try {
      const resource = fromWire(type, wire);
      name = resourceName(type, resource);
      const problem = (yield* validation(type, resource))[0];
      const reason = problem ? `${problem.field} ${problem.message}` : more?.(resource);
      if (reason === undefined) (good[type] as Map<string, ResourceOf[T]>).set(name, resource);
      else refuse(type, name, reason, problem?.from ?? resource.from);
    } catch (error) {
      refuse(type, name, `is not well formed: ${messageOf(error)}`);
    }
  }

  function* compile(table: RouteTable): Steps<undefined> {
    try {
      routers.set(table.name, yield* beside.compiler.compile(table, beside.router(table.name)));
    } catch (error) {
      good.routeTables.delete(table.name);
      refuse("routeTables", table.name, messageOf(error), error instanceof RuleProblem ? error.from : table.from);
    }
  }

  function refuse(resource: ResourceType, name: string, reason: string, from?: Rule["from"]): void {
    rejected.push({ resource, name, reason, ...(from ? { from } : {}) });
  }
}

function secretProblem(secret: Secret, contexts: TlsContexts): string | undefined {
  try {
    if (secret.content.kind === "certificate") contexts.get(secret, { certificates: [], alpn: [] }, undefined);
    if (secret.content.kind === "authorities") loadAuthorities(secret);
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

/** Or, as a text, why the backend cannot be taken. */
function tlsClientFor(
  backend: Backend,
  ...secrets: readonly ReadonlyMap<string, Secret>[]
): TlsClient | string | undefined {
  const unsupported = unsupportedBackend(backend);
  if (unsupported) return unsupported;
  try {
    return tlsClientOf(backend, ...secrets);
  } catch (error) {
    return `tls: ${messageOf(error)}`;
  }
}

/** Of a backend that asks for TLS, with the first of these secrets. Throws an Error when they do not fit. */
export function tlsClientOf(
  { tls, protocol, useClientProtocol }: Backend,
  ...secrets: readonly ReadonlyMap<string, Secret>[]
): TlsClient | undefined {
  if (!tls) return undefined;
  const secretOf = (name: string, holds: "authorities" | "certificate") => {
    const secret = secrets.find((some) => some.has(name))?.get(name);
    if (!secret) throw new Error(`its ${holds} ${name} ${holds === "authorities" ? "are" : "is"} not known`);
    return secret;
  };
  return new TlsClient(tls, protocol, secretOf, useClientProtocol);
}

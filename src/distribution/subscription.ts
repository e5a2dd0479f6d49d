// The state machine between what a proxy should have and what it has: differences gather, at most one update is on its way,
// and its answer says what is in force and what was refused. Delta semantics as xDS's (incremental ADS); it knows no wire:
// the local protocol (`proxy-server.ts`) encodes these deltas, and xDS will, too.

import { fingerprint } from "../model/fingerprint.ts";
import {
  type ResourceOf,
  type ResourceType,
  type RouteTable,
  type RouteTableName,
  resourceTypes,
} from "../model/model.ts";
import { resourceSize } from "../model/resource-text.ts";
import type { Composition, Rejection } from "../model/wire.ts";
import { type ResourceId, resourceId, splitId } from "./references.ts";
import type { ResourceSets, ScopeName } from "./resource-sets.ts";

/** What an update changes; to be applied as one step, upserts in the order of `resourceTypes`, removals last. */
export interface Delta {
  /** Grows by one an update of this subscription; the first is 1. */
  readonly version: number;
  readonly upsert: { readonly [T in ResourceType]?: readonly ResourceOf[T][] };
  readonly remove: { readonly [T in ResourceType]?: readonly string[] };
  /** Of upserted route tables: what the proxy has in force under the name, and which update brought it. */
  readonly bases?: ReadonlyMap<RouteTableName, RouteTableBase>;
}

export interface RouteTableBase {
  readonly table: RouteTable;
  readonly version: number;
}

export interface SubscriptionOptions {
  readonly proxy: string;
  readonly pid?: number;
  /** Which program it says it is, and its admin socket. */
  readonly program?: string | undefined;
  readonly admin?: string | undefined;
  readonly composition?: Composition | undefined;
  /** By how many it listens on each port. */
  readonly sockets?: number | undefined;
  readonly scopes: readonly ScopeName[];
  /** The types it takes; all unless given. */
  readonly types?: readonly ResourceType[];
  /** Fingerprints of what the proxy has in force already, by type and name. */
  readonly have?: { readonly [T in ResourceType]?: Readonly<Record<string, string>> };
  /** Characters; 16 Mi unless given. */
  readonly updateSize?: number;
}

/** Whether a proxy has a resource as it is wanted now. */
export type Standing = "applied" | "rejected" | "waiting";

interface Refusal {
  readonly fingerprint: string;
  readonly rejection: Rejection;
}

interface Outstanding {
  readonly version: number;
  /** What was sent for each resource; undefined for a removal. */
  readonly sent: ReadonlyMap<ResourceId, string | undefined>;
  readonly tables: readonly RouteTable[];
}

interface Difference {
  readonly id: ResourceId;
  readonly type: ResourceType;
  readonly name: string;
  /** Undefined for a removal. */
  readonly resource: ResourceOf[ResourceType] | undefined;
  readonly wanted: string | undefined;
}

/** Characters of an update beyond which the rest follows in the next one: below a frame's limit in any script. */
const largestUpdate = 16 * 1024 * 1024;

export class SubscriptionState {
  readonly proxy: string;
  readonly pid: number | undefined;
  readonly program: string | undefined;
  readonly admin: string | undefined;
  readonly composition: Composition | undefined;
  readonly sockets: number;
  readonly scopes: readonly ScopeName[];
  readonly types: readonly ResourceType[];
  readonly #sets: ResourceSets;
  readonly #updateSize: number;
  readonly #dirty = new Set<ResourceId>();
  readonly #inForce = new Map<ResourceId, string>();
  readonly #refused = new Map<ResourceId, Refusal>();
  readonly #retry = new Set<ResourceId>();
  /** Route tables in force that this subscription sent. */
  readonly #tables = new Map<RouteTableName, RouteTableBase>();
  #outstanding: Outstanding | undefined;
  #sent = 0;
  #applied = 0;

  constructor(sets: ResourceSets, options: SubscriptionOptions) {
    this.#sets = sets;
    this.#updateSize = options.updateSize ?? largestUpdate;
    this.proxy = options.proxy;
    this.pid = options.pid;
    this.program = options.program;
    this.admin = options.admin;
    this.composition = options.composition;
    this.sockets = options.sockets ?? 1;
    this.scopes = options.scopes;
    this.types = options.types ?? resourceTypes;
    for (const type of this.types) {
      for (const [name, have] of Object.entries(options.have?.[type] ?? {})) {
        this.#inForce.set(resourceId(type, name), have);
        this.#dirty.add(resourceId(type, name));
      }
    }
    for (const scope of this.scopes) this.touch(sets.membersOf(scope));
  }

  /** These may differ from what the proxy has. */
  touch(ids: Iterable<ResourceId>): void {
    for (const id of ids) if (this.types.includes(splitId(id).type)) this.#dirty.add(id);
  }

  /** What was refused is to be sent again although it did not change. */
  retry(): void {
    for (const id of this.#refused.keys()) {
      this.#retry.add(id);
      this.#dirty.add(id);
    }
  }

  /** The next update, when there are differences and none is on its way. More than a frame's worth is sent in several. */
  next(): Delta | undefined {
    if (this.#outstanding || this.#dirty.size === 0) return undefined;
    const sent = new Map<ResourceId, string | undefined>();
    const upsert: { [T in ResourceType]?: ResourceOf[ResourceType][] } = {};
    const remove: { [T in ResourceType]?: string[] } = {};
    let size = 0;
    for (const { id, type, name, resource, wanted } of this.#differences()) {
      if (resource === undefined) {
        remove[type] ??= [];
        remove[type].push(name);
      } else {
        // A table that the proxy has travels as a patch.
        size += type === "routeTables" && this.#tables.has(name) ? 0 : resourceSize(type, resource);
        if (sent.size > 0 && size > this.#updateSize) break;
        upsert[type] ??= [];
        upsert[type].push(resource);
      }
      sent.set(id, wanted);
      this.#dirty.delete(id);
      this.#retry.delete(id);
    }
    if (sent.size === 0) return undefined;
    const tables = (upsert.routeTables ?? []) as RouteTable[];
    this.#outstanding = { version: ++this.#sent, sent, tables };
    const bases = new Map(
      tables.flatMap(({ name }) => (this.#tables.has(name) ? [[name, this.#tables.get(name)!]] : [])),
    );
    return { version: this.#sent, upsert: upsert as Delta["upsert"], remove, ...(bases.size > 0 ? { bases } : {}) };
  }

  /** Whether the update that was sent last left nothing out. */
  get complete(): boolean {
    return this.#dirty.size === 0;
  }

  /** What differs from what the proxy has, what is named before what names it, removals last; the rest is not dirty any more. */
  #differences(): readonly Difference[] {
    const found: Difference[] = [];
    for (const id of this.#dirty) {
      const difference = this.#difference(id);
      if (difference) found.push(difference);
      else this.#dirty.delete(id);
    }
    if (found.length > 0) {
      // What was refused before may have lacked what comes now.
      for (const id of this.#refused.keys()) {
        if (this.#dirty.has(id)) continue;
        this.#retry.add(id);
        this.#dirty.add(id);
        const difference = this.#difference(id);
        if (difference) found.push(difference);
      }
    }
    const rank = (one: Difference) =>
      one.resource === undefined ? resourceTypes.length : resourceTypes.indexOf(one.type);
    return found.sort((a, b) => rank(a) - rank(b));
  }

  #difference(id: ResourceId): Difference | undefined {
    const { type, name } = splitId(id);
    const resource = this.#sets.wanted(this.scopes, id);
    const wanted = resource === undefined ? undefined : fingerprint(type, resource);
    const refusal = this.#refused.get(id);
    if (refusal && refusal.fingerprint === wanted && !this.#retry.has(id)) return undefined;
    if (wanted === this.#inForce.get(id)) {
      this.#refused.delete(id); // back to what is in force
      this.#retry.delete(id);
      return undefined;
    }
    return { id, type, name, resource, wanted };
  }

  /**
   * The proxy's answer to update `version`: everything but `rejected` is in force. Returns whether it was the answer that
   * was waited for.
   */
  acknowledge(version: number, rejected: readonly Rejection[]): boolean {
    const outstanding = this.#outstanding;
    if (!outstanding || outstanding.version !== version) return false;
    this.#outstanding = undefined;
    this.#applied = version;
    const refused = new Map(rejected.map((one) => [resourceId(one.resource, one.name), one]));
    for (const [id, sent] of outstanding.sent) {
      const rejection = refused.get(id);
      if (rejection) {
        // A removal that was refused leaves the resource in force and is not a refusal of any content.
        if (sent !== undefined) this.#refused.set(id, { fingerprint: sent, rejection });
        continue;
      }
      this.#refused.delete(id);
      if (sent === undefined) {
        this.#inForce.delete(id);
        this.#tables.delete(splitId(id).name); // of whatever type: at worst a table travels whole once more
      } else this.#inForce.set(id, sent);
    }
    for (const table of outstanding.tables) {
      if (!refused.has(resourceId("routeTables", table.name))) this.#tables.set(table.name, { table, version });
    }
    for (const [id, rejection] of refused) {
      const held = this.#inForce.get(id);
      if (outstanding.sent.has(id) || held === undefined) continue;
      // A resource that was not sent suffers from one that was: a listener from its new certificate. Whatever the proxy has
      // now, it is not known to be this.
      this.#refused.set(id, { fingerprint: held, rejection });
      this.#inForce.set(id, unknown);
    }
    return true;
  }

  /** How the proxy stands to a resource as it is wanted now. */
  standing(id: ResourceId): Standing {
    if (this.#dirty.has(id) || this.#outstanding?.sent.has(id)) return "waiting";
    return this.#refused.has(id) ? "rejected" : "applied";
  }

  rejectionOf(id: ResourceId): Rejection | undefined {
    return this.#refused.get(id)?.rejection;
  }

  get rejected(): readonly Rejection[] {
    return [...this.#refused.values()].map((one) => one.rejection);
  }

  get versionSent(): number {
    return this.#sent;
  }

  get versionApplied(): number {
    return this.#applied;
  }

  /** The resources of an update that was sent and not answered. */
  get outstanding(): ReadonlySet<ResourceId> {
    return new Set(this.#outstanding?.sent.keys());
  }

  /** How many resources of a type are in force, and whether all of it is as wanted. */
  summary(type: ResourceType): { count: number; state: "synced" | "stale" | "rejected" } {
    const of = (ids: Iterable<ResourceId>) => [...ids].filter((id) => splitId(id).type === type).length;
    const waiting = of(this.#dirty) + of(this.outstanding);
    const state = waiting > 0 ? "stale" : of(this.#refused.keys()) > 0 ? "rejected" : "synced";
    return { count: of(this.#inForce.keys()), state };
  }
}

/** Differs from every fingerprint. */
const unknown = "";

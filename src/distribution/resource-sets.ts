// Who gets which part of the model: for each scope the resources that can be reached from its listeners. Kept up by counting
// references, so that a change costs the work of what it touches. It knows neither proxies nor wires; see `subscription.ts`.

import { type Disposable, disposeAll } from "../base/disposal.ts";
import type { Collection } from "../collections/collection.ts";
import { type Listener, type ResourceOf, type ResourceType, resourceTypes } from "../model/model.ts";
import { type ResourceId, referencesOf, resourceId, splitId } from "./references.ts";

/** The whole model as collections, each keyed by `resourceName`. */
export type ModelCollections = { readonly [T in ResourceType]: Collection<ResourceOf[T]> };

/** A listener's {@link Listener.scope}. */
export type ScopeName = string;

/** A resource that some scope reaches, whether it exists or is only named. */
interface Member {
  references: ReadonlySet<ResourceId>;
  /** How many members of each scope name it (a listener counts as named by its own scope). */
  readonly scopes: Map<ScopeName, number>;
  /** Of a listener: the scope that holds it. */
  root?: ScopeName;
}

export class ResourceSets implements Disposable {
  readonly #resources: ModelCollections;
  readonly #members = new Map<ResourceId, Member>();
  readonly #scopes = new Map<ScopeName, Set<ResourceId>>();
  readonly #pending = new Set<ResourceId>();
  readonly #subscriptions: Disposable;
  readonly #onChange: (changed: ReadonlyMap<ScopeName, ReadonlySet<ResourceId>>) => void;
  #changed = new Map<ScopeName, Set<ResourceId>>();
  #scheduled = false;

  /**
   * `onChange` is called with what entered, left or changed in each scope: once for all batches that settle in one turn, in
   * a microtask after them.
   */
  constructor(
    resources: ModelCollections,
    onChange: (changed: ReadonlyMap<ScopeName, ReadonlySet<ResourceId>>) => void,
  ) {
    this.#resources = resources;
    this.#onChange = onChange;
    const follow = <T extends ResourceType>(type: T): Disposable => {
      const collection: Collection<ResourceOf[T]> = resources[type];
      return collection.subscribe((batch) => {
        for (const change of batch) this.#pending.add(resourceId(type, change.key));
        this.#schedule();
      });
    };
    this.#subscriptions = disposeAll(resourceTypes.map(follow));
    for (const name of resources.listeners.keys()) this.#pending.add(resourceId("listeners", name));
    this.#take(); // nobody can have asked yet, so nobody is told
  }

  /** The scopes that reach a resource now. */
  scopesOf(id: ResourceId): readonly ScopeName[] {
    return [...(this.#members.get(id)?.scopes.keys() ?? [])];
  }

  /** Everything that a scope reaches, named but absent resources included. */
  membersOf(scope: ScopeName): ReadonlySet<ResourceId> {
    return this.#scopes.get(scope) ?? new Set();
  }

  /** What a proxy that serves `scopes` should have under `id`; undefined for nothing. */
  wanted(scopes: readonly ScopeName[], id: ResourceId): ResourceOf[ResourceType] | undefined {
    const member = this.#members.get(id);
    if (!member || !scopes.some((scope) => member.scopes.has(scope))) return undefined;
    return this.#existing(id);
  }

  /** Takes what has settled and was not taken yet. */
  flush(): void {
    const changed = this.#take();
    if (changed.size > 0) this.#onChange(changed);
  }

  dispose(): void {
    this.#subscriptions.dispose();
    this.#pending.clear();
  }

  #take(): ReadonlyMap<ScopeName, ReadonlySet<ResourceId>> {
    const ids = [...this.#pending];
    this.#pending.clear();
    for (const id of ids) this.#update(id);
    const changed = this.#changed;
    this.#changed = new Map();
    return changed;
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.flush();
    });
  }

  #existing(id: ResourceId): ResourceOf[ResourceType] | undefined {
    const { type, name } = splitId(id);
    return this.#resources[type].get(name);
  }

  #update(id: ResourceId): void {
    const { type } = splitId(id);
    const resource = this.#existing(id);
    const member = this.#members.get(id);
    if (member) {
      const before = member.references;
      member.references = referencesOf(type, resource);
      for (const scope of member.scopes.keys()) {
        this.#mark(scope, id);
        for (const one of member.references) if (!before.has(one)) this.#retain(one, scope);
        for (const one of before) if (!member.references.has(one)) this.#release(one, scope);
      }
    }
    if (type === "listeners") this.#reroot(id, (resource as Listener | undefined)?.scope);
  }

  #reroot(id: ResourceId, scope: ScopeName | undefined): void {
    const before = this.#members.get(id)?.root;
    if (before === scope) return;
    if (scope !== undefined) this.#retain(id, scope);
    if (before !== undefined) this.#release(id, before);
    const member = this.#members.get(id);
    if (member) member.root = scope;
  }

  #retain(id: ResourceId, scope: ScopeName): void {
    let member = this.#members.get(id);
    if (!member) {
      member = { references: referencesOf(splitId(id).type, this.#existing(id)), scopes: new Map() };
      this.#members.set(id, member);
    }
    const count = member.scopes.get(scope) ?? 0;
    member.scopes.set(scope, count + 1);
    if (count > 0) return;
    let ids = this.#scopes.get(scope);
    if (!ids) {
      ids = new Set();
      this.#scopes.set(scope, ids);
    }
    ids.add(id);
    this.#mark(scope, id);
    for (const one of member.references) this.#retain(one, scope);
  }

  #release(id: ResourceId, scope: ScopeName): void {
    const member = this.#members.get(id)!;
    const count = member.scopes.get(scope)! - 1;
    if (count > 0) {
      member.scopes.set(scope, count);
      return;
    }
    member.scopes.delete(scope);
    if (member.scopes.size === 0) this.#members.delete(id);
    const ids = this.#scopes.get(scope)!;
    ids.delete(id);
    if (ids.size === 0) this.#scopes.delete(scope);
    this.#mark(scope, id);
    for (const one of member.references) this.#release(one, scope);
  }

  #mark(scope: ScopeName, id: ResourceId): void {
    let ids = this.#changed.get(scope);
    if (!ids) {
      ids = new Set();
      this.#changed.set(scope, ids);
    }
    ids.add(id);
  }
}

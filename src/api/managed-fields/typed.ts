// Objects seen through their schema as sets of owned fields: which fields a value has, how two values differ, how an applied
// configuration merges into a live object, and what is left when fields are taken out (structured-merge-diff typed: ToFieldSet,
// Compare, Merge, RemoveItems).

import { equal, isRecord, type Json } from "../data.ts";
import { childSchema, type Schema } from "../schema.ts";
import { emptySet, type FieldSet, memberSet, union } from "./field-set.ts";

type Relation = "atomic" | "map" | "set" | "granular" | "leaf";

/** How the parts of a value relate, by its schema; what nobody described is granular by field, with atomic lists. */
function relation(value: unknown, schema: Schema | undefined): Relation {
  if (Array.isArray(value)) {
    if (schema?.listType === "map" && schema.listKeys?.length) return "map";
    return schema?.listType === "set" ? "set" : "atomic";
  }
  if (isRecord(value)) {
    // Untyped content (RawExtension, JSON) is one value; a map that its schema leaves open is not.
    const whole = schema?.mapType === "atomic" || (schema?.type === "any" && schema.name !== undefined);
    return whole ? "atomic" : "granular";
  }
  return "leaf";
}

/** The path element of a list item: by keys (absent keys take their default) or by value. */
export function itemElement(item: unknown, index: number, schema: Schema | undefined): string {
  if (schema?.listType === "map" && isRecord(item)) {
    const keys: Record<string, unknown> = {};
    for (const key of [...(schema.listKeys ?? [])].sort()) {
      const value = item[key] ?? schema.items?.fields?.[key]?.default ?? null;
      if (value !== null) keys[key] = value;
    }
    return `k:${JSON.stringify(keys)}`;
  }
  if (schema?.listType === "set") return `v:${JSON.stringify(item)}`;
  return `i:${index}`;
}

const isNamedField = (schema: Schema | undefined, field: string) =>
  schema?.fields !== undefined && Object.hasOwn(schema.fields, field);

/** The fields of an applied configuration (typed.ToFieldSet). */
export function fieldSetOf(value: unknown, schema: Schema | undefined): FieldSet {
  const kind = relation(value, schema);
  if (kind === "leaf" || kind === "atomic") return memberSet;
  const children = new Map<string, FieldSet>();
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) {
      const inner = fieldSetOf(item, schema?.items);
      children.set(itemElement(item, index, schema), { ...inner, member: true });
    }
    return { member: false, children };
  }
  for (const [field, item] of Object.entries(value as Json)) {
    let inner = fieldSetOf(item, childSchema(schema, field));
    const empty = item === null || (isRecord(item) && Object.keys(item).length === 0);
    if (empty || !isNamedField(schema, field)) inner = { ...inner, member: true };
    children.set(`f:${field}`, inner);
  }
  return { member: false, children };
}

export interface Comparison {
  readonly added: FieldSet;
  readonly modified: FieldSet;
  readonly removed: FieldSet;
}

const nothing: Comparison = { added: emptySet, modified: emptySet, removed: emptySet };

/** How `after` differs from `before` (typed.Compare). */
export function compare(before: unknown, after: unknown, schema: Schema | undefined): Comparison {
  if (before === undefined && after === undefined) return nothing;
  if (before === undefined) return { ...nothing, added: everything(after, schema) };
  if (after === undefined) return { ...nothing, removed: everything(before, schema) };
  const kind = relation(after, schema);
  if (
    kind === "leaf" ||
    kind === "atomic" ||
    Array.isArray(before) !== Array.isArray(after) ||
    isRecord(before) !== isRecord(after)
  ) {
    return equal(before, after) ? nothing : { ...nothing, modified: memberSet };
  }
  const parts = new Map<string, Comparison>();
  if (Array.isArray(after)) {
    const old = new Map((before as unknown[]).map((item, index) => [itemElement(item, index, schema), item]));
    const now = new Map(after.map((item, index) => [itemElement(item, index, schema), item]));
    for (const key of new Set([...old.keys(), ...now.keys()]))
      parts.set(key, compare(old.get(key), now.get(key), schema?.items));
  } else {
    const [old, now] = [before as Json, after as Json];
    for (const field of new Set([...Object.keys(old), ...Object.keys(now)])) {
      parts.set(`f:${field}`, compare(old[field], now[field], childSchema(schema, field)));
    }
  }
  const gather = (side: keyof Comparison): FieldSet => {
    const children = new Map<string, FieldSet>();
    for (const [key, part] of parts) {
      if (part[side].member || part[side].children.size > 0) children.set(key, part[side]);
    }
    return { member: false, children };
  };
  return { added: gather("added"), modified: gather("modified"), removed: gather("removed") };
}

/** All paths of a value that is wholly new or wholly gone: every node on the way counts, not only leaves. */
function everything(value: unknown, schema: Schema | undefined): FieldSet {
  const kind = relation(value, schema);
  if (kind === "leaf" || kind === "atomic") return memberSet;
  const children = new Map<string, FieldSet>();
  if (Array.isArray(value)) {
    for (const [index, item] of value.entries())
      children.set(itemElement(item, index, schema), everything(item, schema?.items));
  } else {
    for (const [field, item] of Object.entries(value as Json)) {
      children.set(`f:${field}`, everything(item, childSchema(schema, field)));
    }
  }
  return { member: true, children };
}

/** The live object with an applied configuration merged into it (typed.Merge). */
export function mergeApplied(live: unknown, applied: unknown, schema: Schema | undefined): unknown {
  if (applied === undefined) return live;
  const kind = relation(applied, schema);
  if (live === undefined || live === null || kind === "leaf" || kind === "atomic") return applied;
  if (Array.isArray(applied)) {
    if (!Array.isArray(live)) return applied;
    const key = (item: unknown, index: number) => itemElement(item, index, schema);
    const wanted = new Map(applied.map((item, index) => [key(item, index), item]));
    const has = new Map(live.map((item, index) => [key(item, index), item]));
    // The live object's own items keep their places; what both have follows the order of the configuration.
    const shared = applied.map(key).filter((one) => has.has(one));
    const out: unknown[] = [];
    let right = 0;
    const appliedKeys = applied.map(key);
    const takeUntil = (stop: string | undefined) => {
      while (right < appliedKeys.length && appliedKeys[right] !== stop && !has.has(appliedKeys[right]!)) {
        out.push(wanted.get(appliedKeys[right]!));
        right++;
      }
    };
    let nextShared = 0;
    for (const [index, item] of live.entries()) {
      const one = key(item, index);
      if (!wanted.has(one)) {
        out.push(item);
        continue;
      }
      const both = shared[nextShared++]!;
      takeUntil(both);
      out.push(mergeApplied(has.get(both), wanted.get(both), schema?.items));
      right++;
    }
    takeUntil(undefined);
    return out;
  }
  if (!isRecord(live)) return applied;
  const out: Record<string, unknown> = { ...live };
  for (const [field, item] of Object.entries(applied as Json)) {
    out[field] = mergeApplied(live[field], item, childSchema(schema, field));
  }
  return out;
}

/** The value without the fields of a set; a member goes with all below it (typed.RemoveItems). */
export function removeFields(value: unknown, set: FieldSet, schema: Schema | undefined): unknown {
  const kind = relation(value, schema);
  if (kind === "leaf" || kind === "atomic") return value;
  if (Array.isArray(value)) {
    return value.flatMap((item, index) => {
      const part = set.children.get(itemElement(item, index, schema));
      if (part?.member) return [];
      return [part ? removeFields(item, part, schema?.items) : item];
    });
  }
  const out: Record<string, unknown> = {};
  for (const [field, item] of Object.entries(value as Json)) {
    const part = set.children.get(`f:${field}`);
    if (part?.member) continue;
    out[field] = part ? removeFields(item, part, childSchema(schema, field)) : item;
  }
  return out;
}

/** The set with the structs that lead to its members as members themselves (Set.EnsureNamedFieldsAreMembers). */
export function withNamedFields(set: FieldSet, schema: Schema | undefined): FieldSet {
  const children = new Map<string, FieldSet>();
  for (const [key, child] of set.children) {
    const field = key[0] === "f" ? key.slice(2) : undefined;
    const inner = withNamedFields(child, field === undefined ? schema?.items : childSchema(schema, field));
    const named = field !== undefined && isNamedField(schema, field) && child.children.size > 0;
    children.set(key, named ? { ...inner, member: true } : inner);
  }
  return { member: set.member, children };
}

export function unionAll(sets: Iterable<FieldSet>): FieldSet {
  let out = emptySet;
  for (const set of sets) out = union(out, set);
  return out;
}

// Sets of field paths, as managedFields store them (structured-merge-diff fieldpath, serialised as FieldsV1): a tree whose
// edges are path elements (`f:name`, `k:{"port":80}`, `v:"a"`, `i:0`) and in which a node may or may not be a member itself.

import { isRecord, type Json } from "../data.ts";

export interface FieldSet {
  /** Whether the path that leads here is in the set. */
  readonly member: boolean;
  readonly children: ReadonlyMap<string, FieldSet>;
}

export const emptySet: FieldSet = { member: false, children: new Map() };
export const memberSet: FieldSet = { member: true, children: new Map() };

export function isEmptySet(set: FieldSet): boolean {
  if (set.member) return false;
  for (const child of set.children.values()) if (!isEmptySet(child)) return false;
  return true;
}

function make(member: boolean, children: Map<string, FieldSet>): FieldSet {
  for (const [key, child] of children) if (isEmptySet(child)) children.delete(key);
  return { member, children };
}

export function union(a: FieldSet, b: FieldSet): FieldSet {
  const children = new Map(a.children);
  for (const [key, child] of b.children) {
    const has = children.get(key);
    children.set(key, has ? union(has, child) : child);
  }
  return { member: a.member || b.member, children };
}

export function difference(a: FieldSet, b: FieldSet): FieldSet {
  const children = new Map<string, FieldSet>();
  for (const [key, child] of a.children) {
    const other = b.children.get(key);
    children.set(key, other ? difference(child, other) : child);
  }
  return make(a.member && !b.member, children);
}

/** Like {@link difference}, and a member of `b` takes all below it along. */
export function recursiveDifference(a: FieldSet, b: FieldSet): FieldSet {
  if (b.member) return emptySet;
  const children = new Map<string, FieldSet>();
  for (const [key, child] of a.children) {
    const other = b.children.get(key);
    children.set(key, other ? recursiveDifference(child, other) : child);
  }
  return make(a.member, children);
}

export function intersection(a: FieldSet, b: FieldSet): FieldSet {
  const children = new Map<string, FieldSet>();
  for (const [key, child] of a.children) {
    const other = b.children.get(key);
    if (other) children.set(key, intersection(child, other));
  }
  return make(a.member && b.member, children);
}

export function equalSets(a: FieldSet, b: FieldSet): boolean {
  return isEmptySet(difference(a, b)) && isEmptySet(difference(b, a));
}

/** A set from paths of plain field names. */
export function setOfFields(...paths: readonly (readonly string[])[]): FieldSet {
  let set = emptySet;
  for (const path of paths) {
    let node: FieldSet = memberSet;
    for (const name of [...path].reverse()) node = { member: false, children: new Map([[`f:${name}`, node]]) };
    set = union(set, node);
  }
  return set;
}

/** The members of a set, each as its list of path elements. */
export function* members(set: FieldSet, prefix: readonly string[] = []): Generator<readonly string[]> {
  if (set.member) yield prefix;
  for (const key of [...set.children.keys()].sort(comparePathElements)) {
    yield* members(set.children.get(key)!, [...prefix, key]);
  }
}

/** Field names before keys, values and indexes, each in the order of their text. */
function comparePathElements(a: string, b: string): number {
  const rank = (key: string) => "fkvi".indexOf(key[0]!);
  return rank(a) - rank(b) || (a < b ? -1 : a > b ? 1 : 0);
}

export function toFieldsV1(set: FieldSet): Json {
  const out: Record<string, unknown> = {};
  if (set.member) out["."] = {};
  for (const key of [...set.children.keys()].sort(comparePathElements)) out[key] = nodeToFields(set.children.get(key)!);
  return out;
}

function nodeToFields(set: FieldSet): Json {
  return set.member && set.children.size === 0 ? {} : toFieldsV1(set);
}

/** Reads FieldsV1; what is malformed reads as empty. */
export function fromFieldsV1(fields: unknown): FieldSet {
  if (!isRecord(fields)) return emptySet;
  const children = new Map<string, FieldSet>();
  let member = false;
  for (const [key, value] of Object.entries(fields)) {
    if (key === ".") member = true;
    else children.set(key, fromNode(value));
  }
  return { member, children };
}

function fromNode(value: unknown): FieldSet {
  if (!isRecord(value) || Object.keys(value).length === 0) return memberSet;
  return fromFieldsV1(value);
}

/** A path as conflicts print it: `.spec.ports[port=80,protocol="TCP"].name`. */
export function printPath(path: readonly string[]): string {
  return path
    .map((element) => {
      const text = element.slice(2);
      if (element[0] === "f") return `.${text}`;
      if (element[0] === "i") return `[${text}]`;
      if (element[0] === "v") return `[=${text}]`;
      const keys = JSON.parse(text) as Record<string, unknown>;
      return `[${Object.entries(keys)
        .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
        .join(",")}]`;
    })
    .join("");
}

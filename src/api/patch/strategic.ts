// Strategic merge patch (apimachinery util/strategicpatch): like a merge patch, but lists whose schema has a merge key are
// merged item by item. Directives: `$patch: delete | replace | merge`, `$deleteFromPrimitiveList/<field>`,
// `$setElementOrder/<field>`, `$retainKeys`. The order of merged lists follows upstream: the patch's order (or the element
// order that it sets), with the server's other items kept in their places around it.

import { equal, isRecord, type Json } from "../data.ts";
import { childSchema, type Schema } from "../schema.ts";
import { StatusError } from "../status-error.ts";

const deletePrimitives = "$deleteFromPrimitiveList/";
const elementOrder = "$setElementOrder/";

/** Applies a strategic merge patch to an object of `schema`. The input stays untouched. Throws BadRequest for a malformed patch. */
export function strategicMergePatch<T>(schema: Schema, object: T, body: unknown): T {
  if (!isRecord(body))
    throw bad("error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}");
  return mergeMap(structuredClone(object) as Json, structuredClone(body), schema) as T;
}

const bad = (text: string) => new StatusError(400, "BadRequest", text);

function mergeMap(original: Json, patch: Json, schema: Schema | undefined): Json {
  const directive = patch["$patch"];
  if (directive !== undefined) {
    if (directive === "delete") return {};
    const { $patch: _directive, ...rest } = patch;
    if (directive === "replace") return rest;
    if (directive !== "merge") throw bad(`Unknown patch type: ${String(directive)}`);
    return mergeMap(original, rest, schema);
  }
  const out: Record<string, unknown> = { ...original };
  const todo: Record<string, unknown> = { ...patch };

  const retain = todo["$retainKeys"];
  if (retain !== undefined) {
    if (!Array.isArray(retain)) throw bad("invalid value for $retainKeys");
    for (const key of Object.keys(out)) if (!retain.includes(key)) delete out[key];
    delete todo["$retainKeys"];
  }
  for (const [key, value] of Object.entries(patch)) {
    if (!key.startsWith(deletePrimitives)) continue;
    const field = key.slice(deletePrimitives.length);
    if (Array.isArray(out[field]) && Array.isArray(value)) {
      out[field] = (out[field] as unknown[]).filter((item) => !value.some((one) => equal(one, item)));
    }
    delete todo[key];
  }
  for (const [key, value] of Object.entries(patch)) {
    if (!key.startsWith(elementOrder)) continue;
    delete todo[key];
    const field = key.slice(elementOrder.length);
    const child = childSchema(schema, field);
    const [has, given] = [out[field], todo[field]];
    if (given !== undefined && given !== null && !Array.isArray(given)) continue;
    if (given === null) continue;
    if (!Array.isArray(has) && given === undefined) continue;
    const server = Array.isArray(has) ? has : [];
    const merged = given === undefined ? server : mergeList(server, given as unknown[], child, false);
    out[field] = inOrder(merged, value as unknown[], server, mergeKeyOf(child));
    delete todo[field];
  }
  for (const [key, value] of Object.entries(todo)) {
    const child = childSchema(schema, key);
    if (value === null) {
      delete out[key];
      continue;
    }
    const has = out[key];
    if (isRecord(value) && isRecord(has)) {
      out[key] = child?.patchStrategy?.split(",").includes("replace") ? clean(value) : mergeMap(has, value, child);
    } else if (Array.isArray(value) && Array.isArray(has) && child?.patchStrategy?.split(",").includes("merge")) {
      out[key] = mergeList(has, value, child, true);
    } else out[key] = clean(value, child);
  }
  return out;
}

const mergeKeyOf = (schema: Schema | undefined) => schema?.patchMergeKey;

function mergeList(server: unknown[], patch: unknown[], schema: Schema | undefined, order: boolean): unknown[] {
  const key = mergeKeyOf(schema);
  if (key === undefined || !patch.concat(server).every(isRecord)) {
    if (key !== undefined && patch.concat(server).some(isRecord))
      throw bad("delete or merge in list with mixed types is not supported");
    const merged = [...server, ...patch].filter(
      (item, index, all) => all.findIndex((one) => equal(one, item)) === index,
    );
    return order ? inOrder(merged, patch, server, undefined) : merged;
  }
  let merged = server as Json[];
  const items: Json[] = [];
  let replace = false;
  for (const item of patch as Json[]) {
    const directive = item["$patch"];
    if (directive === undefined) items.push(item);
    else if (directive === "replace") replace = true;
    else if (directive === "delete") {
      if (item[key] === undefined)
        throw bad(`map: ${JSON.stringify(item)} does not contain declared merge key: ${key}`);
      merged = merged.filter((one) => !equal(one[key], item[key]));
    } else if (directive === "merge") items.push(without(item, "$patch"));
    else throw bad(`Unknown patch type: ${String(directive)}`);
  }
  if (replace) return items.map((item) => clean(item, schema?.items) as Json);
  merged = [...merged];
  for (const item of items) {
    if (item[key] === undefined) {
      throw bad(`map: ${JSON.stringify(item)} does not contain declared merge key: ${key}`);
    }
    const index = merged.findIndex((one) => equal(one[key], item[key]));
    if (index < 0) merged.push(clean(item, schema?.items) as Json);
    else merged[index] = mergeMap(merged[index]!, item, schema?.items);
  }
  return order ? inOrder(merged, items, server, key) : merged;
}

/** Items that `wanted` names in its order, the others in the server's, interleaved by the server's order. */
function inOrder(merged: unknown[], wanted: unknown[], server: unknown[], key: string | undefined): unknown[] {
  const identity = (item: unknown) => (key !== undefined && isRecord(item) ? item[key] : item);
  const place = (list: unknown[], item: unknown) => list.findIndex((one) => equal(identity(one), identity(item)));
  const named = merged.filter((item) => place(wanted, item) >= 0).sort((a, b) => place(wanted, a) - place(wanted, b));
  const others = merged.filter((item) => place(wanted, item) < 0).sort((a, b) => place(server, a) - place(server, b));
  const out: unknown[] = [];
  let left = 0;
  let right = 0;
  while (left < others.length || right < named.length) {
    if (left >= others.length) out.push(named[right++]);
    else if (right >= named.length) out.push(others[left++]);
    else {
      const [a, b] = [place(server, others[left]), place(server, named[right])];
      out.push(a >= 0 && b >= 0 && a < b ? others[left++] : named[right++]);
    }
  }
  return out;
}

/** A value that is new to the object: directives do their work on nothing, nulls remove nothing. */
function clean(value: unknown, schema?: Schema): unknown {
  if (Array.isArray(value)) {
    const kept = value.filter(
      (item) => !(isRecord(item) && (item["$patch"] === "delete" || item["$patch"] === "replace")),
    );
    return kept.map((item) => clean(item, schema?.items));
  }
  if (!isRecord(value)) return value;
  return mergeMap({}, value, schema);
}

function without(item: Json, field: string): Json {
  const { [field]: _gone, ...rest } = item;
  return rest;
}

// Structural defaulting (apiextensions-apiserver, schema/defaulting): what a schema says that absent fields are. For custom resources and
// the Gateway API; kinds of Kubernetes itself have their defaults in code (`defaults.ts`).

import { isRecord } from "./data.ts";
import type { Schema } from "./schema.ts";

/**
 * Absent fields take their default; a null where null is not allowed is dropped first. metadata is left alone.
 */
export function defaultBySchema(value: unknown, schema: Schema, root = false): unknown {
  if (Array.isArray(value)) {
    return schema.items ? value.map((item) => defaultBySchema(item, schema.items!)) : value;
  }
  if (!isRecord(value)) return value;
  let out: Record<string, unknown> | undefined;
  const draft = () => {
    out ??= { ...value };
    return out;
  };
  for (const [field, child] of Object.entries(schema.fields ?? {})) {
    if (root && field === "metadata") continue;
    let has = value[field];
    if (has === null && !child.nullable) {
      has = undefined;
      delete draft()[field];
    }
    if (has === undefined && child.default !== undefined) {
      has = structuredClone(child.default);
      draft()[field] = has;
    }
    if (has === undefined || has === null) continue;
    const filled = defaultBySchema(has, child);
    if (filled !== has) draft()[field] = filled;
  }
  if (schema.values) {
    for (const [key, has] of Object.entries(value)) {
      if (schema.fields && Object.hasOwn(schema.fields, key)) continue;
      const filled = defaultBySchema(has, schema.values);
      if (filled !== has) draft()[key] = filled;
    }
  }
  return out ?? value;
}

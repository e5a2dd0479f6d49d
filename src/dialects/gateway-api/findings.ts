// Findings as this dialect makes them: the message carries the object and the field, so that it can stand alone.

import { nameOf } from "../../api/object.ts";
import type { Finding } from "../../model/status-update.ts";

export function finding(
  object: { readonly kind: string; readonly namespace?: string; readonly name: string },
  field: string,
  code: string,
  severity: Finding["severity"],
  problem: string,
  remedy: string,
): Finding {
  const { kind, namespace, name } = object;
  return {
    code,
    severity,
    object: { kind, ...(namespace === undefined ? {} : { namespace }), name },
    field,
    message: `${kind} ${nameOf(namespace, name)}: ${field}: ${problem}`,
    remedy,
  };
}

/** The key of the collection: the message names object and field, and one field can have several problems. */
export function findingKey(one: Finding): string {
  return `${one.code} ${one.message}`;
}

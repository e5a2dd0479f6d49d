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

/** Unique among findings, and the same for the same finding: the key of the collection. */
export function findingKey(one: Finding): string {
  return `${one.object.kind} ${nameOf(one.object.namespace, one.object.name)} ${one.field} ${one.code}`;
}

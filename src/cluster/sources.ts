// The record of where a running stack's objects were read from, so that a decision can be shown with file and line. It is
// plain JSON, kept beside the store; objects that came through kubectl are not in it and keep a Provenance without a file.

import { isAbsolute, resolve } from "node:path";
import { nameOf } from "../api/object.ts";
import type { Provenance } from "../model/provenance.ts";
import { lineOf, type Manifest, type ObjectSource } from "./manifests.ts";

export interface SourceRecord {
  /** By `Kind namespace/name`. Provenance knows no API group, so of two kinds of one name the later read wins. */
  readonly objects: Readonly<Record<string, ObjectSource>>;
}

/** The file of objects that no file has: what `--fill` makes up. They are not recorded. */
export const madeUpFile = "(made up)";

export const emptySources: SourceRecord = { objects: {} };

/** Objects remembered, and fields remembered over all of them: some 20 MB of JSON at most. */
const maxObjects = 50_000;
const maxFields = 400_000;

/**
 * The record with `manifests` added; an object read again replaces its older entry. Relative file names are resolved against
 * `directory`, for a later command may run elsewhere. Beyond the bounds objects keep only file and first line, then nothing.
 */
export function recordSources(
  record: SourceRecord,
  manifests: readonly Manifest[],
  directory: string = process.cwd(),
): SourceRecord {
  const objects: Record<string, ObjectSource> = { ...record.objects };
  let fields = 0;
  for (const source of Object.values(objects)) fields += Object.keys(source.fields).length;
  let count = Object.keys(objects).length;
  for (const { object, source } of manifests) {
    if (source.file === madeUpFile) continue;
    const key = sourceKey(object.kind, object.metadata.namespace, object.metadata.name);
    const before = objects[key];
    if (before) fields -= Object.keys(before.fields).length;
    else if (++count > maxObjects) break;
    fields += Object.keys(source.fields).length;
    const file = source.file === "-" || isAbsolute(source.file) ? source.file : resolve(directory, source.file);
    objects[key] = fields > maxFields ? { file, line: source.line, fields: {} } : { ...source, file };
  }
  return { objects };
}

/**
 * `from` with the file and line that it was read from, when that is known. A manifest without a namespace is found for
 * `defaultNamespace`, where it was applied to.
 */
export function locate(record: SourceRecord, from: Provenance, defaultNamespace = "default"): Provenance {
  const source =
    record.objects[sourceKey(from.kind, from.namespace, from.name)] ??
    (from.namespace === defaultNamespace ? record.objects[sourceKey(from.kind, undefined, from.name)] : undefined);
  return source ? { ...from, file: source.file, line: lineOf(source, from.field) } : from;
}

function sourceKey(kind: string, namespace: string | undefined, name: string): string {
  return `${kind} ${nameOf(namespace, name)}`;
}

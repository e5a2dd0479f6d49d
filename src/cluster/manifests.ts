// Reads what `-f FILE|DIR|-` names: YAML (several documents a file), JSON and List kinds, into Kubernetes objects that know
// their file and the line of each field. It checks only what makes an object addressable (apiVersion, kind, metadata.name);
// everything else is the API server's to judge. YAML is read as kubectl does: version 1.1's booleans and octal numbers, no times.

import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseAllDocuments, type Tags } from "yaml";
import type { KubeObject } from "../api/object.ts";
import { parseApiVersion } from "../api/resource.ts";
import { messageOf, UserError } from "../base/errors.ts";

/** Where an object was read from. Plain JSON. */
export interface ObjectSource {
  /** As the user named it; `-` is standard input. */
  readonly file: string;
  /** The line that the object starts on; the first is 1. */
  readonly line: number;
  /** Line by field path: `spec.rules[0].matches[1].headers[0]`, `metadata.annotations[example.com/key]`. */
  readonly fields: Readonly<Record<string, number>>;
}

export interface Manifest {
  readonly object: KubeObject;
  readonly source: ObjectSource;
}

export interface ReadOptions {
  /** What `-` stands for; the process's standard input unless given. */
  readonly stdin?: () => Promise<string>;
  /** Whether a document may be a bare list of objects, as `jq .items` prints it; kubectl takes none. */
  readonly lists?: boolean;
}

/** The largest file that is read: the API server's own limit is 3 MiB an object. */
const maxFileBytes = 64 * 1024 * 1024;
/** Fields of one object whose lines are remembered; deeper ones answer with their parent's line. */
const maxFieldsPerObject = 5_000;
/** Problems that one error lists. */
const maxProblems = 10;

/**
 * All objects of the named files and directories (recursively: `*.yaml`, `*.yml`, `*.json`, sorted by name), in the order of
 * the names given. Throws a UserError that lists what is wrong, with file and line, or when there is no object at all.
 */
export async function readManifests(paths: readonly string[], options: ReadOptions = {}): Promise<readonly Manifest[]> {
  const files = (await Promise.all(paths.map(filesOf))).flat();
  const texts = await Promise.all(files.map((file) => readText(file, options)));
  const problems: string[] = [];
  const manifests = files.flatMap((file, index) => {
    const parsed = parseManifests(texts[index]!, file, options);
    problems.push(...parsed.problems);
    return parsed.manifests;
  });
  if (problems.length > 0) {
    const more = problems.length > maxProblems ? [`… and ${problems.length - maxProblems} more`] : [];
    throw new UserError([...problems.slice(0, maxProblems), ...more].join("\n"));
  }
  if (manifests.length === 0) {
    throw new UserError(`no Kubernetes object in ${paths.join(", ")}`, {
      remedy: "name a file or directory with *.yaml, *.yml or *.json manifests",
    });
  }
  return manifests;
}

/** The objects of one file's text, and what is wrong with it in words that start with `file:line:`. Pure. */
export function parseManifests(
  text: string,
  file: string,
  { lists = false }: Pick<ReadOptions, "lists"> = {},
): { manifests: readonly Manifest[]; problems: readonly string[] } {
  const lines = new LineCounter();
  const documents = parseAllDocuments(text, {
    lineCounter: lines,
    prettyErrors: false,
    schema: "yaml-1.1",
    merge: true,
    customTags: asKubectlReads,
  });
  const manifests: Manifest[] = [];
  const problems: string[] = [];
  if (!Array.isArray(documents)) return { manifests, problems };
  for (const document of documents) {
    const [error] = document.errors;
    if (error) {
      const { line, col } = lines.linePos(error.pos[0]);
      const hint = text.includes("{{") ? " (a template: render it first, for example with helm template)" : "";
      problems.push(`${file}:${line}:${col}: not YAML: ${sentence(error.message)}${hint}`);
      continue;
    }
    const node = document.contents as Node | null;
    if (!node || (isScalar(node) && node.value === null)) continue;
    let value: unknown;
    try {
      value = document.toJS();
    } catch (cause) {
      problems.push(`${file}:${lineOfNode(node, lines)}: not YAML: ${messageOf(cause)}`);
      continue;
    }
    const reading: Reading = { file, lines, manifests, problems };
    if (lists && Array.isArray(value)) collectAll(value, node, reading);
    else collect(value, node, reading);
  }
  return { manifests, problems };
}

interface Reading {
  readonly file: string;
  readonly lines: LineCounter;
  readonly manifests: Manifest[];
  readonly problems: string[];
}

function collect(value: unknown, node: Node, reading: Reading): void {
  const at = `${reading.file}:${lineOfNode(node, reading.lines)}`;
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    reading.problems.push(`${at}: the document is ${describeValue(value)}, not a Kubernetes object`);
    return;
  }
  const object = value as Record<string, unknown>;
  if (typeof object["kind"] === "string" && object["kind"].endsWith("List") && Array.isArray(object["items"])) {
    const items = isMap(node) ? node.get("items", true) : undefined;
    collectAll(object["items"], isSeq(items) ? items : node, reading);
    return;
  }
  const fields = fieldLines(node, reading.lines);
  const problem = problemOf(object);
  if (problem) {
    const line = lineOf({ file: reading.file, line: lineOfNode(node, reading.lines), fields }, problem.field);
    reading.problems.push(`${reading.file}:${line}: ${problem.message}`);
    return;
  }
  reading.manifests.push({
    object: object as unknown as KubeObject,
    source: { file: reading.file, line: lineOfNode(node, reading.lines), fields },
  });
}

function collectAll(values: readonly unknown[], node: Node, reading: Reading): void {
  for (const [index, item] of values.entries()) {
    const itemNode = isSeq(node) ? node.items[index] : undefined;
    collect(item, (itemNode as Node | undefined) ?? node, reading);
  }
}

function problemOf(object: Readonly<Record<string, unknown>>): { field: string; message: string } | undefined {
  const { apiVersion, kind } = object;
  const what = typeof kind === "string" && kind !== "" ? kind : "object";
  const text = (field: string, value: unknown) => {
    if (value === undefined || value === null || value === "")
      return { field, message: `${what}: ${field} is missing` };
    return { field, message: `${what}: ${field} must be a string, not ${describeValue(value)}: put it in quotes` };
  };
  if (typeof apiVersion !== "string" || apiVersion === "") return text("apiVersion", apiVersion);
  if (typeof kind !== "string" || kind === "") return text("kind", kind);
  if (apiVersion.startsWith("kustomize.config.k8s.io/")) {
    const message = "Kustomization: a file for kustomize, no object: give what `kubectl kustomize` makes of it to -f -";
    return { field: "kind", message };
  }
  const metadata = object["metadata"];
  if (typeof metadata !== "object" || metadata === null || Array.isArray(metadata)) {
    return metadata === undefined || metadata === null
      ? { field: "metadata", message: `${what}: metadata.name is missing` }
      : { field: "metadata", message: `${what}: metadata must be a mapping, not ${describeValue(metadata)}` };
  }
  const { name, namespace, generateName } = metadata as Record<string, unknown>;
  if (typeof name !== "string" || name === "") {
    if (name === undefined && generateName !== undefined) {
      return {
        field: "metadata.generateName",
        message: `${what}: metadata.generateName cannot be applied: give it a metadata.name`,
      };
    }
    return text("metadata.name", name);
  }
  if (namespace !== undefined && namespace !== null && typeof namespace !== "string") {
    return text("metadata.namespace", namespace);
  }
  return undefined;
}

/** The line of a field, or of the nearest parent that is there. `field` as the API writes paths; empty is the object itself. */
export function lineOf(source: ObjectSource, field: string): number {
  // `metadata.labels.app.kubernetes.io/name` is how some write what the API writes with brackets.
  const dotted = /^(metadata\.(?:labels|annotations))\.(.+)$/.exec(field);
  let path = dotted ? `${dotted[1]}[${dotted[2]}]` : field;
  while (path !== "") {
    const line = source.fields[path];
    if (line !== undefined) return line;
    path = parentPath(path);
  }
  return source.line;
}

function parentPath(path: string): string {
  if (path.endsWith("]")) return path.slice(0, Math.max(0, path.lastIndexOf("[")));
  return path.slice(0, Math.max(0, path.lastIndexOf(".")));
}

/** The line of each field below a node, by its path. */
export function fieldLines(root: Node, lines: LineCounter): Readonly<Record<string, number>> {
  const fields: Record<string, number> = {};
  let count = 0;
  // Breadth first, so that the bound cuts off the deepest fields.
  let level: { readonly node: unknown; readonly path: string }[] = [{ node: root, path: "" }];
  while (level.length > 0) {
    const next: typeof level = [];
    const add = (path: string, at: unknown, value: unknown) => {
      const offset = (at as Node | null)?.range?.[0];
      if (offset === undefined || count >= maxFieldsPerObject) return;
      count++;
      fields[path] = lines.linePos(offset).line;
      if (!isAlias(value)) next.push({ node: value, path });
    };
    for (const { node, path } of level) {
      if (isMap(node)) {
        for (const pair of node.items) {
          const key = isScalar(pair.key) ? String(pair.key.value) : String(pair.key);
          add(childPath(path, key), pair.key, pair.value);
        }
      } else if (isSeq(node)) {
        for (const [index, item] of node.items.entries()) add(`${path}[${index}]`, item, item);
      }
    }
    level = next;
  }
  return fields;
}

function childPath(parent: string, key: string): string {
  if (!/^[A-Za-z0-9_$-]+$/.test(key)) return `${parent}[${key}]`;
  return parent === "" ? key : `${parent}.${key}`;
}

/**
 * kubectl's YAML has version 1.1's scalars, but neither its base-60 numbers (`12:30`) nor its timestamps; and a number has a
 * digit (`.` is a text).
 */
function asKubectlReads(tags: Tags): Tags {
  return tags
    .filter(
      (tag) =>
        typeof tag === "string" ||
        (tag.tag !== "tag:yaml.org,2002:timestamp" && (tag as { format?: string }).format !== "TIME"),
    )
    .map((tag) => {
      if (typeof tag === "string" || tag.tag !== "tag:yaml.org,2002:float" || !("test" in tag)) return tag;
      const { test } = tag;
      return test?.test(".") ? { ...tag, test: /^[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)$/ } : tag;
    });
}

/** The files that `-f` names: directories are looked through. Throws a UserError. */
export async function filesOf(path: string): Promise<readonly string[]> {
  if (path === "-") return [path];
  if (/^https?:\/\//.test(path)) {
    throw new UserError(`${path} is a URL; only files are read`, { remedy: "download it, then name the file" });
  }
  try {
    if (!(await stat(path)).isDirectory()) return [path];
    const names = await readdir(path, { recursive: true, withFileTypes: true });
    return names
      .filter((entry) => !entry.isDirectory() && /\.(ya?ml|json)$/.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name))
      .sort();
  } catch (cause) {
    throw fileError(path, cause);
  }
}

/** The text of one of them. Throws a UserError. */
export async function readText(file: string, options: ReadOptions): Promise<string> {
  if (file === "-") return (options.stdin ?? (() => Bun.stdin.text()))();
  try {
    const { size } = await stat(file);
    if (size > maxFileBytes)
      throw new UserError(`${file} has ${size} bytes; the largest manifest read has ${maxFileBytes}`);
    return await readFile(file, "utf8");
  } catch (cause) {
    throw fileError(file, cause);
  }
}

function fileError(path: string, cause: unknown): UserError {
  if (cause instanceof UserError) return cause;
  const code = (cause as NodeJS.ErrnoException).code;
  const why =
    { ENOENT: "there is no such file or directory", EACCES: "you may not read it" }[code ?? ""] ?? messageOf(cause);
  return new UserError(`${path}: ${why}`, { cause });
}

function lineOfNode(node: Node, lines: LineCounter): number {
  return lines.linePos(node.range?.[0] ?? 0).line;
}

function describeValue(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object" && value !== null) return "a mapping";
  return typeof value === "string" ? "a text" : `the ${typeof value} ${String(value)}`;
}

function sentence(message: string): string {
  return message.charAt(0).toLowerCase() + message.slice(1);
}

/** Kinds in the order they are applied in; what is not named comes last. */
const applyOrder: readonly ReadonlySet<string>[] = [
  new Set(["Namespace"]),
  new Set(["CustomResourceDefinition"]),
  new Set([
    ...["GatewayClass", "IngressClass", "StorageClass", "PriorityClass", "RuntimeClass", "ReferenceGrant"],
    ...["ServiceAccount", "Secret", "ConfigMap", "ResourceQuota", "LimitRange", "PersistentVolume"],
    ...["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "PersistentVolumeClaim", "ServiceCIDR"],
  ]),
  new Set(["Service", "EndpointSlice", "Endpoints"]),
  new Set(["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "Pod"]),
];

/** Namespaces, CustomResourceDefinitions, what others refer to, Services, workloads, then the rest; stable otherwise. */
export function orderForApply<T extends { readonly object: KubeObject }>(manifests: readonly T[]): readonly T[] {
  const rank = ({ object }: T) => {
    // A foreign kind may share a name (Knative's Service): it comes with the rest.
    if (object.kind === "Service" && parseApiVersion(object.apiVersion).group !== "") return applyOrder.length;
    const at = applyOrder.findIndex((kinds) => kinds.has(object.kind));
    return at < 0 ? applyOrder.length : at;
  };
  return manifests
    .map((manifest) => ({ manifest, rank: rank(manifest) }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ manifest }) => manifest);
}

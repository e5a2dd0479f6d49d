// Reads a routing model from files: YAML 1.2 or JSON documents, one resource each, with the model's fields (docs/static.md). Everything
// is checked here, so that what is read can be served: fields, values, references, certificates. Every problem begins with `file:line:`.

import { readFileSync } from "node:fs";
import { dirname, isAbsolute, join } from "node:path";
import { LineCounter, type Node, parseAllDocuments } from "yaml";
import { isRecord } from "../../api/data.ts";
import { suggest } from "../../api/suggest.ts";
import { messageOf } from "../../base/errors.ts";
import { checkCertificate } from "../../model/certificate.ts";
import {
  type Backend,
  emptyModel,
  type Listener,
  type Model,
  type ResourceOf,
  type ResourceType,
  resourceName,
  type Secret,
} from "../../model/model.ts";
import type { Problem } from "../../model/problems.ts";
import type { Provenance } from "../../model/provenance.ts";
import { validateModel, validateResource } from "../../model/validate.ts";
import { fieldLines, filesOf, lineOf, type ObjectSource, type ReadOptions, readText } from "../manifests.ts";
import { documents } from "./model-shapes.ts";
import type { Reading } from "./shape.ts";

export interface ReadModel {
  readonly model: Model;
  /** What is wrong; nothing of the model may be served unless this is empty. */
  readonly problems: readonly string[];
  /** Adds file and line. */
  locate(from: Provenance): Provenance;
  /** All files that were read, those that Secrets name included; `-` is left out. */
  readonly files: readonly string[];
}

type Maps = { readonly [T in ResourceType]: Map<string, ResourceOf[T]> };

/** A PEM file or a list of users is not longer. */
const maxNamedFileBytes = 4 * 1024 * 1024;

/** Throws a UserError when a file cannot be read; everything else that is wrong is in the answer. */
export async function readModel(paths: readonly string[], options: ReadOptions = {}): Promise<ReadModel> {
  const files = (await Promise.all(paths.map(filesOf))).flat();
  const reader = new Reader();
  for (const file of files) reader.read(await readText(file, options), file);
  if (reader.count === 0 && reader.problems.length === 0) {
    reader.problems.push(`${paths.join(", ")}: no document with a kind (${Object.keys(documents).join(", ")})`);
  }
  return reader.finished(files.filter((file) => file !== "-"));
}

/** The same for one text. Pure, but for the files that Secrets name. */
export function parseModel(text: string, file: string): ReadModel {
  const reader = new Reader();
  reader.read(text, file);
  return reader.finished([]);
}

class Reader {
  readonly problems: string[] = [];
  count = 0;
  readonly #model: Maps = {
    secrets: new Map(),
    backends: new Map(),
    endpoints: new Map(),
    routeTables: new Map(),
    listeners: new Map(),
  };
  /** By kind and name. */
  readonly #sources = new Map<string, ObjectSource>();
  readonly #named = new Set<string>();

  read(text: string, file: string): void {
    const lines = new LineCounter();
    const parsed = parseAllDocuments(text, { lineCounter: lines, prettyErrors: false, merge: true });
    if (!Array.isArray(parsed)) return;
    for (const document of parsed) {
      const [error] = document.errors;
      const node = document.contents as Node | null;
      if (error) {
        const { line, col } = lines.linePos(error.pos[0]);
        this.problems.push(`${file}:${line}:${col}: not YAML: ${error.message}`);
      } else if (node) {
        const line = lines.linePos(node.range?.[0] ?? 0).line;
        try {
          const value: unknown = document.toJS();
          if (value !== null) this.#document(value, { file, line, fields: fieldLines(node, lines) });
        } catch (cause) {
          this.problems.push(`${file}:${line}: not YAML: ${messageOf(cause)}`);
        }
      }
    }
  }

  #document(value: unknown, source: ObjectSource): void {
    this.count++;
    const problem = (field: string, message: string) =>
      this.problems.push(`${source.file}:${lineOf(source, field)}: ${message}`);
    const kinds = Object.keys(documents);
    const kind = isRecord(value) ? value["kind"] : undefined;
    if (!isRecord(value) || typeof kind !== "string" || !Object.hasOwn(documents, kind)) {
      const near = typeof kind === "string" ? suggest(kind, kinds) : undefined;
      const remedy = near ? `did you mean ${near}?` : `there are ${kinds.join(", ")}`;
      const api = isRecord(value) && "apiVersion" in value ? " (Kubernetes objects are for: fairlead up -f)" : "";
      problem(
        "kind",
        `${kind === undefined ? "kind is missing" : `kind ${JSON.stringify(kind)} is not known`}: ${remedy}${api}`,
      );
      return;
    }
    const named = value[kind === "Endpoints" ? "backend" : "name"];
    const name = typeof named === "string" ? named : "";
    const before = this.problems.length;
    const reading: Reading = {
      problem: (field, message) => problem(field, `${kind} ${name}: ${field === "" ? "it" : field} ${message}`),
      provenance: (field) => ({ kind, name, field }),
      file: (path) => this.#file(path, source.file),
    };
    const { type, shape } = documents[kind]!;
    const resource = shape.take(value, "", reading) as ResourceOf[ResourceType];
    const key = `${kind} ${name}`;
    const earlier = this.#sources.get(key);
    if (earlier) problem("name", `${key}: is there already, at ${earlier.file}:${earlier.line}`);
    if (this.problems.length > before) return;
    this.#sources.set(key, source);
    (this.#model[type] as Map<string, unknown>).set(resourceName(type, resource), resource);
  }

  /** Relative to the file that names it. */
  #file(path: string, from: string): string {
    const absolute = isAbsolute(path) || from === "-" ? path : join(dirname(from), path);
    this.#named.add(absolute);
    try {
      const bytes = readFileSync(absolute);
      if (bytes.length > maxNamedFileBytes) throw new Error(`has more than ${maxNamedFileBytes} bytes`);
      return bytes.toString("utf8");
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === "ENOENT") throw new Error(`${absolute}: there is no such file`);
      if (code === "EACCES") throw new Error(`${absolute}: you may not read it`);
      throw new Error(`${absolute}: ${messageOf(error)}`);
    }
  }

  finished(files: readonly string[]): ReadModel {
    const model: Model = this.#model;
    const locate = (from: Provenance): Provenance => {
      const source = this.#sources.get(`${from.kind} ${from.name}`);
      return source ? { ...from, file: source.file, line: lineOf(source, from.field) } : from;
    };
    // References can only be judged when everything that is written could be read.
    const found = this.problems.length === 0 ? problemsOf(model) : problemsAlone(model);
    for (const { field, message, from } of found) {
      const source = this.#sources.get(`${from.kind} ${from.name}`);
      const at = source ? `${source.file}:${lineOf(source, field)}: ` : "";
      this.problems.push(`${at}${from.kind} ${from.name}: ${field} ${message}`);
    }
    return { model, problems: this.problems, locate, files: [...files, ...this.#named] };
  }
}

function problemsAlone(model: Model): Problem[] {
  const of = <T extends ResourceType>(type: T) =>
    [...(model[type] as ReadonlyMap<string, ResourceOf[T]>).values()].flatMap((one) => validateResource(type, one));
  return (Object.keys(emptyModel) as ResourceType[]).flatMap(of);
}

function problemsOf(model: Model): Problem[] {
  const problems = [...validateModel(model)];
  for (const backend of model.backends.values()) {
    if (!model.endpoints.has(backend.name))
      add(backend, "name", "has no document of kind Endpoints: nobody could answer");
  }
  for (const secret of model.secrets.values()) {
    const { content } = secret;
    if (content.kind !== "certificate") continue;
    const check = checkCertificate(content.certificate, content.privateKey.reveal());
    if (!check.ok)
      add(secret, "content", check.reason.replace("tls.crt", "certificate").replace("tls.key", "privateKey"));
  }
  const places = new Map<string, Listener>();
  for (const listener of model.listeners.values()) {
    const place = `${listener.transport} ${listener.address} ${listener.port}`;
    const other = places.get(place);
    if (other) add(listener, "port", `${listener.port} of ${listener.address} is that of Listener ${other.name}, too`);
    places.set(place, listener);
  }
  return problems;

  function add({ from }: Backend | Secret | Listener, field: string, message: string | undefined): void {
    if (message !== undefined) problems.push({ field, message, from });
  }
}

// Turns the digested facts of the Kubernetes and Gateway API into `src/api/generated/`: the rows of the scheme, structural
// types, table columns, protobuf numbers, and TypeScript interfaces. Run by hand when a new API version is taken up:
//   bun scripts/generate-api.ts FOLDER     (the folder holds kubernetes-1.36/ and gateway-api-1.6.3-fields.json)
// Nothing of it runs in the product; what it writes is committed.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

interface Field {
  readonly type: string;
  readonly required?: boolean;
  readonly enum?: readonly string[];
}
interface Definition {
  readonly fields?: Readonly<Record<string, string | Field>>;
  readonly kind?: string;
  readonly type?: string;
}
interface Node {
  readonly type: string;
  readonly required?: readonly string[];
  readonly fields?: Readonly<Record<string, Node | string>>;
  readonly items?: Node;
  readonly values?: Node;
  readonly enum?: readonly string[];
}
interface GatewayKind {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly scope: string;
  readonly shortNames?: readonly string[];
  readonly categories?: readonly string[];
  readonly columns: readonly (readonly [string, string, string])[];
  readonly subresources?: readonly string[];
  readonly storage: boolean;
  readonly schema: Node;
}
interface ResourceFact {
  readonly groupVersion: string;
  readonly resource: string;
  readonly kind: string;
  readonly singular: string;
  readonly scope: string;
  readonly verbs: readonly string[];
  readonly shortNames?: readonly string[];
  readonly categories?: readonly string[];
  readonly subresources?: readonly { name: string; kind: string; verbs: readonly string[] }[];
}

const from = process.argv[2];
if (!from) {
  console.error("usage: bun scripts/generate-api.ts FOLDER");
  process.exit(2);
}
const to = join(import.meta.dir, "../src/api/generated");
mkdirSync(to, { recursive: true });
const read = <T>(name: string): T => JSON.parse(readFileSync(join(from, name), "utf8")) as T;
const write = (name: string, text: string) => writeFileSync(join(to, name), text);

const types = read<Record<string, Definition>>("kubernetes-1.36/types.json");
const resources = read<ResourceFact[]>("kubernetes-1.36/resources.json");
const columns =
  read<Record<string, readonly (readonly [string, string, string, number])[]>>("kubernetes-1.36/columns.json");
const gateway = read<GatewayKind[]>("gateway-api-1.6.3-fields.json");

const typeOfKind = new Map<string, string>();
for (const [name, definition] of Object.entries(types)) {
  if (definition.kind) typeOfKind.set(definition.kind, name);
}

const allVerbs = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
const builtinRows = resources.map((fact) => {
  const slash = fact.groupVersion.indexOf("/");
  return {
    group: slash < 0 ? "" : fact.groupVersion.slice(0, slash),
    version: fact.groupVersion.slice(slash + 1),
    kind: fact.kind,
    plural: fact.resource,
    singular: fact.singular,
    scope: fact.scope,
    ...(fact.shortNames ? { shortNames: fact.shortNames } : {}),
    ...(fact.categories ? { categories: fact.categories } : {}),
    verbs: fact.verbs,
    ...(fact.subresources ? { subresources: fact.subresources } : {}),
    columns: columns[`${fact.groupVersion} ${fact.resource}`] ?? [],
    type: typeOfKind.get(`${fact.groupVersion} ${fact.kind}`),
  };
});
const gatewayRows = gateway.map((fact) => ({
  group: fact.group,
  version: fact.version,
  kind: fact.kind,
  plural: fact.plural,
  singular: fact.kind.toLowerCase(),
  scope: fact.scope,
  ...(fact.shortNames ? { shortNames: fact.shortNames } : {}),
  ...(fact.categories ? { categories: fact.categories } : {}),
  verbs: allVerbs,
  subresources: (fact.subresources ?? []).map((name) => ({
    name,
    kind: fact.kind,
    verbs: ["get", "patch", "update"],
  })),
  custom: true,
  ...(fact.storage ? { storage: true } : {}),
  columns: fact.columns,
}));
const oneLineEach = (rows: readonly unknown[]) => `[\n${rows.map((row) => JSON.stringify(row)).join(",\n")}\n]\n`;
write("resources.json", oneLineEach([...builtinRows, ...gatewayRows]));
write(
  "definitions.json",
  `{\n${Object.entries(types)
    .map(([name, definition]) => `${JSON.stringify(name)}:${JSON.stringify(definition)}`)
    .join(",\n")}\n}\n`,
);
write(
  "gateway-schemas.json",
  `{\n${gateway.map((fact) => `${JSON.stringify(`${fact.group}/${fact.version} ${fact.kind}`)}:${JSON.stringify(fact.schema)}`).join(",\n")}\n}\n`,
);
write("protobuf.json", `${JSON.stringify(read("kubernetes-1.36/protobuf.json"))}\n`);

// TypeScript interfaces: one file per API group version, named as upstream names its Go types.

const fileOf = (typeName: string): string => {
  const parts = typeName.split(".");
  const version = parts.at(-2)!;
  const group = parts.at(-3)!;
  if (typeName.startsWith("io.k8s.apimachinery")) return "meta";
  return version === "v1" ? group : `${group}-${version}`;
};
const shortName = (typeName: string) => typeName.split(".").at(-1)!;
const scalars: Record<string, string> = {
  string: "string",
  boolean: "boolean",
  integer: "number",
  number: "number",
  quantity: "string",
  "int-or-string": "number | string",
  any: "unknown",
  object: "Readonly<Record<string, unknown>>",
};
const known: Record<string, string> = {
  ObjectMeta: "ObjectMeta",
  ManagedFieldsEntry: "ManagedFieldsEntry",
  OwnerReference: "OwnerReference",
};

function typescriptOf(type: string, needs: Set<string>): string {
  if (type.startsWith("[")) {
    const inner = typescriptOf(type.slice(1, -1), needs);
    return `readonly ${inner.includes("|") ? `(${inner})` : inner}[]`;
  }
  if (type.startsWith("{")) return `Readonly<Record<string, ${typescriptOf(type.slice(1, -1), needs)}>>`;
  const definition = types[type];
  if (definition) {
    if (!definition.fields) return scalars[(definition.type ?? "any").split(":")[0]!] ?? "unknown";
    needs.add(type);
    return shortName(type);
  }
  return scalars[type.split(":")[0]!] ?? "unknown";
}

const files = new Map<string, string[]>();
const imports = new Map<string, Map<string, Set<string>>>();
for (const [name, definition] of Object.entries(types)) {
  if (!definition.fields || shortName(name).endsWith("List")) continue;
  if (name.startsWith("io.k8s.apimachinery") && known[shortName(name)]) continue;
  const file = fileOf(name);
  const needs = new Set<string>();
  const isKind = definition.kind !== undefined && "metadata" in definition.fields;
  const lines: string[] = [];
  for (const [field, fact] of Object.entries(definition.fields)) {
    const use: Field = typeof fact === "string" ? { type: fact } : fact;
    const own = isKind && (field === "apiVersion" || field === "kind" || field === "metadata");
    if (own) continue;
    const optional = use.required && !isKind ? "" : "?";
    const text =
      use.enum && use.type === "string"
        ? use.enum.map((one) => JSON.stringify(one)).join(" | ")
        : typescriptOf(use.type, needs);
    lines.push(`  readonly ${/^[A-Za-z_]\w*$/.test(field) ? field : JSON.stringify(field)}${optional}: ${text};`);
  }
  const short = shortName(name);
  const specType = isKind ? definition.fields["spec"] : undefined;
  const statusType = isKind ? definition.fields["status"] : undefined;
  const generic = (fact: string | Field | undefined) =>
    fact === undefined ? "undefined" : typescriptOf(typeof fact === "string" ? fact : fact.type, needs);
  const head = isKind
    ? `export interface ${short} extends KubeObject<${generic(specType)}, ${generic(statusType)}>`
    : `export interface ${short}`;
  const kept = isKind ? lines.filter((line) => !/readonly (spec|status)\?/.test(line)) : lines;
  const list = files.get(file) ?? [];
  files.set(file, list);
  list.push(
    kept.length
      ? `${head} {\n${kept.join("\n")}\n}`
      : isKind
        ? `${head} {}`
        : `export type ${short} = Readonly<Record<string, never>>;`,
  );
  const wanted = imports.get(file) ?? new Map<string, Set<string>>();
  imports.set(file, wanted);
  if (isKind) wanted.set("../object", new Set([...(wanted.get("../object") ?? []), "KubeObject"]));
  for (const need of needs) {
    const short2 = shortName(need);
    const path = need.startsWith("io.k8s.apimachinery") && known[short2] ? "../object" : `./${fileOf(need)}`;
    if (path === `./${file}`) continue;
    wanted.set(path, new Set([...(wanted.get(path) ?? []), short2]));
  }
}
for (const [file, parts] of files) {
  const head = [...(imports.get(file) ?? [])]
    .map(([path, names]) => `import type { ${[...names].sort().join(", ")} } from "${path}.ts";`)
    .join("\n");
  write(`${file}.ts`, `// Generated by scripts/generate-api.ts; do not edit.\n\n${head}\n\n${parts.join("\n\n")}\n`);
}

// The Gateway API's nested schemas: each object is named by its path in the kind (`HTTPRouteRule`, `HTTPRouteRuleMatch`).

const gatewayParts: string[] = [];
const singular = (word: string) =>
  word.endsWith("ies")
    ? `${word.slice(0, -3)}y`
    : /(sses|ches|xes)$/.test(word)
      ? word.slice(0, -2)
      : /[^s]s$/.test(word)
        ? word.slice(0, -1)
        : word;
const upper = (word: string) => word[0]!.toUpperCase() + word.slice(1);
function nodeType(node: Node | string, name: string): string {
  const one: Node = typeof node === "string" ? { type: node } : node;
  if (one.enum) return one.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (one.type === "array") {
    const inner = one.items ? nodeType(one.items, singular(name)) : "unknown";
    return `readonly ${inner.includes("|") ? `(${inner})` : inner}[]`;
  }
  if (one.type === "object") {
    if (one.values) return `Readonly<Record<string, ${nodeType(one.values, singular(name))}>>`;
    if (!one.fields) return "Readonly<Record<string, unknown>>";
    if (name.endsWith("Condition")) return "Condition";
    const lines = Object.entries(one.fields).map(([field, child]) => {
      const base = /(Spec|Status)$/.test(name) && !/RouteStatus$/.test(name) ? name.replace(/Spec$/, "") : name;
      const optional = one.required?.includes(field) ? "" : "?";
      return `  readonly ${/^\w+$/.test(field) ? field : JSON.stringify(field)}${optional}: ${nodeType(child, base + upper(field))};`;
    });
    gatewayParts.push(`export interface ${name} {\n${lines.join("\n")}\n}`);
    return name;
  }
  return scalars[one.type] ?? "unknown";
}
const done = new Set<string>();
for (const fact of [...gateway].sort((a, b) => Number(b.storage) - Number(a.storage))) {
  if (done.has(fact.kind)) continue;
  done.add(fact.kind);
  const spec = fact.schema.fields?.["spec"];
  const status = fact.schema.fields?.["status"];
  const specName = spec ? nodeType(spec, `${fact.kind}Spec`) : "undefined";
  const statusName = status ? nodeType(status, `${fact.kind}Status`) : "undefined";
  gatewayParts.push(`export interface ${fact.kind} extends KubeObject<${specName}, ${statusName}> {}`);
}
write(
  "gateway.ts",
  `// Generated by scripts/generate-api.ts; do not edit.\n\nimport type { KubeObject } from "../object.ts";\nimport type { Condition } from "./meta.ts";\n\n${gatewayParts.join("\n\n")}\n`,
);

// Resource constants for code that names a kind.

const constantNames = new Map<string, string>();
const constantLines: string[] = [];
for (const row of [...builtinRows, ...gatewayRows]) {
  if ("custom" in row && !("storage" in row)) continue;
  const base =
    row.kind.endsWith("s") && row.plural.endsWith("s") && row.plural === row.kind.toLowerCase()
      ? row.kind
      : pluralOf(row.kind, row.plural);
  const clash = constantNames.get(base);
  if (clash === `${row.plural}.${row.group}`) continue; // an older version of the same kind
  const name = base === "Endpoints" ? "CoreEndpoints" : clash ? `${base}${upper(row.group.split(".")[0]!)}` : base;
  constantNames.set(name, `${row.plural}.${row.group}`);
  const { group, version, kind, plural, singular: one, scope, verbs } = row;
  const more = {
    ...("shortNames" in row && row.shortNames ? { shortNames: row.shortNames } : {}),
    ...("categories" in row && row.categories ? { categories: row.categories } : {}),
    ...(row.subresources?.length ? { subresources: row.subresources.map((each) => each.name) } : {}),
  };
  constantLines.push(
    `export const ${name}: Resource = ${JSON.stringify({ group, version, kind, plural, singular: one, scope, verbs, ...more })};`,
  );
}
function pluralOf(kind: string, plural: string): string {
  let at = 0;
  while (at < kind.length && kind[at]!.toLowerCase() === plural[at]) at++;
  return kind.slice(0, at) + plural.slice(at);
}
write(
  "constants.ts",
  `// Generated by scripts/generate-api.ts; do not edit.\n\nimport type { Resource } from "../resource.ts";\n\n${constantLines.join("\n")}\n`,
);
console.log(`${builtinRows.length + gatewayRows.length} resources, ${Object.keys(types).length} types`);

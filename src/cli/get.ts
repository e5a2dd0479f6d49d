// `fairlead get`: the server's own tables, printed as kubectl prints them; for people without kubectl.

import { stringify } from "yaml";
import type { Resource } from "../api/resource.ts";
import { UserError } from "../base/errors.ts";
import { defaultStackName } from "../cluster/stack.ts";
import { apiPath, StackClient, typeName } from "./api-client.ts";
import { type Command, nameOption, type Words } from "./command.ts";
import { columns, print, printError } from "./terminal.ts";

const tableAccept = "application/json;as=Table;g=meta.k8s.io;v=v1,application/json";

interface Table {
  readonly columnDefinitions: readonly { readonly name: string; readonly priority: number }[];
  readonly rows: readonly {
    readonly cells: readonly unknown[];
    readonly object?: { readonly metadata: { readonly name: string; readonly namespace?: string } };
  }[];
}

export const command: Command = {
  name: "get",
  summary: "Show objects of the stack's API server",
  usage: "get TYPE[,TYPE…] [NAME…] [options]",
  options: {
    namespace: { type: "string", short: "n", value: "NAMESPACE", help: 'Whose objects. Default: "default".' },
    "all-namespaces": { type: "boolean", short: "A", help: "Objects of all namespaces." },
    selector: {
      type: "string",
      short: "l",
      value: "SELECTOR",
      help: "Only objects with these labels: app=cart,tier!=db.",
    },
    output: { type: "string", short: "o", value: "FORMAT", help: "wide, yaml, json or name." },
    name: nameOption,
  },
  examples: [
    ["fairlead get gateways,httproutes -A", "All Gateways and routes"],
    ["fairlead get svc cart -o yaml", "One Service as it is stored"],
  ],
  run,
};

async function run(words: Words): Promise<number> {
  const [types, ...names] = words.positionals;
  if (types === undefined) {
    throw new UserError("get needs a type of object", { remedy: "For example: fairlead get services", exitCode: 2 });
  }
  const format = words.text("output");
  if (format !== undefined && !["wide", "yaml", "json", "name"].includes(format)) {
    throw new UserError(`-o ${format}: not a format`, { remedy: "Use wide, yaml, json or name.", exitCode: 2 });
  }
  const client = StackClient.of(words.text("name") ?? defaultStackName);
  const resources = await Promise.all(types.split(",").map((type) => client.resourceNamed(type)));
  let shown = 0;
  for (const resource of resources) {
    const namespace = words.flag("all-namespaces") ? undefined : (words.text("namespace") ?? "default");
    if (names.length > 0 && resource.scope === "Namespaced" && namespace === undefined) {
      throw new UserError("a name needs one namespace", { remedy: "Use -n NAMESPACE instead of -A.", exitCode: 2 });
    }
    const prefix = resources.length > 1;
    if (format === "yaml" || format === "json")
      shown += await printObjects(client, resource, namespace, names, words, format);
    else shown += await printTable(client, resource, namespace, names, words, { prefix, spaced: prefix && shown > 0 });
  }
  if (shown === 0) printError(emptyNotice(resources, words));
  return 0;
}

function emptyNotice(resources: readonly Resource[], words: Words): string {
  if (words.flag("all-namespaces") || resources.every((resource) => resource.scope !== "Namespaced"))
    return "No resources found";
  return `No resources found in ${words.text("namespace") ?? "default"} namespace.`;
}

function paths(resource: Resource, namespace: string | undefined, names: readonly string[], words: Words): string[] {
  if (names.length > 0) return names.map((name) => apiPath(resource, namespace, name));
  const selector = words.text("selector");
  return [apiPath(resource, namespace) + (selector ? `?labelSelector=${encodeURIComponent(selector)}` : "")];
}

async function printObjects(
  client: StackClient,
  resource: Resource,
  namespace: string | undefined,
  names: readonly string[],
  words: Words,
  format: "yaml" | "json",
): Promise<number> {
  const found: unknown[] = [];
  for (const path of paths(resource, namespace, names, words)) {
    const { body } = await client.call("GET", path);
    found.push(...(names.length > 0 ? [body] : (body.items as unknown[])));
  }
  if (found.length === 0) return 0;
  const shown = names.length === 1 ? found[0] : { apiVersion: "v1", kind: "List", metadata: {}, items: found };
  print(format === "json" ? JSON.stringify(shown, undefined, 4) : stringify(shown, { lineWidth: 0 }).trimEnd());
  return found.length;
}

async function printTable(
  client: StackClient,
  resource: Resource,
  namespace: string | undefined,
  names: readonly string[],
  words: Words,
  look: { prefix: boolean; spaced: boolean },
): Promise<number> {
  const tables = await Promise.all(
    paths(resource, namespace, names, words).map(async (path) => {
      const { body } = await client.call("GET", path, { accept: tableAccept });
      return body as unknown as Table;
    }),
  );
  const rows = tables.flatMap((table) => table.rows);
  if (rows.length === 0) return 0;
  const kind = typeName(resource);
  if (words.text("output") === "name") {
    for (const row of rows) print(`${kind}/${row.object?.metadata.name ?? row.cells[0]}`);
    return rows.length;
  }
  const wide = words.text("output") === "wide";
  const definitions = tables[0]!.columnDefinitions;
  const shown = definitions.map((_, at) => at).filter((at) => wide || definitions[at]!.priority === 0);
  const spaces = words.flag("all-namespaces") && resource.scope === "Namespaced";
  const header = [...(spaces ? ["NAMESPACE"] : []), ...shown.map((at) => definitions[at]!.name.toUpperCase())];
  const text = rows.map((row) => [
    ...(spaces ? [row.object?.metadata.namespace ?? ""] : []),
    ...shown.map((at, column) => {
      const cell = row.cells[at];
      const value = cell === null || cell === undefined ? "<none>" : String(cell);
      return look.prefix && column === 0 ? `${kind}/${value}` : value;
    }),
  ]);
  if (look.spaced) print();
  print(columns(header, text));
  return rows.length;
}

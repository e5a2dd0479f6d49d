// `fairlead delete`: objects out of a running stack, by name or as files name them.

import type { Resource } from "../api/resource.ts";
import { StatusError } from "../api/status-error.ts";
import { UserError } from "../base/errors.ts";
import { orderForApply, readManifests } from "../cluster/manifests.ts";
import { defaultStackName } from "../cluster/stack.ts";
import { apiPath, StackClient, typeName } from "./api-client.ts";
import { type Command, nameOption, type Words } from "./command.ts";
import { print, printError } from "./terminal.ts";

export const command: Command = {
  name: "delete",
  summary: "Delete objects of a running stack",
  usage: "delete TYPE NAME… | -f FILE|DIR|- [options]",
  options: {
    filename: {
      type: "string",
      short: "f",
      value: "FILE|DIR|-",
      multiple: true,
      help: "Delete what these files contain.",
    },
    namespace: { type: "string", short: "n", value: "NAMESPACE", help: 'Default: "default".' },
    name: nameOption,
  },
  examples: [
    ["fairlead delete pod cart-7d8f9c-abc12 -n shop", "One pod"],
    ["fairlead delete -f routes.yaml", "All that a file contains"],
  ],
  run,
};

interface Target {
  readonly resource: Resource;
  readonly namespace: string | undefined;
  readonly name: string;
}

async function run(words: Words): Promise<number> {
  const client = StackClient.of(words.text("name") ?? defaultStackName);
  const targets = await (words.texts("filename").length > 0
    ? targetsOfFiles(client, words)
    : targetsNamed(client, words));
  let failed = 0;
  for (const { resource, namespace, name } of targets) {
    try {
      await client.call("DELETE", apiPath(resource, namespace, name), { body: { propagationPolicy: "Background" } });
      print(`${typeName(resource)} "${name}" deleted`);
    } catch (error) {
      if (!(error instanceof StatusError)) throw error;
      printError(`Error from server (${error.reason}): ${error.message}`);
      failed++;
    }
  }
  return failed > 0 ? 1 : 0;
}

async function targetsNamed(client: StackClient, words: Words): Promise<Target[]> {
  const [type, ...names] = words.positionals;
  if (type === undefined || names.length === 0) {
    throw new UserError("delete needs a type and a name, or -f", {
      remedy: "For example: fairlead delete service cart -n shop",
      exitCode: 2,
    });
  }
  const resource = await client.resourceNamed(type);
  const namespace = resource.scope === "Namespaced" ? (words.text("namespace") ?? "default") : undefined;
  return names.map((name) => ({ resource, namespace, name }));
}

/** What depends on others goes first: the order of applying, backwards. */
async function targetsOfFiles(client: StackClient, words: Words): Promise<Target[]> {
  const manifests = [...orderForApply(await readManifests(words.texts("filename")))].reverse();
  const targets: Target[] = [];
  for (const { object } of manifests) {
    const resource = await client.resourceOf(object);
    if (!resource) continue; // a kind whose definition is gone has no objects left
    const namespace =
      resource.scope === "Namespaced" ? (object.metadata.namespace ?? words.text("namespace") ?? "default") : undefined;
    targets.push({ resource, namespace, name: object.metadata.name });
  }
  return targets;
}

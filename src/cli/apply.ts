// `fairlead apply`: manifests into a running stack, for people without kubectl.

import { UserError } from "../base/errors.ts";
import { ControlClient } from "../cluster/control-api.ts";
import { readManifests } from "../cluster/manifests.ts";
import { defaultStackName } from "../cluster/stack.ts";
import { StackClient } from "./api-client.ts";
import { appliedName, applyManifests } from "./applying.ts";
import { type Command, nameOption } from "./command.ts";
import { recordSourcesOf } from "./recording.ts";
import { print, printError, yellow } from "./terminal.ts";

export const command: Command = {
  name: "apply",
  summary: "Apply manifests to a running stack",
  usage: "apply -f FILE|DIR|- [options]",
  description: "Everything is checked before anything is written: a file with a mistake changes nothing.",
  options: {
    filename: {
      type: "string",
      short: "f",
      value: "FILE|DIR|-",
      multiple: true,
      help: "What to apply; may be given again. - is standard input.",
    },
    namespace: {
      type: "string",
      short: "n",
      value: "NAMESPACE",
      help: 'For objects that name none. Default: "default".',
    },
    name: nameOption,
  },
  examples: [
    ["fairlead apply -f routes.yaml", "One file"],
    ["cat routes.yaml | fairlead apply -f -", "Standard input"],
  ],
  async run(words) {
    const files = words.texts("filename");
    if (files.length === 0 || words.positionals.length > 0) {
      throw new UserError("apply needs files", { remedy: "For example: fairlead apply -f routes.yaml", exitCode: 2 });
    }
    const stack = words.text("name") ?? defaultStackName;
    const manifests = await readManifests(files);
    const applied = await applyManifests(StackClient.of(stack), manifests, words.text("namespace") ?? "default");
    await recordSourcesOf(new ControlClient(stack), applied);
    for (const one of applied) {
      for (const warning of one.warnings) printError(`${yellow("Warning:")} ${warning}`);
      print(`${appliedName(one)} ${one.what}`);
    }
    return 0;
  },
};

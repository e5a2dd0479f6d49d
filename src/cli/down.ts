// `fairlead down`: ends a stack and removes everything that it made.

import { UserError } from "../base/errors.ts";
import { checkStackName, defaultStackName, stackNames } from "../cluster/stack.ts";
import { tearDown } from "../cluster/teardown.ts";
import { type Command, nameOption } from "./command.ts";
import { duration, print } from "./terminal.ts";

export const command: Command = {
  name: "down",
  summary: "End a stack and remove everything that it made",
  usage: "down [--name NAME | --all] [--keep-data]",
  description: "No process, namespace, link, route, rule or file remains, also after a crash.",
  options: {
    all: { type: "boolean", help: "All stacks of this user." },
    "keep-data": {
      type: "boolean",
      help: "Keep the stored objects and the certificate authority: the next up goes on with them.",
    },
    name: nameOption,
  },
  examples: [
    ["fairlead down", "The default stack"],
    ["fairlead down --all", "All of them"],
  ],
  async run(words) {
    if (words.positionals.length > 0) {
      throw new UserError(`down takes no "${words.positionals[0]}"`, {
        remedy: "Name a stack with --name.",
        exitCode: 2,
      });
    }
    const names = words.flag("all") ? stackNames() : [checkStackName(words.text("name") ?? defaultStackName)];
    if (names.length === 0) print("No stack is there.");
    for (const name of names) {
      const began = performance.now();
      const { found, processes } = await tearDown(name, { keepData: words.flag("keep-data") });
      if (found)
        print(`Stack "${name}" is down: ${processes} processes ended (${duration(performance.now() - began)}).`);
      else print(`No stack "${name}" is there.`);
    }
    return 0;
  },
};

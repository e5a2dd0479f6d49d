// `fairlead kubeconfig`: where the stack's kubeconfig is, for kubectl and every other client.

import { existsSync } from "node:fs";
import { UserError } from "../base/errors.ts";
import { defaultStackName, stackPaths } from "../cluster/stack.ts";
import { type Command, nameOption } from "./command.ts";
import { print } from "./terminal.ts";

export const command: Command = {
  name: "kubeconfig",
  summary: "Print the path of the stack's kubeconfig",
  usage: "kubeconfig [--name NAME]",
  options: { name: nameOption },
  examples: [["export KUBECONFIG=$(fairlead kubeconfig)", "Let kubectl talk to the stack"]],
  async run(words) {
    const name = words.text("name") ?? defaultStackName;
    const { kubeconfig } = stackPaths(name);
    if (!existsSync(kubeconfig)) {
      throw new UserError(`there is no stack "${name}"`, { remedy: "Start one with: fairlead up" });
    }
    print(kubeconfig);
    return 0;
  },
};

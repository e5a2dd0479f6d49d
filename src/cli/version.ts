// `fairlead version`: what runs here.

import project from "../../package.json" with { type: "json" };
import type { Command } from "./command.ts";
import { print } from "./terminal.ts";

export const command: Command = {
  name: "version",
  summary: "Print the versions of Fairlead and its runtime",
  usage: "version [-o json]",
  options: { output: { type: "string", short: "o", value: "FORMAT", help: "json" } },
  examples: [["fairlead version", "Both versions"]],
  async run(words) {
    const versions = { fairlead: project.version, bun: Bun.version, kubernetesApi: "1.36", gatewayApi: "1.6.3" };
    if (words.text("output") === "json") print(JSON.stringify(versions));
    else
      print(
        `fairlead ${versions.fairlead} (Kubernetes API ${versions.kubernetesApi}, Gateway API ${versions.gatewayApi}, Bun ${versions.bun})`,
      );
    return 0;
  },
};

// `fairlead status`: what of a stack runs, and what does not.

import { UserError } from "../base/errors.ts";
import { ControlClient, type StackStatus } from "../cluster/control-api.ts";
import { defaultStackName, readSettings, stackNames } from "../cluster/stack.ts";
import { type Command, nameOption } from "./command.ts";
import { bold, columns, green, print, red, yellow } from "./terminal.ts";

export const command: Command = {
  name: "status",
  summary: "Show what of a stack runs, its proxies and its problems",
  usage: "status [--name NAME] [-o json]",
  options: { output: { type: "string", short: "o", value: "FORMAT", help: "json" }, name: nameOption },
  examples: [["fairlead status", "The default stack"]],
  async run(words) {
    const name = words.text("name") ?? defaultStackName;
    if (!readSettings(name)) {
      const others = stackNames();
      throw new UserError(`there is no stack "${name}"`, {
        remedy: `${others.length > 0 ? `There are: ${others.join(", ")}. ` : ""}Start one with: fairlead up`,
      });
    }
    const status = await new ControlClient(name).status();
    if (words.text("output") === "json") print(JSON.stringify(status, undefined, 2));
    else printStatus(status);
    const down =
      status.processes.some(({ state }) => state !== "running") || status.proxies.some((proxy) => !proxy.connected);
    return down || status.errors.length > 0 ? 1 : 0;
  },
};

function printStatus(status: StackStatus): void {
  print(`${bold(status.name)}: ${status.network} network, API server ${status.apiServer}`);
  print(
    `pods ${status.ranges.pods}, Services ${status.ranges.services}, load balancers ${status.ranges.loadBalancers}`,
  );
  print();
  print(
    columns(
      ["NODE", "READY", "ADDRESS", "PODS"],
      status.nodes.map((node) => [node.name, String(node.ready), node.address, String(node.pods)]),
    ),
  );
  print();
  const processes = status.processes.map(({ component, pid, state, restarts }) => [
    component,
    String(pid ?? ""),
    state,
    String(restarts),
  ]);
  print(columns(["PROCESS", "PID", "STATE", "RESTARTS"], processes));
  print();
  const proxies = status.proxies.map((proxy) => {
    const state = !proxy.connected ? "DISCONNECTED" : proxy.sent === proxy.applied ? "SYNCED" : "STALE";
    return [proxy.proxy, state, String(proxy.applied), String(proxy.rejected.length)];
  });
  print(columns(["PROXY", "STATE", "VERSION", "REJECTED"], proxies));
  for (const proxy of status.proxies)
    for (const rejected of proxy.rejected) print(red(`  ${proxy.proxy}: ${rejected}`));
  for (const { port, effective } of status.movedPorts) print(`port ${port} is served at ${effective}`);
  print();
  for (const error of status.errors) print(red(error));
  for (const finding of status.findings) print(finding.startsWith("error") ? red(finding) : yellow(finding));
  if (status.errors.length + status.findings.length === 0) print(green("No problems."));
}

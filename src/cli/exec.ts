// `fairlead exec`: a host command inside a pod's or a node's network. Files and programs are the host's; addresses, routes,
// firewall rules and name resolution are the pod's.

import { UserError } from "../base/errors.ts";
import { ControlClient } from "../cluster/control-api.ts";
import { defaultStackName } from "../cluster/stack.ts";
import { type Command, nameOption } from "./command.ts";
import { printError } from "./terminal.ts";

export const command: Command = {
  name: "exec",
  summary: "Run a host command inside a pod's or a node's network",
  usage: "exec NAMESPACE/POD|node/NAME -- COMMAND [ARGUMENT…]",
  options: { name: nameOption },
  takesCommand: true,
  examples: [
    ["fairlead exec node/node-1 -- iptables -t nat -L KUBE-SERVICES -n", "The Service rules of a node"],
    ["fairlead exec shop/cart-7d8f9c-abc12 -- curl -s http://catalog", "A request as a pod makes it, its DNS included"],
  ],
  async run(words) {
    const [target, ...more] = words.positionals;
    if (target === undefined || more.length > 0 || words.rest.length === 0) {
      throw new UserError("exec needs a target, -- and a command", {
        remedy: "For example: fairlead exec node/node-1 -- ip route",
        exitCode: 2,
      });
    }
    const plan = await new ControlClient(words.text("name") ?? defaultStackName).execPlan(target);
    if (plan.note) printError(plan.note);
    let child: Bun.Subprocess;
    try {
      child = Bun.spawn([...plan.argv, ...words.rest], {
        stdio: ["inherit", "inherit", "inherit"],
      });
    } catch {
      throw new UserError(`there is no program "${words.rest[0]}" on this machine`, { exitCode: 127 });
    }
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
    return child.exited;
  },
};

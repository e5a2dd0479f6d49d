// What runs inside the User-Mode Linux machine for the whole stack: `fairlead up --proxy-mode ipvs` with three nodes, the packets
// of `packet-table.ts` through it, and a look at what people see. Reports as ipvs-scenario.ts does.

import { PacketTable, type Source } from "../e2e/packet-table.ts";
import { TestStack } from "../e2e/stack.ts";

function report(step: string, value: unknown): void {
  console.log(`fl-uml: ${step} ${JSON.stringify(value)}`);
}

/** One of each kind: the machine is slow, and other modes send from all. */
const sources: readonly Source[] = ["client-1", "far-3", "node-1", "node-2", "host"];

const stack = new TestStack("packets-ipvs");
// One slow processor: fewer at a time, and more patience with them.
const table = new PacketTable(stack, { mode: "ipvs", patience: 2_500, atOnce: 24, times: 2 });

async function main(): Promise<void> {
  await table.up();
  report("up", Math.round(performance.now()));
  for (const source of sources) report(`from ${source}`, [await table.send(source)]);
  report("seen", [Object.fromEntries(table.seen)]);
  const name = "http://web-cluster-cluster/";
  report("by name", [(await stack.exec("default/web-1", "curl", "-sS", "--max-time", "5", name)).out]);
  report("listing", [(await stack.exec("node/node-1", "ipvsadm", "-Ln")).out]);
  report("down", [(await stack.fairlead("down")).out]);
}

main().then(
  () => {
    report("done", Math.round(performance.now()));
    process.exit(0);
  },
  (error) => {
    report("failed", [error instanceof Error ? (error.stack ?? error.message) : String(error)]);
    process.exit(1);
  },
);

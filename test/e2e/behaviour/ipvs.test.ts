// A whole stack in ipvs mode inside of User-Mode Linux (test/uml/service-cases.ts): packets of every kind, and what is particular to
// the mode. This file reads what came out.

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { cannotBoot, runInMachine } from "../../uml/machine.ts";

/** Milliseconds from start to halt; more than a minute is usual, and more where the cores have other work. */
const longest = 400_000;

const reason = cannotBoot(["ipvsadm", "ipset", "ip", "xtables-legacy-multi"]);
const machine = reason
  ? undefined
  : await runInMachine(join(import.meta.dir, "../../uml/services-scenario.ts"), longest);
const skipped =
  reason ??
  (machine?.booted ? undefined : `User-Mode Linux does not start here: ${machine?.output.trim().split("\n").at(-1)}`);
const step = (name: string) => (machine?.steps.get(name) ?? []) as readonly string[];
if (machine?.booted && (step("failed cases").length > 0 || !machine.steps.has("done"))) console.log(machine.output);

describe.skipIf(skipped !== undefined)("Services [ipvs] in User-Mode Linux", () => {
  test("packets go where explain says, load balancers follow endpoints, a rolling update breaks nothing", () => {
    for (const line of step("said")) console.log(line);
    expect(step("failed cases")).toEqual([]);
    expect(step("passed")).toHaveLength(10);
    expect(step("said")).toHaveLength(2);
  });
});

if (skipped !== undefined) console.log(`skipped: Services in ipvs mode: ${skipped}`);

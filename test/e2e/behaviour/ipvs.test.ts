// A selection of the Service cases in ipvs mode, on a whole stack inside of User-Mode Linux (test/uml/services-scenario.ts). This file
// reads what came out.

import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { cannotBoot, runInMachine } from "../../uml/machine.ts";

/** Milliseconds from start to halt; more than a minute is usual, and more where the cores have other work. */
const longest = 280_000;

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
  test("all that were selected pass", () => {
    console.log(step("rolled").join());
    expect(step("failed cases")).toEqual([]);
    expect(step("passed")).toHaveLength(step("selected").length);
    expect(step("selected").length).toBeGreaterThan(5);
  });
});

if (skipped !== undefined) console.log(`skipped: Services in ipvs mode: ${skipped}`);

// A table that another tool has locked: the rules sink says so, waits, and writes when the lock is free; nothing is half written.
// The lock file is one of the test's own (iptables takes its name from the environment), so that nobody else waits.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { createLogger } from "../../src/base/log.ts";
import { Graph } from "../../src/collections/graph.ts";
import { source } from "../../src/collections/source.ts";
import { iptables } from "../../src/node/iptables/iptables.ts";
import { startRulesSink } from "../../src/node/rules-sink.ts";
import type { ServicePort } from "../../src/services/service-table.ts";
import { cartRow, runIn } from "./service-network.ts";
import { eventually, isRoot, run } from "./stack.ts";

const missing = isRoot ? ["iptables-legacy-restore", "flock"].find((tool) => !Bun.which(tool)) : "root";
if (missing) console.log(`skipped: a locked table: needs ${missing}`);

describe.skipIf(missing !== undefined)("with a table that another tool has locked", () => {
  const namespace = `fl-t-lock${process.pid}`;
  const directory = mkdtempSync(join(tmpdir(), "fl-t-"));
  const lockFile = join(directory, "xtables.lock");
  beforeAll(async () => void (await run(["ip", "netns", "add", namespace])));
  afterAll(async () => {
    await run(["ip", "netns", "delete", namespace]);
    rmSync(directory, { recursive: true });
  });

  test("the error names the lock, and the rules are written when it is free", async () => {
    const holder = Bun.spawn(["flock", "-o", lockFile, "sh", "-c", "echo held; exec sleep 60"], { stdout: "pipe" });
    await holder.stdout.getReader().read();
    const inside = runIn(namespace, "legacy");
    const rules = iptables(
      (argv, stdin) => {
        const [tool = "", ...rest] = argv;
        const name = tool.replace(/^(ip6?tables)/, "$1-legacy");
        return inside(["env", `XTABLES_LOCKFILE=${lockFile}`, name, ...rest], stdin);
      },
      { family: 4 },
    );
    const table = source<ServicePort>("test table", { graph: new Graph() });
    const warned: string[] = [];
    const log = createLogger((line) => warned.push(line), "warn");
    const sink = startRulesSink({ table, rules, clock: systemClock, log });
    const row = cartRow([{ address: "10.244.9.2", port: 8080, local: true }]);
    table.replace([[row.key, row]]);
    const failed = await eventually(
      async () => sink.state.lastError,
      (error) => error !== undefined,
      20_000,
    );
    expect(failed).toContain("xtables.lock");
    expect(sink.state.inSync).toBe(false);
    expect(warned.join("\n")).toContain("service rules were not written; trying again");
    expect((await inside(["iptables-save"])).stdout).not.toContain("KUBE-SVC");

    holder.kill();
    await holder.exited;
    await sink.settled();
    expect(sink.state.lastError).toBeUndefined();
    expect((await inside(["iptables-save"])).stdout).toContain("shop/cart:http cluster IP");
    sink.dispose();
  }, 60_000);
});

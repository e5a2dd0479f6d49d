// A table that another tool has locked: the rules sink says so, waits, and writes when the lock is free; nothing is half written.
// The lock file of iptables is one of the test's own (the tool takes its name from the environment), so that nobody else waits.
// nftables has no lock, but the kernel refuses with EBUSY: an nft of the test's own does so a few times, then runs the real one.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { createLogger } from "../../src/base/log.ts";
import { Graph } from "../../src/collections/graph.ts";
import { source } from "../../src/collections/source.ts";
import { iptables } from "../../src/node/iptables/iptables.ts";
import { nftables } from "../../src/node/nftables/nftables.ts";
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

const noNft = isRoot ? (Bun.which("nft") ? undefined : "nft") : "root";
if (noNft) console.log(`skipped: a busy nftables table: needs ${noNft}`);

describe.skipIf(noNft !== undefined)("with a table that the kernel says is busy", () => {
  const namespace = `fl-t-busy${process.pid}`;
  const directory = mkdtempSync(join(tmpdir(), "fl-t-"));
  beforeAll(async () => void (await run(["ip", "netns", "add", namespace])));
  afterAll(async () => {
    await run(["ip", "netns", "delete", namespace]);
    rmSync(directory, { recursive: true });
  });

  test("the error has the kernel's words, Services that were there stay, and the change is written at last", async () => {
    const left = join(directory, "left");
    writeFileSync(left, "0");
    const nft = join(directory, "nft");
    writeFileSync(
      nft,
      `#!/bin/sh
left=$(cat ${left})
case "$*" in *"-f"*) if [ "$left" -gt 0 ]; then
  echo $((left - 1)) > ${left}
  cat > /dev/null
  echo "/dev/stdin:1:1-20: Error: Could not process rule: Device or resource busy" >&2
  exit 1
fi;; esac
exec ${Bun.which("nft")} "$@"
`,
    );
    chmodSync(nft, 0o755);
    const inside = runIn(namespace);
    const rules = nftables(([, ...rest], stdin) => inside([nft, ...rest], stdin), { family: 4 });
    const table = source<ServicePort>("test table", { graph: new Graph() });
    const errors: string[] = [];
    const log = createLogger((line) => errors.push(JSON.parse(line).error), "warn");
    const sink = startRulesSink({ table, rules, clock: systemClock, log });
    const cart = cartRow([{ address: "10.244.9.2", port: 8080, local: true }]);
    const shop = {
      ...cart,
      key: "shop/shop:http/TCP/4",
      name: "shop/shop:http",
      service: "shop",
      clusterIP: "10.96.9.10",
    };
    const services = async () => (await inside(["nft", "list", "map", "ip", "kube-proxy", "service-ips"])).stdout;
    table.set(cart.key, cart);
    await sink.settled();
    expect(await services()).toContain(cart.clusterIP);

    // A transaction that ends in deletions is tried in two parts before it counts as refused.
    writeFileSync(left, "5");
    table.set(shop.key, shop);
    await eventually(
      async () => errors.length,
      (count) => count > 0,
      20_000,
    );
    expect(await services()).toContain(`${cart.clusterIP} . tcp`);
    await sink.settled();
    expect(new Set(errors)).toEqual(
      new Set([expect.stringMatching(/^nft failed \(exit code 1\): .*Device or resource busy: add /)]),
    );
    expect(readFileSync(left, "utf8").trim()).toBe("0");
    expect(sink.state.lastError).toBeUndefined();
    for (const one of [cart, shop]) expect(await services()).toContain(`${one.clusterIP} . tcp`);
    sink.dispose();
  }, 60_000);
});

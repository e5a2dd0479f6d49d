// `fairlead dns` by itself: over files, and over an API server whose objects change.

import { afterEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Services } from "../../src/api/kinds.ts";
import { startApiStack } from "./api-stack.ts";
import { eventually, root, run } from "./stack.ts";

const hasDig = Bun.which("dig") !== null;
if (!hasDig) console.log("skipped: fairlead dns: it needs dig");

const web = (name: string, clusterIP: string) => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name, namespace: "default" },
  spec: { clusterIP, clusterIPs: [clusterIP], ports: [{ name: "http", port: 80 }] },
});

describe.skipIf(!hasDig)("fairlead dns", () => {
  const ends: (() => unknown)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });

  /** Starts it on a free port; gives a way to ask. */
  async function start(...words: string[]): Promise<(...words: string[]) => Promise<string[]>> {
    const child = Bun.spawn([join(root, "bin/fairlead"), "dns", "--listen", "127.0.0.1:0", ...words], {
      stdout: "pipe",
      stderr: "inherit",
    });
    ends.push(async () => {
      child.kill();
      await child.exited;
    });
    const reader = child.stdout.getReader();
    const line = new TextDecoder().decode((await reader.read()).value);
    const port = /port (\d+)/.exec(line)?.[1];
    return async (...question) =>
      (await run(["dig", "@127.0.0.1", "-p", port!, "+short", "+tries=1", "+timeout=2", ...question])).out
        .split("\n")
        .filter(Boolean);
  }

  test("answers from files", async () => {
    const folder = mkdtempSync(join(tmpdir(), "fl-t-dns-"));
    ends.push(() => rmSync(folder, { recursive: true }));
    const file = join(folder, "objects.json");
    writeFileSync(file, JSON.stringify({ apiVersion: "v1", kind: "List", items: [web("web", "10.96.0.20")] }));
    const ask = await start("-f", file, "--zone", "acme.local");
    expect(await ask("web.default.svc.acme.local")).toEqual(["10.96.0.20"]);
    expect(await ask("-x", "10.96.0.20")).toEqual(["web.default.svc.acme.local."]);
  });

  test("follows an API server", async () => {
    const api = await startApiStack();
    ends.push(() => api.stop());
    const ask = await start("--kubeconfig", api.kubeconfig);
    await api.store.create(Services, web("late", "10.96.0.30"));
    expect(
      await eventually(
        () => ask("late.default.svc.cluster.local"),
        (all) => all.length > 0,
      ),
    ).toEqual(["10.96.0.30"]);
  });

  test("says what is wrong with its words", async () => {
    for (const [words, message] of [
      [[], "dns needs either --kubeconfig or -f"],
      [["-f", "x.yaml", "--listen", "here"], "--listen here: not an address with a port"],
      [["-f", "x.yaml", "--upstream", "dns.example"], "--upstream dns.example: DNS server dns.example: not an address"],
    ] as const) {
      const { code, err } = await run([join(root, "bin/fairlead"), "dns", ...words]);
      expect([code, err]).toEqual([2, expect.stringContaining(message)]);
    }
  });
});

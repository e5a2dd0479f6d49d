// What kill -9 may not do: lose an acknowledged write, or make a watch that resumes miss or repeat one.

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { builtinScheme } from "../../src/api/scheme.ts";
import { openSqliteStore } from "../../src/store/sqlite/sqlite-store.ts";
import type { StoreEvent } from "../../src/store/store.ts";

interface Acknowledged {
  readonly verb: string;
  readonly name: string;
  readonly version: number;
}

/** Starts the writer, kills it after `enough` acknowledgements, and returns all that it has acknowledged. */
async function writeAndKill(path: string, enough: number): Promise<Acknowledged[]> {
  const writer = Bun.spawn([process.execPath, join(import.meta.dir, "durability-writer.ts"), path, "10000"], {
    stdout: "pipe",
    stderr: "inherit",
  });
  const decoder = new TextDecoder();
  let text = "";
  let killed = false;
  for await (const chunk of writer.stdout) {
    text += decoder.decode(chunk, { stream: true });
    if (killed || text.split("\n").length <= enough) continue;
    killed = true;
    writer.kill("SIGKILL");
  }
  await writer.exited;
  const lines = text.split("\n").slice(0, -1); // what follows the last newline was not said to its end
  return lines.map((line) => {
    const [verb, name, version] = line.split(" ") as [string, string, string];
    return { verb, name, version: Number(version) };
  });
}

test("a process killed in the middle of 10,000 writes loses none, and watches resume where they were", async () => {
  const folder = mkdtempSync(join(tmpdir(), "fl-t-durability-"));
  const path = join(folder, "store.db");
  try {
    const acknowledged = await writeAndKill(path, 4000);
    expect(acknowledged.length).toBeGreaterThanOrEqual(4000);
    expect(acknowledged.length).toBeLessThan(10_000);

    const store = openSqliteStore({ path, scheme: builtinScheme() });
    const configMaps = store.scheme.byKey("configmaps")!;
    const last = new Map<string, Acknowledged>();
    for (const one of acknowledged) last.set(one.name, one);
    const lost: string[] = [];
    const newest = acknowledged.at(-1)!;
    for (const { verb, name, version } of last.values()) {
      const object = await store.get({ resource: configMaps, namespace: "default", name });
      // The object of the newest acknowledgement may have been written once more before the end.
      const now = Number(object?.metadata.resourceVersion ?? 0);
      const ok =
        name === newest.name ? object === undefined || now >= version : verb === "delete" ? !object : now === version;
      if (!ok) lost.push(`${verb} ${name} ${version}: found ${now}`);
    }
    expect(lost).toEqual([]);

    const from = acknowledged[999]!.version;
    const events: Exclude<StoreEvent, { type: "BOOKMARK" }>[] = [];
    store.watch(configMaps, String(from), (event) => {
      if (event.type !== "BOOKMARK") events.push(event);
    });
    await Bun.sleep(0);
    const wanted = acknowledged.slice(1000);
    const types: Readonly<Record<string, string>> = { create: "ADDED", update: "MODIFIED", delete: "DELETED" };
    const said = events.map(
      ({ type, object, resourceVersion }) => `${type} ${object.metadata.name} ${resourceVersion}`,
    );
    expect(said.slice(0, wanted.length)).toEqual(
      wanted.map(({ verb, name, version }) => `${types[verb]} ${name} ${version}`),
    );
    expect(said.length - wanted.length).toBeLessThanOrEqual(1); // written and not yet said when the end came

    const next = await store.create(configMaps, {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "after", namespace: "default" },
    });
    await Bun.sleep(0);
    expect(events.at(-1)?.object.metadata.name).toBe("after");
    expect(Number(next.metadata.resourceVersion)).toBeGreaterThan(newest.version);
    store.close();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}, 60_000);

test("a second process is told that the store is in use", async () => {
  const folder = mkdtempSync(join(tmpdir(), "fl-t-durability-"));
  const path = join(folder, "store.db");
  const store = openSqliteStore({ path, scheme: builtinScheme() });
  try {
    const second = Bun.spawnSync([process.execPath, join(import.meta.dir, "durability-writer.ts"), path, "1"], {
      stderr: "pipe",
    });
    expect(second.exitCode).not.toBe(0);
    expect(second.stderr.toString()).toContain("is in use by another process");
  } finally {
    store.close();
    rmSync(folder, { recursive: true, force: true });
  }
}, 20_000);

const root = process.getuid?.() === 0;
if (!root)
  console.log("durability: a full disk is not tried, because that needs root (a small tmpfs is mounted for it)");

test.skipIf(!root)(
  "a full disk refuses the write, keeps what is stored, and is over when there is space again",
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "fl-t-durability-"));
    const mounted = Bun.spawnSync(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]);
    if (mounted.exitCode !== 0) {
      console.log(`durability: a full disk is not tried: ${mounted.stderr.toString().trim()}`);
      rmSync(folder, { recursive: true, force: true });
      return;
    }
    try {
      writeFileSync(join(folder, "ballast"), Buffer.alloc(300 * 1024));
      const store = openSqliteStore({ path: join(folder, "store.db"), scheme: builtinScheme() });
      const configMaps = store.scheme.byKey("configmaps")!;
      const object = (name: string) => ({
        apiVersion: "v1",
        kind: "ConfigMap",
        metadata: { name, namespace: "default" },
        data: { filler: "x".repeat(20_000) },
      });
      const seen: string[] = [];
      store.watch(configMaps, store.revision, (event) => {
        if (event.type !== "BOOKMARK") seen.push(event.object.metadata.name);
      });
      let stored = 0;
      let failure = "";
      for (; stored < 100 && failure === ""; stored++) {
        await store.create(configMaps, object(`c${stored}`)).catch((error: Error) => {
          failure = error.message;
        });
      }
      stored--;
      expect(failure).toContain("the disk is full. Nothing was changed; free some space and try again");
      expect((await store.list(configMaps)).items).toHaveLength(stored);
      rmSync(join(folder, "ballast"));
      await store.create(configMaps, object("again"));
      await Bun.sleep(0);
      expect(seen).toHaveLength(stored + 1);
      store.close();
      const reopened = openSqliteStore({ path: join(folder, "store.db"), scheme: builtinScheme() });
      expect((await reopened.list(reopened.scheme.byKey("configmaps")!)).items).toHaveLength(stored + 1);
      reopened.close();
    } finally {
      Bun.spawnSync(["umount", "-l", folder]);
      rmSync(folder, { recursive: true, force: true });
    }
  },
  20_000,
);

// Fuzzers of what the control process says: frames of its socket, and resources of every type with values changed anywhere. What
// is refused says why and leaves what was in force; what is taken is in force as it was sent; tables that are taken route as
// `decide` says; nothing hangs, and nothing stays when all is removed. FUZZ_INPUTS and FUZZ_SEED as in `mutate.ts`.

import { heapStats } from "bun:jsc";
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { FakeClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { encodeFrame, FrameDecoder } from "../../src/model/frame.ts";
import { emptyModel, type ResourceType, type RouteTable, resourceTypes, type Secret } from "../../src/model/model.ts";
import { arbitraryRequest } from "../../src/model/testing/arbitrary.ts";
import type { WireResource } from "../../src/model/wire.ts";
import { toWire } from "../../src/model/wire-codec.ts";
import { ProxyProcess } from "../../src/proxy/proxy.ts";
import { agree, compiled } from "../../src/proxy/router/agreement.ts";
import { freePort, plainListener } from "../e2e/proxy-harness.ts";
import { fuzz, inputsOf, type Random, randomOf } from "./mutate.ts";
import { changeValue, everything, type Json, keepOffFiles } from "./resources.ts";

const folder = mkdtempSync(join(tmpdir(), "fl-t-fuzz-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const seeds = everything(folder, [freePort(), freePort(), freePort()]);

/** What a decoder makes of pieces: its messages, and the error at which it stopped. */
function decode(pieces: readonly Buffer[]): string {
  const decoder = new FrameDecoder(10_000);
  const said: unknown[] = [];
  try {
    for (const piece of pieces) said.push(...decoder.push(piece));
  } catch {
    return "error";
  }
  return JSON.stringify([said, decoder.idle]);
}

test("frames of the control socket", async () => {
  const frames = resourceTypes.map((type) =>
    encodeFrame({ type: "update", version: 1, upsert: { [type]: [seeds[type]![0]] }, remove: {} }),
  );
  const all = [...frames, encodeFrame({ type: "drain", deadline: 5 }), encodeFrame(null)].map((one) =>
    Buffer.from(one),
  );
  await fuzz("control-frames", 10_000, [...all, Buffer.concat(all)], (bytes, random) => {
    const cut = random.below(bytes.length + 1);
    expect(decode([bytes.subarray(0, cut), bytes.subarray(cut)])).toBe(decode([bytes]));
  });
});

const requests = fc.sample(arbitraryRequest, { numRuns: 40, seed: 1 });

/** The table alone, behind one plain port. */
function routesAsDecided(table: RouteTable, random: Random): void {
  const listener = plainListener(80, { address: requests[0]!.address, routes: table.name });
  const model = {
    ...emptyModel,
    listeners: new Map([[listener.name, listener]]),
    routeTables: new Map([[table.name, table]]),
  };
  const routers = compiled(model);
  for (let count = 0; count < 3; count++) {
    const { tls: _, ...request } = random.of(requests);
    agree(model, routers, { ...request, address: listener.address, port: 80 });
  }
}

const text = (value: unknown) => JSON.stringify(value);

test("resources", async () => {
  const options = { name: "fuzz", scopes: ["gateway"], control: join(folder, "none"), admin: join(folder, "admin") };
  const limits = { maxConnections: 10, maxRequests: 10, maxMemory: 0 };
  const { configuration } = new ProxyProcess({ ...options, ...limits }, new FakeClock(), silentLogger);
  const random = randomOf("resources");
  let version = 0;
  const apply = async (upsert: Record<string, Json[]>, remove: Record<string, string[]> = {}) => {
    let timer: Timer | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error("no answer in 10 s")), 10_000);
    });
    const done = configuration.apply({ version: ++version, upsert: upsert as Record<string, WireResource[]>, remove });
    const rejected = await Promise.race([done, late]);
    clearTimeout(timer);
    return rejected;
  };
  const removeAll = async () => {
    const remove = Object.fromEntries(resourceTypes.map((type) => [type, [...configuration.inForce(type).keys()]]));
    expect(await apply({}, remove)).toEqual([]);
    expect(Object.values(configuration.counts())).toEqual([0, 0, 0, 0, 0]);
  };
  expect(await apply(structuredClone(seeds))).toEqual([]);
  const flat = Object.values(seeds).flat();
  let taken = 0;
  let refused = 0;
  let heap = 0;
  const count = inputsOf(2_000);
  for (let index = 0; index < count; index++) {
    const type = random.of(resourceTypes);
    const sent = structuredClone(random.of(seeds[type]!));
    changeValue(random, sent, flat);
    keepOffFiles(sent);
    const what = text(sent);
    try {
      await oneUpdate(type, sent);
    } catch (error) {
      throw new Error(`${type}, input ${index}: ${String(error)}\n${what.slice(0, 5_000)}`);
    }
    // What was removed leaves nothing behind, whatever has come and gone.
    if (index % 1_000 === 999) {
      await removeAll();
      expect(await apply(structuredClone(seeds))).toEqual([]);
    }
    if (index === Math.floor(count / 4)) heap = used();
  }
  async function oneUpdate(type: ResourceType, sent: Json): Promise<void> {
    const before = new Map(configuration.inForce(type));
    const rejected = await apply({ [type]: [sent] });
    for (const { reason } of rejected) expect(reason).not.toBe("");
    // A secret that is taken may not be what a listener needs; then that one is refused, and stays as it was.
    if (rejected.some(({ resource }) => resource === type)) {
      refused++;
      for (const [name, one] of before) {
        const now = configuration.inForce(type).get(name);
        if (now !== one) throw new Error(`${name} is another, though it was refused: ${text(rejected)}`);
      }
      expect(configuration.inForce(type).size).toBe(before.size);
      return;
    }
    taken++;
    const name = (sent as { name?: string; backend?: string })[type === "endpoints" ? "backend" : "name"]!;
    const now = configuration.inForce(type).get(name);
    if (!now) throw new Error(`${name} was taken and is not in force`);
    // Of a secret's content only what is known is kept.
    if (type === "secrets") expect(text(toWire(type, now as Secret)).length).toBeLessThanOrEqual(text(sent).length);
    else expect(text(now)).toBe(text(sent));
    if (type === "routeTables") routesAsDecided(now as RouteTable, random);
  }
  await removeAll();
  if (count > 10_000) expect(used() - heap).toBeLessThan(30_000_000);
  // A fuzzer that is always or never refused looks at one half only.
  expect(taken).toBeGreaterThan(count / 10);
  expect(refused).toBeGreaterThan(count / 10);
});

function used(): number {
  Bun.gc(true);
  return heapStats().heapSize;
}

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FakeClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import type { Rule } from "../model/model.ts";
import type { WireResource } from "../model/wire.ts";
import { ProxyProcess } from "./proxy.ts";

const folder = mkdtempSync(join(tmpdir(), "fl-t-configuration-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const configuration = () => process().configuration;

function process() {
  const options = { name: "t", scopes: ["gateway"], control: join(folder, "none"), admin: join(folder, "admin") };
  const limits = { maxConnections: 10, maxRequests: 10, maxMemory: 0 };
  return new ProxyProcess({ ...options, ...limits }, new FakeClock(), silentLogger);
}

const from = { kind: "Test", name: "t", field: "" };
const rule = (name: string, more: Partial<Rule> = {}): Rule => ({
  from: { ...from, field: name },
  name,
  match: { path: { kind: "segments", value: `/${name}` } },
  filters: [],
  action: { kind: "respond", status: 200, reason: name },
  ...more,
});
const many = (prefix: string) => Array.from({ length: 3_000 }, (_, at) => rule(`${prefix}-${at}`));
const wire = (value: unknown) => JSON.parse(JSON.stringify(value)) as WireResource;
const table = (name: string, rules: readonly Rule[]) => wire({ name, from, hosts: [{ names: ["*"], rules }] });
const backend = (name: string, connectTimeout = 1_000) =>
  wire({ name, from, protocol: "http1", balance: { kind: "roundRobin" }, connectTimeout });
const firstRule = (of: ReturnType<typeof configuration>, name = "main") =>
  of.inForce("routeTables").get(name)?.hosts[0]?.rules[0]?.name;

/** Looks once in every turn of the event loop until the work is done. */
async function watching<T, S>(work: Promise<T>, look: () => S): Promise<{ result: T; seen: S[] }> {
  const seen: S[] = [];
  let going = true;
  const next = () => {
    if (!going) return;
    seen.push(look());
    setImmediate(next);
  };
  setImmediate(next);
  const result = await work.finally(() => {
    going = false;
  });
  return { result, seen };
}

test("while a large update is prepared the loop serves what was before, then all of it is in force at once", async () => {
  const one = configuration();
  await one.apply({
    version: 1,
    upsert: { routeTables: [table("main", many("old"))], backends: [backend("b", 1)] },
    remove: {},
  });
  const update = {
    version: 2,
    upsert: { routeTables: [table("main", many("new")), table("other", many("other"))], backends: [backend("b", 2)] },
    remove: {},
  };
  const { result, seen } = await watching(one.apply(update), () => [
    firstRule(one),
    firstRule(one, "other"),
    one.inForce("backends").get("b")?.connectTimeout,
  ]);
  expect(result).toEqual([]);
  expect(seen.length).toBeGreaterThan(2);
  const kinds = new Set(seen.map((state) => JSON.stringify(state)));
  kinds.delete(JSON.stringify(["new-0", "other-0", 2]));
  expect([...kinds]).toEqual([JSON.stringify(["old-0", undefined, 1])]);
  expect(firstRule(one)).toBe("new-0");
});

test("thousands of endpoints are prepared while the loop serves by those before, and those that stay keep what is known of them", async () => {
  const { runtime, configuration: one } = process();
  const endpoints = (port: number) =>
    wire({
      ...{ backend: "b", from },
      endpoints: [
        { address: "10.1.0.0", port: 80, weight: 1 },
        ...Array.from({ length: 10_000 }, (_, at) => ({ address: `10.0.${at >> 8}.${at & 255}`, port, weight: 1 })),
      ],
    });
  const watched = {
    ...backend("b"),
    failureAccrual: { maxFailures: 1, minPenalty: 1_000, maxPenalty: 1_000, jitterRatio: 0 },
  };
  expect(
    await one.apply({ version: 1, upsert: { backends: [watched], endpoints: [endpoints(80)] }, remove: {} }),
  ).toEqual([]);
  const [stays] = runtime.backends.get("b").pools;
  const firstPort = () => [...runtime.backends.get("b").pools][1]?.port;
  const update = { version: 2, upsert: { endpoints: [endpoints(81)] }, remove: {} };
  const { result, seen } = await watching(one.apply(update), firstPort);
  expect(result).toEqual([]);
  expect(seen.filter((port) => port === 80).length).toBeGreaterThan(2);
  expect([...runtime.backends.get("b").pools].length).toBe(10_001);
  const [first, second] = runtime.backends.get("b").pools;
  expect(first === stays).toBe(true);
  expect(second).toMatchObject({ port: 81, removed: false });
  // Also a new one has what the backend asks for.
  expect(second!.health.breaker).not.toBe(undefined);

  const last = endpoints(82) as { endpoints?: { port: number }[] };
  last.endpoints![9_999]!.port = -1;
  const [refused] = await one.apply({ version: 3, upsert: { endpoints: [last as WireResource] }, remove: {} });
  expect(refused?.reason).toStartWith("endpoints[9999].port");
  expect(firstPort()).toBe(81);
  await one.apply({ version: 4, upsert: {}, remove: { endpoints: ["b"] } });
  expect(firstPort()).toBe(undefined);
  expect(second!.removed).toBe(true);
});

test("endpoints that come with their backend have connections of what it speaks", async () => {
  const { runtime, configuration: one } = process();
  const shares = async (version: number, protocol: "http1" | "h2c", address: string) => {
    const endpoints = wire({ backend: "b", from, endpoints: [{ address, port: 80, weight: 1 }] });
    const brought = { backends: [{ ...backend("b"), protocol }], endpoints: [endpoints] };
    expect(await one.apply({ version, upsert: brought, remove: {} })).toEqual([]);
    const [pool] = runtime.backends.get("b").pools;
    pool!.began();
    pool!.began();
    return pool!.needed === 1;
  };
  expect(await shares(1, "h2c", "10.0.0.1")).toBe(true);
  expect(await shares(2, "http1", "10.0.0.2")).toBe(false);
  expect(await shares(3, "h2c", "10.0.0.3")).toBe(true);
});

test("an update that comes while one is prepared is applied behind it, also as a patch of it", async () => {
  const one = configuration();
  const answered: number[] = [];
  const apply = (update: Parameters<typeof one.apply>[0]) =>
    one.apply(update).then((rejected) => {
      answered.push(update.version);
      return rejected;
    });
  const done = await Promise.all([
    apply({ version: 1, upsert: { routeTables: [table("main", many("first"))] }, remove: {} }),
    apply({ version: 2, upsert: { routeTables: [table("main", many("second"))] }, remove: {} }),
    apply({
      ...{ version: 3, upsert: {}, remove: {}, rules: [rule("third")] },
      patch: [
        {
          name: "main",
          from,
          base: 2,
          hosts: [
            {
              names: ["*"],
              rules: [
                [3_000, 3_001],
                [1, 3_000],
              ],
            },
          ],
        },
      ],
    }),
  ]);
  expect(done).toEqual([[], [], []]);
  expect(answered).toEqual([1, 2, 3]);
  const rules = one.inForce("routeTables").get("main")!.hosts[0]!.rules;
  expect([rules.length, rules[0]!.name, rules[1]!.name]).toEqual([3_000, "third", "second-1"]);
});

test("a patch of what this connection has not brought is an error, and those behind it are applied", async () => {
  const one = configuration();
  await one.apply({ version: 1, upsert: { routeTables: [table("main", [rule("a")])] }, remove: {} });
  await one.connected();
  const patch = [{ name: "main", from, base: 1, hosts: [0] }];
  const wrong = one.apply({ version: 1, upsert: {}, patch, remove: {} });
  const right = one.apply({ version: 2, upsert: { routeTables: [table("main", [rule("b")])] }, remove: {} });
  expect(wrong).rejects.toThrow("route table main of update 1 is not in force");
  expect(await right).toEqual([]);
  expect(firstRule(one)).toBe("b");
});

test("what a new connection is told is in force waits for the updates of the one before", async () => {
  const one = configuration();
  const update = one.apply({ version: 1, upsert: { routeTables: [table("main", many("a"))] }, remove: {} });
  const have = await one.connected();
  expect(Object.keys(have.routeTables!)).toEqual(["main"]);
  expect(await update).toEqual([]);
});

test("a drain gives up the update that is being prepared and those behind it; what is in force stays", async () => {
  const one = configuration();
  await one.apply({ version: 1, upsert: { routeTables: [table("main", many("old"))] }, remove: {} });
  const updates = [2, 3].map((version) =>
    one.apply({ version, upsert: { routeTables: [table("main", many(`v${version}`))] }, remove: {} }),
  );
  await new Promise(setImmediate);
  await one.end();
  expect(await Promise.all(updates)).toEqual([[], []]);
  expect(firstRule(one)).toBe("old-0");
});

test("one bad rule among thousands: its table is refused, named with the object that asked, and the rest is in force", async () => {
  const one = configuration();
  await one.apply({ version: 1, upsert: { routeTables: [table("main", [rule("old")])] }, remove: {} });
  const bad = rule("bad", { match: { path: { kind: "exact", value: "no-slash" } } });
  const unknown = rule("odd", { filters: [{ kind: "teapot", from: { ...from, field: "odd filter" } } as never] });
  const rejected = await one.apply({
    version: 2,
    upsert: {
      routeTables: [
        table("main", many("new").with(2_345, bad)),
        table("good", many("good")),
        table("odd", many("odd").with(7, unknown)),
      ],
      backends: [backend("b")],
    },
    remove: {},
  });
  expect(rejected.map(({ resource, name, from }) => [resource, name, from?.field])).toEqual([
    ["routeTables", "main", "bad"],
    ["routeTables", "odd", "odd filter"],
  ]);
  expect(rejected[0]!.reason).toBe('hosts[0].rules[2345].match.path path "no-slash" does not begin with "/"');
  expect(rejected[1]!.reason).toContain("teapot");
  expect([firstRule(one), firstRule(one, "good"), one.inForce("backends").has("b")]).toEqual(["old", "good-0", true]);
  expect(one.rejections).toBe(2);
});

test("the stored text is what is in force, cut into pieces no longer than a rule", async () => {
  const one = configuration();
  await one.apply({
    version: 1,
    upsert: { routeTables: [table("main", many("a"))], backends: [backend("b")] },
    remove: {},
  });
  const pieces = [...one.stored()];
  const stored = JSON.parse(pieces.join(""));
  expect(stored.routeTables).toEqual([table("main", many("a"))]);
  expect(stored.backends).toEqual([backend("b")]);
  expect(stored.listeners).toEqual([]);
  expect(Math.max(...pieces.map((piece) => piece.length))).toBeLessThan(1_000);
});

import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decode, encode } from "dns-packet";
import fc from "fast-check";
import { FakeClock, systemClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import { AnswerCache } from "./answer-cache.ts";
import { searchedName } from "./autopath.ts";
import { clientsWithin } from "./clients.ts";
import { defaultConfig } from "./config.ts";
import type { ServiceNames } from "./names.ts";
import { handleMessage } from "./server.ts";
import type { ZoneChanges, ZoneFeed } from "./zone-changes.ts";
import { followZone } from "./zone-client.ts";
import { serveZone } from "./zone-server.ts";
import { keepSnapshot, readSnapshot } from "./zone-snapshot.ts";
import { ZoneTable } from "./zone-table.ts";

const settings = { zone: "cluster.local", nameservers: ["10.96.0.10"], ttl: 5, pods: "verified" as const };
const service = (name: string, ...addresses: string[]): ServiceNames => ({
  key: `shop/${name}`,
  namespace: "shop",
  name,
  kind: "address",
  addresses,
  ports: [],
  endpoints: [],
  externalName: undefined,
});
const filled = () => {
  const table = new ZoneTable(settings);
  table.begin();
  table.apply({ namespaces: ["shop"], services: [service("cart", "10.96.0.5"), service("old", "10.96.0.6")] });
  table.apply({ pods: [{ key: "shop/a", namespace: "shop", addresses: ["10.244.0.7"] }] });
  table.end();
  return table;
};

describe("the table of names", () => {
  test("answers from what it had while a state is sent again, and forgets what was not in it", () => {
    const table = filled();
    table.begin();
    table.apply({ namespaces: ["shop"], services: [service("cart", "10.96.0.9")] });
    expect(table.service("shop", "old")?.addresses).toEqual(["10.96.0.6"]);
    table.end();
    expect(table.service("shop", "old")).toBeUndefined();
    expect(table.servicesAt("10.96.0.5")).toEqual([]);
    expect(table.servicesAt("10.96.0.9").map(({ name }) => name)).toEqual(["cart"]);
    expect(table.namespaceOfPod("10.244.0.7")).toBeUndefined();
  });

  test("knows whose an address is when a pod comes before the one that had it has gone", () => {
    const table = filled();
    table.apply({ pods: [{ key: "infra/b", namespace: "infra", addresses: ["10.244.0.7"] }] });
    table.apply({ podsGone: ["shop/a"] });
    expect(table.namespaceOfPod("10.244.0.7")).toBe("infra");
  });
});

describe("answers that are kept", () => {
  const query = (name: string, more = {}) =>
    encode({ type: "query", id: 9, flags: 0x0100, questions: [{ name, type: "A" }], ...more });

  test("are those of the long way, byte for byte of meaning, whatever the message is", () => {
    const table = filled();
    const cache = new AnswerCache(table, () => 0);
    const answering = { names: table, log: silentLogger, random: () => 0.999 };
    const long = (bytes: Uint8Array, keep?: AnswerCache) => {
      let reply: Uint8Array | undefined;
      handleMessage(bytes, "udp", answering, (one) => (reply = new Uint8Array(one)), "127.0.0.1", keep);
      return reply;
    };
    const opt = {
      name: ".",
      type: "OPT",
      udpPayloadSize: 1232,
      extendedRcode: 0,
      ednsVersion: 0,
      flags: 0,
      options: [],
    };
    const whole = [
      query("cart.shop.svc.cluster.local"),
      query("nope.shop.svc.cluster.local"),
      query("CART.shop.svc.cluster.local", { additionals: [opt as never] }),
    ];
    for (const one of whole) long(one, cache);
    const damaged = fc
      .tuple(fc.constantFrom(...whole), fc.array(fc.tuple(fc.nat(75), fc.nat(255)), { maxLength: 3 }), fc.nat(80))
      .map(([bytes, changes, length]) => {
        const copy = new Uint8Array(bytes.subarray(0, Math.max(20, bytes.length - (length > 60 ? length - 60 : 0))));
        for (const [at, value] of changes) if (at < copy.length) copy[at] = value;
        return copy;
      });
    let hits = 0;
    fc.assert(
      fc.property(damaged, (bytes) => {
        const length = cache.answer(bytes, 512, false);
        if (length === 0) return;
        hits++;
        expect(decode(Buffer.from(cache.out.subarray(0, length)))).toEqual(decode(Buffer.from(long(bytes)!)));
      }),
      { numRuns: 3_000 },
    );
    expect(hits).toBeGreaterThan(200);
  });

  test("are forgotten with the change of their Service, and denials with any", () => {
    const table = filled();
    const cache = new AnswerCache(table, () => 0);
    const answering = { names: table, log: silentLogger };
    const names = ["cart.shop.svc.cluster.local", "old.shop.svc.cluster.local", "nope.shop.svc.cluster.local"];
    const kept = () => names.map((name) => cache.answer(query(name), 512, false) > 0);
    for (const name of names) handleMessage(query(name), "udp", answering, () => {}, "127.0.0.1", cache);
    expect(kept()).toEqual([true, true, true]);
    table.apply({ services: [service("cart", "10.96.0.9")] });
    expect(kept()).toEqual([false, true, false]);
  });
});

describe("the way from the control process", () => {
  test("carries the state, its changes and the configuration, and says when they count", async () => {
    const folder = mkdtempSync(join(tmpdir(), "fl-t-zone-"));
    const path = join(folder, "dns.sock");
    let tell: (changes: ZoneChanges) => void = () => {};
    const feed: ZoneFeed = {
      *snapshot() {
        for (let n = 0; n < 50; n++)
          yield {
            namespaces: ["shop"],
            services: Array.from({ length: 20 }, (_, at) => service(`s-${n}-${at}`, "10.96.0.1")),
          };
      },
      subscribe(on) {
        tell = on;
        return { dispose() {} };
      },
      dispose() {},
    };
    const server = serveZone({ path, feed, config: defaultConfig, program: "one", log: silentLogger });
    const table = new ZoneTable(settings);
    const zones: string[] = [];
    const client = followZone({
      ...{ path, table, clock: systemClock, log: silentLogger },
      listening: { pid: 1, address: "127.0.0.1", port: 53 },
      onConfig: (config) => zones.push(...config.zones),
    });
    expect(await server.connected()).toEqual({ pid: 1, address: "127.0.0.1", port: 53 });
    await server.settled();
    expect([table.size, table.synced]).toEqual([1000, true]);
    tell({ services: [service("late", "10.96.0.2")] });
    server.configure({ ...defaultConfig, zones: ["acme.local"] });
    await server.settled();
    expect(table.service("shop", "late")?.addresses).toEqual(["10.96.0.2"]);
    tell({ servicesGone: ["shop/late"] });
    await server.settled();
    expect(zones).toEqual(["cluster.local", "acme.local"]);
    client.dispose();
    server.dispose();
    rmSync(folder, { recursive: true });
  });
});

describe("autopath", () => {
  test("is for names outside that come by the first step of a pod's own search path", () => {
    const view = filled();
    const name = (asked: string) => searchedName(asked, "shop", view);
    expect(name("API.example.com.shop.svc.cluster.local")).toBe("api.example.com");
    expect(name("nope.shop.svc.cluster.local")).toBeUndefined();
    expect(name("cart-0.cart.shop.svc.cluster.local")).toBeUndefined();
    expect(name("_http._tcp.shop.svc.cluster.local")).toBeUndefined();
    expect(name("api.example.com.infra.svc.cluster.local")).toBeUndefined();
  });
});

describe("clients", () => {
  test("are within ranges, or on the machine itself", () => {
    const allows = clientsWithin(["10.244.0.0/16", "fd00::/64"]);
    const asked = ["10.244.3.4", "127.0.0.9", "::1", "fd00::7", "::ffff:10.244.0.1", "10.245.0.1", "192.0.2.1"];
    expect(asked.map(allows)).toEqual([true, true, true, true, true, false, false]);
    expect(() => clientsWithin(["everybody"])).toThrow("everybody is no address range");
  });
});

describe("the last state on disk", () => {
  const folder = mkdtempSync(join(tmpdir(), "fl-t-zone-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const kept = async (table: ZoneTable, path: string) => {
    const clock = new FakeClock();
    const log = silentLogger;
    const keeping = keepSnapshot({ path, table, config: () => defaultConfig, clock, log });
    table.apply({ namespaces: ["more"] });
    clock.advance(2_000);
    while (!existsSync(path)) await new Promise((resolve) => setImmediate(resolve));
    keeping.dispose();
  };

  test("is the same names for the next process", async () => {
    const path = join(folder, "a");
    await kept(filled(), path);
    const { config, changes } = readSnapshot(path)!;
    expect(config).toEqual(defaultConfig);
    const next = new ZoneTable(settings);
    for (const one of changes) next.apply(one);
    next.end();
    expect(next.synced).toBe(true);
    expect(next.service("shop", "cart")?.addresses).toEqual(["10.96.0.5"]);
    expect([next.hasNamespace("shop"), next.hasNamespace("more")]).toEqual([true, true]);
    expect(next.namespaceOfPod("10.244.0.7")).toBe("shop");
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test("is none when it is cut off, of another format, or not there", async () => {
    const path = join(folder, "b");
    expect(readSnapshot(path)).toBeUndefined();
    await kept(filled(), path);
    const text = readFileSync(path, "utf8");
    for (const wrong of [
      text.slice(0, -3),
      text.slice(0, text.lastIndexOf("{")),
      text.replace('"format":1', '"format":0'),
      "",
      "x",
    ]) {
      writeFileSync(path, wrong);
      expect(readSnapshot(path)).toBeUndefined();
    }
  });

  test("is not written while a state is only half there", () => {
    const path = join(folder, "c");
    const clock = new FakeClock();
    const table = new ZoneTable(settings);
    const keeping = keepSnapshot({ path, table, config: () => defaultConfig, clock, log: silentLogger });
    table.begin();
    table.apply({ namespaces: ["shop"] });
    clock.advance(10_000);
    expect(existsSync(path)).toBe(false);
    keeping.dispose();
  });
});

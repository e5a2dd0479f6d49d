import { beforeEach, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { type Service, type ServiceSpec, Services } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { builtinScheme } from "../api/scheme.ts";
import { FakeClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import { fromStore } from "../collections/from-store.ts";
import { Graph } from "../collections/graph.ts";
import { type Source, source } from "../collections/source.ts";
import { openSqliteStore } from "../store/sqlite/sqlite-store.ts";
import { serviceAdmission } from "./allocation.ts";
import {
  type AddressWant,
  type FamilyWant,
  gatewayWants,
  keepAllocations,
  loadBalancerClass,
  serviceWants,
  startLoadBalancerStatus,
} from "./load-balancer.ts";
import { loadBalancerPool } from "./load-balancer-pool.ts";

const range = "10.97.0.0/16";

describe("the address pool", () => {
  test("gives addresses in order, the same owner the same one", () => {
    const pool = loadBalancerPool(range);
    expect(pool.request("service/a/b")).toBe("10.97.0.1");
    expect(pool.request("gateway/a/b")).toBe("10.97.0.2");
    expect(pool.request("service/a/b")).toBe("10.97.0.1");
    expect(["10.97.0.1", "10.97.0.2"].map((one) => pool.ownerOf(one))).toEqual(["service/a/b", "gateway/a/b"]);
    const six = loadBalancerPool("fd00:97::/112");
    expect([six.request("a"), six.request("b", "FD00:97:0::ff")]).toEqual(["fd00:97::1", "fd00:97::ff"]);
  });

  test("does not give an address out again soon", () => {
    const pool = loadBalancerPool("10.97.0.0/29");
    pool.request("a");
    pool.release("a");
    expect(["b", "c", "d", "e", "f"].map((owner) => pool.request(owner))).not.toContain("10.97.0.1");
    expect(pool.request("g")).toBe("10.97.0.1");
  });

  test("says which range is full, and who has a wanted address", () => {
    const pool = loadBalancerPool("10.97.0.0/30");
    pool.request("a");
    pool.request("b", "10.97.0.2");
    expect(() => pool.request("c")).toThrow("c: no load-balancer address is free: all 2 of 10.97.0.0/30 are taken");
    expect(() => pool.request("c", "10.97.0.2")).toThrow("c: the address 10.97.0.2 is taken by b");
    expect(() => pool.request("c", "10.1.1.1")).toThrow("is outside of the load-balancer range 10.97.0.0/30");
    expect(() => pool.request("c", "10.97.0.0")).toThrow("outside");
    expect(pool.request("b", "10.97.0.2")).toBe("10.97.0.2");
  });

  test("never gives one address to two, and fails only when all are taken", () => {
    const owners = [..."abcdefgh"];
    const step = fc.record({
      owner: fc.constantFrom(...owners),
      release: fc.boolean(),
      wish: fc.option(fc.integer({ min: 1, max: 6 })),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const pool = loadBalancerPool("10.97.0.0/29");
        for (const { owner, release, wish } of steps) {
          const held = () => owners.map((one) => pool.addressOf(one)).filter((one) => one !== undefined);
          const before = held();
          if (release) pool.release(owner);
          else {
            try {
              pool.request(owner, wish === null ? undefined : `10.97.0.${wish}`);
            } catch {
              if (wish === null) expect(before).toHaveLength(6);
              expect(held()).toEqual(before);
            }
          }
          const given = held();
          expect(new Set(given).size).toBe(given.length);
        }
      }),
      { numRuns: 100 },
    );
  });
});

describe("owners", () => {
  let wants: Source<AddressWant>;
  const want = (owner: string, ...families: Partial<FamilyWant>[]) => {
    const all = families.length > 0 ? families : [{}];
    const none = { family: undefined, wanted: undefined, held: undefined };
    wants.set(owner, { owner, families: all.map((one) => ({ ...none, ...one })) });
  };
  const graph = new Graph();
  beforeEach(() => {
    wants = source<AddressWant>("wants", { graph });
  });

  test("keep over a restart what their status says, whoever asks first", () => {
    want("gateway/a/new");
    want("service/a/old", { held: "10.97.0.1" });
    const { allocations } = keepAllocations([loadBalancerPool(range)], wants, silentLogger, graph);
    expect(allocations.get("service/a/old")?.address).toBe("10.97.0.1");
    expect(allocations.get("gateway/a/new")?.address).toBe("10.97.0.2");
  });

  test("whose status names an address of another range get one of this", () => {
    want("service/a/b", { held: "192.0.2.1" });
    const { allocations } = keepAllocations([loadBalancerPool(range)], wants, silentLogger, graph);
    expect(allocations.get("service/a/b")?.address).toBe("10.97.0.1");
  });

  test("that cannot be served are named, and served when an address comes back", () => {
    const pools = [loadBalancerPool("10.97.0.0/30")];
    const { allocations, failures } = keepAllocations(pools, wants, silentLogger, graph);
    want("a");
    want("b", { wanted: "10.97.0.2" });
    want("c", { wanted: "10.97.0.2" });
    expect(failures.get("c")?.message).toContain("is taken by b");
    expect(allocations.has("c")).toBe(false);
    wants.delete("b");
    expect(allocations.get("c")?.address).toBe("10.97.0.2");
    expect(failures.size).toBe(0);
  });

  test("have one address of each family that they want, and say which they lack", () => {
    const pools = [loadBalancerPool("fd00:97::/126"), loadBalancerPool(range)];
    const { allocations, failures } = keepAllocations(pools, wants, silentLogger, graph);
    want("a", { family: 4 }, { family: 6 });
    want("b");
    want("c", { family: 6 }, { family: 4 });
    expect(["a", "b", "c"].map((owner) => allocations.get(owner)?.addresses)).toEqual([
      ["10.97.0.1", "fd00:97::1"],
      ["fd00:97::2"],
      ["fd00:97::3", "10.97.0.2"],
    ]);
    want("d", { family: 4 }, { family: 6 });
    expect(allocations.get("d")?.addresses).toEqual(["10.97.0.3"]);
    expect(failures.get("d")?.message).toContain("all 3 of fd00:97::/126 are taken");
    want("a", { family: 4 });
    expect(allocations.get("a")?.addresses).toEqual(["10.97.0.1"]);
    expect(allocations.get("d")?.addresses).toEqual(["10.97.0.3", "fd00:97::1"]);
    expect(failures.size).toBe(0);
  });

  test("that are gone give their address back", () => {
    const { allocations } = keepAllocations([loadBalancerPool(range)], wants, silentLogger, graph);
    want("a");
    wants.delete("a");
    expect(allocations.size).toBe(0);
  });
});

describe("statuses", () => {
  const graph = new Graph();
  const store = openSqliteStore({
    path: ":memory:",
    scheme: builtinScheme(),
    clock: new FakeClock(),
    admissions: [serviceAdmission({ serviceCidr: "10.96.0.0/16", secondaryServiceCidr: "fd00:96::/112" })],
  });
  const services = fromStore(store, Services, { graph });
  const pools = [loadBalancerPool(range), loadBalancerPool("fd00:97::/112")];
  const { allocations } = keepAllocations(pools, serviceWants(services), silentLogger, graph);
  startLoadBalancerStatus({ services, allocations, store, clock: new FakeClock(), log: silentLogger });

  const create = (name: string, spec: ServiceSpec) =>
    store.create(Services, {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name, namespace: "default" },
      spec: { type: "LoadBalancer", ports: [{ port: 80 }], ...spec },
    });
  const ingress = async (name: string) => {
    const service = (await store.get({ resource: Services, namespace: "default", name })) as Service;
    return service.status?.loadBalancer?.ingress;
  };
  async function until(condition: () => Promise<boolean>): Promise<void> {
    for (let turn = 0; turn < 500; turn++) {
      if (await condition()) return;
      await new Promise((resolve) => setImmediate(resolve));
    }
    throw new Error("the condition did not come true");
  }

  test("name the address of a LoadBalancer Service, and no more when its type changes", async () => {
    const made = await create("a", { loadBalancerIP: "10.97.0.9" });
    await until(async () => (await ingress("a"))?.[0]?.ip === "10.97.0.9");
    expect(await ingress("a")).toEqual([{ ip: "10.97.0.9", ipMode: "VIP" }]);
    const now = (await store.get({ resource: Services, namespace: "default", name: "a" }))!;
    await store.update(Services, { ...now, spec: { ...made.spec, type: "ClusterIP", loadBalancerIP: undefined } });
    await until(async () => (await ingress("a")) === undefined);
    expect(allocations.size).toBe(0);
  });

  test("name an address of each family of a dual-stack Service", async () => {
    await create("two", { ipFamilyPolicy: "RequireDualStack", ipFamilies: ["IPv6", "IPv4"] });
    await until(async () => (await ingress("two")) !== undefined);
    expect((await ingress("two"))!.map(({ ip }) => ip)).toEqual(["fd00:97::1", expect.stringMatching(/^10\.97\./)]);
  });

  test("of Services of another class are somebody else's", async () => {
    await create("b", { loadBalancerClass: "example.com/other" });
    await create("c", { loadBalancerClass });
    await until(async () => (await ingress("c")) !== undefined);
    expect(await ingress("b")).toBeUndefined();
  });

  test("of Gateways are asked for by their first IP address", () => {
    const gateways = source<KubeObject>("gateways", { graph });
    const wanted = gatewayWants(gateways);
    gateways.set("shop/web", {
      apiVersion: "gateway.networking.k8s.io/v1",
      kind: "Gateway",
      metadata: { name: "web", namespace: "shop" },
      spec: { addresses: [{ type: "Hostname", value: "x" }, { value: "10.97.0.77" }] },
      status: { addresses: [{ type: "IPAddress", value: "10.97.0.3" }] },
    });
    expect(wanted.get("gateway/shop/web")).toEqual({
      owner: "gateway/shop/web",
      families: [{ family: 4, wanted: "10.97.0.77", held: "10.97.0.3" }],
    });
  });
});

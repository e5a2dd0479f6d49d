import { beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { IPAddresses, type Service, ServiceCIDRs, type ServiceSpec, Services } from "../api/kinds.ts";
import { builtinScheme } from "../api/scheme.ts";
import { FakeClock } from "../base/clock.ts";
import { openSqliteStore, type SqliteStore } from "../store/sqlite/sqlite-store.ts";
import { type ServiceAllocationOptions, serviceAdmission } from "./allocation.ts";
import { parsePortRange } from "./node-port-range.ts";
import { RandomRange, staticBand } from "./random-range.ts";

let store: SqliteStore;
function open(options: Partial<ServiceAllocationOptions> = {}): SqliteStore {
  return openSqliteStore({
    path: ":memory:",
    scheme: builtinScheme(),
    clock: new FakeClock(),
    admissions: [serviceAdmission({ serviceCidr: "10.96.0.0/16", ...options })],
  });
}
beforeEach(() => {
  store = open();
});

const service = (name: string, spec: ServiceSpec = {}): Service => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name, namespace: "default" },
  spec: { ports: [{ port: 80 }], selector: { app: "a" }, ...spec },
});
const create = async (name: string, spec?: ServiceSpec) => (await store.create(Services, service(name, spec))).spec;
const get = async (name: string) => (await store.get({ resource: Services, namespace: "default", name })) as Service;
const update = async (name: string, change: (spec: ServiceSpec) => ServiceSpec) => {
  const now = await get(name);
  return (await store.update(Services, { ...now, spec: change(now.spec!) })).spec;
};
const remove = (name: string) => store.delete({ resource: Services, namespace: "default", name });
const failure = (promise: Promise<unknown>) => promise.then(() => undefined).catch((error: Error) => error.message);
const addresses = async () => (await store.list(IPAddresses)).items.map((one) => one.metadata.name);

describe("a Service that is created", () => {
  test("gets an address of the upper part of the range, its families and policy", async () => {
    const spec = await create("a");
    expect(spec?.clusterIP).toMatch(/^10\.96\.[0-9]+\.[0-9]+$/);
    expect(spec).toMatchObject({
      clusterIPs: [spec!.clusterIP],
      ipFamilies: ["IPv4"],
      ipFamilyPolicy: "SingleStack",
    });
    const [, , third] = spec!.clusterIP!.split(".").map(Number);
    expect(third).toBeGreaterThanOrEqual(1);
  });

  test("has an IPAddress object beside it, in the range that a ServiceCIDR names", async () => {
    const spec = await create("a");
    const object = await store.get({ resource: IPAddresses, name: spec!.clusterIP! });
    expect(object?.spec.parentRef).toEqual({ group: "", resource: "services", namespace: "default", name: "a" });
    expect(object?.metadata.labels).toEqual({
      "ipaddress.kubernetes.io/ip-family": "IPv4",
      "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    });
    const cidr = await store.get({ resource: ServiceCIDRs, name: "kubernetes" });
    expect(cidr?.spec.cidrs).toEqual(["10.96.0.0/16"]);
    expect(cidr?.status.conditions[0].message).toBe("Kubernetes default Service CIDR is ready");
  });

  test("takes the address it asks for, once", async () => {
    expect((await create("dns", { clusterIP: "10.96.0.10" }))?.clusterIPs).toEqual(["10.96.0.10"]);
    expect(await failure(create("j", { clusterIP: "10.96.0.10" }))).toBe(
      'Service "j" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.10"]: failed to allocate IP 10.96.0.10: provided IP is already allocated',
    );
    expect(await failure(create("k", { clusterIP: "10.200.0.1" }))).toBe(
      'Service "k" is invalid: spec.clusterIPs: Invalid value: ["10.200.0.1"]: failed to allocate IP 10.200.0.1: the provided network does not match the current range',
    );
  });

  test("of type NodePort gets a port above the static band, of type LoadBalancer too", async () => {
    const port = (await create("np", { type: "NodePort" }))?.ports[0].nodePort;
    expect(port).toBeGreaterThanOrEqual(30_086);
    expect(port).toBeLessThanOrEqual(32_767);
    expect((await create("lb", { type: "LoadBalancer" }))?.ports[0].nodePort).toBeGreaterThanOrEqual(30_086);
    const without = await create("lb2", { type: "LoadBalancer", allocateLoadBalancerNodePorts: false });
    expect(without?.ports[0].nodePort).toBeUndefined();
  });

  test("is refused a node port outside of the range, and one that is taken", async () => {
    const asking = (nodePort: number): ServiceSpec => ({ type: "NodePort", ports: [{ port: 80, nodePort }] });
    expect(await failure(create("l", asking(22)))).toBe(
      'Service "l" is invalid: spec.ports[0].nodePort: Invalid value: 22: provided port is not in the valid range. The range of valid ports is 30000-32767',
    );
    expect((await create("m", asking(30_080)))?.ports[0].nodePort).toBe(30_080);
    expect(await failure(create("n", asking(30_080)))).toBe(
      'Service "n" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated',
    );
  });

  test("with one port over TCP and UDP gets one node port for both", async () => {
    const ports = [
      { name: "dns", protocol: "UDP", port: 53 },
      { name: "dns-tcp", protocol: "TCP", port: 53 },
    ] as const;
    const spec = await create("dns", { type: "NodePort", ports });
    expect(spec?.ports[0].nodePort).toBe(spec?.ports[1].nodePort);
  });

  test("of type LoadBalancer with policy Local gets a health check node port, another than its node ports", async () => {
    const spec = await create("lb", { type: "LoadBalancer", externalTrafficPolicy: "Local" });
    expect(spec?.healthCheckNodePort).toBeGreaterThanOrEqual(30_000);
    expect(spec?.healthCheckNodePort).not.toBe(spec?.ports[0].nodePort);
  });

  test("that is headless or an external name gets no address", async () => {
    expect(await create("h", { clusterIP: "None" })).toMatchObject({ clusterIPs: ["None"], ipFamilies: ["IPv4"] });
    expect(await create("free", { clusterIP: "None", selector: {} })).toMatchObject({
      clusterIPs: ["None"],
      ipFamilies: ["IPv4", "IPv6"],
      ipFamilyPolicy: "RequireDualStack",
    });
    const external = await create("e", { type: "ExternalName", externalName: "www.example.com", ports: undefined });
    expect(external?.clusterIP).toBeUndefined();
    expect(external?.ipFamilies).toBeUndefined();
    expect(await addresses()).toEqual([]);
  });

  test("must not require two families of a cluster that has one", async () => {
    expect(await failure(create("t", { ipFamilyPolicy: "RequireDualStack" }))).toBe(
      'Service "t" is invalid: spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services',
    );
    expect((await create("p", { ipFamilyPolicy: "PreferDualStack" }))?.ipFamilies).toEqual(["IPv4"]);
  });

  test("that is refused afterwards leaves nothing taken", async () => {
    const bad: ServiceSpec = { clusterIP: "10.96.0.20", ports: [{ port: 70_000 }] };
    expect(await failure(create("bad", bad))).toContain("must be between 1 and 65535");
    expect(await addresses()).toEqual([]);
    expect((await create("good", { clusterIP: "10.96.0.20" }))?.clusterIP).toBe("10.96.0.20");
  });

  test("in a dry run takes nothing", async () => {
    await store.create(Services, service("a", { clusterIP: "10.96.0.30", type: "NodePort" }), { dryRun: true });
    expect(await addresses()).toEqual([]);
    expect((await create("b", { clusterIP: "10.96.0.30" }))?.clusterIP).toBe("10.96.0.30");
  });
});

describe("a Service that changes", () => {
  test("keeps address and port when the manifest is written again without them", async () => {
    const before = await create("a", { type: "NodePort" });
    const now = await get("a");
    const again = await store.update(Services, {
      ...service("a", { type: "NodePort" }),
      metadata: { ...now.metadata },
    });
    expect(again.spec.clusterIP).toBe(before!.clusterIP);
    expect(again.spec.ports[0].nodePort).toBe(before!.ports[0].nodePort);
  });

  test("to ExternalName gives its address and port back", async () => {
    const before = await create("a", { type: "NodePort" });
    await update("a", (spec) => ({ ...spec, type: "ExternalName", externalName: "example.com" }));
    expect(await addresses()).toEqual([]);
    const taker = await create("b", { type: "NodePort", ports: [{ port: 80, nodePort: before!.ports[0].nodePort }] });
    expect(taker?.ports[0].nodePort).toBe(before!.ports[0].nodePort);
  });

  test("from ExternalName to ClusterIP gets an address", async () => {
    await create("e", { type: "ExternalName", externalName: "www.example.com", ports: undefined });
    const spec = await update("e", () => ({ type: "ClusterIP", ports: [{ port: 80 }], selector: { app: "a" } }));
    expect(await addresses()).toEqual([spec!.clusterIP]);
  });

  test("must not change its address", async () => {
    await create("a", { clusterIP: "10.96.0.10" });
    expect(
      await failure(update("a", (spec) => ({ ...spec, clusterIP: "10.96.0.11", clusterIPs: ["10.96.0.11"] }))),
    ).toBe('Service "a" is invalid: spec.clusterIPs[0]: Invalid value: ["10.96.0.11"]: may not change once set');
    expect(await addresses()).toEqual(["10.96.0.10"]);
  });

  test("that is deleted gives everything back, and with finalizers only at its end", async () => {
    await create("a", { clusterIP: "10.96.0.10" });
    await remove("a");
    expect(await addresses()).toEqual([]);

    const held = service("b", { clusterIP: "10.96.0.10" });
    await store.create(Services, { ...held, metadata: { ...held.metadata, finalizers: ["example.com/wait"] } });
    await remove("b");
    expect(await addresses()).toEqual(["10.96.0.10"]);
    const waiting = await get("b");
    await store.update(Services, { ...waiting, metadata: { ...waiting.metadata, finalizers: [] } });
    expect(await addresses()).toEqual([]);
  });
});

describe("two families", () => {
  beforeEach(() => {
    store = open({ secondaryServiceCidr: "fd00:96::/112" });
  });

  test("give a Service that prefers them two addresses, in the order of its families", async () => {
    const spec = await create("a", { ipFamilyPolicy: "PreferDualStack", ipFamilies: ["IPv6", "IPv4"] });
    expect(spec?.clusterIPs[0]).toStartWith("fd00:96::");
    expect(spec?.clusterIPs[1]).toStartWith("10.96.");
    expect(spec?.clusterIP).toBe(spec?.clusterIPs[0]);
  });

  test("can be taken on and given up later", async () => {
    const first = await create("a");
    const both = await update("a", (spec) => ({ ...spec, ipFamilyPolicy: "RequireDualStack" }));
    expect(both?.clusterIPs).toHaveLength(2);
    expect(both?.clusterIPs[0]).toBe(first!.clusterIP);
    const one = await update("a", (spec) => ({ ...spec, ipFamilyPolicy: "SingleStack" }));
    expect(one?.clusterIPs).toEqual([first!.clusterIP]);
    expect(await addresses()).toEqual([first!.clusterIP]);
  });
});

describe("IP families, as the API server has them", () => {
  const single = { secondaryServiceCidr: undefined };
  const dual = { secondaryServiceCidr: "fd00:96::/112" };
  const shape = (spec: ServiceSpec | undefined) => [
    spec?.ipFamilyPolicy,
    spec?.ipFamilies,
    spec?.clusterIPs?.map((one) => (one === "None" ? one : one.includes(":") ? "6" : "4")),
  ];
  const [v4, v6] = ["IPv4", "IPv6"] as const;

  test.each([
    [{}, dual, ["SingleStack", [v4], ["4"]]],
    [{ ipFamilies: [v6] }, dual, ["SingleStack", [v6], ["6"]]],
    [{ ipFamilies: [v6, v4] }, dual, ["RequireDualStack", [v6, v4], ["6", "4"]]],
    [{ ipFamilyPolicy: "PreferDualStack" }, dual, ["PreferDualStack", [v4, v6], ["4", "6"]]],
    [{ ipFamilyPolicy: "PreferDualStack" }, single, ["PreferDualStack", [v4], ["4"]]],
    [{ ipFamilyPolicy: "RequireDualStack", ipFamilies: [v6] }, dual, ["RequireDualStack", [v6, v4], ["6", "4"]]],
    [{ clusterIP: "fd00:96::77" }, dual, ["SingleStack", [v6], ["6"]]],
    [
      { clusterIP: "10.96.0.77", clusterIPs: ["10.96.0.77", "fd00:96::77"] },
      dual,
      ["RequireDualStack", [v4, v6], ["4", "6"]],
    ],
    [{ clusterIP: "None", selector: { app: "x" } }, dual, ["SingleStack", [v4], ["None"]]],
    [
      { clusterIP: "None", selector: { app: "x" }, ipFamilyPolicy: "PreferDualStack" },
      dual,
      ["PreferDualStack", [v4, v6], ["None"]],
    ],
    [{ clusterIP: "None", selector: {} }, single, ["RequireDualStack", [v4, v6], ["None"]]],
    [{ clusterIP: "None", selector: {}, ipFamilyPolicy: "SingleStack" }, dual, ["SingleStack", [v4], ["None"]]],
  ] as [ServiceSpec, { secondaryServiceCidr: string | undefined }, unknown][])(
    "of %j in a cluster with %j",
    async (spec, options, expected) => {
      store = open(options.secondaryServiceCidr ? { secondaryServiceCidr: options.secondaryServiceCidr } : {});
      expect(shape(await create("a", spec)) as unknown).toEqual(expected);
    },
  );

  test.each([
    [
      { ipFamilyPolicy: "RequireDualStack" },
      false,
      'spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services',
    ],
    [{ ipFamilies: [v6] }, false, 'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster'],
    [
      { clusterIP: "fd00::1" },
      false,
      'spec.clusterIPs[0]: Invalid value: ["fd00::1"]: IPv6 is not configured on this cluster',
    ],
    [
      { ipFamilyPolicy: "SingleStack", ipFamilies: [v4, v6] },
      true,
      'spec.ipFamilyPolicy: Invalid value: "SingleStack": must be RequireDualStack or PreferDualStack when multiple IP families are specified',
    ],
    [
      { clusterIP: "10.96.0.9", clusterIPs: ["10.96.0.9", "fd00:96::9"], ipFamilyPolicy: "SingleStack" },
      true,
      'spec.ipFamilyPolicy: Invalid value: "SingleStack": must be RequireDualStack or PreferDualStack when multiple cluster IPs are specified',
    ],
    [
      { clusterIP: "10.96.0.9", ipFamilies: [v6] },
      true,
      'spec.clusterIPs[0]: Invalid value: "10.96.0.9": expected an IPv6 value as indicated by `ipFamilies[0]`',
    ],
    [
      { clusterIP: "10.96.0.9", clusterIPs: ["10.96.0.9", "10.96.0.8"] },
      true,
      'spec.clusterIPs: Invalid value: ["10.96.0.9","10.96.0.8"]: may specify no more than one IP for each IP family',
    ],
    [{ ipFamilies: [v4, v4] }, true, 'spec.ipFamilies[1]: Duplicate value: "IPv4"'],
    [
      { clusterIPs: ["10.96.0.9"] },
      true,
      'spec.clusterIPs: Invalid value: ["10.96.0.9"]: must be empty when `clusterIP` is not specified',
    ],
  ] as [ServiceSpec, boolean, string][])("%j, dual stack %j, is refused: %s", async (spec, isDual, message) => {
    store = open(isDual ? { secondaryServiceCidr: "fd00:96::/112" } : {});
    expect(await failure(create("a", spec))).toBe(`Service "a" is invalid: ${message}`);
    expect(await addresses()).toEqual([]);
  });

  test("change only with the policy: a second family is released by SingleStack alone", async () => {
    store = open({ secondaryServiceCidr: "fd00:96::/112" });
    const both = (await create("a", { ipFamilyPolicy: "PreferDualStack" }))!;
    const release = update("a", (spec) => ({ ...spec, clusterIPs: spec.clusterIPs!.slice(0, 1) }));
    expect(await failure(release)).toBe(
      'Service "a" is invalid: spec.ipFamilyPolicy: Invalid value: "PreferDualStack": must be set to \'SingleStack\' when releasing the secondary clusterIP',
    );
    const families = update("a", (spec) => ({ ...spec, ipFamilies: [v4] }));
    expect(await failure(families)).toContain("when releasing the secondary ipFamily");
    const other = update("a", (spec) => ({ ...spec, clusterIPs: [spec.clusterIP!, "fd00:96::5"] }));
    expect(await failure(other)).toContain("spec.clusterIPs[1]: Invalid value");
    const explicit = await update("a", (spec) => ({
      ...spec,
      ipFamilyPolicy: "SingleStack",
      ipFamilies: [v4],
      clusterIPs: [spec.clusterIP!],
    }));
    expect(explicit?.clusterIPs).toEqual([both.clusterIP]);
    const again = await update("a", (spec) => ({ ...spec, ipFamilies: [v4, v6], ipFamilyPolicy: "PreferDualStack" }));
    expect(again?.clusterIPs).toHaveLength(2);
    expect(await addresses()).toHaveLength(2);
  });
});

describe("full ranges", () => {
  test("name themselves, and an address that comes back is given out", async () => {
    store = open({ serviceCidr: "10.96.0.0/30", nodePortRange: "30000-30001" });
    const a = await create("a", { type: "NodePort" });
    await create("b", { type: "NodePort" });
    expect(await failure(create("c"))).toBe(
      "Internal error occurred: failed to allocate a serviceIP: range 10.96.0.0/30 is full",
    );
    await remove("a");
    expect((await create("c"))?.clusterIP).toBe(a!.clusterIP);
    expect((await update("c", (spec) => ({ ...spec, type: "NodePort" })))?.ports[0].nodePort).toBe(
      a!.ports[0].nodePort,
    );
  });

  test("that are no ranges are refused", () => {
    expect(() => serviceAdmission({ serviceCidr: "10.96.0.0" })).toThrow("not a range");
    expect(() => serviceAdmission({ serviceCidr: "fd00::/48" })).toThrow(
      "shortest allowed prefix length for service CIDR is 64",
    );
    expect(() => parsePortRange("32767-30000")).toThrow("not a range of ports");
  });
});

describe("a store that is opened again", () => {
  test("knows what is taken", async () => {
    const folder = mkdtempSync(join(tmpdir(), "fl-t-alloc-"));
    const reopen = () =>
      openSqliteStore({
        path: join(folder, "store.db"),
        scheme: builtinScheme(),
        clock: new FakeClock(),
        admissions: [serviceAdmission({ serviceCidr: "10.96.0.0/29", nodePortRange: "30000-30005" })],
      });
    try {
      store = reopen();
      const before = [await create("a", { type: "NodePort" }), await create("b", { type: "NodePort" })];
      store.close();
      store = reopen();
      const wish: ServiceSpec = { type: "NodePort", ports: [{ port: 80, nodePort: before[0]!.ports[0].nodePort }] };
      expect(await failure(create("c", wish))).toContain("provided port is already allocated");
      const after = await Promise.all(["d", "e", "f", "g"].map((name) => create(name, { type: "NodePort" })));
      const all = [...before, ...after];
      expect(new Set(all.map((spec) => spec!.clusterIP)).size).toBe(6);
      expect(new Set(all.map((spec) => spec!.ports[0].nodePort)).size).toBe(6);
      store.close();
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("a random range", () => {
  test("has the bands of Kubernetes", () => {
    expect(staticBand(2768, 32, 128)).toBe(86);
    expect(staticBand(65_536, 16, 256)).toBe(256);
    expect(staticBand(256, 16, 256)).toBe(16);
    expect(staticBand(16, 16, 256)).toBe(0);
  });

  test("gives every offset exactly once, the band last, whatever the numbers drawn", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 60 }), fc.nat(60), fc.infiniteStream(fc.nat(999)), (size, band, draws) => {
        const range = new RandomRange(size, band, () => (draws.next().value as number) / 1000);
        const taken = new Set<number>();
        for (let n = 0; n < size; n++) {
          const offset = range.pick((at) => !taken.has(at))!;
          expect(taken.has(offset)).toBe(false);
          if (n < size - Math.min(band, size)) expect(offset).toBeGreaterThanOrEqual(Math.min(band, size));
          taken.add(offset);
        }
        expect(range.pick((at) => !taken.has(at))).toBeUndefined();
      }),
    );
  });
});

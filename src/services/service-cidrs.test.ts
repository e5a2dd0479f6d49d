import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { type IPAddress, IPAddresses, type Service, type ServiceCIDR, ServiceCIDRs, Services } from "../api/kinds.ts";
import { builtinScheme } from "../api/scheme.ts";
import { FakeClock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import { silentLogger } from "../base/log.ts";
import { openSqliteStore, type SqliteStore } from "../store/sqlite/sqlite-store.ts";
import { addressRepairs, repairAddresses } from "./address-repair.ts";
import { serviceAdmission } from "./allocation.ts";
import { addressObject } from "./cluster-ip-range.ts";
import { startServiceCidrController } from "./service-cidr-controller.ts";
import { serviceCidrAdmission } from "./service-cidrs.ts";

let store: SqliteStore;
let clock: FakeClock;
let controller: Disposable;
beforeEach(() => {
  clock = new FakeClock();
  store = openSqliteStore({
    path: ":memory:",
    scheme: builtinScheme(),
    clock,
    // Two addresses in all.
    admissions: [serviceAdmission({ serviceCidr: "10.96.0.0/30" }), serviceCidrAdmission()],
  });
  controller = startServiceCidrController({ store, clock, log: silentLogger });
});
afterEach(() => controller.dispose());

const make = async (name: string, clusterIP?: string) => {
  const spec = { ports: [{ port: 80 }], ...(clusterIP ? { clusterIP } : {}) };
  const made = await store.create(Services, {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name, namespace: "default" },
    spec,
  });
  return (made as Service).spec?.clusterIP;
};
const addRange = (name: string, ...cidrs: string[]) =>
  store.create(ServiceCIDRs, {
    apiVersion: "networking.k8s.io/v1",
    kind: "ServiceCIDR",
    metadata: { name },
    spec: { cidrs },
  });
const range = async (name: string) => (await store.get({ resource: ServiceCIDRs, name })) as ServiceCIDR | undefined;
const failure = (promise: Promise<unknown>) =>
  promise.then(() => "nothing failed").catch((error: Error) => error.message);
async function until(condition: () => Promise<boolean>): Promise<void> {
  for (let turn = 0; !(await condition()); turn++) {
    if (turn > 2_000) throw new Error("it did not come true");
    clock.advance(100);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

describe("a ServiceCIDR", () => {
  test("makes room for Services at once", async () => {
    await make("a");
    await make("b");
    expect(await failure(make("c"))).toContain("range 10.96.0.0/30 is full");
    const made = (await addRange("more", "10.99.0.0/28")) as ServiceCIDR;
    expect(made.metadata.finalizers).toEqual(["networking.k8s.io/service-cidr-finalizer"]);
    expect(made.status?.conditions).toMatchObject([
      { type: "Ready", status: "True", message: "Kubernetes Service CIDR is ready" },
    ]);
    const random = await make("c");
    expect(random).toStartWith("10.99.0.");
    const chosen = random === "10.99.0.14" ? "10.99.0.13" : "10.99.0.14";
    expect(await make("d", chosen)).toBe(chosen);
    expect(await failure(make("e", "10.98.0.1"))).toContain("the provided network does not match the current range");
    expect(await store.get({ resource: IPAddresses, name: chosen })).toBeDefined();
  });

  test("that is deleted gives no more addresses, and stays until none is in use", async () => {
    await addRange("more", "10.99.0.0/28");
    await make("a", "10.99.0.5");
    await store.delete({ resource: ServiceCIDRs, name: "more" });
    await until(async () => (await range("more"))?.status?.conditions?.[0]?.reason === "Terminating");
    expect(await failure(make("b", "10.99.0.6"))).toContain("does not match the current range");
    await store.delete({ resource: Services, namespace: "default", name: "a" });
    await until(async () => (await range("more")) === undefined);
  });

  test("goes at once when its addresses are of another as well", async () => {
    await addRange("more", "10.99.0.0/28");
    await addRange("wider", "10.99.0.0/24");
    await make("a", "10.99.0.5");
    await store.delete({ resource: ServiceCIDRs, name: "more" });
    await until(async () => (await range("more")) === undefined);
  });

  test.each([
    [["10.99.0.0"], "spec.cidrs[0]: Invalid value"],
    [["10.99.0.1/24"], 'must be in canonical form ("10.99.0.0/24")'],
    [["10.99.0.0/24", "10.98.0.0/24"], "no more than one IP for each IP family"],
    [["fd00::/48"], "shortest allowed prefix length for service CIDR is 64"],
    [[], "spec.cidrs: Required value"],
  ])("of %p is refused", async (cidrs, message) => {
    expect(await failure(addRange("bad", ...cidrs))).toContain(message);
  });

  test("does not change its ranges", async () => {
    const made = await addRange("more", "10.99.0.0/28");
    expect(await failure(store.update(ServiceCIDRs, { ...made, spec: { cidrs: ["10.98.0.0/28"] } }))).toContain(
      "field is immutable",
    );
  });
});

describe("addresses after a crash", () => {
  test("without a Service are given back, missing ones are made, and the store allocates on", async () => {
    const kept = await make("a");
    const free = kept === "10.96.0.1" ? "10.96.0.2" : "10.96.0.1";
    await store.create(
      IPAddresses,
      addressObject(free, { apiVersion: "v1", kind: "Service", metadata: { name: "gone", namespace: "default" } }),
    );
    await store.delete({ resource: IPAddresses, name: kept! });
    const told: string[] = [];
    await repairAddresses(store, (about, { reason }) => told.push(`${about.metadata.name} ${reason}`));
    expect(told).toEqual(["a ClusterIPNotAllocated"]);
    expect((await store.list(IPAddresses)).items.map((one) => one.metadata.name)).toEqual([kept!]);
    expect(await make("b")).toBe(free);
    expect(await repairAddresses(store, () => {})).toEqual({ create: [], remove: [], tell: [] });
  });

  test("that two Services have are the older one's, and the other is told", () => {
    const service = (name: string, creationTimestamp: string): Service => ({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name, namespace: "default", creationTimestamp },
      spec: { clusterIPs: ["10.96.0.1"] },
    });
    const [old, young] = [service("old", "2026-01-01T00:00:00Z"), service("young", "2026-01-02T00:00:00Z")];
    const owned = (by: Service): IPAddress[] => [addressObject("10.96.0.1", by)];
    const told = (addresses: readonly IPAddress[]) =>
      addressRepairs([young, old], addresses).tell.map((one) => one.service.metadata.name);
    expect(told(owned(old))).toEqual(["young"]);
    expect(told(owned(young))).toEqual(["old"]);
  });
});

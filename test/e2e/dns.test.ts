// Cluster DNS as a pod sees it: `dig` inside a network namespace, against a server whose sockets live there, over objects in a
// store.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { EndpointSlices, Namespaces, Nodes, Pods, type ServiceSpec, Services } from "../../src/api/kinds.ts";
import { builtinScheme } from "../../src/api/scheme.ts";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { inNetns } from "../../src/base/setns.ts";
import { fromStore, type StoreCollection } from "../../src/collections/from-store.ts";
import { Graph } from "../../src/collections/graph.ts";
import { createForwarder } from "../../src/dns/forwarder.ts";
import { serviceNamesCollection } from "../../src/dns/names.ts";
import { type DnsServer, startDnsServer } from "../../src/dns/server.ts";
import { zoneFeed } from "../../src/dns/zone-changes.ts";
import { ZoneTable } from "../../src/dns/zone-table.ts";
import { serviceAdmission } from "../../src/services/allocation.ts";
import { startEndpointSliceController } from "../../src/services/endpoint-slice-controller.ts";
import { serviceInputs } from "../../src/services/inputs.ts";
import { openSqliteStore } from "../../src/store/sqlite/sqlite-store.ts";

const namespace = `fl-t-dns${process.pid}`;
const address = "10.96.0.10";
const reason =
  process.getuid?.() !== 0 ? "needs root (network namespaces)" : ["ip", "dig"].find((tool) => !Bun.which(tool));
if (reason)
  console.log(`skipped: DNS in a namespace: ${reason === "ip" || reason === "dig" ? `needs ${reason}` : reason}`);

const store = openSqliteStore({
  path: ":memory:",
  scheme: builtinScheme(),
  admissions: [serviceAdmission({ serviceCidr: "10.96.0.0/16" })],
});
const graph = new Graph();
let names: ZoneTable;
let server: DnsServer;
let upstream: DnsServer;
const parts: { dispose(): void }[] = [];

async function dig(...argv: string[]): Promise<string> {
  const child = Bun.spawn(["ip", "netns", "exec", namespace, "dig", `@${address}`, "+tries=1", "+timeout=2", ...argv], {
    stdout: "pipe",
    stderr: "ignore",
  });
  return (await new Response(child.stdout).text()).trim();
}
const short = async (...argv: string[]) => (await dig("+short", ...argv)).split("\n").filter(Boolean).sort();
const status = async (...argv: string[]) => /status: ([A-Z]+)/.exec(await dig(...argv))?.[1];

async function until(condition: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + 5_000;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error("the condition did not come true");
    await Bun.sleep(10);
  }
}

const makeService = (name: string, spec: ServiceSpec) =>
  store.create(Services, { apiVersion: "v1", kind: "Service", metadata: { name, namespace: "shop" }, spec });

async function makePod(n: number): Promise<void> {
  const made = await store.create(Pods, {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: `db-${n}`, namespace: "shop", labels: { app: "db" } },
    spec: { nodeName: "node-1", hostname: `db-${n}`, subdomain: "db", containers: [{ name: "c", image: "x" }] },
  });
  const ip = `10.244.0.${n + 1}`;
  const status = { phase: "Running", podIP: ip, podIPs: [{ ip }], conditions: [{ type: "Ready", status: "True" }] };
  await store.update(Pods, { ...made, status }, { subresource: "status" });
}

describe.skipIf(reason !== undefined)("DNS in a namespace", () => {
  beforeAll(async () => {
    Bun.spawnSync(["ip", "netns", "del", namespace], { stderr: "ignore" });
    for (const argv of [
      ["netns", "add", namespace],
      ["-n", namespace, "link", "set", "lo", "up"],
      ["-n", namespace, "address", "add", `${address}/32`, "dev", "lo"],
    ]) {
      expect(Bun.spawnSync(["ip", ...argv]).exitCode).toBe(0);
    }
    await store.create(Namespaces, { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } });
    await store.create(Nodes, { apiVersion: "v1", kind: "Node", metadata: { name: "node-1" } });
    const follow = (resource: Parameters<typeof fromStore>[1]): StoreCollection =>
      fromStore(store, resource, { graph });
    const objects = {
      services: follow(Services),
      endpointSlices: follow(EndpointSlices),
      pods: follow(Pods),
      nodes: follow(Nodes),
    };
    const namespaces = follow(Namespaces);
    const inputs = serviceInputs(objects);
    parts.push(startEndpointSliceController({ inputs, store, clock: systemClock, log: silentLogger }));
    const ready = Promise.all([...Object.values(objects), namespaces].map((one) => one.ready));
    names = new ZoneTable({ zone: "cluster.local", nameservers: [address], ttl: 5, pods: "insecure" });
    await ready;
    const collection = serviceNamesCollection(inputs.resolved);
    const feed = zoneFeed({ names: collection, namespaces, pods: objects.pods });
    parts.push(
      collection,
      feed,
      feed.subscribe((changes) => names.apply(changes)),
    );
    for (const changes of feed.snapshot()) names.apply(changes);
    names.synced = true;
    // Somebody to forward to: another server of ours, with a zone of its own, on the host's loopback.
    const elsewhere = new ZoneTable({ zone: "example.test", nameservers: ["192.0.2.9"], ttl: 5, pods: "disabled" });
    elsewhere.synced = true;
    const answering = { names: elsewhere, log: silentLogger };
    upstream = await startDnsServer({ answering, addresses: ["127.0.0.1"], port: 0, log: silentLogger });
    const forwarder = createForwarder({ upstreams: [`127.0.0.1:${upstream.port}`], timeout: 500 });
    parts.push(forwarder);
    server = await startDnsServer({
      answering: { names, forwarder, log: silentLogger },
      addresses: [address],
      bind: (open) => inNetns(`/run/netns/${namespace}`, open),
      log: silentLogger,
    });
  });
  afterAll(async () => {
    await server?.dispose();
    await upstream?.dispose();
    for (const part of parts.reverse()) part.dispose();
    Bun.spawnSync(["ip", "netns", "del", namespace]);
  });

  test("a Service is its address, at once, and no more when it is deleted", async () => {
    const made = await makeService("cart", { selector: { app: "cart" }, ports: [{ name: "http", port: 80 }] });
    await until(async () => (await short("cart.shop.svc.cluster.local")).length > 0);
    expect(await short("cart.shop.svc.cluster.local")).toEqual([made.spec.clusterIP]);
    expect(await short("-x", made.spec.clusterIP)).toEqual(["cart.shop.svc.cluster.local."]);
    expect(await short("_http._tcp.cart.shop.svc.cluster.local", "SRV")).toEqual([
      "0 100 80 cart.shop.svc.cluster.local.",
    ]);
    await store.delete({ resource: Services, namespace: "shop", name: "cart" });
    await until(async () => (await status("cart.shop.svc.cluster.local")) === "NXDOMAIN");
  });

  test("a headless Service is its ready pods, over TCP when they are many", async () => {
    await makeService("db", { clusterIP: "None", selector: { app: "db" }, ports: [{ name: "pg", port: 5432 }] });
    await Promise.all([0, 1, 2].map(makePod));
    await until(async () => (await short("db.shop.svc.cluster.local")).length === 3);
    expect(await short("db-1.db.shop.svc.cluster.local")).toEqual(["10.244.0.2"]);
    await store.delete({ resource: Pods, namespace: "shop", name: "db-1" }, { gracePeriodSeconds: 0 });
    await until(async () => (await short("db.shop.svc.cluster.local")).length === 2);

    await Promise.all(Array.from({ length: 80 }, (_, n) => makePod(n + 10)));
    await until(async () => (await short("db.shop.svc.cluster.local", "+tcp")).length === 82);
    expect(await dig("db.shop.svc.cluster.local", "+noedns", "+ignore")).toContain("flags: qr aa tc rd");
    expect(await dig("db.shop.svc.cluster.local", "+noedns")).toContain("Truncated, retrying in TCP mode");
  });

  test("what does not exist is denied with the SOA, what has no such record too", async () => {
    expect(await status("nope.shop.svc.cluster.local")).toBe("NXDOMAIN");
    const nodata = await dig("shop.svc.cluster.local");
    expect(nodata).toContain("status: NOERROR");
    expect(nodata).toMatch(/cluster\.local\.\s+5\s+IN\s+SOA\s+ns\.dns\.cluster\.local\. hostmaster\.cluster\.local\./);
  });

  test("names of others are asked elsewhere", async () => {
    expect(await short("ns.dns.example.test")).toEqual(["192.0.2.9"]);
    expect(await status("www.nowhere.test")).toBe("SERVFAIL");
  });

  test("an external name leads outside", async () => {
    await makeService("web", { type: "ExternalName", externalName: "ns.dns.example.test" });
    await until(async () => (await short("web.shop.svc.cluster.local")).length > 0);
    expect(await short("web.shop.svc.cluster.local")).toEqual(["192.0.2.9", "ns.dns.example.test."]);
  });

  test("a second server on the address is a clear error", async () => {
    const again = startDnsServer({
      answering: { names, log: silentLogger },
      addresses: [address],
      bind: (open) => inNetns(`/run/netns/${namespace}`, open),
      log: silentLogger,
    });
    await expect(again).rejects.toThrow(`DNS server ${address}:53: cannot listen`);
  });
});

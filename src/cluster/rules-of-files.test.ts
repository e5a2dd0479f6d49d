import { describe, expect, test } from "bun:test";
import type { KubeObject } from "../api/object.ts";
import { parseSave } from "../node/iptables/save.ts";
import { type RulesRequest, rulesOfFiles } from "./rules-of-files.ts";

const service = (name: string, spec: object, more: object = {}) => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name, namespace: "shop" },
  spec: { ports: [{ port: 80, targetPort: 8080 }], ...spec },
  ...more,
});
const slice = (name: string, endpoints: readonly object[], more: object = {}) => ({
  apiVersion: "discovery.k8s.io/v1",
  kind: "EndpointSlice",
  metadata: { name: `${name}-1`, namespace: "shop", labels: { "kubernetes.io/service-name": name } },
  addressType: "IPv4",
  ports: [{ port: 8080 }],
  endpoints,
  ...more,
});

async function rules(objects: unknown, request: Partial<RulesRequest> = {}) {
  const text = typeof objects === "string" ? objects : JSON.stringify(objects);
  return rulesOfFiles(["-"], { mode: "nftables", family: 4, ...request }, { stdin: async () => text });
}

const cart = [
  service("cart", { clusterIP: "10.96.0.5" }),
  slice("cart", [
    { addresses: ["10.244.1.5"], nodeName: "node-1", zone: "a", hints: { forZones: [{ name: "a" }] } },
    { addresses: ["10.244.2.5"], nodeName: "node-2", zone: "b", hints: { forZones: [{ name: "b" }] } },
  ]),
];

describe("fairlead rules", () => {
  test("reads documents, a List and a bare list alike", async () => {
    const list = { apiVersion: "v1", kind: "List", items: cart };
    const documents = cart.map((object) => JSON.stringify(object)).join("\n---\n");
    const { text } = await rules(cart);
    expect((await rules(list)).text).toBe(text);
    expect((await rules(documents)).text).toBe(text);
    expect(text).toContain("10.96.0.5 . tcp . 80 : goto service-");
    expect(text).toContain("map { 0 : 10.244.1.5 . 8080, 1 : 10.244.2.5 . 8080 }");
  });

  test("prints iptables-save text, with jumps and policies", async () => {
    const { text } = await rules(cart, { mode: "iptables", flags: { "cluster-cidr": "fd00::/48,10.244.0.0/16" } });
    expect(text.match(/^(\*|COMMIT).*$/gm)).toEqual(["*mangle", "COMMIT", "*filter", "COMMIT", "*nat", "COMMIT"]);
    expect(text).toContain(":PREROUTING ACCEPT [0:0]");
    const parsed = parseSave(text);
    expect(parsed.get("nat/PREROUTING")).toHaveLength(1);
    expect([...parsed.values()].flat().filter((line) => line.startsWith("! -s 10.244.0.0/16"))).toHaveLength(1);
  });

  test("knows the node by its name: local endpoints, and zone, address and ranges from objects beside", async () => {
    const node = (zone: string) => ({
      apiVersion: "v1",
      kind: "Node",
      metadata: { name: "node-1", labels: { "topology.kubernetes.io/zone": zone } },
      status: { addresses: [{ type: "InternalIP", address: "192.0.2.7" }] },
    });
    const cidr = {
      apiVersion: "networking.k8s.io/v1",
      kind: "ServiceCIDR",
      metadata: { name: "kubernetes" },
      spec: { cidrs: ["10.96.0.0/16"] },
    };
    const { text } = await rules([...cart, node("b"), cidr], { node: "node-1" });
    expect(text).toContain("map { 0 : 10.244.2.5 . 8080 }");
    expect(text).toContain("elements = { 192.0.2.7 }");
    expect(text).toContain("ip daddr 10.96.0.0/16 drop");
    expect((await rules([...cart, node("b")], { node: "node-1", zone: "a" })).text).toContain(
      "10.244.1.5 . 10.244.1.5 .",
    );
  });

  test("prints virtual servers, sets and chains of ipvs, and says when the node's address is missing", async () => {
    const objects = [
      service("cart", { type: "NodePort", clusterIP: "10.96.0.5", ports: [{ port: 80, nodePort: 30_080 }] }),
    ];
    const without = await rules(objects, { mode: "ipvs" });
    expect(without.text).toContain("-A -t 10.96.0.5:80 -s rr\n");
    expect(without.text).toContain("add KUBE-CLUSTER-IP 10.96.0.5,tcp:80\n");
    expect(without.text).toContain("-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT\n");
    expect(without.warnings).toEqual([
      "node port 30080 of Service shop/cart, and any other, is left out: the node's address is not known (--node, --node-address)",
    ]);
    const { text, warnings } = await rules(objects, { mode: "ipvs", nodeAddress: "192.0.2.1" });
    expect(text).toContain("-A -t 192.0.2.1:30080 -s rr\n");
    expect(warnings).toEqual([]);
  });

  test("of the other family, has that family's objects only", async () => {
    const six = [
      service("six", { clusterIP: "fd00:96::5", clusterIPs: ["fd00:96::5"], ipFamilies: ["IPv6"] }),
      slice("six", [{ addresses: ["fd00::5"] }], { addressType: "IPv6" }),
    ];
    const { text } = await rules([...cart, ...six], { family: 6, flags: { "cluster-cidr": "10.244.0.0/16" } });
    expect(text).toContain("fd00:96::5 . tcp . 80 : goto service-");
    expect(text).not.toContain("10.96.0.5");
    expect(text).not.toContain("10.244.0.0/16");
  });

  test("leaves out what is wrong, says so with its place, and keeps all other Services", async () => {
    const { text, warnings } = await rules([
      ...cart,
      service("half", { clusterIP: "10.96.0.6" }),
      slice("half", [{ addresses: ["10.244.1.6"] }, { addresses: ["10.244.1.666"] }]),
      service("none", {}),
      service("word", { clusterIP: "10.96.0.x" }),
      service("bad", { clusterIP: "10.96.0.7", ports: [{ port: 0 }] }),
      service("thief", { clusterIP: "10.96.0.8", externalIPs: ["198.51.100.1"] }),
      service("victim", { clusterIP: "10.96.0.9", externalIPs: ["198.51.100.1"] }),
      service("away", { type: "ExternalName", externalName: "example.com" }),
    ]);
    expect(text).toContain("10.96.0.5 . tcp . 80 : goto");
    expect(text).toContain("map { 0 : 10.244.1.6 . 8080 }");
    expect(text).not.toContain("10.96.0.7");
    const about = (name: string) => warnings.filter((warning) => warning.includes(name)).join("\n");
    expect(about("half-1")).toMatch(
      /^-:1: EndpointSlice shop\/half-1: endpoints\[1\]\.addresses\[0\]: .*10\.244\.1\.666/,
    );
    expect(about("shop/none")).toContain("spec.clusterIP is missing");
    expect(about("10.96.0.x")).not.toBe("");
    expect(about("shop/bad")).toContain("spec.ports[0].port");
    expect(about("198.51.100.1")).toContain("Services shop/thief and shop/victim both claim TCP 198.51.100.1 port 80");
    expect(about("away")).toBe("");
  });

  test("says what it can print, and what it needs", async () => {
    await expect(rules(cart, { mode: "ebpf" })).rejects.toThrow("--mode ebpf: there is no such mode");
    await expect(rules([cart[1] as KubeObject])).rejects.toThrow("no usable Service in -");
    await expect(rules(cart, { flags: { "cluster-cidr": "10.244" } })).rejects.toThrow(
      '--cluster-cidr 10.244: "10.244" is not an address range',
    );
  });
});

import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { explainPacketFiles, type PacketFileOptions } from "./explain-packet-files.ts";

const folder = mkdtempSync(join(tmpdir(), "fl-packet-"));
afterAll(() => rmSync(folder, { recursive: true }));

const nodes = [1, 2]
  .map(
    (n) => `
- apiVersion: v1
  kind: Node
  metadata: { name: node-${n}, labels: { topology.kubernetes.io/zone: z${n} } }
  spec: { podCIDR: 10.244.${n}.0/24 }
  status: { addresses: [{ type: InternalIP, address: 192.168.0.${n} }, { type: Hostname, address: node-${n} }] }
- apiVersion: v1
  kind: Pod
  metadata: { name: web-${n} }
  spec: { nodeName: node-${n}, containers: [{ name: c, image: x }] }
  status: { podIP: 10.244.${n}.5, podIPs: [{ ip: 10.244.${n}.5 }] }`,
  )
  .join("");
const service = (more = "") => `
- apiVersion: v1
  kind: Service
  metadata: { name: web }
  spec:
    type: NodePort
    clusterIP: 10.96.0.20
    clusterIPs: [10.96.0.20]
    selector: { app: web }
    ports: [{ name: http, port: 80, targetPort: 8080, nodePort: 30080 }]
    ${more}`;
const slice = `
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: { name: web-1, labels: { kubernetes.io/service-name: web } }
  addressType: IPv4
  ports: [{ name: http, port: 8080 }]
  endpoints:
  - { addresses: [10.244.1.5], nodeName: node-1, conditions: { ready: true }, targetRef: { kind: Pod, name: web-1, namespace: default } }
  - { addresses: [10.244.2.5], nodeName: node-2, conditions: { ready: true }, targetRef: { kind: Pod, name: web-2, namespace: default } }`;

let written = 0;
async function explain(packet: string, items: string, options: PacketFileOptions & { node?: string } = {}) {
  const file = join(folder, `${written++}.yaml`);
  writeFileSync(file, `apiVersion: v1\nkind: List\nitems:${items}\n`);
  const { node, ...more } = options;
  return explainPacketFiles([file], { packet, ...(node ? { node } : {}) }, more);
}
const everything = nodes + service() + slice;

describe("a packet explained by files", () => {
  test("goes to the Service's address of its source's family", async () => {
    const both = service().replace("[10.96.0.20]", '[10.96.0.20, "fd00:96::20"]');
    const { packet } = await explain("tcp [fd00:244::5]:40000 -> default/web:80", nodes + both + slice);
    expect(packet).toBe("tcp [fd00:244::5]:40000 -> [fd00:96::20]:80");
  });

  test("is decided by the node that it meets first", async () => {
    const on = async (packet: string, node?: string) =>
      (await explain(packet, everything, node === undefined ? {} : { node })).node;
    expect(await on("tcp default/web-2 -> default/web:80")).toBe("node-2");
    expect(await on("tcp 10.244.2.99 -> 10.96.0.20:80")).toBe("node-2");
    expect(await on("tcp node/node-2 -> 10.96.0.20:80")).toBe("node-2");
    expect(await on("tcp default/web-1 -> node/node-2:30080")).toBe("node-2");
    expect(await on("tcp default/web-1 -> 192.168.0.2:30080", "node-1")).toBe("node-1");
    expect(await on("tcp 192.0.2.7 -> 10.96.0.20:80")).toBe("node-1");
  });

  test("passes chains by the names that the backends give them", async () => {
    const packet = "tcp default/web-1 -> default/web:80";
    const places = async (mode: string) => {
      const { steps, endpoints } = await explain(packet, everything, { mode });
      return [...steps, ...endpoints].map(({ where }) => where);
    };
    expect(await places("iptables")).toEqual([
      "nat KUBE-SERVICES",
      expect.stringMatching(/^nat KUBE-SVC-[A-Z2-7]{16}$/),
      expect.stringMatching(/^nat KUBE-SEP-[A-Z2-7]{16}$/),
      expect.stringMatching(/^nat KUBE-SEP-[A-Z2-7]{16}$/),
    ]);
    expect(await places("nftables")).toEqual([
      "map service-ips { 10.96.0.20 . tcp . 80 }",
      expect.stringMatching(/^chain service-[A-Z2-7]{8}-default\/web\/tcp\/http$/),
      "dnat",
      "dnat",
    ]);
    expect((await places("ipvs"))[0]).toBe("virtual server TCP 10.96.0.20:80");
  });

  test("tells pods by the nodes' ranges, or by the one that is given", async () => {
    const kept = async (options: PacketFileOptions) =>
      (await explain("tcp 10.244.2.9 -> 10.96.0.20:80", everything, options)).endpoints[0]?.source.kept;
    expect(await kept({})).toBe(true);
    expect(await kept({ podRanges: ["10.244.1.0/24"] })).toBe(false);
  });

  test("says what the files lack", async () => {
    const bare = await explain("tcp 10.0.0.1 -> 10.96.0.20:80", service());
    expect(bare.outcome).toBe("reject");
    expect(bare.notes).toEqual([
      "Service default/web has no EndpointSlice in the files: it is explained as one without endpoints.",
      "The pods' range is not known (--cluster-cidr): no packet to a cluster IP is told from a pod's.",
      "No Node with an address is in the files: a node has none, and what asks for one is not known.",
    ]);
    const addressless = service().replace(/ {4}clusterIPs?: .*\n/g, "");
    const decision = await explain("tcp 10.0.0.1 -> 10.96.0.20:80", nodes + addressless + slice);
    expect(decision.outcome).toBe("pass");
    expect(decision.notes).toEqual([
      "Service default/web has no address in the files: an API server gives it one, and no packet is taken here.",
    ]);
  });

  test.each([
    ["tcp default/gone -> 10.96.0.20:80", {}, 'there is no pod "default/gone"'],
    ["tcp 10.0.0.1 -> default/gone:80", {}, 'there is no Service "default/gone"'],
    ["tcp 10.0.0.1 -> 10.96.0.20:80", { node: "node-9" }, 'there is no node "node-9"'],
    ["tcp 10.0.0.1 -> 10.96.0.20:80", { mode: "ebpf" }, "--mode ebpf: there is no such mode"],
    ["tcp 10.0.0.1 -> 10.96.0.20:80", { podRanges: ["x"] }, "--cluster-cidr x: not an address range"],
    ["tcp fd00::1 -> default/web:80", {}, "source and destination are of different IP families"],
  ])("%s with %j is an error: %s", async (packet, options, message) => {
    await expect(explain(packet, everything, options)).rejects.toThrow(message);
  });
});

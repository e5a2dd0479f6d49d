// Stacks of both IP families, and of IPv6 alone, as upstream's e2e tests have them (kubernetes/kubernetes test/e2e/network/
// dual_stack.go; the names of its cases are in brackets). SCTP is left out: stand-ins do not speak it.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { addressWithPort, hostLiteral, ipFamily } from "../../src/base/ip.ts";
import { fabricNetns, hostLink } from "../../src/node/netns/names.ts";
import { Cluster, podYaml } from "./cluster.ts";
import { eventually, isRoot, run } from "./stack.ts";

if (!isRoot) console.log("skipped: stacks of both IP families: not root");

const http = 8080;
const udp = 8090;
const ports = `ports: [{name: http, port: 80, targetPort: ${http}}, {name: udp, port: 90, protocol: UDP, targetPort: ${udp}}]`;
const selector = "selector: {app: server}";
const both = [`${http}/TCP`, `${udp}/UDP`];

const pods = [
  podYaml("client", { node: "node-1", ports: [] }),
  podYaml("server-1", { app: "server", node: "node-1", ports: both }),
  podYaml("server-2", { app: "server", node: "node-2", ports: both }),
  ...[1, 2].map((n) =>
    podYaml(`host-${n}`, {
      app: "host",
      node: `node-${n}`,
      ports: ["8188/TCP", "8189/UDP"],
      spec: "  hostNetwork: true",
    }),
  ),
].join("");

const serviceYaml = (name: string, spec: string) => `
apiVersion: v1
kind: Service
metadata: {name: ${name}}
spec: {${spec}}
---`;

/** The machine itself is `host`. */
class Stack extends Cluster {
  override async place(target: string): Promise<string> {
    return target === "host" ? "/proc/self/ns/net" : await super.place(target);
  }
}

describe.skipIf(!isRoot).each([
  ["iptables", "ipv4,ipv6"],
  ["nftables", "ipv6,ipv4"],
  ["iptables", "ipv6"],
  ["nftables", "ipv6"],
])("a stack in mode %s with %s", (mode, option) => {
  const families = option.split(",").map((word) => (word === "ipv6" ? 6 : 4));
  const names = families.map((family) => `IPv${family}`);
  const dual = families.length === 2;
  const policy = dual ? "ipFamilyPolicy: RequireDualStack" : "ipFamilyPolicy: SingleStack";
  const cluster = new Stack(`ds-${mode.slice(0, 3)}${option.length}`, option);
  const servers = ["server-1", "server-2"];

  const service = async (name: string, spec: string) => (await cluster.apply(serviceYaml(name, spec)))[0];
  const addressesOf = async (pod: string): Promise<string[]> =>
    (await cluster.ready(pod)).status.podIPs.map(({ ip }: { ip: string }) => ip);
  const nodeAddresses = async (node: string): Promise<string[]> =>
    (await cluster.get("Node", node)).status.addresses
      .filter(({ type }: { type: string }) => type === "InternalIP")
      .map(({ address }: { address: string }) => address);
  /** All of `expected` answer, and nobody else: asked until it is so. */
  const answers = async (
    from: string,
    host: string,
    port: number,
    expected: readonly string[],
    over: "http" | "udp",
  ) => {
    const ask = () =>
      over === "http"
        ? cluster.answering(from, host, port, 4 * expected.length + 8)
        : cluster.answeringUdp(from, host, port, 4 * expected.length + 8);
    const got = await eventually(ask, (now) => now.join() === expected.join(), 15_000);
    expect([over, from, host, got]).toEqual([over, from, host, [...expected]]);
  };

  beforeAll(async () => {
    const words = ["--nodes", "2", "--proxy-mode", mode, "--ip-families", option];
    await cluster.start(pods, ...words);
    for (const pod of ["client", ...servers, "host-1", "host-2"]) await cluster.ready(pod);
    await service("all", `type: NodePort, ${policy}, ${selector}, ${ports}`);
  }, 90_000);
  afterAll(() => cluster.remove(), 30_000);

  test("has nodes and pods with an address of each family [ipv4 and ipv6 internal node ip; pod ips]", async () => {
    for (const node of ["node-1", "node-2"]) {
      expect((await nodeAddresses(node)).map(ipFamily) as unknown).toEqual(families);
      const { podCIDR, podCIDRs } = (await cluster.get("Node", node)).spec;
      expect([podCIDRs[0], podCIDRs.length]).toEqual([podCIDR, families.length]);
    }
    const { status } = await cluster.ready("client");
    expect(status.podIPs.map(({ ip }: { ip: string }) => ipFamily(ip))).toEqual(families);
    expect([status.podIP, status.hostIP]).toEqual([status.podIPs[0].ip, status.hostIPs[0].ip]);
    expect(status.hostIPs.map(({ ip }: { ip: string }) => ip)).toEqual(await nodeAddresses("node-1"));
    expect(await addressesOf("host-2")).toEqual(await nodeAddresses("node-2"));
    const made = await cluster.exec("default/client", "cat", "/etc/hosts");
    for (const address of await addressesOf("client")) expect(made.out).toContain(`${address}\tclient\n`);
  });

  test("lets pods reach each other on every address, with their own as the source [reach pod on ipv4 and ipv6 ip]", async () => {
    for (const from of ["client", ...servers]) {
      const own = await addressesOf(from);
      for (const to of servers) {
        for (const [at, address] of (await addressesOf(to)).entries()) {
          const { pod, client } = await cluster.http(`default/${from}`, address, http);
          expect([pod, client]).toEqual([to, own[at]]);
        }
      }
    }
  });

  test.each([
    ["default", "", ["SingleStack", names.slice(0, 1)]],
    ["four", "ipFamilies: [IPv4]", dual ? ["SingleStack", ["IPv4"]] : undefined],
    ["six", "ipFamilies: [IPv6]", ["SingleStack", ["IPv6"]]],
    [
      "fours",
      "ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv4, IPv6]",
      dual ? ["RequireDualStack", ["IPv4", "IPv6"]] : undefined,
    ],
    [
      "sixes",
      "ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6, IPv4]",
      dual ? ["RequireDualStack", ["IPv6", "IPv4"]] : undefined,
    ],
    ["prefer", "ipFamilyPolicy: PreferDualStack", ["PreferDualStack", names]],
  ] as [string, string, [string, string[]] | undefined][])(
    "gives a Service with %s families its addresses, slices and Endpoints [single stack; ipv4; ipv6; ipv4,v6; ipv6,v4 cluster ip]",
    async (name, spec, expected) => {
      const made = service(`p-${name}`, `${spec ? `${spec}, ` : ""}${selector}, ${ports}`);
      if (!expected) {
        expect(await made.then(String, (error: Error) => error.message)).toMatch(
          /not configured on this cluster|this cluster is not configured/,
        );
        return;
      }
      const { ipFamilyPolicy, ipFamilies, clusterIP, clusterIPs } = (await made).spec;
      expect([ipFamilyPolicy, ipFamilies]).toEqual(expected);
      expect(clusterIPs.map((one: string) => `IPv${ipFamily(one)}`)).toEqual(ipFamilies);
      expect(clusterIP).toBe(clusterIPs[0]);
      const slices = await eventually(
        () => cluster.list("EndpointSlice", `kubernetes.io/service-name=p-${name}`),
        (all) => all.length === ipFamilies.length && all.every((one) => one.endpoints?.length === 2),
      );
      expect(slices.map((one) => one.addressType).sort()).toEqual([...ipFamilies].sort());
      for (const { addressType, endpoints } of slices)
        for (const { addresses } of endpoints) expect(`IPv${ipFamily(addresses[0])}`).toBe(addressType);
      const endpoints = await eventually(
        () => cluster.get("Endpoints", `p-${name}`),
        (one) => one?.subsets?.[0]?.addresses?.length === 2,
      );
      for (const { ip } of endpoints.subsets[0].addresses) expect(`IPv${ipFamily(ip)}`).toBe(ipFamilies[0]);
    },
  );

  test.each(["http", "udp"] as const)(
    "serves %s at cluster IPs and node ports to pods, nodes and endpoints [pod-Service; node-Service; endpoint-Service]",
    async (over) => {
      const { spec } = await cluster.get("Service", "all");
      const port = spec.ports.find(({ name }: { name: string }) => name === over);
      for (const [at, clusterIP] of spec.clusterIPs.entries()) {
        for (const from of ["default/client", "node/node-1", "default/server-1"]) {
          await answers(from, clusterIP, port.port, servers, over);
          for (const node of ["node-1", "node-2"])
            await answers(from, (await nodeAddresses(node))[at]!, port.nodePort, servers, over);
        }
      }
    },
    60_000,
  );

  test("keeps a pod's address on its way through a cluster IP [preserve source pod IP]", async () => {
    const own = await addressesOf("client");
    for (const [at, clusterIP] of (await cluster.get("Service", "all")).spec.clusterIPs.entries())
      expect((await cluster.http("default/client", clusterIP, 80)).client).toBe(own[at]);
  });

  test("keeps a client at its endpoint [client IP based session affinity: http, udp]", async () => {
    const { spec } = await service("affine", `${policy}, ${selector}, ${ports}, sessionAffinity: ClientIP`);
    for (const clusterIP of spec.clusterIPs) {
      await eventually(
        () => cluster.http("default/client", clusterIP, 80),
        (answer) => answer.pod !== undefined,
      );
      expect(await cluster.answering("default/client", clusterIP, 80, 15)).toHaveLength(1);
      expect(await cluster.answeringUdp("default/client", clusterIP, 90, 15)).toHaveLength(1);
    }
  }, 30_000);

  test("carries large requests [large requests: http, udp]", async () => {
    for (const clusterIP of (await cluster.get("Service", "all")).spec.clusterIPs) {
      const { body } = await cluster.http("default/client", clusterIP, 80, { body: "42".repeat(1000) });
      expect(body).toMatchObject({ length: 2000, text: "42".repeat(1000) });
      const client = await cluster.udpClient("default/client", clusterIP, 90, `n${"o".repeat(1999)}`);
      expect(servers).toContain(await client.answerOfAnother());
      expect(client.last.length).toBe(2000);
      client.close();
    }
  });

  test("serves endpoints on the nodes' own network [service endpoints using hostNetwork]", async () => {
    const spec = `type: NodePort, ${policy}, selector: {app: host}`;
    const made = await service(
      "host",
      `${spec}, ports: [{name: http, port: 80, targetPort: 8188}, {name: udp, port: 90, protocol: UDP, targetPort: 8189}]`,
    );
    for (const [at, clusterIP] of made.spec.clusterIPs.entries()) {
      const node = (await nodeAddresses("node-2"))[at]!;
      for (const from of ["default/client", "node/node-1"]) {
        await answers(from, clusterIP, 80, ["host-1", "host-2"], "http");
        await answers(from, clusterIP, 90, ["host-1", "host-2"], "udp");
        await answers(from, node, made.spec.ports[0].nodePort, ["host-1", "host-2"], "http");
      }
    }
  }, 60_000);

  test("leads the host to a load balancer's address of each family, keeps its address under Local, and says how it is", async () => {
    await service("lb", `type: LoadBalancer, ${policy}, externalTrafficPolicy: Local, ${selector}, ${ports}`);
    const { status, spec } = await eventually(
      () => cluster.get("Service", "lb"),
      (one) => one.status.loadBalancer.ingress?.length === families.length,
    );
    const ingress = status.loadBalancer.ingress.map(({ ip }: { ip: string }) => ip);
    expect(ingress.map(ipFamily)).toEqual(families);
    for (const [at, address] of ingress.entries()) {
      const local = (over: "http" | "udp") =>
        over === "http" ? cluster.answering("host", address, 80, 4) : cluster.answeringUdp("host", address, 90, 4);
      for (const over of ["http", "udp"] as const) {
        const got = await eventually(
          () => local(over),
          (now) => now.every((pod) => servers.includes(pod)),
          15_000,
        );
        for (const pod of got) expect(servers).toContain(pod);
      }
      const route = await run(["ip", "route", "get", address]);
      expect((await cluster.http("host", address, 80)).client).toBe(/ src (\S+)/.exec(route.out)![1]);
      const node = (await nodeAddresses("node-2"))[at]!;
      const health = await cluster.http("default/client", node, spec.healthCheckNodePort);
      expect(health).toMatchObject({ localEndpoints: 1, serviceProxyHealthy: true });
      const healthz = await cluster.http("default/client", node, 10256, { path: "/healthz" });
      expect(Object.keys(healthz.status).sort()).toEqual([...names].sort());
      await answers("host", node, spec.ports[0].nodePort, ["server-2"], "http");
    }
  }, 60_000);

  test("sends what comes from outside only to nodes with endpoints under Local, also after the rules for that were flushed", async () => {
    await cluster.apply(podYaml("alone", { app: "alone", node: "node-2", ports: both }));
    await cluster.ready("alone");
    await service(
      "alone",
      `type: LoadBalancer, ${policy}, externalTrafficPolicy: Local, selector: {app: alone}, ${ports}`,
    );
    const { status } = await eventually(
      () => cluster.get("Service", "alone"),
      (one) => one.status.loadBalancer.ingress?.length === families.length,
    );
    const fabric = (...argv: string[]) => run(["ip", "netns", "exec", fabricNetns(cluster.stack.name), ...argv]);
    for (const [at, { ip }] of status.loadBalancer.ingress.entries()) {
      await answers("host", ip, 80, ["alone"], "http");
      await answers("host", ip, 90, ["alone"], "udp");
      const listing = async () => {
        const program = families[at] === 6 ? "ip6tables" : "iptables";
        const argv =
          mode === "nftables" ? ["nft", "list", "table", "inet", "fairlead-balancer"] : [program, "-t", "mangle", "-S"];
        return (await fabric(...argv)).out;
      };
      const before = await listing();
      expect(before).toContain(ip);
      const flush =
        mode === "nftables"
          ? ["nft", "flush", "ruleset"]
          : [families[at] === 6 ? "ip6tables" : "iptables", "-t", "mangle", "-F"];
      expect(await fabric(...flush)).toMatchObject({ code: 0 });
      const flushed = performance.now();
      expect(await eventually(listing, (now) => now === before, 15_000)).toBe(before);
      console.log(`the load balancer's rules were back after ${Math.round(performance.now() - flushed)} ms`);
      await answers("host", ip, 80, ["alone"], "http");
      await answers("host", ip, 90, ["alone"], "udp");
    }
    await cluster.delete("Service", "alone");
    await cluster.delete("Pod", "alone");
  }, 60_000);

  test("serves host ports at the node's address of each family, also after their rules were flushed", async () => {
    const [port, own] = [
      8086,
      "containers: [{name: main, image: example/web, ports: [{containerPort: 8080, hostPort: 8086}]}]",
    ];
    await cluster.apply(podYaml("host-port", { node: "node-2" }).replace(/containers: .*/, own));
    await cluster.ready("host-port");
    for (const [at, address] of (await nodeAddresses("node-2")).entries()) {
      for (const from of ["default/client", "node/node-1", "host"])
        await answers(from, address, port, ["host-port"], "http");
      const own = await addressesOf("client");
      expect((await cluster.http("default/client", address, port)).client).toBe(own[at]);
      // A pod that reaches itself sees the node.
      expect((await cluster.http("default/host-port", address, port)).client).not.toBe(
        (await addressesOf("host-port"))[at],
      );
      const six = families[at] === 6;
      const [list, flush] =
        mode === "nftables"
          ? [
              ["nft", "list", "table", six ? "ip6" : "ip", "cni_hostport"],
              ["nft", "flush", "map", six ? "ip6" : "ip", "cni_hostport", "hostports"],
            ]
          : [
              [six ? "ip6tables" : "iptables", "-t", "nat", "-S", "CNI-HOSTPORT-DNAT"],
              [six ? "ip6tables" : "iptables", "-t", "nat", "-F", "CNI-HOSTPORT-DNAT"],
            ];
      const rules = async () => (await cluster.exec("node/node-2", ...list!)).out;
      const before = await rules();
      expect(before).toContain(String(port));
      expect((await cluster.exec("node/node-2", ...flush!)).code).toBe(0);
      const flushed = performance.now();
      expect(await eventually(rules, (now) => now === before, 15_000)).toBe(before);
      console.log(`host ports were back after ${Math.round(performance.now() - flushed)} ms`);
      await answers("host", address, port, ["host-port"], "http");
    }
    await cluster.delete("Pod", "host-port");
    await cluster.gone("Pod", "host-port");
    for (const address of await nodeAddresses("node-2"))
      expect(await cluster.http("host", address, port)).toBe("ECONNREFUSED");
  }, 60_000);

  test("has the API server and DNS at addresses of each family", async () => {
    const api = (await cluster.get("Service", "kubernetes")).spec;
    const dns = (await cluster.get("Service", "kube-dns", "kube-system")).spec;
    expect([api.ipFamilies, dns.ipFamilies]).toEqual([names, names]);
    for (const address of api.clusterIPs) {
      const host = hostLiteral(address);
      const { out } = await cluster.exec("default/client", "curl", "-sk", "-m", "5", `https://${host}/version`);
      expect(out).toContain('"gitVersion"');
    }
    const { out } = await cluster.exec("default/client", "cat", "/etc/resolv.conf");
    expect(out.match(/^nameserver .*/gm)).toEqual(dns.clusterIPs.map((one: string) => `nameserver ${one}`));
  });

  test("answers A, AAAA and PTR to a pod, at each of DNS's addresses", async () => {
    const { clusterIPs } = (await cluster.get("Service", "all")).spec;
    const headless = await service("none", `clusterIP: None, ${policy}, ${selector}, ${ports}`);
    expect(headless.spec.clusterIPs).toEqual(["None"]);
    const dig = async (...words: string[]) => {
      const { out } = await cluster.exec("default/client", "dig", "+short", "+time=2", "+tries=2", ...words);
      return out.trim().split("\n").filter(Boolean).sort();
    };
    for (const server of (await cluster.get("Service", "kube-dns", "kube-system")).spec.clusterIPs) {
      for (const [at, family] of families.entries()) {
        const type = family === 6 ? "AAAA" : "A";
        const own = [clusterIPs[at]];
        const asked = () => dig(`@${server}`, "all.default.svc.cluster.local", type);
        expect(await eventually(asked, (got) => got.join() === own.join())).toEqual(own);
        const ready = (await Promise.all(servers.map(addressesOf))).map((all) => all[at]!).sort();
        const found = () => dig(`@${server}`, "none.default.svc.cluster.local", type);
        expect(await eventually(found, (got) => got.join() === ready.join())).toEqual(ready);
        expect(await dig(`@${server}`, "-x", own[0])).toEqual(["all.default.svc.cluster.local."]);
      }
    }
  }, 30_000);

  test("explains a packet of each family as it goes", async () => {
    const { clusterIPs } = (await cluster.get("Service", "all")).spec;
    const own = await addressesOf("client");
    for (const [at, clusterIP] of clusterIPs.entries()) {
      const packet = `tcp ${addressWithPort(own[at]!, 40000)} -> ${addressWithPort(clusterIP, 80)}`;
      const said = await cluster.control.explainPacket({ packet });
      expect(said.outcome).toBe("endpoints");
    }
  });

  test.skipIf(!dual)(
    "follows a Service to two families and back [update single stack to dual stack, and back]",
    async () => {
      const first = await service("changes", `${selector}, ${ports}`);
      const [primary] = first.spec.clusterIPs;
      const upgraded = await cluster.patch("Service", "changes", { spec: { ipFamilyPolicy: "PreferDualStack" } });
      expect(upgraded.spec.ipFamilies).toEqual(names);
      expect(upgraded.spec.clusterIPs[0]).toBe(primary);
      const second = upgraded.spec.clusterIPs[1];
      for (const address of [primary, second]) await answers("default/client", address, 80, servers, "http");
      const downgraded = await cluster.patch("Service", "changes", { spec: { ipFamilyPolicy: "SingleStack" } });
      expect([downgraded.spec.clusterIPs, downgraded.spec.ipFamilies]).toEqual([[primary], names.slice(0, 1)]);
      const slices = await eventually(
        () => cluster.list("EndpointSlice", "kubernetes.io/service-name=changes"),
        (all) => all.length === 1,
      );
      expect(slices.map((one) => one.addressType)).toEqual(names.slice(0, 1));
      await answers("default/client", primary, 80, servers, "http");
      const gone = () => cluster.http("default/client", second, 80, { patience: 500 });
      expect(typeof (await eventually(gone, (answer) => typeof answer === "string"))).toBe("string");
    },
    30_000,
  );

  test("leads the machine to a ServiceCIDR of each family while it is there", async () => {
    const more = families.map((family) => (family === 6 ? "fd7e:5ea:1::/112" : "10.158.1.0/24"));
    const cidr = JSON.stringify({
      apiVersion: "networking.k8s.io/v1",
      kind: "ServiceCIDR",
      metadata: { name: "more" },
      spec: { cidrs: more },
    });
    await cluster.apply(cidr);
    const wanted = families.map((family) => (family === 6 ? "fd7e:5ea:1::9" : "10.158.1.9"));
    await service(
      "far",
      `clusterIP: "${wanted[0]}", clusterIPs: [${wanted.map((one) => `"${one}"`).join()}], ${policy}, ${selector}, ${ports}`,
    );
    for (const address of wanted) {
      await answers("host", address, 80, servers, "http");
      await answers("default/client", address, 80, servers, "http");
    }
    const dropped = async () => (await cluster.exec("node/node-1", "nft", "list", "ruleset")).out;
    if (mode === "nftables") for (const range of more) expect(await dropped()).toContain(range);
    await cluster.delete("Service", "far");
    await cluster.delete("ServiceCIDR", "more");
    await cluster.gone("ServiceCIDR", "more");
    const routes = async () =>
      (await Promise.all(["-4", "-6"].map((one) => run(["ip", one, "route"])))).map(({ out }) => out).join();
    const left = await eventually(routes, (now) => !more.some((range) => now.includes(range)));
    for (const range of more) expect(left).not.toContain(range);
    if (mode === "nftables")
      expect(await eventually(dropped, (now) => !now.includes(more[0]!))).not.toContain(more[0]!);
  }, 40_000);

  test("serves a Gateway at an IPv6 address, by the line that `up` prints", async () => {
    const ranges = cluster.stack.rangeOptions[cluster.stack.rangeOptions.indexOf("--load-balancer-cidr") + 1]!;
    const range = ranges.split(",").find((one) => one.includes(":"))!;
    const address = range.replace("/112", "77");
    const { out, err } = await cluster.stack.upWith(`
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: six}
spec: {controllerName: fairlead.dev/gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: six}
spec:
  gatewayClassName: six
  addresses: [{value: "${address}"}]
  listeners: [{name: http, port: 8081, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: six}
spec: {parentRefs: [{name: six}], rules: [{backendRefs: [{name: all, port: 80}]}]}
`);
    const line = out
      .split("\n")
      .find((one) => one.includes("curl "))
      ?.trim();
    expect([line, err]).toEqual([`curl 'http://[${address}]:8081/'`, ""]);
    const asked = () => run(["sh", "-c", `${line!} --silent --max-time 5`]);
    const answer = JSON.parse((await eventually(asked, ({ out }) => out.startsWith("{"))).out);
    expect(servers).toContain(answer.pod);
    expect(answer.host).toBe(`[${address}]:8081`);
    const { out: said } = await cluster.stack.fairlead("explain", "GET", `http://[${address}]:8081/`);
    expect(said).toContain("default/all");
    const [clusterIP] = (await cluster.get("Service", "all")).spec.clusterIPs.filter((one: string) =>
      one.includes(":"),
    );
    const asPod = ["explain", "GET", `http://[${clusterIP}]/`, "--from", "default/client"];
    expect((await cluster.stack.fairlead(asPod[0]!, ...asPod.slice(1))).out).toContain("default/all:80");
  }, 60_000);

  test.skipIf(!dual)(
    "takes the example, and gives the second address back when its policy says so",
    async () => {
      const { code, out } = await cluster.stack.up("-f", "examples/dual-stack");
      expect([code, out.includes("Everything works.")]).toEqual([0, true]);
      const ingress = async () =>
        (await cluster.get("Service", "echo")).status.loadBalancer.ingress.map(({ ip }: { ip: string }) => ip);
      const addresses = await ingress();
      expect(addresses.map(ipFamily)).toEqual(families);
      for (const address of addresses) {
        expect(out).toContain(address);
        expect((await cluster.http("host", address, 80)).labels.app).toBe("echo");
      }
      const [own] = (await cluster.list("Pod", "app=echo")).map(({ metadata }) => metadata.name);
      const { out: named } = await cluster.exec(
        `default/${own}`,
        "dig",
        "+short",
        "AAAA",
        "echo-pods.default.svc.cluster.local",
      );
      expect(named.trim().split("\n").map(ipFamily)).toEqual([6, 6]);
      await cluster.patch("Service", "echo", { spec: { ipFamilyPolicy: "SingleStack" } });
      expect(await eventually(ingress, (now) => now.length === 1)).toEqual(addresses.slice(0, 1));
      await cluster.delete("Deployment", "echo");
    },
    60_000,
  );

  test("puts back the rules of each family that somebody took away", async () => {
    for (const family of families) {
      const [save, remove] =
        mode === "nftables"
          ? [
              ["nft", "list", "chain", family === 6 ? "ip6" : "ip", "kube-proxy", "services"],
              ["nft", "flush", "chain", family === 6 ? "ip6" : "ip", "kube-proxy", "services"],
            ]
          : [
              [family === 6 ? "ip6tables" : "iptables", "-t", "nat", "-S", "KUBE-SERVICES"],
              [family === 6 ? "ip6tables" : "iptables", "-t", "nat", "-F", "KUBE-SERVICES"],
            ];
      const rules = async () => (await cluster.exec("node/node-1", ...save!)).out;
      // What the case before took away is gone when its pods are.
      const rest = (now: string) => now.includes("default/all:udp") && !now.includes("default/echo:");
      const before = await eventually(rules, (now) => mode === "nftables" || rest(now));
      expect(before.split("\n").length).toBeGreaterThan(3);
      expect((await cluster.exec("node/node-1", ...remove!)).code).toBe(0);
      // On a busy machine looks at the rules are rarer.
      expect(await eventually(rules, (now) => now === before, 15_000)).toBe(before);
    }
  }, 60_000);

  test("refuses where no endpoint is", async () => {
    const { spec } = await service("nobody", `type: NodePort, ${policy}, selector: {app: nobody}, ${ports}`);
    for (const [at, address] of spec.clusterIPs.entries()) {
      const node = (await nodeAddresses("node-2"))[at]!;
      for (const [host, port] of [
        [address, 80],
        [node, spec.ports[0].nodePort],
      ] as const) {
        // The kernel overhears an error of IPv6 that comes while `connect` still runs, and hears that of its next SYN, after a second.
        const asked = () => cluster.http("default/client", host, port, { patience: 4_000 });
        expect(await eventually(asked, (answer) => answer === "ECONNREFUSED")).toBe("ECONNREFUSED");
      }
    }
  }, 30_000);

  test("has the same addresses, routes and rules after its control process was killed", async () => {
    const routes = async () => {
      const link = hostLink(cluster.stack.name);
      const all = await Promise.all(["-4", "-6"].map((one) => run(["ip", one, "route", "show", "dev", link])));
      return all.map(({ out }) => out);
    };
    const pods = () => Promise.all(["client", ...servers].map(addressesOf));
    const [had, led] = [await pods(), await routes()];
    const { processes } = await cluster.control.status();
    const { pid } = processes.find(({ component }) => component === "control")!;
    process.kill(pid!, "SIGKILL");
    const another = async () => {
      const now = await cluster.control.status().catch(() => undefined);
      return now?.processes.find(({ component }) => component === "control")?.pid;
    };
    expect(await eventually(another, (now) => now !== undefined && now !== pid, 20_000)).not.toBe(pid);
    expect([await pods(), await routes()]).toEqual([had, led]);
    for (const address of (await cluster.get("Service", "all")).spec.clusterIPs)
      await answers("default/client", address, 80, servers, "http");
    const made = podYaml("late", { node: "node-2", ports: [] });
    await cluster.apply(made);
    const late = await addressesOf("late");
    for (const address of had.flat()) expect(late).not.toContain(address);
    expect(late.map(ipFamily) as unknown).toEqual(families);
  }, 60_000);

  test("forgets an endpoint that goes [update endpoints: http, udp]", async () => {
    const { clusterIPs } = (await cluster.get("Service", "all")).spec;
    // Each goes on sending from its one port: connection tracking has to let go of the endpoint, too.
    const clients = await Promise.all(
      clusterIPs.flatMap((address: string) =>
        Array.from({ length: 6 }, () => cluster.udpClient("default/client", address, 90)),
      ),
    );
    for (const client of clients) expect(servers).toContain(await client.answerOfAnother());
    await cluster.delete("Pod", "server-2");
    await cluster.gone("Pod", "server-2");
    for (const client of clients) {
      expect(await client.heard("server-1")).toBe(true);
      client.close();
    }
    for (const address of clusterIPs) {
      await answers("default/client", address, 80, ["server-1"], "http");
      await answers("default/client", address, 90, ["server-1"], "udp");
    }
  }, 40_000);
});

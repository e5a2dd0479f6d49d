// What pods see of cluster DNS, as upstream's e2e tests have it (kubernetes/kubernetes test/e2e/network/dns.go, dns_configmap.go and
// dns_scale_records.go): resolv.conf by policy and configuration, pods' names, ExternalName that changes, stub domains, pods'
// records by mode. Beside `dns-stack.test.ts`, which goes through the specification's records.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { silentLogger } from "../../src/base/log.ts";
import { type DnsServer, startDnsServer } from "../../src/dns/server.ts";
import { ZoneTable } from "../../src/dns/zone-table.ts";
import { Cluster, podYaml } from "./cluster.ts";
import { eventually, isRoot } from "./stack.ts";

const reason = !isRoot ? "it needs root" : Bun.which("dig") === null ? "it needs dig" : undefined;
if (reason) console.log(`skipped: behaviour of DNS: ${reason}`);

const pod = (name: string, spec = "") => podYaml(name, { ports: [], spec });
const service = (name: string, spec: string) => `
apiVersion: v1
kind: Service
metadata: { name: ${name} }
spec: ${spec}
---`;
const many = (prefix: string, count: number) => Array.from({ length: count }, (_, n) => `${prefix}${n}.example`);

describe.skipIf(reason !== undefined)("DNS", () => {
  const cluster = new Cluster("dnsb");
  /** Servers of others: who asks them gets an address that says which one it was. */
  const others: DnsServer[] = [];
  let clusterDns = "";

  const other = async (zone: string, address: string) => {
    const names = new ZoneTable({ zone, nameservers: [address], ttl: 5, pods: "disabled" });
    names.synced = true;
    const server = await startDnsServer({
      answering: { names, log: silentLogger },
      addresses: ["127.0.0.1"],
      port: 0,
      log: silentLogger,
    });
    others.push(server);
    return `127.0.0.1:${server.port}`;
  };
  const inPod = async (name: string, ...argv: string[]) => (await cluster.exec(`default/${name}`, ...argv)).out;
  const file = (name: string) => inPod(name, "cat", "/etc/resolv.conf");
  const dig = (...words: string[]) => inPod("client", "dig", "+tries=1", "+timeout=3", ...words);
  const short = async (...words: string[]) => (await dig("+short", ...words)).split("\n").filter(Boolean).sort();
  const status = async (...words: string[]) => /status: ([A-Z]+)/.exec(await dig(...words))?.[1];
  /** By the C library: what programs in the pod get. */
  const lookUp = async (name: string) => (await inPod("client", "getent", "ahostsv4", name)).split(/\s/)[0];
  const configure = (data: string) =>
    cluster.apply(`
apiVersion: v1
kind: ConfigMap
metadata: { name: fairlead-dns, namespace: kube-system }
data: ${data}`);

  beforeAll(async () => {
    const upstream = await other("upstream.test", "192.0.2.1");
    const searches = [...many("path-", 7), `${"l".repeat(60)}.${"m".repeat(60)}.${"n".repeat(60)}.example`];
    const objects = [
      pod("client"),
      pod("dns-default", "  dnsPolicy: Default"),
      pod("dns-none", "  dnsPolicy: None\n  dnsConfig: { nameservers: [1.1.1.1], searches: [resolv.conf.local] }"),
      pod(
        "dns-options",
        '  dnsPolicy: None\n  dnsConfig: { nameservers: [1.1.1.1], searches: [resolv.conf.local], options: [{ name: ndots, value: "2" }] }',
      ),
      pod("dns-more", `  dnsConfig: { searches: [${searches.join(", ")}] }`),
      pod(
        "dns-relaxed",
        "  dnsPolicy: None\n  dnsConfig: { nameservers: [1.1.1.1], searches: [., _under_score.example] }",
      ),
      pod("dns-host", "  hostNetwork: true"),
      pod("dns-host-cluster", "  hostNetwork: true\n  dnsPolicy: ClusterFirstWithHostNet"),
      pod(
        "dns-too-much",
        `  dnsPolicy: None\n  dnsConfig: { nameservers: [1.1.1.1, 1.1.1.2, 1.1.1.3], searches: [${many("s-", 32).join(", ")}] }`,
      ),
      podYaml("named", { app: "named", ports: ["8090"], spec: "  hostname: querier\n  subdomain: headless" }),
      podYaml("fqdn", {
        ports: [],
        spec: "  hostname: h\n  subdomain: s\n  setHostnameAsFQDN: true",
        annotations: `{ fairlead.dev/command: 'echo "name is $HOSTNAME"; exec sleep 1000' }`,
      }),
      service("headless", "{ clusterIP: None, selector: { app: named }, ports: [{ name: http, port: 8090 }] }"),
      service("test-service", "{ selector: { app: named }, ports: [{ name: http, port: 80, targetPort: 8090 }] }"),
    ];
    await cluster.start(objects.join(""), "--dns-upstream", upstream);
    clusterDns = (await cluster.get("Service", "kube-dns", "kube-system")).spec.clusterIP;
    for (const name of ["client", "named", "dns-too-much"]) await cluster.ready(name);
  }, 90_000);
  afterAll(async () => {
    await cluster.remove();
    for (const one of others) await one.dispose();
  }, 30_000);

  test("should provide DNS for the cluster, also of partial qualified names", async () => {
    const { clusterIP } = (await cluster.get("Service", "kubernetes")).spec;
    for (const name of [
      "kubernetes",
      "kubernetes.default",
      "kubernetes.default.svc",
      "kubernetes.default.svc.cluster.local",
    ])
      expect([name, await lookUp(name)]).toEqual([name, clusterIP]);
  });

  test("should provide DNS for services, also of partial qualified names", async () => {
    const { clusterIP } = (await cluster.get("Service", "test-service")).spec;
    for (const name of ["test-service", "test-service.default", "test-service.default.svc"])
      expect([name, await lookUp(name)]).toEqual([name, clusterIP]);
    expect(await short("_http._tcp.test-service.default.svc.cluster.local", "SRV")).toEqual([
      "0 100 80 test-service.default.svc.cluster.local.",
    ]);
    expect(await short("+tcp", "_http._tcp.headless.default.svc.cluster.local", "SRV")).toEqual([
      "0 100 8090 querier.headless.default.svc.cluster.local.",
    ]);
    expect(await short("-x", clusterIP)).toEqual(["test-service.default.svc.cluster.local."]);
  });

  test("should provide /etc/hosts entries for the cluster", async () => {
    const { podIP } = (await cluster.ready("named")).status;
    const hosts = await inPod("named", "cat", "/etc/hosts");
    expect(hosts).toContain(`${podIP}\tquerier.headless.default.svc.cluster.local\tquerier\n`);
    expect((await inPod("named", "getent", "hosts", "querier")).split(/\s+/)[0]).toBe(podIP);
  });

  test("should provide DNS for pods for Hostname and for Subdomain", async () => {
    const { podIP } = (await cluster.ready("named")).status;
    expect(await lookUp("querier.headless.default.svc.cluster.local")).toBe(podIP);
    expect(await lookUp("headless.default.svc.cluster.local")).toBe(podIP);
    expect(await status("named.headless.default.svc.cluster.local")).toBe("NXDOMAIN");
  });

  test("should provide DNS for ExternalName services", async () => {
    const name = "dns-external.default.svc.cluster.local";
    await cluster.apply(service("dns-external", "{ type: ExternalName, externalName: foo.upstream.test }"));
    const cname = (wanted: string) =>
      eventually(
        () => short(name, "CNAME"),
        ([one]) => one === wanted,
      );
    expect(await cname("foo.upstream.test.")).toEqual(["foo.upstream.test."]);
    await cluster.patch("Service", "dns-external", { spec: { externalName: "bar.upstream.test" } });
    expect(await cname("bar.upstream.test.")).toEqual(["bar.upstream.test."]);
    await cluster.patch("Service", "dns-external", {
      spec: { type: "ClusterIP", externalName: null, ports: [{ name: "http", port: 80, protocol: "TCP" }] },
    });
    const { clusterIP } = (await cluster.get("Service", "dns-external")).spec;
    expect(
      await eventually(
        () => short(name),
        ([one]) => one === clusterIP,
      ),
    ).toEqual([clusterIP]);
  }, 30_000);

  test("should support configurable pod DNS nameservers and resolv.conf", async () => {
    expect(await file("dns-none")).toBe("search resolv.conf.local\nnameserver 1.1.1.1\n");
    expect(await file("dns-options")).toBe("search resolv.conf.local\nnameserver 1.1.1.1\noptions ndots:2\n");
    const own = await file("client");
    expect(own).toStartWith("search default.svc.cluster.local svc.cluster.local cluster.local");
    expect(own).toEndWith(`nameserver ${clusterDns}\noptions ndots:5\n`);
  });

  test("should work with the pod containing more than 6 DNS search paths and longer than 256 search list characters", async () => {
    const [search = ""] = (await file("dns-more")).split("\n");
    expect(search.split(" ").slice(-8)[0]).toBe("path-0.example");
    expect(search.length).toBeGreaterThan(256);
  });

  test("should work with a search path containing an underscore and a search path with a single dot", async () => {
    expect(await file("dns-relaxed")).toBe("search . _under_score.example\nnameserver 1.1.1.1\n");
  });

  test("pods on their node's network have the host's resolvers, or the cluster's when they say so", async () => {
    const servers = (text: string) => text.split("\n").filter((line) => line.startsWith("nameserver"));
    const host = servers(await Bun.file("/etc/resolv.conf").text()).slice(0, 3);
    expect(servers(await file("dns-host"))).toEqual(host);
    expect(servers(await file("dns-default"))).toEqual(host);
    expect(await file("dns-host-cluster")).toBe(await file("client"));
    const { clusterIP } = (await cluster.get("Service", "kubernetes")).spec;
    expect((await inPod("dns-host-cluster", "getent", "ahostsv4", "kubernetes.default")).split(" ")[0]).toBe(clusterIP);
  });

  test("what is beyond the C library's limits is left out, and an Event says so", async () => {
    // The API takes three servers and 32 paths; with those of the host there are more.
    const dnsConfig = `{ nameservers: [1.1.1.1, 1.1.1.2, 1.1.1.3], searches: [${many("s-", 32).join(", ")}] }`;
    await cluster.apply(pod("dns-beyond", `  dnsConfig: ${dnsConfig}`));
    await cluster.ready("dns-beyond");
    const text = await file("dns-beyond");
    expect(text.split("\n")[0]!.split(" ")).toHaveLength(33);
    expect(text.match(/^nameserver/gm)).toHaveLength(3);
    const events = await eventually(
      async () =>
        (await cluster.list("Event")).filter(
          (event) => event.involvedObject?.name === "dns-beyond" && event.reason === "DNSConfigForming",
        ),
      (list) => list.length === 2,
    );
    expect(events.map(({ type, message }) => `${type} ${message.slice(0, 40)}`).sort()).toEqual([
      "Warning Nameserver limits were exceeded, some na",
      "Warning Search Line limits were exceeded, some s",
    ]);
    expect(
      (await cluster.list("Event")).some(
        (event) => event.involvedObject?.name === "dns-too-much" && event.reason === "DNSConfigForming",
      ),
    ).toBe(false);
  }, 30_000);

  test("a pod that wants its full name for its hostname has it, and one whose name is too long does not start", async () => {
    const log = await eventually(
      async () => (await cluster.stack.kubectl("logs", "fqdn")).out,
      (text) => text.includes("name is"),
    );
    expect(log).toContain("name is h.s.default.svc.cluster.local\n");
    const host = "x".repeat(60);
    await cluster.apply(pod("too-long", `  hostname: ${host}\n  subdomain: s\n  setHostnameAsFQDN: true`));
    const events = await eventually(
      async () => (await cluster.list("Event")).filter((event) => event.involvedObject?.name === "too-long"),
      (list) => list.some((event) => event.reason === "FailedCreatePodSandBox"),
    );
    expect(events.map(({ message }) => message).join()).toContain(
      `${host}.s.default.svc.cluster.local is too long (64 characters is the max`,
    );
    await cluster.delete("Pod", "too-long", 0);
  }, 30_000);

  describe("[configmap]", () => {
    test("should be able to change stub domain configuration", async () => {
      const acme = await other("acme.test", "192.0.2.77");
      expect(await short("ns.dns.acme.test")).toEqual([]);
      await configure(`{ stubDomains: "acme.test: [${acme}]" }`);
      const answers = (wanted: string[]) =>
        eventually(
          () => short("ns.dns.acme.test"),
          (list) => Bun.deepEquals(list, wanted),
        );
      expect(await answers(["192.0.2.77"])).toEqual(["192.0.2.77"]);
      await configure(`{ stubDomains: "{}" }`);
      expect(await answers([])).toEqual([]);
    }, 30_000);

    test("should forward externalname and other lookups to the upstream nameserver, and change it", async () => {
      expect(await short("ns.dns.upstream.test")).toEqual(["192.0.2.1"]);
      const next = await other("upstream.test", "192.0.2.2");
      await configure(`{ forward: "${next}" }`);
      await cluster.apply(service("forwarded", "{ type: ExternalName, externalName: ns.dns.upstream.test }"));
      const wanted = ["192.0.2.2", "ns.dns.upstream.test."];
      expect(
        await eventually(
          () => short("forwarded.default.svc.cluster.local"),
          (list) => Bun.deepEquals(list, wanted),
        ),
      ).toEqual(wanted);
    }, 30_000);

    test.each([
      ["disabled", "NXDOMAIN", "NXDOMAIN"],
      ["verified", "NOERROR", "NXDOMAIN"],
      ["insecure", "NOERROR", "NOERROR"],
    ])(
      "pods %s: a pod's own record is %s, one of nobody's address %s",
      async (mode, own, nobody) => {
        const { podIP } = (await cluster.ready("client")).status;
        await configure(`{ pods: ${mode} }`);
        const name = `${podIP.replaceAll(".", "-")}.default.pod.cluster.local`;
        const both = async () => [await status(name), await status("192-0-2-99.default.pod.cluster.local")];
        expect(await eventually(both, (now) => Bun.deepEquals(now, [own, nobody]))).toEqual([own, nobody]);
        if (own === "NOERROR") expect(await short(name)).toEqual([podIP]);
      },
      30_000,
    );
  });

  test("transfers and other classes than IN are refused", async () => {
    expect(await dig("cluster.local", "AXFR")).toContain("Transfer failed.");
    expect(await status("cluster.local", "CH", "TXT")).toBe("REFUSED");
    expect(await status("version.bind", "CH", "TXT")).toBe("REFUSED");
  });

  test("SRV weights of a headless Service share a hundred", async () => {
    const addresses = Array.from(
      { length: 3 },
      (_, n) => `{ addresses: [192.0.2.${n + 1}], conditions: { ready: true } }`,
    );
    await cluster.apply(`${service("weights", "{ clusterIP: None, ports: [{ name: p, port: 1 }] }")}
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: weights, labels: { kubernetes.io/service-name: weights } }
addressType: IPv4
ports: [{ name: p, port: 1, protocol: TCP }]
endpoints: [${addresses.join(", ")}]`);
    const srv = await eventually(
      () => short("_p._tcp.weights.default.svc.cluster.local", "SRV"),
      (list) => list.length === 3,
    );
    expect(srv.map((one) => one.split(" ").slice(0, 3).join(" "))).toEqual(["0 33 1", "0 33 1", "0 33 1"]);
  });

  // Upstream: 10,000 Services (`FL_SCALE=10000`); that many take minutes on a small machine.
  const count = Number(process.env["FL_SCALE"] ?? 300);
  test(`should answer DNS query for maximum number of services per cluster (here ${count})`, async () => {
    const kind = cluster.resource("Service", "");
    const make = (n: number) =>
      cluster.store.create(kind, {
        apiVersion: "v1",
        kind: "Service",
        metadata: { name: `scale-${n}`, namespace: "default" },
        spec: { ports: [{ port: 80 }] },
      } as any);
    const made: any[] = [];
    for (let from = 0; from < count; from += 50)
      made.push(...(await Promise.all(Array.from({ length: Math.min(50, count - from) }, (_, n) => make(from + n)))));
    const questions = made.map(({ metadata }) => `${metadata.name}.default.svc.cluster.local`);
    const ask = async () => (await dig("+short", ...questions)).split("\n").filter(Boolean);
    const wanted = made.map(({ spec }) => spec.clusterIP);
    expect(await eventually(ask, (list) => list.length === count, 20_000)).toEqual(wanted);
  }, 600_000);
});

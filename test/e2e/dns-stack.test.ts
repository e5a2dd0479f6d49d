// Cluster DNS of a real stack, asked with `dig` from one of its pods: every row of the Kubernetes DNS specification 1.1.0,
// what CoreDNS's users rely on beside it, its configuration, its metrics, and its life apart from the control process.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { silentLogger } from "../../src/base/log.ts";
import { type DnsServer, startDnsServer } from "../../src/dns/server.ts";
import { ZoneTable } from "../../src/dns/zone-table.ts";
import { eventually, isRoot, run, TestStack } from "./stack.ts";

const reason = !isRoot ? "it needs root" : Bun.which("dig") === null ? "it needs dig" : undefined;
if (reason) console.log(`skipped: DNS of a stack: ${reason}`);

const objects = `
apiVersion: v1
kind: Namespace
metadata: {name: dns}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: dns}
spec: {containers: [{name: c, image: client}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: dns}
spec: {selector: {app: none}, ports: [{name: http, port: 80}, {name: admin, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: one, namespace: dns}
spec: {selector: {app: none}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: outside, namespace: dns}
spec: {type: ExternalName, externalName: ns.dns.example.test}
---
apiVersion: v1
kind: Service
metadata: {name: inside, namespace: dns}
spec: {type: ExternalName, externalName: web.dns.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: dns}
spec: {clusterIP: None, selector: {app: db}, ports: [{name: pg, port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: idle, namespace: dns}
spec: {clusterIP: None, selector: {app: idle}, ports: [{name: pg, port: 5432}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: dns}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: c, image: db}]}
---
apiVersion: v1
kind: Service
metadata: {name: many, namespace: dns}
spec: {clusterIP: None, ports: [{name: p, port: 1}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: many, namespace: dns, labels: {kubernetes.io/service-name: many}}
addressType: IPv4
ports: [{name: p, port: 1, protocol: TCP}]
endpoints:
${Array.from({ length: 80 }, (_, n) => `- {addresses: [192.0.2.${n + 1}], conditions: {ready: true}}`).join("\n")}
`;

const configMap = (data: string) => `
apiVersion: v1
kind: ConfigMap
metadata: {name: fairlead-dns, namespace: kube-system}
data: ${data}
`;

describe.skipIf(reason !== undefined)("DNS of a stack", () => {
  const stack = new TestStack("dns");
  let upstream: DnsServer;
  let asked = 0;

  const dig = async (...words: string[]) =>
    (await stack.exec("dns/client", "dig", "+tries=1", "+timeout=3", ...words)).out;
  const short = async (...words: string[]) => (await dig("+short", ...words)).split("\n").filter(Boolean).sort();
  const status = async (...words: string[]) => /status: ([A-Z]+)/.exec(await dig(...words))?.[1];
  const soa =
    /cluster\.local\.\s+5\s+IN\s+SOA\s+ns\.dns\.cluster\.local\. hostmaster\.cluster\.local\. \d+ 7200 1800 86400 5/;

  beforeAll(async () => {
    // Somebody to forward to, which counts what it is asked.
    const names = new ZoneTable({ zone: "example.test", nameservers: ["192.0.2.9"], ttl: 5, pods: "disabled" });
    const web = { key: "x/web", namespace: "x", name: "web", kind: "address", externalName: undefined } as const;
    names.apply({
      namespaces: ["x"],
      services: [{ ...web, addresses: ["192.0.2.10"], ports: [], endpoints: [] }],
    });
    names.synced = true;
    const answering = { names, log: silentLogger };
    upstream = await startDnsServer({
      answering: () => {
        asked++;
        return answering;
      },
      addresses: ["127.0.0.1"],
      port: 0,
      log: silentLogger,
    });
    const up = await stack.upWith(objects, "--dns-upstream", `127.0.0.1:${upstream.port}`, "--wait", "30s");
    expect(up.err + up.out).toContain("Everything works.");
    await eventually(
      () => short("db.dns.svc.cluster.local"),
      (all) => all.length === 2,
    );
  }, 60_000);
  afterAll(async () => {
    await stack.remove();
    await upstream?.dispose();
  }, 30_000);

  test("a Service is its address, and what it does not have is NODATA", async () => {
    const { spec } = await stack.get("services", "web", "dns");
    expect(await short("web.dns.svc.cluster.local")).toEqual([spec.clusterIP]);
    expect(await short("+search", "web")).toEqual([spec.clusterIP]);
    const nodata = await dig("web.dns.svc.cluster.local", "AAAA");
    expect(nodata).toContain("status: NOERROR");
    expect(nodata).toMatch(soa);
    expect(await short("-x", spec.clusterIP)).toEqual(["web.dns.svc.cluster.local."]);
    expect(await dig("web.dns.svc.cluster.local")).toMatch(/web\.dns\.svc\.cluster\.local\.\s+5\s+IN\s+A/);
  });

  test("named ports are SRV records with an address beside them; unnamed ones are not", async () => {
    const srv = await dig("_http._tcp.web.dns.svc.cluster.local", "SRV");
    expect(srv).toMatch(/SRV\s+0 100 80 web\.dns\.svc\.cluster\.local\./);
    expect(srv).toMatch(/ADDITIONAL SECTION:\nweb\.dns\.svc\.cluster\.local\.\s+5\s+IN\s+A/);
    expect(await status("_http._udp.web.dns.svc.cluster.local", "SRV")).toBe("NXDOMAIN");
    expect(await status("_._tcp.one.dns.svc.cluster.local", "SRV")).toBe("NXDOMAIN");
  });

  test("a headless Service is its ready endpoints, each by its name; without any it is not there", async () => {
    const pods = (await stack.list("pods", "-n", "dns")).filter((pod) => pod.metadata.name.startsWith("db-"));
    const addresses = pods.map((pod) => pod.status.podIP).sort();
    expect(await short("db.dns.svc.cluster.local")).toEqual(addresses);
    const first = pods.find((pod) => pod.metadata.name === "db-0").status.podIP;
    expect(await short("db-0.db.dns.svc.cluster.local")).toEqual([first]);
    expect(await short("_pg._tcp.db.dns.svc.cluster.local", "SRV")).toEqual([
      "0 50 5432 db-0.db.dns.svc.cluster.local.",
      "0 50 5432 db-1.db.dns.svc.cluster.local.",
    ]);
    expect(await short("-x", first)).toEqual(["db-0.db.dns.svc.cluster.local."]);
    expect(await short(`${first.replaceAll(".", "-")}.dns.pod.cluster.local`)).toEqual([first]);
    const none = await dig("idle.dns.svc.cluster.local");
    expect(none).toContain("status: NXDOMAIN");
    expect(none).toMatch(soa);
  });

  test("a StatefulSet's pod keeps its name when it comes back with another address", async () => {
    const before = await short("db-1.db.dns.svc.cluster.local");
    const uid = (await stack.get("pods", "db-1", "dns")).metadata.uid;
    expect((await stack.fairlead("delete", "pod", "db-1", "-n", "dns")).code).toBe(0);
    await eventually(
      () => stack.get("pods", "db-1", "dns").catch(() => undefined),
      (pod) => pod !== undefined && pod.metadata.uid !== uid && pod.status?.podIP !== undefined,
      20_000,
    );
    const { podIP } = (await stack.get("pods", "db-1", "dns")).status;
    expect(
      await eventually(
        () => short("db-1.db.dns.svc.cluster.local"),
        ([one]) => one === podIP,
      ),
    ).toEqual([podIP]);
    expect(before).toHaveLength(1);
  }, 40_000);

  test("an external name is a CNAME, followed inside and outside of the zone", async () => {
    expect(await short("outside.dns.svc.cluster.local", "CNAME")).toEqual(["ns.dns.example.test."]);
    expect(await short("outside.dns.svc.cluster.local")).toEqual(["192.0.2.9", "ns.dns.example.test."]);
    const { spec } = await stack.get("services", "web", "dns");
    expect(await short("inside.dns.svc.cluster.local")).toEqual([spec.clusterIP, "web.dns.svc.cluster.local."]);
  });

  test("the zone has a version, a server and a start of authority", async () => {
    expect(await dig("dns-version.cluster.local", "TXT")).toMatch(/28800\s+IN\s+TXT\s+"1\.1\.0"/);
    expect(await dig("cluster.local", "SOA")).toMatch(soa);
    expect(await short("cluster.local", "NS")).toEqual(["ns.dns.cluster.local."]);
    expect(await short("ns.dns.cluster.local")).toHaveLength(1);
    expect(await status("cluster.local", "AXFR")).not.toBe("NOERROR");
  });

  test.each([
    ["dns.svc.cluster.local", "NOERROR"],
    ["svc.cluster.local", "NOERROR"],
    ["pod.cluster.local", "NOERROR"],
    ["cluster.local", "NOERROR"],
    ["nope.svc.cluster.local", "NXDOMAIN"],
    ["nope.dns.svc.cluster.local", "NXDOMAIN"],
    ["a.b.c.web.dns.svc.cluster.local", "NXDOMAIN"],
    ["db-7.db.dns.svc.cluster.local", "NXDOMAIN"],
    ["www.cluster.local", "NXDOMAIN"],
  ])("%s: %s with the SOA", async (name, expected) => {
    const answer = await dig(name);
    expect(answer).toContain(`status: ${expected}`);
    expect(answer).toMatch(soa);
  });

  test("the case of a question is kept", async () => {
    expect(await dig("WEB.Dns.svc.cluster.LOCAL")).toMatch(/^WEB\.Dns\.svc\.cluster\.LOCAL\.\s+5\s+IN\s+A/m);
  });

  test("what is too long is cut, and whole over TCP; sizes follow EDNS", async () => {
    expect(await dig("many.dns.svc.cluster.local", "+noedns", "+ignore")).toMatch(/flags: qr aa tc/);
    const size = async (...words: string[]) =>
      Number(/MSG SIZE\s+rcvd: (\d+)/.exec(await dig("many.dns.svc.cluster.local", "+ignore", ...words))?.[1]);
    expect(await size("+noedns")).toBeLessThanOrEqual(512);
    expect(await size("+bufsize=800")).toBeLessThanOrEqual(800);
    expect(await size("+bufsize=4096")).toBeLessThanOrEqual(1232);
    expect(await short("many.dns.svc.cluster.local")).toHaveLength(80);
    expect(await dig("many.dns.svc.cluster.local", "+noedns")).toContain("Truncated, retrying in TCP mode");
    expect(await dig("web.dns.svc.cluster.local", "+edns=1", "+noednsnegotiation")).toContain("BADVERS");
  });

  test("several questions go through one TCP connection", async () => {
    const names = ["web", "one", "inside", "web"].map((name) => `${name}.dns.svc.cluster.local`);
    const answers = await dig("+tcp", "+keepopen", ...names);
    expect(answers.match(/status: NOERROR/g)).toHaveLength(4);
  });

  test("names of others are asked once along the whole search path, and then remembered", async () => {
    asked = 0;
    const name = "web.x.svc.example.test";
    expect(await short("+search", "+ndots=5", name)).toEqual(["192.0.2.10", `${name}.`]);
    expect(asked).toBe(1);
    expect(await short(name)).toEqual(["192.0.2.10"]);
    expect(asked).toBe(1);
    expect(await status("www.nowhere.test")).toBe("SERVFAIL"); // our upstream refuses it
  });

  test("the ConfigMap is taken at once; a wrong one is an Event and a problem in status, and changes nothing", async () => {
    expect((await stack.apply(configMap('{zones: "cluster.local acme.local", ttl: "7", forward: none}'))).code).toBe(0);
    await eventually(
      () => short("web.dns.svc.acme.local"),
      (all) => all.length === 1,
    );
    expect(await dig("web.dns.svc.cluster.local")).toMatch(/\s7\s+IN\s+A/);
    expect(await status("ns.dns.example.test")).toBe("REFUSED");
    expect((await stack.apply(configMap('{ttl: "soon"}'))).code).toBe(0);
    const problem = 'data.ttl: "soon": a whole number of seconds from 0 to 3600 is wanted';
    const { out } = await eventually(
      () => stack.fairlead("status"),
      (one) => one.out.includes(problem),
    );
    expect(out).toContain(`ConfigMap kube-system/fairlead-dns: ${problem}`);
    const events = await stack.list("events", "-n", "kube-system");
    expect(events.map(({ reason, message }) => `${reason} ${message}`)).toContain(`InvalidConfiguration ${problem}`);
    expect(await dig("web.dns.svc.cluster.local")).toMatch(/\s7\s+IN\s+A/);
    expect((await stack.fairlead("delete", "configmap", "fairlead-dns", "-n", "kube-system")).code).toBe(0);
    await eventually(
      () => dig("web.dns.svc.cluster.local"),
      (one) => /\s5\s+IN\s+A/.test(one),
    );
    expect(await short("ns.dns.example.test")).toEqual(["192.0.2.9"]);
  }, 30_000);

  test("metrics and health are where CoreDNS has them", async () => {
    const { spec } = await stack.get("services", "kube-dns", "kube-system");
    const get = async (path: string) =>
      (await stack.exec("dns/client", "curl", "-s", `http://${spec.clusterIP}:9153${path}`)).out;
    expect(await get("/health")).toBe("OK");
    expect(await get("/ready")).toBe("OK");
    const metrics = await get("/metrics");
    for (const name of [
      "coredns_dns_requests_total",
      "coredns_dns_request_duration_seconds_bucket",
      "coredns_dns_responses_total",
      "coredns_cache_hits_total",
      "coredns_cache_misses_total",
      "coredns_proxy_request_duration_seconds_count",
      "coredns_kubernetes_dns_programming_duration_seconds_count",
    ]) {
      expect(metrics).toMatch(new RegExp(`^${name}\\{`, "m"));
    }
  });

  test("DNS answers while the control process is away, and learns what changed when it is back", async () => {
    const processes = async () => JSON.parse((await stack.fairlead("status", "-o", "json")).out).processes;
    const pid = (all: { component: string; pid: number }[], name: string) =>
      all.find(({ component }) => component === name)!.pid;
    const before = await processes();
    const { spec } = await stack.get("services", "web", "dns");
    // Straight from the host: to run something in a pod needs the control process.
    const [server] = await short("ns.dns.cluster.local");
    const ask = () => run(["dig", `@${server}`, "+short", "+tries=1", "+timeout=1", "web.dns.svc.cluster.local"]);
    const asking = (async () => {
      for (let at = 0; at < 50; at++) expect((await ask()).out.trim()).toBe(spec.clusterIP);
    })();
    process.kill(pid(before, "control"), "SIGKILL");
    await asking;
    const after = await eventually(
      () => processes().catch(() => []),
      (all) => all.length > 0 && pid(all, "control") !== pid(before, "control"),
    );
    expect(pid(after, "dns")).toBe(pid(before, "dns"));
    const more = "apiVersion: v1\nkind: Service\nmetadata: {name: late, namespace: dns}\nspec: {ports: [{port: 1}]}\n";
    expect((await stack.apply(more)).code).toBe(0);
    const late = await eventually(
      () => short("late.dns.svc.cluster.local"),
      (all) => all.length === 1,
    );
    expect(late).toHaveLength(1);
    process.kill(pid(after, "dns"), "SIGKILL");
    const again = await eventually(
      () => short("web.dns.svc.cluster.local"),
      (all) => all.length === 1,
    );
    expect(again).toEqual([spec.clusterIP]);
  }, 40_000);
});

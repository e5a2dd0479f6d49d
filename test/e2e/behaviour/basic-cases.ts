// kubernetes/kubernetes test/e2e/network/service.go: what a ClusterIP Service is for. The titles are upstream's.

import { expect, test } from "bun:test";
import { host, type ServiceCluster, web } from "./service-cluster.ts";

export function basicCases(cluster: ServiceCluster): void {
  cluster.case("should serve a basic endpoint from pods", async () => {
    const { spec } = await cluster.service("endpoint-test2", web("endpoint-test2"));
    await cluster.hasEndpoints("endpoint-test2", []);
    await cluster.pods({ pod1: { app: "endpoint-test2", node: "node-1" } });
    await cluster.hasEndpoints("endpoint-test2", [`${await cluster.podIP("pod1")}:8080`]);
    await cluster.reaches("default/client-2", spec.clusterIP, 80, ["pod1"]);
    await cluster.pods({ pod2: { app: "endpoint-test2", node: "node-3" } });
    await cluster.reaches("default/client-2", spec.clusterIP, 80, ["pod1", "pod2"]);
    await cluster.delete("Pod", "pod1");
    await cluster.reaches("default/client-2", spec.clusterIP, 80, ["pod2"]);
    await cluster.delete("Pod", "pod2");
    await cluster.hasEndpoints("endpoint-test2", []);
    await cluster.fails("default/client-2", spec.clusterIP, 80, "ECONNREFUSED");
  });

  cluster.case("should serve multiport endpoints from pods", async () => {
    const ports = [
      { name: "portname1", port: 80, targetPort: "svc1" },
      { name: "portname2", port: 81, targetPort: "svc2" },
    ];
    const { spec } = await cluster.service("multi", { selector: { app: "multi" }, ports });
    const pod = (name: string, port: number, portName: string) => `
apiVersion: v1
kind: Pod
metadata: { name: ${name}, labels: { app: multi } }
spec: { containers: [{ name: main, image: example.org/multi, ports: [{ name: ${portName}, containerPort: ${port} }] }] }
---`;
    await cluster.apply(pod("multi1", 100, "svc1") + pod("multi2", 101, "svc2"));
    const [one, two] = [await cluster.ready("multi1"), await cluster.ready("multi2")];
    await cluster.hasEndpoints("multi", [`${one.status.podIP}:100`, `${two.status.podIP}:101`]);
    await cluster.reaches("default/client-1", spec.clusterIP, 80, ["multi1"]);
    await cluster.reaches("default/client-1", spec.clusterIP, 81, ["multi2"]);
    await cluster.delete("Pod", "multi1");
    await cluster.fails("default/client-1", spec.clusterIP, 80, "ECONNREFUSED");
    await cluster.reaches("default/client-1", spec.clusterIP, 81, ["multi2"]);
  });

  cluster.case("should be updated after adding or deleting ports", async () => {
    await cluster.pods({ edit1: { app: "edit", ports: ["8080", "8081"] } });
    const { spec } = await cluster.service("edit", web("edit"));
    await cluster.reaches("default/client-2", spec.clusterIP, 80, ["edit1"], 1);
    const ports = [
      { name: "http", port: 80, targetPort: 8080 },
      { name: "more", port: 81, targetPort: 8081 },
    ];
    await cluster.patch("Service", "edit", { spec: { ports } });
    await cluster.reaches("default/client-2", spec.clusterIP, 81, ["edit1"], 1);
    await cluster.reaches("default/client-2", spec.clusterIP, 80, ["edit1"], 1);
    await cluster.patch("Service", "edit", { spec: { ports: ports.slice(1) } });
    await cluster.fails(
      "default/client-2",
      spec.clusterIP,
      80,
      "ECONNREFUSED",
      "EHOSTUNREACH",
      "ENETUNREACH",
      "timeout",
    );
    await cluster.reaches("default/client-2", spec.clusterIP, 81, ["edit1"], 1);
    await cluster.hasEndpoints("edit", [`${await cluster.podIP("edit1")}:8081`]);
  });

  cluster.case("should preserve source pod IP for traffic thru service cluster IP", async () => {
    await cluster.pods({ sourceip: { node: "node-1" } });
    const { spec } = await cluster.service("sourceip", web("sourceip"));
    await cluster.reaches("default/client-1", spec.clusterIP, 80, ["sourceip"], 1);
    for (const client of ["client-1", "client-2"]) {
      await cluster.sees(`default/${client}`, spec.clusterIP, 80, await cluster.podIP(client));
    }
  });

  cluster.case("should allow pods to hairpin back to themselves through services", async () => {
    await cluster.pods({ hairpin: { node: "node-2" } });
    const { spec } = await cluster.service("hairpin", web("hairpin", { type: "NodePort" }));
    await cluster.reaches("default/hairpin", spec.clusterIP, 80, ["hairpin"], 3);
    await cluster.reaches("default/hairpin", cluster.node(2), spec.ports[0].nodePort, ["hairpin"], 3);
  });

  cluster.case("should be able to up and down services", async () => {
    await cluster.pods({ "up-1a": { app: "up-1" }, "up-1b": { app: "up-1" }, "up-2a": { app: "up-2" } });
    const first = (await cluster.service("up-down-1", web("up-1"))).spec.clusterIP;
    const second = (await cluster.service("up-down-2", web("up-2"))).spec.clusterIP;
    for (const from of [host, "default/client-1"]) {
      await cluster.reaches(from, first, 80, ["up-1a", "up-1b"]);
      await cluster.reaches(from, second, 80, ["up-2a"], 3);
    }
    await cluster.delete("Service", "up-down-1");
    await cluster.fails("default/client-1", first, 80, "ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "timeout");
    await cluster.reaches("default/client-1", second, 80, ["up-2a"], 3);
    const third = (await cluster.service("up-down-3", web("up-1"))).spec.clusterIP;
    await cluster.reaches("default/client-1", second, 80, ["up-2a"], 3);
    await cluster.reaches("default/client-1", third, 80, ["up-1a", "up-1b"]);
  });

  cluster.case("should work after the service has been recreated", async () => {
    await cluster.pods({ again1: { app: "again" } });
    const { spec } = await cluster.service("again", web("again", { type: "NodePort" }));
    await cluster.reaches("default/client-1", spec.clusterIP, 80, ["again1"], 2);
    await cluster.delete("Service", "again");
    await cluster.gone("Service", "again");
    const { clusterIP, ports } = spec;
    const anew = await cluster.service("again", web("again", { type: "NodePort", clusterIP, ports }));
    expect(anew.spec).toMatchObject({ clusterIP, ports: [{ nodePort: ports[0].nodePort }] });
    await cluster.reaches("default/client-1", clusterIP, 80, ["again1"], 2);
    await cluster.reaches("default/client-1", cluster.node(3), ports[0].nodePort, ["again1"], 2);
  });

  // In userspace mode that process carries the connections.
  test.skipIf(cluster.mode === "userspace")(
    "should work after restarting kube-proxy, and after restarting apiserver",
    async () => {
      // One process is both here.
      await cluster.pods({ restart1: { app: "restart" } });
      const before = (await cluster.service("restart-before", web("restart"))).spec.clusterIP;
      await cluster.reaches("default/client-2", before, 80, ["restart1"], 2);
      const { out } = await cluster.stack.fairlead("status", "-o", "json");
      const control = JSON.parse(out).processes.find((one: any) => one.component.startsWith("control"));
      process.kill(control.pid, "SIGKILL");
      // From the host, whose place nobody has to be asked for.
      expect((await cluster.http(host, before, 80)).pod).toBe("restart1");
      await cluster.answersAgain();
      await cluster.reaches("default/client-2", before, 80, ["restart1"], 2);
      const after = (await cluster.service("restart-after", web("restart"))).spec.clusterIP;
      expect(after).not.toBe(before);
      await cluster.reaches("default/client-2", after, 80, ["restart1"], 2);
    },
    40_000,
  );

  cluster.case("should serve endpoints on same port and different protocols", async () => {
    await cluster.pods({ "both-1": { app: "both", ports: ["8080", "8080/UDP"] } });
    const ports = (...protocols: string[]) =>
      protocols.map((protocol) => ({ name: protocol.toLowerCase(), protocol, port: 80, targetPort: 8080 }));
    const { clusterIP } = (await cluster.service("both", { selector: { app: "both" }, ports: ports("TCP") })).spec;
    await cluster.reaches("default/client-1", clusterIP, 80, ["both-1"], 2);
    await cluster.patch("Service", "both", { spec: { ports: ports("TCP", "UDP") } });
    await cluster.reachesUdp("default/client-1", clusterIP, 80, ["both-1"]);
    await cluster.reaches("default/client-1", clusterIP, 80, ["both-1"], 2);
    const slices = await cluster.list("EndpointSlice", "kubernetes.io/service-name=both");
    const protocols = slices.flatMap((slice) => slice.ports.map((one: any) => `${one.protocol}/${one.port}`));
    expect(protocols.sort()).toEqual(["TCP/8080", "UDP/8080"]);
    await cluster.patch("Service", "both", { spec: { ports: ports("UDP") } });
    await cluster.fails("default/client-1", clusterIP, 80, "ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "timeout");
    await cluster.reachesUdp("default/client-1", clusterIP, 80, ["both-1"]);
  });

  cluster.case("should be able to resolve named targetPorts to different ports of different pods", async () => {
    const pod = (name: string, port: number) => `
apiVersion: v1
kind: Pod
metadata: { name: ${name}, labels: { app: named } }
spec: { containers: [{ name: main, image: example.org/named, ports: [{ name: web, containerPort: ${port} }] }] }
---`;
    await cluster.apply(pod("named-1", 8001) + pod("named-2", 8002));
    const ips = [(await cluster.ready("named-1")).status.podIP, (await cluster.ready("named-2")).status.podIP];
    const ports = [{ name: "http", port: 80, targetPort: "web" }];
    const { clusterIP } = (await cluster.service("named", { selector: { app: "named" }, ports })).spec;
    await cluster.reaches("default/client-3", clusterIP, 80, ["named-1", "named-2"]);
    await cluster.hasEndpoints("named", [`${ips[0]}:8001`, `${ips[1]}:8002`]);
  });

  for (const targetPort of [8090, "sidecar-port"]) {
    const named = typeof targetPort === "string" ? "named ports" : "ports";
    cluster.case(`should connect to the ${named} exposed by restartable init containers`, async () => {
      const name = typeof targetPort === "string" ? "init-named" : "init-number";
      await cluster.apply(`
apiVersion: v1
kind: Pod
metadata: { name: ${name}, labels: { app: ${name} } }
spec:
  initContainers:
  - { name: sidecar, image: example.org/sidecar, restartPolicy: Always, ports: [{ name: sidecar-port, containerPort: 8090 }] }
  containers: [{ name: main, image: example.org/main, ports: [{ containerPort: 8080 }] }]
`);
      const { podIP } = (await cluster.ready(name)).status;
      const ports = [{ name: "http", port: 80, targetPort }];
      const { clusterIP } = (await cluster.service(name, { selector: { app: name }, ports })).spec;
      await cluster.reaches("default/client-1", clusterIP, 80, [name], 2);
      await cluster.hasEndpoints(name, [`${podIP}:8090`]);
      expect((await cluster.http("default/client-1", clusterIP, 80)).container).toBe("sidecar");
    });
  }
}

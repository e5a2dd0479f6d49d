// kubernetes/kubernetes test/e2e/network/loadbalancer.go, with the stack's own load balancer. The titles are upstream's; the last
// three cases are for fields that upstream tests with units. Rolling updates are in ../rolling-update.test.ts.

import { expect } from "bun:test";
import { eventually } from "../stack.ts";
import { host, type ServiceCluster, web } from "./service-cluster.ts";

const local = { type: "LoadBalancer", externalTrafficPolicy: "Local" };

export function loadBalancerCases(cluster: ServiceCluster): void {
  cluster.case("should be able to change the type and ports of a TCP service, and of a UDP service", async () => {
    await cluster.pods({ "change-1": { app: "change", ports: ["8080", "8080/UDP"] } });
    for (const protocol of ["TCP", "UDP"] as const) {
      const name = `change-${protocol.toLowerCase()}`;
      const ports = (port: number) => [{ name: "one", protocol, port, targetPort: 8080 }];
      const reaches = (address: string, port: number) =>
        protocol === "TCP"
          ? cluster.reaches(host, address, port, ["change-1"], 2)
          : cluster.reachesUdp(host, address, port, ["change-1"], 1);
      await cluster.service(name, { selector: { app: "change" }, ports: ports(80) });
      await cluster.patch("Service", name, { spec: { type: "LoadBalancer" } });
      const address = await cluster.loadBalancer(name);
      await reaches(address, 80);
      const changed = await cluster.patch("Service", name, { spec: { ports: ports(81) } });
      await reaches(address, 81);
      await reaches(cluster.node(2), changed.spec.ports[0].nodePort);
      await cluster.patch("Service", name, {
        spec: { type: "ClusterIP", ports: [{ ...ports(81)[0], nodePort: null }] },
      });
      const status = () => cluster.get("Service", name);
      const ended = await eventually(status, (one) => one.status.loadBalancer.ingress === undefined);
      expect(ended.status.loadBalancer).toEqual({});
      if (protocol === "TCP") await cluster.fails(host, address, 81, "ECONNREFUSED", "timeout");
    }
  });

  cluster.case("should support LoadBalancerSourceRanges", async () => {
    await cluster.pods({
      "ranges-1": { app: "ranges", node: "node-1" },
      "ranges-2": { app: "ranges", node: "node-3" },
    });
    const only = async (...clients: string[]) => {
      const ips = await Promise.all(
        clients.map(async (one) => (one === host ? cluster.hostAddress : await cluster.podIP(one))),
      );
      return { loadBalancerSourceRanges: ips.map((ip) => `${ip}/32`) };
    };
    for (const policy of ["Cluster", "Local"]) {
      const name = `ranges-${policy.toLowerCase()}`;
      const spec = web("ranges", { type: "LoadBalancer", externalTrafficPolicy: policy, ...(await only("client-1")) });
      await cluster.service(name, spec);
      const address = await cluster.loadBalancer(name);
      await cluster.reaches("default/client-1", address, 80, ["ranges-1", "ranges-2"]);
      await cluster.fails("default/client-2", address, 80, "timeout");
      await cluster.fails(host, address, 80, "timeout");
      await cluster.patch("Service", name, { spec: await only("client-2", host) });
      await cluster.reaches("default/client-2", address, 80, ["ranges-1", "ranges-2"]);
      await cluster.reaches(host, address, 80, ["ranges-1", "ranges-2"]);
      await cluster.fails("default/client-1", address, 80, "timeout");
      await cluster.patch("Service", name, { spec: { loadBalancerSourceRanges: null } });
      await cluster.reaches("default/client-1", address, 80, ["ranges-1", "ranges-2"]);
    }
  });

  cluster.case("should only target nodes with endpoints", async () => {
    const { healthCheckNodePort } = (await cluster.service("target", web("target", local))).spec;
    const address = await cluster.loadBalancer("target");
    await cluster.fails(host, address, 80, "ECONNREFUSED");
    for (const n of [2, 3, 1]) {
      await cluster.pods({ [`target-${n}`]: { app: "target", node: `node-${n}` } });
      await cluster.reaches(host, address, 80, [`target-${n}`], 6);
      for (const node of [1, 2, 3]) {
        const health = () => cluster.status(host, cluster.node(node), healthCheckNodePort);
        const wanted = node === n ? 200 : 503;
        expect([node, await eventually(health, (status) => status === wanted)]).toEqual([node, wanted]);
      }
      // Nobody stands between the client and the pod.
      await cluster.sees(host, address, 80, cluster.hostAddress);
      await cluster.delete("Pod", `target-${n}`, 0);
      await cluster.gone("Pod", `target-${n}`);
    }
  });

  cluster.case("should work from pods", async () => {
    await cluster.pods({ "lbpod-2": { app: "lbpod", node: "node-2" }, "lbpod-3": { app: "lbpod", node: "node-3" } });
    await cluster.service("lbpod", web("lbpod", local));
    const address = await cluster.loadBalancer("lbpod");
    for (const from of ["default/client-1", "default/client-2", "node/node-1", "node/node-3"])
      await cluster.reaches(from, address, 80, ["lbpod-2", "lbpod-3"]);
  });

  for (const policy of ["Local", "Cluster"]) {
    const titled = `LoadBalancer service with ${policy === "Local" ? "Local" : "Cluster"} traffic policy`;
    const pods = [1, 2, 3].map((n) => `lb-affinity-${n}`);
    const make = async (name: string, more: Record<string, unknown>) => {
      await cluster.pods(
        Object.fromEntries(pods.map((pod, n) => [pod, { app: "lb-affinity", node: `node-${n + 1}` }])),
      );
      const spec = web("lb-affinity", { type: "LoadBalancer", externalTrafficPolicy: policy, ...more });
      await cluster.service(name, spec);
      return await cluster.loadBalancer(name);
    };
    const stays = async (address: string) => {
      const names = () => cluster.answering(host, address, 80, 15);
      const answer = await eventually(names, (list) => list.length === 1 && pods.includes(list[0]!));
      expect(answer).toEqual([expect.stringMatching(/^lb-affinity-/)]);
    };

    cluster.case(`should have session affinity work for ${titled}`, async () => {
      await stays(await make(`lb-stay-${policy.toLowerCase()}`, { sessionAffinity: "ClientIP" }));
    });

    cluster.case(`should be able to switch session affinity for ${titled}`, async () => {
      const name = `lb-switch-${policy.toLowerCase()}`;
      const address = await make(name, { sessionAffinity: "None" });
      await cluster.reaches(host, address, 80, pods, 20);
      await cluster.patch("Service", name, { spec: { sessionAffinity: "ClientIP" } });
      await stays(address);
      await cluster.patch("Service", name, { spec: { sessionAffinity: "None", sessionAffinityConfig: null } });
      await cluster.reaches(host, address, 80, pods, 20);
    });
  }

  for (const where of ["the same", "different"]) {
    cluster.case(
      `should be able to preserve UDP traffic when server pod cycles for a LoadBalancer service on ${where} nodes`,
      async () => {
        const name = where === "different" ? "lbudp-two" : "lbudp-one";
        const ports = [{ name: "udp", protocol: "UDP", port: 80, targetPort: 5080 }];
        await cluster.service(name, { ...local, selector: { app: name }, ports });
        const client = await cluster.udpClient(host, await cluster.loadBalancer(name), 80);
        const pod = (node: string) => ({ app: name, node, ports: ["5080/UDP"] });
        await cluster.pods({ [`${name}-1`]: pod("node-2") });
        expect(await client.heard(`${name}-1`)).toBe(true);
        await cluster.pods({ [`${name}-2`]: pod(where === "different" ? "node-3" : "node-2") });
        await cluster.delete("Pod", `${name}-1`);
        expect(await client.heard(`${name}-2`)).toBe(true);
        await cluster.gone("Pod", `${name}-1`);
        expect(await client.answerOfAnother()).toBe(`${name}-2`);
        client.close();
      },
    );
  }

  cluster.case("should leave Services of another loadBalancerClass to others, and serve its own class", async () => {
    await cluster.pods({ "class-1": { app: "class" } });
    await cluster.service(
      "class-other",
      web("class", { type: "LoadBalancer", loadBalancerClass: "example.org/other" }),
    );
    await cluster.service(
      "class-own",
      web("class", { type: "LoadBalancer", loadBalancerClass: "fairlead.dev/load-balancer" }),
    );
    await cluster.reaches(host, await cluster.loadBalancer("class-own"), 80, ["class-1"], 2);
    expect((await cluster.get("Service", "class-other")).status).toEqual({ loadBalancer: {} });
    const change = cluster.patch("Service", "class-own", { spec: { loadBalancerClass: "example.org/other" } });
    expect(await cluster.refusal(change)).toBe(
      'Service "class-own" is invalid: spec.loadBalancerClass: Invalid value: "example.org/other": may not change once set',
    );
  });

  cluster.case("should send pods to the load balancer itself when its ipMode is Proxy", async () => {
    await cluster.pods({ "mode-1": { app: "mode" } });
    await cluster.service("mode", web("mode", { type: "LoadBalancer", loadBalancerClass: "example.org/other" }));
    const ingress = (ipMode: string) => ({ status: { loadBalancer: { ingress: [{ ip: "203.0.113.77", ipMode }] } } });
    await cluster.patch("Service", "mode", ingress("VIP"), "status");
    await cluster.reaches("default/client-2", "203.0.113.77", 80, ["mode-1"], 2);
    await cluster.patch("Service", "mode", ingress("Proxy"), "status");
    // The packet leaves the node, and nobody is at that address.
    await cluster.fails("default/client-2", "203.0.113.77", 80, "EHOSTUNREACH", "ENETUNREACH", "timeout");
  });

  cluster.case("should work without node ports when allocateLoadBalancerNodePorts is false", async () => {
    await cluster.pods({ "noports-1": { app: "noports", node: "node-2" } });
    for (const policy of ["Cluster", "Local"]) {
      const name = `noports-${policy.toLowerCase()}`;
      const more = { type: "LoadBalancer", externalTrafficPolicy: policy, allocateLoadBalancerNodePorts: false };
      const { spec } = await cluster.service(name, web("noports", more));
      expect(spec.ports[0].nodePort).toBeUndefined();
      for (const from of [host, "default/client-1"])
        await cluster.reaches(from, await cluster.loadBalancer(name), 80, ["noports-1"], 2);
    }
  });
}

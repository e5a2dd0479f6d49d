// kubernetes/kubernetes test/e2e/network/service.go: traffic policies, endpoints that terminate or are not ready, and Services that
// must refuse. The titles are upstream's.

import { expect } from "bun:test";
import { eventually } from "../stack.ts";
import { host, type ServiceCluster, web } from "./service-cluster.ts";

/** What a connection to an address that no rule serves may end in: there is nobody, or no way. */
const nowhere = ["ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "timeout"] as const;

export function policyCases(cluster: ServiceCluster): void {
  cluster.case(
    "should respect internalTrafficPolicy=Local Pod to Pod, and Pod (hostNetwork: true) to Pod",
    async () => {
      await cluster.pods({ "itp-1": { app: "itp", node: "node-1" } });
      const { clusterIP } = (await cluster.service("itp", web("itp", { internalTrafficPolicy: "Local" }))).spec;
      for (const from of ["default/client-1", "node/node-1"]) await cluster.reaches(from, clusterIP, 80, ["itp-1"], 3);
      for (const from of ["default/client-2", "node/node-2"]) await cluster.fails(from, clusterIP, 80, "timeout");
    },
  );

  cluster.case("should respect internalTrafficPolicy=Local Pod and Node, to Pod (hostNetwork: true)", async () => {
    await cluster.pods({ "itp-host": { node: "node-1", ports: ["8383"], spec: "  hostNetwork: true" } });
    const { clusterIP } = (
      await cluster.service("itp-host", {
        selector: { app: "itp-host" },
        ports: [{ port: 80, targetPort: 8383 }],
        internalTrafficPolicy: "Local",
      })
    ).spec;
    for (const from of ["default/client-1", "node/node-1"]) await cluster.reaches(from, clusterIP, 80, ["itp-host"], 3);
    for (const from of ["default/client-2", "node/node-2"]) await cluster.fails(from, clusterIP, 80, "timeout");
  });

  cluster.case("should support externalTrafficPolicy=Local for type=NodePort", async () => {
    await cluster.pods({ "etp-1": { app: "etp", node: "node-1" } });
    const spec = web("etp", { type: "NodePort", externalTrafficPolicy: "Local" });
    const { nodePort } = (await cluster.service("etp", spec)).spec.ports[0];
    await cluster.reaches(host, cluster.node(1), nodePort, ["etp-1"], 3);
    await cluster.sees(host, cluster.node(1), nodePort, cluster.hostAddress);
    await cluster.fails(host, cluster.node(2), nodePort, "timeout");
    // A pod or node that asks its own node's port is inside of the cluster.
    for (const from of ["default/client-2", "node/node-2"])
      await cluster.reaches(from, cluster.node(2), nodePort, ["etp-1"], 3);
  });

  cluster.case("should fail health check node port if there are only terminating endpoints", async () => {
    await cluster.lingering("hc-1", "hc", "node-1");
    const spec = web("hc", { type: "LoadBalancer", externalTrafficPolicy: "Local" });
    const { healthCheckNodePort } = (await cluster.service("hc", spec)).spec;
    const health = () => cluster.status(host, cluster.node(1), healthCheckNodePort);
    expect(await eventually(health, (status) => status === 200)).toBe(200);
    expect(await cluster.status(host, cluster.node(2), healthCheckNodePort)).toBe(503);
    await cluster.delete("Pod", "hc-1");
    expect(await eventually(health, (status) => status === 503)).toBe(503);
    // It is still there, and serves.
    await cluster.reaches(host, await cluster.loadBalancer("hc"), 80, ["hc-1"], 2);
    await cluster.end("hc-1");
  });

  for (const { title, name, more } of [
    {
      title: "terminating endpoints when there are no ready endpoints with internalTrafficPolicy=Cluster",
      name: "tic",
    },
    {
      title: "local terminating endpoints when there are no ready endpoints with internalTrafficPolicy=Local",
      name: "til",
      more: { internalTrafficPolicy: "Local" },
    },
    {
      title: "terminating endpoints when there are no ready endpoints with externalTrafficPolicy=Cluster",
      name: "tec",
      more: { type: "NodePort" },
    },
    {
      title: "local terminating endpoints when there are no ready endpoints with externalTrafficPolicy=Local",
      name: "tel",
      more: { type: "NodePort", externalTrafficPolicy: "Local" },
    },
  ]) {
    cluster.case(`should fallback to ${title}`, async () => {
      await cluster.lingering(`${name}-1`, name, "node-1");
      const { spec } = await cluster.service(name, web(name, more ?? {}));
      const { nodePort } = spec.ports[0];
      const check = async () => {
        if (nodePort !== undefined) {
          await cluster.reaches(host, cluster.node(1), nodePort, [`${name}-1`], 2);
          if (name === "tel") await cluster.fails(host, cluster.node(2), nodePort, "timeout");
          else await cluster.reaches(host, cluster.node(2), nodePort, [`${name}-1`], 2);
        } else {
          await cluster.reaches("default/client-1", spec.clusterIP, 80, [`${name}-1`], 2);
          if (name === "til") await cluster.fails("default/client-2", spec.clusterIP, 80, "timeout");
          else await cluster.reaches("default/client-2", spec.clusterIP, 80, [`${name}-1`], 2);
        }
      };
      await check();
      await cluster.delete("Pod", `${name}-1`);
      await cluster.conditions(name, { ready: false, serving: true, terminating: true });
      await check();
      await cluster.end(`${name}-1`);
      await cluster.fails("default/client-1", spec.clusterIP, 80, "ECONNREFUSED");
    });
  }

  for (const publish of [true, false]) {
    const able = publish ? "be" : "not be";
    cluster.case(
      `should ${able} able to connect to terminating and unready endpoints if PublishNotReadyAddresses is ${publish}`,
      async () => {
        const name = `publish-${publish}`;
        const probe =
          "readinessProbe: { httpGet: { path: /ready, port: 8080 }, periodSeconds: 1, failureThreshold: 1 }";
        await cluster.lingering(`${name}-1`, name, "node-2", probe);
        const { spec } = await cluster.service(
          name,
          web(name, { type: "NodePort", publishNotReadyAddresses: publish }),
        );
        await cluster.reaches("default/client-1", spec.clusterIP, 80, [`${name}-1`], 2);
        await cluster.delete("Pod", `${name}-1`);
        await cluster.conditions(name, { ready: publish, serving: publish, terminating: true });
        const unready = (pod: any) =>
          pod.status.conditions.some((one: any) => one.type === "Ready" && one.status === "False");
        expect(unready(await eventually(() => cluster.get("Pod", `${name}-1`), unready))).toBe(true);
        for (const [from, address, port] of [
          ["default/client-1", spec.clusterIP, 80],
          [host, cluster.node(2), spec.ports[0].nodePort],
        ] as const) {
          if (publish) await cluster.reaches(from, address, port, [`${name}-1`], 2);
          else await cluster.fails(from, address, port, "ECONNREFUSED");
        }
        await cluster.end(`${name}-1`);
      },
    );
  }

  cluster.case("should create endpoints for unready pods", async () => {
    const gate = "  readinessGates: [{ conditionType: example.org/never }]";
    const pod = { app: "tolerate-unready", node: "node-2", spec: gate };
    await cluster.applyPods({ "unready-1": pod });
    const spec = web("tolerate-unready", { publishNotReadyAddresses: true });
    const { clusterIP } = (await cluster.service("tolerate-unready", spec)).spec;
    await cluster.reaches("default/client-1", clusterIP, 80, ["unready-1"], 2);
    await cluster.patch("Service", "tolerate-unready", { spec: { publishNotReadyAddresses: false } });
    await cluster.fails("default/client-1", clusterIP, 80, "ECONNREFUSED");
    await cluster.patch("Service", "tolerate-unready", { spec: { publishNotReadyAddresses: true } });
    await cluster.reaches("default/client-1", clusterIP, 80, ["unready-1"], 2);
  });

  cluster.case("should be rejected when no endpoints exist", async () => {
    const { spec } = await cluster.service(
      "rejected",
      web("nobody", { type: "NodePort", externalIPs: ["198.51.100.9"] }),
    );
    for (const from of ["default/client-1", "node/node-2", host]) {
      await cluster.fails(from, spec.clusterIP, 80, "ECONNREFUSED");
      await cluster.fails(from, cluster.node(1), spec.ports[0].nodePort, "ECONNREFUSED");
    }
    for (const from of ["default/client-1", "node/node-2"])
      await cluster.fails(from, "198.51.100.9", 80, "ECONNREFUSED");
  });

  cluster.case("should be rejected for evicted pods (no endpoints exist)", async () => {
    await cluster.pods({ "evicted-1": { app: "evicted", node: "node-2" } });
    const { clusterIP } = (await cluster.service("evicted", web("evicted"))).spec;
    await cluster.reaches("default/client-1", clusterIP, 80, ["evicted-1"], 2);
    const status = { phase: "Failed", reason: "Evicted", message: "The node was low on resource: ephemeral-storage." };
    await cluster.patch("Pod", "evicted-1", { status }, "status");
    await cluster.fails("default/client-1", clusterIP, 80, "ECONNREFUSED");
    await cluster.hasEndpoints("evicted", []);
    expect((await cluster.get("Pod", "evicted-1")).status).toMatchObject({ phase: "Failed", reason: "Evicted" });
  });

  cluster.case("should implement service.kubernetes.io/service-proxy-name", async () => {
    const label = "service.kubernetes.io/service-proxy-name";
    await cluster.pods({ "no-proxy-1": { app: "no-proxy" } });
    const other = (await cluster.service("no-proxy-beside", web("no-proxy"))).spec.clusterIP;
    const labels = { labels: { [label]: "foo-bar" } };
    const { clusterIP } = (await cluster.service("no-proxy", web("no-proxy"), labels)).spec;
    await cluster.reaches("default/client-1", other, 80, ["no-proxy-1"], 2);
    await cluster.fails("default/client-1", clusterIP, 80, ...nowhere);
    await cluster.patch("Service", "no-proxy", { metadata: { labels: { [label]: null } } });
    await cluster.reaches("default/client-1", clusterIP, 80, ["no-proxy-1"], 2);
    await cluster.patch("Service", "no-proxy", { metadata: labels });
    await cluster.fails("default/client-1", clusterIP, 80, ...nowhere);
    await cluster.reaches("default/client-1", other, 80, ["no-proxy-1"], 2);
  });

  // Since 1.35 the label counts on EndpointSlices (kubernetes/kubernetes pull request 134623).
  cluster.case("should implement service.kubernetes.io/headless", async () => {
    const label = "service.kubernetes.io/headless";
    await cluster.pods({ "no-headless-1": { app: "no-headless" } });
    const { clusterIP } = (await cluster.service("no-headless", { ports: [{ name: "http", port: 80 }] })).spec;
    const slice = {
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: { name: "no-headless", labels: { "kubernetes.io/service-name": "no-headless", [label]: "" } },
      addressType: "IPv4",
      endpoints: [{ addresses: [await cluster.podIP("no-headless-1")], conditions: { ready: true } }],
      ports: [{ name: "http", port: 8080, protocol: "TCP" }],
    };
    await cluster.apply(JSON.stringify(slice));
    await cluster.fails("default/client-1", clusterIP, 80, "ECONNREFUSED");
    await cluster.patch("EndpointSlice", "no-headless", { metadata: { labels: { [label]: null } } });
    await cluster.reaches("default/client-1", clusterIP, 80, ["no-headless-1"], 2);
    await cluster.patch("EndpointSlice", "no-headless", { metadata: { labels: { [label]: "" } } });
    await cluster.fails("default/client-1", clusterIP, 80, "ECONNREFUSED");
  });
}

// kubernetes/kubernetes test/e2e/network/service.go: node ports, types and their changes, and Services as objects of the API. The
// titles are upstream's, the messages the real API server's.

import { expect } from "bun:test";
import { eventually } from "../stack.ts";
import { host, type ServiceCluster, web } from "./service-cluster.ts";

export function typeCases(cluster: ServiceCluster): void {
  cluster.case("should be able to create a functioning NodePort service", async () => {
    await cluster.pods({ "np-1": { app: "np", node: "node-1" }, "np-2": { app: "np", node: "node-2" } });
    const { spec } = await cluster.service("np", web("np", { type: "NodePort" }));
    const { nodePort } = spec.ports[0];
    expect(nodePort).toBeGreaterThanOrEqual(30_000);
    await cluster.reaches("default/client-3", spec.clusterIP, 80, ["np-1", "np-2"]);
    for (const from of [host, "default/client-1", "node/node-3"]) {
      for (const n of [1, 2, 3]) await cluster.reaches(from, cluster.node(n), nodePort, ["np-1", "np-2"]);
    }
  });

  cluster.case(
    "should be possible to connect to a service via ExternalIP when the external IP is not assigned to a node",
    async () => {
      await cluster.pods({ "extip-1": { app: "extip" } });
      await cluster.service("extip", web("extip", { externalIPs: ["203.0.113.250"] }));
      for (const from of ["default/client-1", "default/client-2", "node/node-3"])
        await cluster.reaches(from, "203.0.113.250", 80, ["extip-1"], 2);
    },
  );

  for (const type of ["ClusterIP", "NodePort"]) {
    const name = `to-${type.toLowerCase()}`;
    cluster.case(`should be able to change the type from ExternalName to ${type}`, async () => {
      await cluster.pods({ [`${name}-1`]: { app: name } });
      await cluster.service(name, { type: "ExternalName", externalName: "example.com" });
      const { spec } = await cluster.patch("Service", name, { spec: { externalName: null, ...web(name, { type }) } });
      expect(spec).toMatchObject({ type, clusterIPs: [spec.clusterIP] });
      expect(spec.externalName).toBeUndefined();
      await cluster.reaches("default/client-1", spec.clusterIP, 80, [`${name}-1`], 2);
      const byName = async () => (await cluster.exec("default/client-1", "curl", "-sm", "2", `http://${name}/`)).out;
      expect(await eventually(byName, (text) => text.includes(`${name}-1`))).toContain(`"pod":"${name}-1"`);
      if (type === "NodePort") await cluster.reaches(host, cluster.node(2), spec.ports[0].nodePort, [`${name}-1`], 2);
    });
  }

  for (const type of ["ClusterIP", "NodePort"]) {
    const name = `from-${type.toLowerCase()}`;
    cluster.case(`should be able to change the type from ${type} to ExternalName`, async () => {
      await cluster.pods({ [`${name}-1`]: { app: name } });
      const { spec } = await cluster.service(name, web(name, { type }));
      await cluster.reaches("default/client-1", spec.clusterIP, 80, [`${name}-1`], 2);
      const externalName = "kubernetes.default.svc.cluster.local";
      const none = Object.fromEntries(
        ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"].map((key) => [key, null]),
      );
      const external = type === "NodePort" ? { externalTrafficPolicy: null } : {};
      const ports = [{ name: "http", port: 80, targetPort: 8080, nodePort: null }];
      const changed = await cluster.patch("Service", name, {
        spec: { type: "ExternalName", externalName, ...none, ...external, ports },
      });
      expect(changed.spec).toMatchObject({ type: "ExternalName", externalName });
      expect(changed.spec.clusterIP ?? "").toBe("");
      const dig = async () => (await cluster.exec("default/client-1", "dig", "+search", "+short", name)).out;
      expect(await eventually(dig, (text) => text.startsWith(externalName))).toStartWith(`${externalName}.\n`);
      await cluster.fails(
        "default/client-1",
        spec.clusterIP,
        80,
        "ECONNREFUSED",
        "EHOSTUNREACH",
        "ENETUNREACH",
        "timeout",
      );
      // What it had is free again.
      const taker = { ...web(name), clusterIP: spec.clusterIP };
      expect((await cluster.service(`${name}-taker`, taker)).spec.clusterIP).toBe(spec.clusterIP);
      if (type === "NodePort") {
        const { nodePort } = spec.ports[0];
        await cluster.fails(host, cluster.node(1), nodePort, "ECONNREFUSED");
        const again = web(name, { type, ports: [{ port: 80, nodePort }] });
        expect((await cluster.service(`${name}-port`, again)).spec.ports[0].nodePort).toBe(nodePort);
      }
    });
  }

  cluster.case("should prevent NodePort collisions", async () => {
    const { nodePort } = (await cluster.service("collide-1", web("collide", { type: "NodePort" }))).spec.ports[0];
    const second = () =>
      cluster.service("collide-2", web("collide", { type: "NodePort", ports: [{ port: 80, nodePort }] }));
    expect(await cluster.refusal(second())).toBe(
      `Service "collide-2" is invalid: spec.ports[0].nodePort: Invalid value: ${nodePort}: provided port is already allocated`,
    );
    await cluster.delete("Service", "collide-1");
    await cluster.gone("Service", "collide-1");
    expect((await second()).spec.ports[0].nodePort).toBe(nodePort);
  });

  cluster.case("should check NodePort out-of-range", async () => {
    const { spec } = await cluster.service("range", web("range", { type: "NodePort" }));
    expect(spec.ports[0].nodePort).toBeWithin(30_000, 32_768);
    const outside = [{ name: "http", port: 80, targetPort: 8080, nodePort: 22 }];
    const message = (name: string) =>
      `Service "${name}" is invalid: spec.ports[0].nodePort: Invalid value: 22: provided port is not in the valid range. The range of valid ports is 30000-32767`;
    expect(await cluster.refusal(cluster.patch("Service", "range", { spec: { ports: outside } }))).toBe(
      message("range"),
    );
    expect((await cluster.get("Service", "range")).spec.ports).toEqual(spec.ports);
    const made = cluster.service("range-2", web("range", { type: "NodePort", ports: outside }));
    expect(await cluster.refusal(made)).toBe(message("range-2"));
    expect(await cluster.get("Service", "range-2")).toBeUndefined();
  });

  cluster.case("should release NodePorts on delete", async () => {
    await cluster.pods({ "release-1": { app: "release" } });
    const spec = web("release", { type: "NodePort" });
    const { nodePort } = (await cluster.service("release", spec)).spec.ports[0];
    await cluster.reaches(host, cluster.node(1), nodePort, ["release-1"], 2);
    await cluster.delete("Service", "release");
    await cluster.fails(host, cluster.node(1), nodePort, "ECONNREFUSED");
    const again = await cluster.service(
      "release",
      web("release", { type: "NodePort", ports: [{ port: 80, nodePort }] }),
    );
    expect(again.spec.ports[0].nodePort).toBe(nodePort);
  });

  cluster.case(
    "should allow changing externalTrafficPolicy, and keep NodePorts and release HealthCheckNodePort with it",
    async () => {
      await cluster.pods({ "switch-1": { app: "switch", node: "node-2" } });
      const spec = web("switch", { type: "LoadBalancer", externalTrafficPolicy: "Local" });
      const local = (await cluster.service("switch", spec)).spec;
      const { healthCheckNodePort } = local;
      expect(healthCheckNodePort).toBeWithin(30_000, 32_768);
      const { nodePort } = local.ports[0];
      const health = (n: number) => cluster.status(host, cluster.node(n), healthCheckNodePort);
      expect(
        await eventually(
          () => health(2),
          (status) => status === 200,
        ),
      ).toBe(200);
      await cluster.fails(host, cluster.node(1), nodePort, "timeout");
      const cluster1 = await cluster.patch("Service", "switch", { spec: { externalTrafficPolicy: "Cluster" } });
      expect(cluster1.spec.healthCheckNodePort ?? 0).toBe(0);
      expect(cluster1.spec.ports[0].nodePort).toBe(nodePort);
      await cluster.reaches(host, cluster.node(1), nodePort, ["switch-1"], 2);
      expect(
        await eventually(
          () => health(2),
          (status) => status === "ECONNREFUSED",
        ),
      ).toBe("ECONNREFUSED");
      const again = await cluster.patch("Service", "switch", {
        spec: { externalTrafficPolicy: "Local", healthCheckNodePort },
      });
      expect(again.spec).toMatchObject({ healthCheckNodePort, ports: [{ nodePort }] });
      expect(
        await eventually(
          () => health(1),
          (status) => status === 503,
        ),
      ).toBe(503);
      const other = cluster.patch("Service", "switch", {
        spec: { healthCheckNodePort: healthCheckNodePort === 32_000 ? 32_001 : 32_000 },
      });
      expect(await cluster.refusal(other)).toContain("spec.healthCheckNodePort: Invalid value");
    },
  );

  cluster.case("should complete a service status lifecycle", async () => {
    const spec = web("life", { type: "LoadBalancer", loadBalancerClass: "example.org/somebody-elses" });
    await cluster.service("life", spec, { labels: { "test-service-static": "true" } });
    expect((await cluster.raw("GET", "/api/v1/namespaces/default/services/life/status")).status).toEqual({
      loadBalancer: {},
    });
    const ingress = [{ ip: "203.0.113.1" }];
    const patched = await cluster.patch(
      "Service",
      "life",
      { metadata: { annotations: { patchedstatus: "true" } }, status: { loadBalancer: { ingress } } },
      "status",
    );
    expect(patched).toMatchObject({
      metadata: { annotations: { patchedstatus: "true" } },
      status: { loadBalancer: { ingress: [{ ip: "203.0.113.1", ipMode: "VIP" }] } },
    });
    const condition = {
      type: "StatusUpdate",
      status: "True",
      reason: "E2E",
      message: "Set from e2e test",
      lastTransitionTime: "2026-01-01T00:00:00Z",
    };
    const now = await cluster.raw("GET", "/api/v1/namespaces/default/services/life/status");
    const updated = await cluster.raw("PUT", "/api/v1/namespaces/default/services/life/status", {
      ...now,
      spec: { ...now.spec, sessionAffinity: "ClientIP" },
      status: { ...now.status, conditions: [condition] },
    });
    expect(updated.status.conditions).toEqual([condition]);
    // The status is all that this changes.
    expect(updated.spec.sessionAffinity).toBe("None");
    const labelled = await cluster.patch("Service", "life", {
      metadata: { labels: { "test-service": "patched" } },
      status: { conditions: [] },
    });
    expect(labelled.metadata.labels).toEqual({ "test-service-static": "true", "test-service": "patched" });
    expect(labelled.status.conditions).toEqual([condition]);
    await cluster.delete("Service", "life");
    await cluster.gone("Service", "life");
  });

  cluster.case("should delete a collection of services", async () => {
    for (const n of [1, 2, 3]) {
      const labels = { "e2e-collection": n === 3 ? "kept" : "gone" };
      await cluster.service(`collection-${n}`, web("collection", { type: "NodePort" }), { labels });
    }
    const selector = encodeURIComponent("e2e-collection=gone");
    await cluster.raw("DELETE", `/api/v1/namespaces/default/services?labelSelector=${selector}`);
    const left = async () => (await cluster.list("Service", "e2e-collection")).map((one) => one.metadata.name);
    expect(await eventually(left, (names) => names.length === 1)).toEqual(["collection-3"]);
    const found = await cluster.raw("GET", "/api/v1/services?labelSelector=e2e-collection");
    expect(found.items).toHaveLength(1);
  });
}

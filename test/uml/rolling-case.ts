// A Deployment behind a ClusterIP is rolled in ipvs mode while new connections arrive: what `test/e2e/rolling-update.test.ts` does in
// the other modes, as fast as User-Mode Linux can. And a host port, whose rules stand beside those of ipvs.

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ServiceCluster } from "../e2e/behaviour/service-cluster.ts";
import { podYaml } from "../e2e/cluster.ts";
import { eventually, run } from "../e2e/stack.ts";
import type { SteadyReport } from "../e2e/steady-client.ts";

/** New connections a second; one processor makes and answers them, and rolls the Deployment beside. */
const rate = 50;
const replicas = 3;

const deployment = (version: number) => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: roll}
spec:
  replicas: ${replicas}
  selector: {matchLabels: {app: roll}}
  template:
    metadata: {labels: {app: roll, version: "${version}"}}
    spec: {containers: [{name: web, image: example/web, ports: [{containerPort: 8080}]}]}
`;

export function rollingCase(cluster: ServiceCluster): void {
  const rolledOut = async (version: number) => {
    const versions = async () =>
      (await cluster.list("Pod", "app=roll"))
        .filter(({ status }) => status?.conditions?.some((one: any) => one.type === "Ready" && one.status === "True"))
        .map(({ metadata }) => (metadata.deletionTimestamp ? "ending" : metadata.labels.version));
    const wanted = Array(replicas).fill(String(version));
    expect(await eventually(versions, (now) => now.join() === wanted.join(), 60_000)).toEqual(wanted);
  };

  test("should not break a connection when a Deployment is rolled", async () => {
    const folder = mkdtempSync(join(tmpdir(), "fl-t-roll-"));
    const stop = join(folder, "stop");
    await cluster.apply(deployment(1));
    const { spec } = await cluster.service("roll", {
      selector: { app: "roll" },
      ports: [{ port: 80, targetPort: 8080 }],
    });
    await rolledOut(1);
    await cluster.reachable("default/client-2", spec.clusterIP, 80);
    const client = join(import.meta.dir, "../e2e/steady-client.ts");
    const { argv } = await cluster.control.execPlan("default/client-2");
    const over = run([...argv, process.execPath, client, spec.clusterIP, "80", String(rate), stop]);
    await Bun.sleep(1_000);
    await cluster.apply(deployment(2));
    await rolledOut(2);
    await Bun.sleep(1_000);
    writeFileSync(stop, "");
    const { out, err } = await over;
    if (out === "") throw new Error(err);
    const report: SteadyReport = JSON.parse(out);
    console.log(`rolled under ${report.opened} connections, the latest ${report.latest} ms behind its time`);
    expect(report.failures).toEqual([]);
    expect(report.answered).toBe(report.opened);
    expect(report.opened).toBeGreaterThan(2 * rate);
    expect(Object.keys(report.versions).sort()).toEqual(["1", "2"]);
    rmSync(folder, { recursive: true });
  }, 120_000);

  test("should serve a host port beside the rules of ipvs, also after somebody flushed them", async () => {
    const ports = "containers: [{name: main, image: example/web, ports: [{containerPort: 8080, hostPort: 8086}]}]";
    await cluster.apply(podYaml("host-port", { node: "node-1" }).replace(/containers: .*/, ports));
    await cluster.ready("host-port");
    await cluster.reaches("default/client-2", cluster.node(1), 8086, ["host-port"], 1);
    const rules = async () => (await cluster.exec("node/node-1", "iptables-save", "-t", "nat")).out;
    expect(await rules()).toMatch(/-A CNI-HOSTPORT-DNAT -p tcp .* --dports 8086 -j CNI-DN-/);
    await cluster.exec("node/node-1", "iptables", "-t", "nat", "-F", "CNI-HOSTPORT-DNAT");
    await cluster.reaches("default/client-2", cluster.node(1), 8086, ["host-port"], 1);
  }, 60_000);
}

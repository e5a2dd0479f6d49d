// A Deployment over three nodes is rolled while 200 new connections a second arrive: from a pod at its ClusterIP, and from outside
// at a load balancer's address under both external traffic policies. None may fail, and every answer is whole (upstream:
// test/e2e/network/loadbalancer.go "should not have connectivity disruption during rolling update").

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually, isRoot, run, TestStack } from "./stack.ts";
import type { SteadyReport } from "./steady-client.ts";

if (!isRoot) console.log("skipped: rolling updates in namespaces need root");

const rate = 200;
const client = join(import.meta.dir, "steady-client.ts");
const folder = mkdtempSync(join(tmpdir(), "fl-t-roll-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** `web` has pods on all nodes; `few` leaves nodes and comes to others with every update. */
const replicas = { web: 6, few: 2 };

const deployments = (version: number) =>
  Object.entries(replicas)
    .map(
      ([name, count]) => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: ${name}}
spec:
  replicas: ${count}
  selector: {matchLabels: {app: ${name}}}
  template:
    metadata: {labels: {app: ${name}, rolled: "yes", version: "${version}"}}
    spec: {containers: [{name: web, image: example/web, ports: [{containerPort: 8080}]}]}
---`,
    )
    .join("");

const services = `
apiVersion: v1
kind: Service
metadata: {name: inside}
spec: {selector: {app: web}, ports: [{port: 8000, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: cluster}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 8000, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: web}, ports: [{port: 8000, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: local-few}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: few}, ports: [{port: 8000, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node-2, containers: [{name: client, image: example/client}]}
---`;

/** Resolves when every pod that matches is of this version and none is on its way out. */
async function rolledOut(stack: TestStack, version: number): Promise<void> {
  const pods = await eventually(
    async () => (await stack.list("pods", "-n", "default", "-l", "rolled=yes")) as any[],
    (list) =>
      list.length === 8 &&
      list.every(
        ({ metadata, status }) =>
          metadata.labels.version === String(version) &&
          metadata.deletionTimestamp === undefined &&
          status.conditions?.some((one: any) => one.type === "Ready" && one.status === "True"),
      ),
    60_000,
  );
  expect(pods.map(({ metadata }) => metadata.labels.version)).toEqual(Array(8).fill(String(version)));
}

interface Setting {
  readonly mode: string;
  readonly network: "netns" | "loopback";
  readonly nodes: readonly string[];
}

const three = ["node-1", "node-2", "node-3"];
const settings: readonly Setting[] = [
  { mode: "iptables", network: "netns", nodes: three },
  { mode: "nftables", network: "netns", nodes: three },
  { mode: "userspace", network: "loopback", nodes: ["node-1"] },
];

for (const { mode, network, nodes } of settings) {
  describe.skipIf(network === "netns" && !isRoot)(`a rolling update in ${mode} mode`, () => {
    const stack = new TestStack(`roll-${mode.slice(0, 3)}`, network);
    const hostAddress = stack.rangeOptions[stack.rangeOptions.indexOf("--node-cidr") + 1]!.replace(/\.0\/24$/, ".254");
    beforeAll(async () => {
      const words = ["--nodes", String(nodes.length), ...(network === "netns" ? ["--proxy-mode", mode] : [])];
      const up = await stack.upWith(deployments(1) + services.replace("node-2", nodes.at(-1)!), ...words);
      if (up.code !== 0) throw new Error(up.err);
      await rolledOut(stack, 1);
    }, 60_000);
    afterAll(() => stack.remove(), 30_000);

    test("breaks no connection, neither inside nor from outside under policy Cluster or Local", async () => {
      const stop = join(folder, mode);
      const command = async (name: string) => {
        const { spec, status } = await stack.get("services", name);
        const address: string = status.loadBalancer?.ingress?.[0]?.ip ?? spec.clusterIP;
        return [process.execPath, client, address, String(spec.ports[0].port), String(rate), stop];
      };
      const running = await Promise.all(
        ["inside", "cluster", "local", "local-few"].map(async (name) => {
          const words = await command(name);
          return { name, over: name === "inside" ? stack.exec("default/client", ...words) : run(words) };
        }),
      );
      await Bun.sleep(500);
      expect(await stack.apply(deployments(2))).toMatchObject({ err: "", code: 0 });
      await rolledOut(stack, 2);
      await Bun.sleep(500);
      writeFileSync(stop, "");
      for (const { name, over } of running) {
        const { out, err } = await over;
        if (out === "") throw new Error(`${name}: ${err}`);
        const report: SteadyReport = JSON.parse(out);
        expect([name, report.failures.length, report.failures.slice(0, 5)]).toEqual([name, 0, []]);
        expect(report.answered).toBe(report.opened);
        expect(report.opened).toBeGreaterThan(rate);
        expect(Object.keys(report.versions).sort()).toEqual(["1", "2"]);
        if (name !== "local-few") expect(Object.keys(report.nodes).sort()).toEqual([...nodes]);
        // Under policy Local nobody stands between the client and the pods.
        if (name.startsWith("local") && network === "netns") expect(report.clients).toEqual([hostAddress]);
      }
    }, 120_000);
  });
}

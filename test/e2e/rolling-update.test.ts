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

const deployment = (version: number) => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 6
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, version: "${version}"}}
    spec: {containers: [{name: web, image: example/web, ports: [{containerPort: 8080}]}]}
---`;

const services = `
apiVersion: v1
kind: Service
metadata: {name: inside}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: cluster}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {nodeName: node-2, containers: [{name: client, image: example/client}]}
---`;

/** Resolves when every pod that matches is of this version and none is on its way out. */
async function rolledOut(stack: TestStack, version: number): Promise<void> {
  const pods = await eventually(
    async () => (await stack.list("pods", "-n", "default", "-l", "app=web")) as any[],
    (list) =>
      list.length === 6 &&
      list.every(
        ({ metadata, status }) =>
          metadata.labels.version === String(version) &&
          metadata.deletionTimestamp === undefined &&
          status.conditions?.some((one: any) => one.type === "Ready" && one.status === "True"),
      ),
    60_000,
  );
  expect(pods.map(({ metadata }) => metadata.labels.version)).toEqual(Array(6).fill(String(version)));
}

for (const mode of ["iptables", "nftables"]) {
  describe.skipIf(!isRoot)(`a rolling update in ${mode} mode`, () => {
    const stack = new TestStack(`roll-${mode.slice(0, 3)}`);
    let version = 1;
    beforeAll(async () => {
      const up = await stack.upWith(deployment(1) + services, "--nodes", "3", "--proxy-mode", mode);
      if (up.code !== 0) throw new Error(up.err);
      await rolledOut(stack, 1);
    }, 60_000);
    afterAll(() => stack.remove(), 30_000);

    test("breaks no connection, neither inside nor from outside under policy Cluster or Local", async () => {
      const stop = join(folder, mode);
      const address = async (name: string) => {
        const { spec, status } = await stack.get("services", name);
        return (status.loadBalancer?.ingress?.[0]?.ip ?? spec.clusterIP) as string;
      };
      const words = async (name: string) => [process.execPath, client, await address(name), "80", String(rate), stop];
      const running = [
        stack.exec("default/client", ...(await words("inside"))),
        run(await words("cluster")),
        run(await words("local")),
      ];
      await Bun.sleep(500);
      for (let round = 0; round < 2; round++) {
        version++;
        expect(await stack.apply(deployment(version))).toMatchObject({ err: "", code: 0 });
        await rolledOut(stack, version);
        await Bun.sleep(500);
      }
      writeFileSync(stop, "");
      const [inside, cluster, local] = (await Promise.all(running)).map(({ out, err }): SteadyReport => {
        if (out === "") throw new Error(err);
        return JSON.parse(out);
      });
      for (const [name, report] of Object.entries({ inside, cluster, local })) {
        expect([name, report!.failures]).toEqual([name, []]);
        expect(report!.answered).toBe(report!.opened);
        expect(Object.keys(report!.versions).sort()).toEqual(["1", "2", "3"]);
      }
    }, 120_000);
  });
}

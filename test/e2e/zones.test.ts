// `up --zones`: nodes in zones, and what trafficDistribution makes of them, from a Service's field to the pod that answers.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { ControlClient } from "../../src/cluster/control-api.ts";
import type { Answer, Attempts, Reached } from "./packet-client.ts";
import { eventually, isRoot, root, run, TestStack } from "./stack.ts";

if (!isRoot) console.log("skipped: zones: network namespaces need root");

const pod = (name: string, app: string, node: string) => `
apiVersion: v1
kind: Pod
metadata: { name: ${name}, labels: { app: ${app} } }
spec:
  nodeName: ${node}
  terminationGracePeriodSeconds: 1
  containers: [{ name: main, image: example.org/${app}:1, ports: [{ containerPort: 8080 }] }]
---`;

const service = (name: string, distribution: string | undefined) => `
apiVersion: v1
kind: Service
metadata: { name: ${name} }
spec:
  ${distribution ? `trafficDistribution: ${distribution}` : ""}
  selector: { app: web }
  ports: [{ name: http, port: 80, targetPort: 8080 }]
---`;

describe.skipIf(!isRoot)("four nodes in three zones", () => {
  const stack = new TestStack("zones");
  const control = new ControlClient(stack.name);

  beforeAll(async () => {
    const objects = [
      ...[1, 2, 3, 4].map((n) => pod(`web-${n}`, "web", `node-${n}`)),
      ...[1, 2, 4].map((n) => pod(`client-${n}`, "client", `node-${n}`)),
      service("anywhere", undefined),
      service("same-zone", "PreferSameZone"),
      service("close", "PreferClose"),
      service("same-node", "PreferSameNode"),
    ];
    const { code, err } = await stack.upWith(objects.join("\n"), "--nodes", "4", "--zones", "a,b,c");
    if (code !== 0) throw new Error(err);
  }, 60_000);
  afterAll(() => stack.remove(), 30_000);

  /** The pods that answer a client, and those that `explain --packet` names. */
  const reached = async (client: string, name: string): Promise<{ answered: string[]; named: string[] }> => {
    const host = (await stack.get("services", name)).spec.clusterIP;
    const argv = [process.execPath, `${root}/test/e2e/packet-client.ts`];
    const attempt = { protocol: "tcp", host, port: 80, times: 40 } as const;
    const attempts: Attempts = { patience: 2_000, atOnce: 1, attempts: [attempt] };
    const { out } = await run(
      [`${root}/bin/fairlead`, "exec", "--name", stack.name, `default/${client}`, "--", ...argv],
      { stdin: JSON.stringify(attempts), env: { FAIRLEAD_HOME: stack.home } },
    );
    const [answers] = JSON.parse(out) as Answer[][];
    const decision = await control.explainPacket({ packet: `tcp default/${client} -> default/${name}:80` });
    return {
      answered: [...new Set(answers!.map((answer) => (answer as Reached).pod ?? answer))].sort(),
      named: decision.endpoints.map(({ target }) => target?.name ?? "").sort(),
    };
  };
  const all = ["web-1", "web-2", "web-3", "web-4"];

  test("have their zones as labels, given out in turn", async () => {
    const nodes = await stack.list("nodes");
    expect(nodes.map(({ metadata }) => metadata.labels["topology.kubernetes.io/zone"])).toEqual(["a", "b", "c", "a"]);
  });

  test.each([
    ["anywhere", "client-1", all],
    ["same-zone", "client-1", ["web-1", "web-4"]],
    ["same-zone", "client-2", ["web-2"]],
    ["close", "client-4", ["web-1", "web-4"]],
    ["same-node", "client-1", ["web-1"]],
    ["same-node", "client-4", ["web-4"]],
  ])("Service %s sends %s to %j", async (name, client, pods) => {
    expect(await reached(client, name)).toEqual({ answered: pods, named: pods });
  });

  test("a zone that loses its last endpoint is served by the others", async () => {
    await stack.fairlead("delete", "pod", "web-2");
    const rest = ["web-1", "web-3", "web-4"];
    const answer = await eventually(
      () => reached("client-2", "same-zone"),
      ({ answered, named }) => Bun.deepEquals(answered, rest) && Bun.deepEquals(named, rest),
    );
    expect(answer).toEqual({ answered: rest, named: rest });
    const { leftOut } = await control.explainPacket({ packet: "tcp default/client-1 -> default/same-zone:80" });
    expect(leftOut.map(({ reason }) => reason)).toContain("its hints are for zone c, and others are nearer");
  }, 30_000);

  test("a joining up may not move nodes to other zones", async () => {
    const { code, err } = await stack.up("--zones", "a,b");
    expect(code).toBe(1);
    expect(err).toContain("was made with --zones a,b,c, not a,b");
  });
});

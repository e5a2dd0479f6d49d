// What operators do with workloads, done with kubectl against the API server and the controllers, in one process and without
// privileges. In the place of nodes stands a loop that makes pods ready and lets them end; nodes have tests of their own.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { Nodes, type Pod, Pods } from "../../src/api/kinds.ts";
import { formatTime } from "../../src/api/strategy.ts";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import type { SqliteStore } from "../../src/store/sqlite/sqlite-store.ts";
import { startWorkloads, type Workloads } from "../../src/workloads/start.ts";
import { type ApiStack, startApiStack } from "./api-stack.ts";

const hasKubectl = Bun.which("kubectl") !== null;
if (!hasKubectl) console.log("workloads: skipped, kubectl is not installed");

let stack: ApiStack;
let workloads: Workloads;

beforeAll(async () => {
  if (!hasKubectl) return;
  stack = await startApiStack();
  for (const name of ["node-1", "node-2"]) {
    await stack.store.create(Nodes, {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name },
      status: { conditions: [{ type: "Ready", status: "True" }] },
    });
  }
  workloads = startWorkloads({ store: stack.store, clock: systemClock, log: silentLogger, rootCertificate: "PEM" });
  await workloads.ready;
  actAsNodes(stack.store);
});
afterAll(async () => {
  workloads?.dispose();
  await stack?.stop();
});

async function kubectl(...words: string[]): Promise<string> {
  return (await kubectlWith(undefined, ...words)).trim();
}

async function kubectlWith(stdin: string | undefined, ...words: string[]): Promise<string> {
  const child = Bun.spawn(["kubectl", ...words], {
    env: { ...process.env, KUBECONFIG: stack.kubeconfig },
    stdin: stdin === undefined ? "ignore" : new TextEncoder().encode(stdin),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (code !== 0) throw new Error(`kubectl ${words.join(" ")}: ${err}`);
  return out;
}

const apply = (text: string) => kubectlWith(text, "apply", "-f", "-");
const rolledOut = (what: string) => kubectl("rollout", "status", what, "--timeout=20s");
const images = (label: string) =>
  kubectl("get", "pods", "-l", label, "-o", "jsonpath={.items[*].spec.containers[0].image}");

const workload = (kind: string, name: string, spec = "") => `
apiVersion: apps/v1
kind: ${kind}
metadata: {name: ${name}}
spec:
  selector: {matchLabels: {app: ${name}}}
  ${spec}
  template:
    metadata: {labels: {app: ${name}}}
    spec: {containers: [{name: app, image: "example.com/app:1"}]}
`;

// Each test calls kubectl a dozen times; on a busy machine that takes longer than the default.
setDefaultTimeout(60_000);

describe.skipIf(!hasKubectl)("kubectl", () => {
  test("rolls a Deployment out, back, again and in steps", async () => {
    await apply(workload("Deployment", "web", "replicas: 3"));
    expect(await rolledOut("deployment/web")).toContain("successfully rolled out");
    await kubectl("set", "image", "deployment/web", "app=example.com/app:2");
    await rolledOut("deployment/web");
    expect(await images("app=web")).toBe(Array(3).fill("example.com/app:2").join(" "));
    expect(await kubectl("rollout", "history", "deployment/web")).toMatch(/1 .*\n2 /);
    await kubectl("rollout", "undo", "deployment/web");
    await rolledOut("deployment/web");
    expect(await images("app=web")).toBe(Array(3).fill("example.com/app:1").join(" "));
    await kubectl("rollout", "restart", "deployment/web");
    await rolledOut("deployment/web");
    await kubectl("rollout", "pause", "deployment/web");
    await kubectl("set", "image", "deployment/web", "app=example.com/app:3");
    expect(await images("app=web")).toBe(Array(3).fill("example.com/app:1").join(" "));
    await kubectl("rollout", "resume", "deployment/web");
    await rolledOut("deployment/web");
    expect(await images("app=web")).toBe(Array(3).fill("example.com/app:3").join(" "));
    await kubectl("scale", "deployment/web", "--replicas=5");
    await kubectl("wait", "--for=jsonpath={.status.availableReplicas}=5", "deployment/web", "--timeout=20s");
    const described = await kubectl("describe", "deployment/web");
    expect(described).toContain("NewReplicaSetAvailable");
    expect(described).toMatch(/Normal +ScalingReplicaSet .* Scaled up replica set web-\S+ from 3 to 5/);
    await kubectl("delete", "deployment/web", "--cascade=foreground", "--timeout=20s");
    expect(await kubectl("get", "pods", "-l", "app=web", "-o", "name")).toBe("");
  });

  test("rolls a StatefulSet and a DaemonSet out and back", async () => {
    await apply(workload("StatefulSet", "db", "replicas: 2"));
    await apply(workload("DaemonSet", "agent"));
    for (const what of ["statefulset/db", "daemonset/agent"]) {
      const label = what.startsWith("s") ? "app=db" : "app=agent";
      await rolledOut(what);
      await kubectl("set", "image", what, "app=example.com/app:2");
      await rolledOut(what);
      expect(await images(label)).toBe("example.com/app:2 example.com/app:2");
      await kubectl("rollout", "undo", what);
      await rolledOut(what);
      expect(await images(label)).toBe("example.com/app:1 example.com/app:1");
    }
    expect(await kubectl("get", "pods", "-l", "app=db", "-o", "name")).toBe("pod/db-0\npod/db-1");
    await kubectl("delete", "statefulset/db", "--cascade=orphan");
    expect(await kubectl("get", "pods", "-l", "app=db", "-o", "name")).toBe("pod/db-0\npod/db-1");
  });

  test("deletes a namespace with all that is in it", async () => {
    await apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: gone}\n");
    await kubectl("wait", "--for=create", "-n", "gone", "configmap/kube-root-ca.crt", "--timeout=10s");
    await apply(workload("Deployment", "web").replace("{name: web}", "{name: web, namespace: gone}"));
    await kubectl("rollout", "status", "-n", "gone", "deployment/web", "--timeout=20s");
    await kubectl("delete", "namespace", "gone", "--timeout=20s");
    expect(await kubectl("get", "pods", "-n", "gone", "-o", "name")).toBe("");
  });
});

function actAsNodes(store: SqliteStore): void {
  store.watch(Pods, "0", (event) => {
    if (event.type === "DELETED" || event.type === "BOOKMARK") return;
    const { namespace, name } = event.object.metadata;
    setImmediate(async () => {
      const key = { resource: Pods, namespace, name };
      try {
        const pod = store.read(key) as Pod | undefined;
        if (!pod?.spec?.nodeName) return;
        if (pod.metadata.deletionTimestamp !== undefined) {
          await store.delete(key, { gracePeriodSeconds: 0 });
        } else if (pod.status?.phase !== "Running") {
          const others = (pod.status?.conditions ?? []).filter((condition) => condition.type !== "Ready");
          const ready = { type: "Ready", status: "True", lastTransitionTime: formatTime(Date.now()) };
          const status = { ...pod.status, phase: "Running", conditions: [...others, ready] };
          await store.update(Pods, { ...pod, status }, { subresource: "status" });
        }
      } catch {
        // Written by somebody else in between: the next event comes.
      }
    });
  });
}

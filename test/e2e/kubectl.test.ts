// kubectl against the API server, as people use it: apply, get, describe, edit, scale, label, logs, wait, rollout, delete.
// No controllers run here; where kubectl waits for them, the test writes the status that they would write.

import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ApiStack, startApiStack } from "./api-stack.ts";

const missing = Bun.which("kubectl") === null;
if (missing) console.log("kubectl: it is not installed, and nothing of it is tried");

setDefaultTimeout(60_000);

let stack: ApiStack;
beforeAll(async () => {
  stack = await startApiStack({
    podLogs: {
      open(pod, options, sink) {
        sink.write(`${pod.name} ${options.container} tail=${options.tailLines ?? "all"}\n`);
        sink.end();
        return { dispose() {} };
      },
    },
  });
});
afterAll(() => stack.stop());

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

async function run(command: readonly string[], env: Record<string, string> = {}): Promise<Ran> {
  const child = Bun.spawn([...command], {
    env: { ...process.env, KUBECONFIG: stack.kubeconfig, HOME: stack.folder, ...env },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, out, err };
}

/** Runs kubectl and returns what it printed; a failure is an error with its words. */
async function kubectl(...args: string[]): Promise<string> {
  const { code, out, err } = await run(["kubectl", ...args]);
  if (code !== 0) throw new Error(`kubectl ${args.join(" ")}: ${err}`);
  return out;
}

function file(name: string, text: string): string {
  const path = join(stack.folder, name);
  writeFileSync(path, text);
  return path;
}

const deployment = (image: string) => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: app, image: "${image}"}]}
`;

describe.skipIf(missing)("kubectl", () => {
  test("applies, and says what has changed", async () => {
    const path = file("web.yaml", deployment("example.com/web:1"));
    expect(await kubectl("apply", "-f", path)).toBe("deployment.apps/web created\n");
    expect(await kubectl("apply", "-f", path)).toBe("deployment.apps/web unchanged\n");
    file("web.yaml", deployment("example.com/web:2"));
    expect(await kubectl("apply", "-f", path)).toBe("deployment.apps/web configured\n");
    expect(await kubectl("get", "deploy", "web", "-o", "jsonpath={.metadata.generation}")).toBe("2");
  });

  test("gets tables, yaml and parts", async () => {
    expect(await kubectl("get", "deploy", "web", "-o", "wide")).toMatch(
      /web\s+0\/2\s+0\s+0\s+\S+\s+app\s+example.com\/web:2\s+app=web/,
    );
    expect(await kubectl("get", "deploy", "web", "-o", "yaml")).toContain("progressDeadlineSeconds: 600");
    expect(await kubectl("get", "all", "-o", "name")).toBe("deployment.apps/web\n");
    const { code, err } = await run(["kubectl", "get", "deploy", "nope"]);
    expect([code, err]).toEqual([1, 'Error from server (NotFound): deployments.apps "nope" not found\n']);
  });

  test("scales, labels and edits", async () => {
    expect(await kubectl("scale", "deploy/web", "--replicas", "3")).toBe("deployment.apps/web scaled\n");
    expect(await kubectl("label", "deploy/web", "tier=front")).toBe("deployment.apps/web labeled\n");
    const editor = file("editor.sh", "#!/bin/sh\nsed -i 's/replicas: 3/replicas: 4/' \"$1\"\n");
    const edited = await run(["kubectl", "edit", "deploy/web"], { KUBE_EDITOR: `sh ${editor}` });
    expect([edited.out, edited.code]).toEqual(["deployment.apps/web edited\n", 0]);
    expect(await kubectl("get", "deploy", "web", "-o", "jsonpath={.spec.replicas} {.metadata.labels.tier}")).toBe(
      "4 front",
    );
  });

  test("describes an object with its events", async () => {
    const { uid } = JSON.parse(await kubectl("get", "deploy", "web", "-o", "json")).metadata;
    const events = stack.store.scheme.byKey("events")!;
    await stack.store.create(events, {
      apiVersion: "v1",
      kind: "Event",
      metadata: { name: "web.1", namespace: "default" },
      involvedObject: { apiVersion: "apps/v1", kind: "Deployment", namespace: "default", name: "web", uid },
      type: "Normal",
      reason: "ScalingReplicaSet",
      message: "Scaled up replica set web-1 to 4",
      source: { component: "deployment-controller" },
      firstTimestamp: new Date().toISOString(),
      lastTimestamp: new Date().toISOString(),
      count: 1,
    });
    const described = await kubectl("describe", "deploy", "web");
    expect(described).toContain("Selector:               app=web");
    expect(described).toContain("Scaled up replica set web-1 to 4");
  });

  test("waits for a rollout until its status says that it is over", async () => {
    const resource = stack.store.scheme.byKey("deployments.apps")!;
    const waiting = kubectl("rollout", "status", "deploy/web", "--timeout=20s");
    const object = (await stack.store.get({ resource, namespace: "default", name: "web" }))!;
    const count = { replicas: 4, updatedReplicas: 4, readyReplicas: 4, availableReplicas: 4 };
    const status = { ...count, observedGeneration: object.metadata.generation };
    await stack.store.patch(
      { resource, namespace: "default", name: "web" },
      { type: "merge", body: { status } },
      { subresource: "status" },
    );
    expect(await waiting).toContain('deployment "web" successfully rolled out');
    expect(await kubectl("wait", "deploy/web", "--for=jsonpath={.status.readyReplicas}=4", "--timeout=20s")).toBe(
      "deployment.apps/web condition met\n",
    );
    expect(await kubectl("rollout", "restart", "deploy/web")).toBe("deployment.apps/web restarted\n");
  });

  test("makes objects from the command line", async () => {
    expect(await kubectl("create", "configmap", "made", "--from-literal=a=1")).toBe("configmap/made created\n");
    expect(await kubectl("create", "secret", "generic", "made", "--from-literal=a=1")).toBe("secret/made created\n");
    expect(await kubectl("create", "serviceaccount", "bot")).toBe("serviceaccount/bot created\n");
    expect(await kubectl("create", "rolebinding", "bots", "--clusterrole=view", "--serviceaccount=default:bot")).toBe(
      "rolebinding.rbac.authorization.k8s.io/bots created\n",
    );
    expect(await kubectl("auth", "can-i", "list", "pods", "--as=system:serviceaccount:default:bot")).toBe("yes\n");
    expect(
      (await run(["kubectl", "auth", "can-i", "list", "secrets", "--as=system:serviceaccount:default:bot"])).out,
    ).toBe("no\n");
    expect(await kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")).toBe("admin");
  });

  test("reads logs, and deletes", async () => {
    const path = file(
      "pod.yaml",
      "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {nodeName: node-1, containers: [{name: app, image: x}]}\n",
    );
    await kubectl("apply", "-f", path);
    expect(await kubectl("logs", "p", "--tail", "3")).toBe("p app tail=3\n");
    expect(await kubectl("delete", "pod", "p", "--grace-period=0", "--force", "--wait=true")).toContain(
      'pod "p" force deleted',
    );
    expect(await kubectl("delete", "deploy", "web")).toBe('deployment.apps "web" deleted\n');
    expect((await run(["kubectl", "get", "deploy", "web"])).code).toBe(1);
  });

  const session = join(import.meta.dir, "../../../shared/acceptance/kubectl/session.sh");
  if (!existsSync(session))
    console.log("kubectl: the recorded session is not beside this checkout and is not compared");
  test.skipIf(!existsSync(session))(
    "prints in a whole session what it prints with the real server",
    async () => {
      const { out } = await run(["bash", session]);
      expect(out).toBe(await Bun.file(session.replace(/\.sh$/, ".txt")).text());
    },
    60_000,
  );
});

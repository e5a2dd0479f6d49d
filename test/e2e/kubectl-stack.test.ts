// kubectl against a whole stack: what people do all day, with controllers, pods and logs behind it.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { eventually, isRoot, type Result, run, TestStack } from "./stack.ts";

const why = !isRoot ? "it needs root" : Bun.which("kubectl") ? undefined : "kubectl is not installed";
if (why) console.log(`skipped: kubectl against a stack: ${why}`);

const app = (version: string, replicas = 2) => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: ${replicas}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, version: ${version}}}
    spec: {containers: [{name: web, image: "example.com/web:${version}", ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
`;

describe.skipIf(why !== undefined)("kubectl against a stack", () => {
  const stack = new TestStack("kubectl");
  beforeAll(async () => {
    const { code, err } = await stack.up();
    expect(err).toBe("");
    expect(code).toBe(0);
  }, 60_000);
  afterAll(() => stack.remove(), 30_000);

  const kubectl = async (...words: string[]): Promise<string> => {
    const { code, out, err } = await stack.kubectl(...words);
    if (code !== 0) throw new Error(`kubectl ${words.join(" ")}: ${err}`);
    return out;
  };
  const apply = (text: string): Promise<Result> =>
    run(["kubectl", "apply", "-f", "-"], {
      env: { KUBECONFIG: join(stack.home, stack.name, "kubeconfig") },
      stdin: text,
    });

  test("apply, wait, rollout status and get", async () => {
    expect((await apply(app("v1"))).out).toBe("deployment.apps/web created\nservice/web created\n");
    expect(await kubectl("rollout", "status", "deployment/web", "--timeout=20s")).toContain("successfully rolled out");
    expect(await kubectl("wait", "--for=condition=Available", "deployment/web", "--timeout=20s")).toContain(
      "condition met",
    );
    expect(await kubectl("get", "deployment", "web")).toMatch(
      /^NAME +READY +UP-TO-DATE +AVAILABLE +AGE\nweb +2\/2 +2 +2 +\d+s\n$/,
    );
    expect(await kubectl("get", "pods", "-l", "app=web", "--no-headers")).toMatch(
      /^(web-\w+-\w{5} +1\/1 +Running +0 +\d+s\n){2}$/,
    );
    expect((await apply(app("v1"))).out).toBe("deployment.apps/web unchanged\nservice/web unchanged\n");
  }, 40_000);

  test("describe tells the Service's endpoints and a pod's events and conditions", async () => {
    expect(await kubectl("describe", "service", "web")).toMatch(
      /Endpoints: +10\.\d+\.0\.\d+:8080,10\.\d+\.0\.\d+:8080/,
    );
    const pod = (await kubectl("get", "pods", "-o", "name")).split("\n")[0]!;
    const text = await kubectl("describe", pod);
    expect(text).toMatch(/Status: +Running/);
    expect(text).toMatch(/Ready +True/);
  });

  test("scale, label, edit", async () => {
    await kubectl("scale", "deployment/web", "--replicas=3");
    await kubectl("rollout", "status", "deployment/web", "--timeout=20s");
    expect((await kubectl("get", "pods", "-l", "app=web", "-o", "name")).trim().split("\n").length).toBe(3);
    expect(await kubectl("label", "service/web", "team=a")).toBe("service/web labeled\n");
    const edited = await run(["kubectl", "edit", "service/web"], {
      env: { KUBECONFIG: join(stack.home, stack.name, "kubeconfig"), EDITOR: "sed -i s/team:.a/team:\\ b/" },
    });
    expect(edited.out).toBe("service/web edited\n");
    expect(await kubectl("get", "service/web", "-o", "jsonpath={.metadata.labels.team}")).toBe("b");
  }, 40_000);

  test("a new version rolls out without an unavailable moment, and undo goes back", async () => {
    const service = await stack.get("services", "web");
    const url = `http://${service.spec.clusterIP}/`;
    let failed = 0;
    let versions = new Set<string>();
    let rolling = true;
    const load = (async () => {
      while (rolling) {
        const { code, out } = await run(["curl", "-s", "-m", "3", url]);
        if (code !== 0) failed++;
        else versions.add(/"version":"(v\d)"/.exec(out)?.[1] ?? "");
      }
    })();
    await apply(app("v2", 3));
    await kubectl("rollout", "status", "deployment/web", "--timeout=30s");
    rolling = false;
    await load;
    expect(failed).toBe(0);
    const gone = async () => (await stack.list("pods", "-l", "version=v1")).length;
    expect(await eventually(gone, (count) => count === 0)).toBe(0);
    versions = new Set();
    for (let at = 0; at < 10; at++) versions.add(/"version":"(v\d)"/.exec((await run(["curl", "-s", url])).out)![1]!);
    expect([...versions]).toEqual(["v2"]);
    expect(await kubectl("rollout", "history", "deployment/web")).toMatch(/1 +<none>\n2 +<none>/);
    await kubectl("rollout", "undo", "deployment/web");
    await kubectl("rollout", "status", "deployment/web", "--timeout=30s");
    // Rules follow the EndpointSlices, which follow the pods: a moment after the rollout says that it is over.
    const answer = async () => (await run(["curl", "-s", url])).out;
    expect(await eventually(answer, (text) => text.includes('"version":"v1"'), 2000)).toContain('"version":"v1"');
  }, 90_000);

  test("logs, also followed", async () => {
    // The pods of the version before are still finishing.
    const pods = async () => (await stack.list("pods", "-l", "app=web")).length;
    expect(await eventually(pods, (count) => count === 3)).toBe(3);
    const service = await stack.get("services", "web");
    await run(["curl", "-s", `http://${service.spec.clusterIP}/from-the-test`]);
    const log = () => kubectl("logs", "-l", "app=web", "--tail=20");
    expect(await eventually(log, (text) => text.includes("/from-the-test"), 3000)).toContain("/from-the-test");
    const pod = (await kubectl("get", "pods", "-l", "app=web", "-o", "name")).split("\n")[0]!;
    const follow = run(["timeout", "2", "kubectl", "logs", "-f", pod, "--since=1s"], {
      env: { KUBECONFIG: join(stack.home, stack.name, "kubeconfig") },
    });
    const address = await kubectl("get", pod, "-o", "jsonpath={.status.podIP}");
    for (let at = 0; at < 5; at++) {
      await run(["curl", "-s", `http://${address}:8080/followed`]);
      await Bun.sleep(200);
    }
    expect((await follow).out).toContain("/followed");
  }, 30_000);

  test("delete removes pods, addresses and rules", async () => {
    await kubectl("delete", "deployment/web", "service/web", "--wait=true");
    await kubectl("wait", "--for=delete", "pod", "-l", "app=web", "--timeout=20s");
    expect((await stack.list("pods", "-l", "app=web")).length).toBe(0);
    const rules = await stack.exec("node/node-1", "iptables-save", "-t", "nat");
    expect(rules.out).not.toContain("default/web");
  }, 40_000);
});

// Wrong input: each time one clear sentence that says where and what to do, and nothing half-applied.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { eventually, isRoot, root, run, TestStack } from "./stack.ts";

const fairlead = join(root, "bin/fairlead");

describe("the command line refuses", () => {
  test.each([
    [["upp"], 'there is no command "upp"', 'Did you mean "fairlead up"?'],
    [["up", "--fil"], "up has no option --fil", "Did you mean --fill?"],
    [["up", "shop.yaml"], 'up takes no "shop.yaml"', "fairlead up -f shop.yaml"],
    [["up", "--wait", "soon"], "--wait soon: not a duration", "Write it as"],
    [["up", "--name", "Shop"], '"Shop" cannot name a stack', "lower-case"],
    [["up", "-f", "nothing-here.yaml"], "nothing-here.yaml: there is no such file or directory", ""],
    [["explain", "GET", "orders"], '"orders" is not an http or https URL', "For example"],
    [["status", "--name", "t-nobody"], 'there is no stack "t-nobody"', "fairlead up"],
    [["exec", "node/node-1"], "exec needs a target, -- and a command", "For example"],
  ])("%j", async (words, message, remedy) => {
    const { code, out, err } = await run([fairlead, ...words], { env: { FAIRLEAD_HOME: "/tmp/fl-t-nothing" } });
    expect(code).toBeGreaterThan(0);
    expect(out).toBe("");
    expect(err).toContain(message);
    expect(err).toContain(remedy);
    expect(err).not.toMatch(/\bat .*\.ts:\d+/);
  });

  test("a file that is not YAML, with line and column", async () => {
    const stack = new TestStack("yaml", "loopback");
    const { code, err } = await stack.upWith("kind: [Service\nname: x");
    expect(code).toBe(1);
    expect(err).toMatch(/-:\d+:\d+: not YAML/);
    expect((await stack.fairlead("status")).code).toBe(1); // no stack was made
    await stack.remove();
  });

  test("a range that overlaps a route of the host, before it touches anything", async () => {
    if (!isRoot) return console.log("skipped: overlapping ranges: it needs root");
    const stack = new TestStack("overlap");
    const { out } = await run(["ip", "-j", "route"]);
    const route = JSON.parse(out).find(({ dst }: { dst: string }) =>
      /^\d+\.\d+\.\d+\.\d+\/(8|9|1\d|2[0-8])$/.test(dst),
    );
    if (!route) return console.log("skipped: overlapping ranges: the host has no route wide enough");
    const { code, err } = await run(
      [fairlead, "up", "--name", stack.name, "--network", "netns", "--node-cidr", route.dst],
      { env: { FAIRLEAD_HOME: stack.home } },
    );
    expect(code).not.toBe(0);
    expect(err).toContain(route.dst);
    await stack.remove();
  });
});

describe.skipIf(!isRoot)("a full disk", () => {
  test("refuses a write in one sentence and changes nothing", async () => {
    const stack = new TestStack("full", "loopback");
    await run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", stack.home]);
    try {
      const started = await stack.up();
      expect(started.err).toBe("");
      const big = (name: string) =>
        `{apiVersion: v1, kind: ConfigMap, metadata: {name: ${name}}, data: {a: "${"x".repeat(600_000)}"}}`;
      let refused = { code: 0, err: "" };
      for (let at = 0; at < 5 && refused.code === 0; at++) refused = await stack.apply(big(`big-${at}`));
      expect(refused.code).toBe(1);
      expect(refused.err).toContain("the disk is full. Nothing was changed; free some space and try again");
      const kept = (await stack.list("configmaps")).filter(({ metadata }) => metadata.name.startsWith("big-"));
      expect(kept.every(({ data }) => data.a.length === 600_000)).toBe(true);
    } finally {
      await stack.fairlead("down");
      // The kernel lets go of the mount a moment after the last process has ended.
      const unmounted = await eventually(
        () => run(["umount", stack.home]),
        ({ code }) => code === 0,
      );
      expect(unmounted.err).toBe("");
      await stack.remove();
    }
  }, 60_000);
});

describe("a running stack refuses", () => {
  const stack = new TestStack("wrong", "loopback");
  beforeAll(async () => {
    const { code, err } = await stack.up();
    expect(err).toBe("");
    expect(code).toBe(0);
  }, 60_000);
  afterAll(() => stack.remove(), 30_000);

  test("a misspelt field, and applies nothing of the file", async () => {
    const { code, err } = await stack.apply(`
apiVersion: v1
kind: ConfigMap
metadata: {name: good}
data: {a: b}
---
apiVersion: v1
kind: Service
metadata: {name: cart}
spec:
  selectr: {app: cart}
  ports: [{port: 80}]
`);
    expect(code).toBe(1);
    expect(err).toContain("-:11:"); // the line of the field
    expect(err).toContain("spec.selectr");
    expect(err).toContain('spec.selector"?');
    expect(err).toContain("Nothing was applied");
    expect((await stack.fairlead("get", "configmap", "good")).code).toBe(1);
  });

  test("a route to a port that the Service has not", async () => {
    const { code, err } = await stack.upWith(
      gatewayWith(`
apiVersion: v1
kind: Service
metadata: {name: cart}
spec: {selector: {app: cart}, ports: [{port: 8080}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart}
spec:
  parentRefs: [{name: web}]
  rules: [{backendRefs: [{name: cart, port: 80}]}]
`),
      "--wait",
      "10s",
    );
    expect(code).toBe(1);
    expect(err).toContain("HTTPRoute default/cart on Gateway default/web: ResolvedRefs=False BackendNotFound");
    expect(err).toContain('spec.rules[0].backendRefs[0]: Service "cart" has no port 80 (it has 8080)');
  }, 30_000);

  test("a Secret that is no certificate", async () => {
    const { code, err } = await stack.upWith(
      `
apiVersion: v1
kind: Secret
metadata: {name: broken}
type: kubernetes.io/tls
data: {tls.crt: bm8=, tls.key: bm8=}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: fairlead}
spec: {controllerName: fairlead.dev/gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: secure}
spec:
  gatewayClassName: fairlead
  listeners: [{name: https, protocol: HTTPS, port: 443, tls: {certificateRefs: [{name: broken}]}}]
`,
      "--wait",
      "10s",
    );
    expect(code).toBe(1);
    expect(err).toContain("Gateway default/secure: listener https: ResolvedRefs=False InvalidCertificateRef");
    expect(err).toContain("default/broken");
  }, 30_000);

  test("two Gateways on one address and port", async () => {
    const taken = (await stack.get("gateways", "web")).status.addresses[0].value;
    const { code, err } = await stack.upWith(
      `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: second}
spec:
  gatewayClassName: fairlead
  addresses: [{type: IPAddress, value: ${taken}}]
  listeners: [{name: http, protocol: HTTP, port: 80}]
`,
      "--wait",
      "10s",
    );
    expect(code).toBe(1);
    expect(err).toContain("Gateway default/second");
    expect(err).toContain("port 80 of this address is Gateway default/web's");
  }, 30_000);

  test("a Gateway port that somebody else has, by name", async () => {
    const address = (await stack.get("gateways", "web")).status.addresses[0].value;
    const other = Bun.listen({ hostname: address, port: 9999, socket: { data() {} } });
    const { code, err } = await stack.upWith(gatewayWith("", 9999), "--wait", "10s");
    expect(code).toBe(1);
    expect(err).toContain("Gateway default/web");
    expect(err).toContain("9999");
    expect(err.toLowerCase()).toContain("in use");
    other.stop(true);
    const healed = await eventually(
      () => stack.fairlead("up", "--wait", "5s"),
      ({ code }) => code === 0,
    );
    expect(healed.code).toBe(0);
  }, 60_000);
});

function gatewayWith(more: string, port = 80): string {
  return `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: fairlead}
spec: {controllerName: fairlead.dev/gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web}
spec:
  gatewayClassName: fairlead
  listeners: [{name: http, protocol: HTTP, port: ${port}}]
---
${more}`;
}

// kill -9 of each process under load, and what is left afterwards: service within a second, rules and objects intact, and after
// `down` a host as it was before.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { hostState } from "./host-state.ts";
import { eventually, isRoot, root, run, TestStack } from "./stack.ts";

if (!isRoot) console.log("skipped: crashes: it needs root");

describe.skipIf(!isRoot)("a stack whose processes are killed", () => {
  const stack = new TestStack("crash");
  let before = "";
  let address = "";
  beforeAll(async () => {
    before = await hostState(stack.name);
    const { code, out, err } = await stack.up("-f", join(root, "examples/shop"));
    expect(err + out).toContain("Everything works.");
    expect(code).toBe(0);
    const [gateway] = await stack.list("gateways", "-A");
    address = gateway.status.addresses[0].value;
  }, 60_000);
  afterAll(() => stack.remove(), 30_000);

  const pidOf = async (component: string): Promise<number> => {
    const { out } = await stack.fairlead("status", "-o", "json");
    const found = JSON.parse(out).processes.find((one: { component: string; pid?: number }) =>
      one.component.startsWith(component),
    );
    return found?.pid ?? 0;
  };
  const request = async () =>
    (
      await run([
        "curl",
        "-s",
        "-m",
        "2",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-H",
        "Host: www.shop.example",
        `http://${address}/`,
      ])
    ).out;
  const rules = async () =>
    (await stack.exec("node/node-1", "iptables-save", "-t", "nat")).out
      .replace(/^#.*\n/gm, "")
      .replace(/\[\d+:\d+\]/g, "");
  /** Milliseconds from now until a request is answered with 200. */
  const untilAnswered = async () => {
    const began = performance.now();
    await eventually(request, (code) => code === "200");
    return performance.now() - began;
  };

  test("serves", async () => {
    expect(await request()).toBe("200");
  });

  for (const component of ["proxy", "stand-ins"]) {
    test(`killing ${component} under load costs less than a second`, async () => {
      const pid = await pidOf(component);
      expect(pid).toBeGreaterThan(0);
      const load = Promise.all(Array.from({ length: 50 }, request));
      process.kill(pid, "SIGKILL");
      expect(await untilAnswered()).toBeLessThan(1000);
      await load;
      expect(await pidOf(component)).not.toBe(pid);
    }, 30_000);
  }

  test("killing the control process stops nothing; it comes back by itself with the same objects, rules and proxy", async () => {
    const rulesBefore = await rules();
    const addresses = async () =>
      (await stack.list("pods", "-A")).map((pod) => `${pod.metadata.name} ${pod.status.podIP}`).sort();
    const pods = await addresses();
    const [proxy, control] = [await pidOf("proxy"), await pidOf("control")];
    process.kill(control, "SIGKILL");
    const began = performance.now();
    for (let at = 0; at < 10; at++) expect(await request()).toBe("200");
    const back = await eventually(
      () => stack.fairlead("get", "nodes"),
      ({ code }) => code === 0,
    );
    expect(back.out).toContain("node-1");
    expect(performance.now() - began).toBeLessThan(2500); // with ten requests and a start of the command line in it
    expect(
      await eventually(
        () => pidOf("control").catch(() => 0),
        (pid) => pid !== 0 && pid !== control,
      ),
    ).not.toBe(control);
    expect(await addresses()).toEqual(pods);
    expect(await rules()).toBe(rulesBefore);
    expect(await pidOf("proxy")).toBe(proxy);
    expect((await stack.up()).code).toBe(0);
    expect(await request()).toBe("200");
  }, 30_000);

  test("rules that somebody flushed are back within a second", async () => {
    const rulesBefore = await rules();
    await stack.exec("node/node-1", "iptables", "-t", "nat", "-F", "KUBE-SERVICES");
    expect(await eventually(rules, (now) => now === rulesBefore, 2000)).toBe(rulesBefore);
  }, 30_000);

  test("down after all processes were killed leaves the host as it was", async () => {
    const { out } = await stack.fairlead("status", "-o", "json");
    for (const { pid } of JSON.parse(out).processes) if (pid) process.kill(pid, "SIGKILL");
    const { code } = await stack.fairlead("down");
    expect(code).toBe(0);
    expect(await hostState(stack.name)).toBe(before);
    expect(
      (
        await run([
          "sh",
          "-c",
          `grep -lz FAIRLEAD_STACK=/run/fairlead/${stack.name} /proc/[0-9]*/environ 2>/dev/null | wc -l`,
        ])
      ).out.trim(),
    ).toBe("0");
  }, 30_000);
});

// The mission's first manifest, with the seed's own commands inside a node: real chains, real connections, spread evenly.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { eventually, isRoot, manifests, TestStack } from "./stack.ts";

const file = join(manifests, "01-services.yaml");
const why = !isRoot ? "it needs root" : !existsSync(file) ? "../shared is absent" : undefined;
if (why) console.log(`skipped: manifest 01: ${why}`);

describe.skipIf(why !== undefined)("manifest 01: Services in iptables mode", () => {
  const stack = new TestStack("m01");
  beforeAll(async () => {
    const { code, out, err } = await stack.up("-f", file);
    expect(err + out).toContain("Everything works.");
    expect(code).toBe(0);
  }, 60_000);
  afterAll(() => stack.remove(), 30_000);

  const nat = async (chain: string) => (await stack.exec("node/node-1", "iptables", "-t", "nat", "-S", chain)).out;
  const chainOf = async (service: string) => {
    const rule = (await nat("KUBE-SERVICES"))
      .split("\n")
      .find((line) => line.includes(`default/${service} cluster IP`));
    return /-j (KUBE-SVC-\w{16})/.exec(rule ?? "")?.[1] ?? "";
  };

  test("KUBE-SERVICES names the Service, as the seed's command shows it", async () => {
    const listed = await stack.exec("node/node-1", "iptables", "-t", "nat", "-L", "KUBE-SERVICES", "-n");
    expect(listed.out).toMatch(/KUBE-SVC-\w{16}\s+(tcp|6)\s.*default\/inventory cluster IP.* tcp dpt:80/);
  });

  test("the KUBE-SVC chain picks by 1/3, 1/2 and the rest, and each KUBE-SEP does the DNAT", async () => {
    const rules = (await nat(await chainOf("inventory"))).split("\n").filter((line) => line.includes("KUBE-SEP"));
    expect(rules.map((rule) => /--probability (\S+)/.exec(rule)?.[1]?.slice(0, 6))).toEqual([
      "0.3333",
      "0.5000",
      undefined,
    ]);
    for (const rule of rules) {
      const [, endpoint, address] = /-> (\S+?)" .*-j (KUBE-SEP-\w{16})/.exec(rule)!.map(String) as [
        string,
        string,
        string,
      ];
      expect(await nat(address)).toContain(`--to-destination ${endpoint}`);
    }
  });

  test("3,000 connections from a pod spread evenly over the three pods", async () => {
    const [client] = await stack.list("pods", "-l", "app=inventory");
    const counts = await connect(stack, `default/${client.metadata.name}`, 3000);
    expect(counts.failed).toBe(0);
    expect(counts.pods.size).toBe(3);
    // Three standard deviations of a binomial with n = 3000 and p = 1/3.
    for (const count of counts.pods.values())
      expect(Math.abs(count - 1000)).toBeLessThan(3 * Math.sqrt(3000 * (1 / 3) * (2 / 3)));
  }, 60_000);

  test("deleting a pod changes the rules, and no connection made afterwards fails", async () => {
    const [client, victim] = await stack.list("pods", "-l", "app=inventory");
    const chain = await chainOf("inventory");
    const before = await nat(chain);
    const { code } = await stack.fairlead("delete", "pod", victim.metadata.name);
    expect(code).toBe(0);
    const counts = await connect(stack, `default/${client.metadata.name}`, 500);
    expect(counts.failed).toBe(0);
    const after = await eventually(
      () => nat(chain),
      (rules) => rules !== before && rules.match(/KUBE-SEP/g)?.length === 3,
    );
    expect(after).not.toBe(before);
    expect(after).not.toContain(`-> ${victim.status.podIP}:8080`);
  }, 60_000);

  test("the name resolves in pods, through their resolv.conf", async () => {
    const [client] = await stack.list("pods", "-l", "app=inventory");
    const service = await stack.get("services", "inventory");
    const answer = await stack.exec(`default/${client.metadata.name}`, "dig", "+short", "+search", "inventory");
    expect(answer.out.trim()).toBe(service.spec.clusterIP);
  });

  test("explain says what the Service's name means to a pod, and where that is written", async () => {
    const [client] = await stack.list("pods", "-l", "app=inventory");
    const words = ["GET", "http://inventory/", "--from", `default/${client.metadata.name}`, "-o", "json"];
    const { out, err } = await stack.fairlead("explain", ...words);
    expect(err).toBe("");
    const { shares, outcome } = JSON.parse(out);
    expect(outcome).toBe("forward");
    expect(shares[0]).toMatchObject({
      name: "default/inventory:80",
      share: 1,
      from: { kind: "Service", file, line: 6 },
    });
    expect(shares[0].endpoints.length).toBe(3);
  });

  test("a Service without endpoints refuses", async () => {
    const [client] = await stack.list("pods", "-l", "app=inventory");
    const { code } = await stack.exec(
      `default/${client.metadata.name}`,
      "curl",
      "-s",
      "-m",
      "5",
      "http://shopping-cart/",
    );
    expect(code).toBe(7); // connection refused, not a timeout
  });
});

/** `count` new connections from a pod to http://inventory, by who answered. */
async function connect(
  stack: TestStack,
  pod: string,
  count: number,
): Promise<{ pods: Map<string, number>; failed: number }> {
  const config = Array.from(
    { length: count },
    () => 'url = "http://inventory/"\nheader = "connection: close"\nwrite-out = "\\n%{http_code}\\n"',
  );
  const script = `printf '%s' "$0" | curl -s --no-keepalive --config - `;
  const pods = new Map<string, number>();
  let failed = 0;
  // One curl makes many requests; `connection: close` makes each a connection of its own.
  for (let at = 0; at < count; at += 500) {
    const { out } = await stack.exec(pod, "sh", "-c", script, config.slice(at, at + 500).join("\nnext\n"));
    const names = [...out.matchAll(/"pod":\s*"([^"]+)"/g)].map(([, name]) => name!);
    for (const name of names) pods.set(name, (pods.get(name) ?? 0) + 1);
    failed += Math.min(500, count - at) - (out.match(/^200$/gm)?.length ?? 0);
  }
  return { pods, failed };
}

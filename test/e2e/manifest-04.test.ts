// The mission's Gateway manifest, unchanged: HTTPS with a made-up certificate, header match, 90/10, namespaces that may not
// attach, and the explanation of both requests, from the stack and from the file.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { eventually, isRoot, manifests, root, run, TestStack } from "./stack.ts";

const file = join(manifests, "04-gateway-api.yaml");
if (!existsSync(file)) console.log("skipped: manifest 04: ../shared is absent");
if (!isRoot) console.log("skipped: manifest 04 on namespaces: it needs root");

const outsider = `
apiVersion: v1
kind: Namespace
metadata: {name: outsiders}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: outsiders}
spec: {ports: [{port: 80}], selector: {app: web}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: intruder, namespace: outsiders}
spec:
  parentRefs: [{name: production-gateway, namespace: infra, sectionName: https}]
  hostnames: [intruder.example.com]
  rules: [{backendRefs: [{name: web, port: 80}]}]
`;

for (const network of ["netns", "loopback"] as const) {
  describe.skipIf(!existsSync(file) || (network === "netns" && !isRoot))(
    `manifest 04 on the ${network} network`,
    () => {
      const stack = new TestStack(`m04-${network.slice(0, 4)}`, network);
      let printed = "";
      let address = "";
      beforeAll(async () => {
        const { code, out, err } = await stack.up("--fill", "-f", file);
        printed = out;
        expect(err).toBe("");
        expect(code).toBe(0);
        address = await stack.address("production-gateway", "infra");
      }, 60_000);
      afterAll(() => stack.remove(), 30_000);

      /** Answers of `count` requests over HTTPS, by the Service's pods' version label. */
      const versions = async (count: number, ...headers: string[]) => {
        const port = Number(/https (?:443 at )?(\d+)/.exec(printed)?.[1] ?? 443);
        const common = `cacert = "${stack.authority}"\nresolve = "api.example.com:${port}:${address}"\n${headers.map((header) => `header = "${header}"\n`).join("")}`;
        const config = Array.from(
          { length: count },
          () => `url = "https://api.example.com:${port}/orders"\n${common}`,
        ).join("next\n");
        const { out } = await run(["curl", "-s", "--config", "-"], { stdin: config });
        const found = new Map<string, number>();
        for (const [, version] of out.matchAll(/"version":"(v\d)","labels"/g))
          found.set(version!, (found.get(version!) ?? 0) + 1);
        return found;
      };

      test("prints the kubeconfig, the address, curl lines and what it made up", () => {
        expect(printed).toContain("export KUBECONFIG=");
        expect(printed).toContain("Gateway infra/production-gateway");
        expect(printed).toContain("--header 'x-api-version: v2'");
        expect(printed).toContain("Secret infra/wildcard-cert");
        expect(printed).toContain("Service orders-team/orders-v2");
      });

      test("the printed curl lines answer when pasted", async () => {
        const lines = printed.split("\n").filter((line) => line.startsWith("  curl "));
        expect(lines.length).toBe(2);
        for (const line of lines) {
          const { code, out } = await run(["sh", "-c", `${line.trim()} -s --fail`]);
          expect(code).toBe(0);
          expect(JSON.parse(out).path).toBe("/orders");
        }
      });

      test("x-api-version: v2 always reaches v2", async () => {
        expect([...(await versions(200, "x-api-version: v2"))]).toEqual([["v2", 200]]);
      });

      test("without it, 90/10 over 1,000 requests within three standard deviations", async () => {
        const found = await versions(1000);
        expect((found.get("v1") ?? 0) + (found.get("v2") ?? 0)).toBe(1000);
        expect(Math.abs((found.get("v2") ?? 0) - 100)).toBeLessThan(3 * Math.sqrt(1000 * 0.1 * 0.9));
      }, 30_000);

      test("a route in a namespace without the label is refused and not served", async () => {
        expect((await stack.apply(outsider)).code).toBe(0);
        const accepted = await eventually(
          async () =>
            (await stack.get("httproutes", "intruder", "outsiders")).status?.parents?.[0]?.conditions?.find(
              (one: { type: string }) => one.type === "Accepted",
            ),
          (condition) => condition !== undefined,
        );
        expect(accepted).toMatchObject({ status: "False", reason: "NotAllowedByListeners" });
        const port = Number(/https (?:443 at )?(\d+)/.exec(printed)?.[1] ?? 443);
        const { out } = await run([
          "curl",
          "-sk",
          "-o",
          "/dev/null",
          "-w",
          "%{http_code}",
          "--resolve",
          `intruder.example.com:${port}:${address}`,
          `https://intruder.example.com:${port}/`,
        ]);
        expect(out).toBe("404");
      });

      test("explain names rule, field and line for both requests; the file alone says the same", async () => {
        const lineOf = (text: string) =>
          readFileSync(file, "utf8")
            .split("\n")
            .findIndex((line) => line.includes(text)) + 1;
        const ask = ["GET", "https://api.example.com/orders"];
        for (const [header, rule, service] of [
          [["-H", "x-api-version: v2"], "spec.rules[0]", "orders-team/orders-v2:80"],
          [[], "spec.rules[1]", "orders-team/orders-v1:80"],
        ] as const) {
          const live = await stack.fairlead("explain", ...ask, ...header, "-o", "json");
          expect(live.err).toBe("");
          const explained = JSON.parse(live.out);
          expect(explained.rule.from).toMatchObject({
            kind: "HTTPRoute",
            namespace: "orders-team",
            name: "orders-route",
            file,
          });
          expect(explained.rule.from.field).toStartWith(rule);
          expect(explained.rule.from.line).toBeGreaterThanOrEqual(lineOf("name: orders-route"));
          expect(explained.shares[0].name).toBe(service);
          expect(explained.shares[0].endpoints.length).toBe(2);
          const alone = await run([
            join(root, "bin/fairlead"),
            "explain",
            ...ask,
            ...header,
            "--files",
            file,
            "--fill",
            "-o",
            "json",
          ]);
          expect(alone.err).toBe("");
          const offline = JSON.parse(alone.out);
          expect(offline.rule).toEqual(explained.rule);
          expect(offline.shares.map((share: { name: string }) => share.name)).toEqual(
            explained.shares.map((share: { name: string }) => share.name),
          );
        }
      });
    },
  );
}

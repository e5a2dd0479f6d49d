// How long from an HTTPRoute's POST to the first request that it answers, with 1,000 other routes on the Gateway.
//   bun bench/change/run.ts [CHANGES] [ROUTES]

import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parse } from "yaml";
import { stackPaths } from "../../src/cluster/stack.ts";
import { summary } from "../statistics.ts";

const root = resolve(import.meta.dir, "../..");
const changes = Number(process.argv[2] ?? 200);
const present = Number(process.argv[3] ?? 1000);
const name = "bench-change";
const fairlead = async (words: string[], stdin = "") => {
  const child = Bun.spawn([join(root, "bin/fairlead"), ...words], {
    stdin: new TextEncoder().encode(stdin),
    stdout: "pipe",
    stderr: "inherit",
  });
  const [out, code] = await Promise.all([new Response(child.stdout).text(), child.exited]);
  if (code !== 0) throw new Error(`fairlead ${words.join(" ")} ended with ${code}: ${out}`);
  return out;
};
const base = `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: fairlead}
spec: {controllerName: fairlead.dev/gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web}
spec: {gatewayClassName: fairlead, listeners: [{name: http, protocol: HTTP, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: app}
spec: {parentRefs: [{name: web}], hostnames: [app.example.com], rules: [{backendRefs: [{name: app, port: 80}]}]}
`;
const route = (id: string, path: string) => ({
  apiVersion: "gateway.networking.k8s.io/v1",
  kind: "HTTPRoute",
  metadata: { name: id, namespace: "default" },
  spec: {
    parentRefs: [{ name: "web" }],
    hostnames: ["bench.example.com"],
    rules: [{ matches: [{ path: { type: "PathPrefix", value: path } }], backendRefs: [{ name: "app", port: 80 }] }],
  },
});

await fairlead(["down", "--name", name]);
await fairlead(["up", "--name", name, "--fill", "-f", "-"], base);
try {
  const config = parse(readFileSync(stackPaths(name).kubeconfig, "utf8"));
  const decode = (text: string) => Buffer.from(text, "base64").toString("utf8");
  const user = config.users[0].user;
  const cluster = config.clusters[0].cluster;
  const tls = {
    ca: decode(cluster["certificate-authority-data"]),
    cert: decode(user["client-certificate-data"]),
    key: decode(user["client-key-data"]),
  };
  const api = async (method: string, path: string, body?: unknown) => {
    const response = await fetch(cluster.server + path, {
      method,
      tls,
      headers: { "content-type": "application/json" },
      ...(body ? { body: JSON.stringify(body) } : {}),
    });
    const answer = (await response.json()) as { message?: string; status?: { addresses: { value: string }[] } };
    if (!response.ok) throw new Error(answer.message);
    return answer;
  };
  const routes = "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes";
  const gateway = await api("GET", "/apis/gateway.networking.k8s.io/v1/namespaces/default/gateways/web");
  const address = gateway.status!.addresses[0]!.value;
  const status = async (path: string) =>
    (await fetch(`http://${address}${path}`, { headers: { host: "bench.example.com" } })).status;
  for (let at = 0; at < present; at++) await api("POST", routes, route(`present-${at}`, `/present-${at}`));
  while ((await status(`/present-${present - 1}`)) !== 200) await Bun.sleep(10);

  /** Times of `changes` changes, each begun `pause` milliseconds after the one before was seen. */
  const measure = async (prefix: string, pause: number): Promise<number[]> => {
    const times: number[] = [];
    for (let at = 0; at < changes; at++) {
      const name = `${prefix}-${at}`;
      const began = performance.now();
      const posted = api("POST", routes, route(name, `/${name}`));
      while ((await status(`/${name}`)) !== 200) {
        if (performance.now() - began > 5000) throw new Error(`change ${name} was not seen`);
        await Bun.sleep(1); // asking without a pause would take the processor that the change needs
      }
      times.push(performance.now() - began);
      await posted;
      await Bun.sleep(pause);
    }
    return times;
  };
  const lines = [
    `HTTPRoute posted to first answer, ${present} routes present; bound p99 20 ms`,
    `  a change now and then (50 ms apart)   ${summary(await measure("calm", 50))}`,
    `  one right after the other             ${summary(await measure("busy", 0))}`,
  ];
  const report = lines.join("\n");
  console.log(report);
  await Bun.write(join(import.meta.dir, "last.txt"), `${report}\n`);
} finally {
  await fairlead(["down", "--name", name]);
}

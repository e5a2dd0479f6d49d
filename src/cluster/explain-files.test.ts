import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { explainFiles } from "./explain-files.ts";

const folder = mkdtempSync(join(tmpdir(), "fl-t-explain-"));
afterAll(() => rmSync(folder, { recursive: true }));

const explained = (range: string) => {
  const file = join(folder, "objects.yaml");
  writeFileSync(
    file,
    `apiVersion: v1
kind: Service
metadata: {name: far}
spec: {clusterIP: 198.18.9.10, ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: more}
spec: {cidrs: [${range}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: g}
spec: {gatewayClassName: fairlead, listeners: [{name: h, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec: {parentRefs: [{name: g}], rules: [{backendRefs: [{name: far, port: 80}]}]}
`,
  );
  return explainFiles([file], { method: "GET", url: "http://x/", headers: [] }, { fill: true });
};

test("a Service may have an address of a range that comes later in the same file; a range that is none is told", async () => {
  expect(JSON.stringify(await explained("198.18.9.0/24"))).toContain("far");
  await expect(explained("198.18.9.1/24")).rejects.toThrow(
    'objects.yaml:6: ServiceCIDR.networking.k8s.io "more" is invalid',
  );
});

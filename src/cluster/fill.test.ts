import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { KubeObject } from "../api/object.ts";
import { type Authority, createAuthority } from "../identity/authority.ts";
import { fill } from "./fill.ts";
import { versionLabel } from "./fill-service.ts";
import { parseManifests } from "./manifests.ts";
import { emptySources, recordSources } from "./sources.ts";

const issued: (readonly string[])[] = [];
const issue = async (names: readonly string[]) => {
  issued.push(names);
  return { certificate: `certificate for ${names.join()}`, privateKey: "key" };
};
const objectsOf = (yaml: string) => parseManifests(yaml, "f.yaml").manifests.map(({ object }) => object);
const filled = async (yaml: string, existing: readonly KubeObject[] = [], from = issue) => {
  issued.length = 0;
  return fill(objectsOf(yaml), existing, { issue: from });
};
/** Real certificates, where their content matters. */
const authority: typeof issue = async (names) => {
  made ??= createAuthority("test");
  return (await made).issueServer(names);
};
let made: Promise<Authority> | undefined;
const names = (made: readonly KubeObject[]) =>
  made.map(({ kind, metadata }) => `${kind} ${metadata.namespace ? `${metadata.namespace}/` : ""}${metadata.name}`);

const gateway = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: infra}
spec:
  gatewayClassName: any
  listeners:
  - name: https
    port: 443
    protocol: HTTPS
    hostname: "*.example.com"
    tls: {certificateRefs: [{name: edge-cert}]}
    allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {edge: "yes"}, matchExpressions: [{key: tier, operator: In, values: [front, back]}, {key: old, operator: DoesNotExist}, {key: team, operator: Exists}]}}}
  - {name: pass, port: 8443, protocol: TLS, tls: {mode: Passthrough}}
`;
const route = `
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{name: edge, namespace: infra, sectionName: https}]
  hostnames: [shop.example.com]
  rules:
  - backendRefs: [{name: web-v1, port: 80, filters: [{type: RequestMirror, requestMirror: {backendRef: {name: audit, namespace: ops, port: 9000}}}]}]
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: shadow, port: 8080}}}]
  - backendRefs: [{name: web-v1, port: 9090}, {group: example.com, kind: Bucket, name: files}]
`;

describe("what files refer to and do not contain", () => {
  test("is made up: namespaces, class, Secret, Services with pods", async () => {
    const { made, reasons } = await filled(gateway + route);
    expect(names(made)).toEqual([
      "Namespace infra",
      "Namespace shop",
      "Namespace ops",
      "GatewayClass any",
      "Secret infra/edge-cert",
      "Service shop/web-v1",
      "Deployment shop/web-v1",
      "Service ops/audit",
      "Deployment ops/audit",
      "Service shop/shadow",
      "Deployment shop/shadow",
    ]);
    for (const { metadata } of made) expect(metadata.labels?.["fairlead.dev/filled"]).toBe("true");
    expect(reasons).toContain("Service shop/web-v1: named by HTTPRoute shop/web spec.rules[0].backendRefs[0]");
    expect(reasons).toContain(
      "Service ops/audit: named by HTTPRoute shop/web spec.rules[0].backendRefs[0].filters[0].requestMirror.backendRef",
    );
    expect(reasons.length).toBe(made.length);
  });

  test("gets namespaces with the labels that the listener of their routes asks for", async () => {
    const { made } = await filled(gateway + route);
    const shop = made.find(({ kind, metadata }) => kind === "Namespace" && metadata.name === "shop");
    expect(shop?.metadata.labels).toEqual({ edge: "yes", tier: "front", team: "true", "fairlead.dev/filled": "true" });
    const infra = made.find(({ metadata }) => metadata.name === "infra");
    expect(infra?.metadata.labels).toEqual({ "fairlead.dev/filled": "true" });
  });

  test("gets certificates for the names of the listener and of its routes", async () => {
    const { made } = await filled(gateway + route);
    expect(issued).toEqual([["*.example.com", "shop.example.com"]]);
    const secret = made.find(({ kind }) => kind === "Secret")!;
    expect(secret["type"]).toBe("kubernetes.io/tls");
    expect(atob(secret["data"]["tls.crt"])).toBe("certificate for *.example.com,shop.example.com");
  });

  test("gets Services with every port that is named, and stand-in pods with a version", async () => {
    const { made } = await filled(gateway + route);
    const service = made.find(({ kind, metadata }) => kind === "Service" && metadata.name === "web-v1")!;
    expect(service.spec.selector).toEqual({ app: "web-v1" });
    expect(service.spec.ports).toEqual([
      { name: "http-80", port: 80, protocol: "TCP", targetPort: 8080 },
      { name: "http-9090", port: 9090, protocol: "TCP", targetPort: 8081 },
    ]);
    const deployment = made.find(({ kind, metadata }) => kind === "Deployment" && metadata.name === "web-v1")!;
    expect(deployment.spec.replicas).toBe(2);
    expect(deployment.spec.template.metadata.labels).toMatchObject({ app: "web-v1", version: "v1" });
    expect(deployment.spec.template.spec.containers[0].image).toBe("fairlead.dev/stand-in");
  });

  test("is not made again when it is there, in the files or in the stack", async () => {
    const first = await filled(gateway + route, [], authority);
    expect((await filled(gateway + route, first.made)).made).toEqual([]);
    const own = `---
apiVersion: v1
kind: Service
metadata: {name: web-v1, namespace: shop}
spec: {ports: [{port: 1}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
`;
    const { made } = await filled(gateway + route + own);
    expect(names(made)).not.toContain("Service shop/web-v1");
    expect(names(made)).not.toContain("Deployment shop/web-v1");
    expect(names(made)).not.toContain("Namespace shop");
  });

  test("that was made up before grows with what is named since", async () => {
    const first = await filled(gateway + route, [], authority);
    const more = route
      .replace("hostnames: [shop.example.com]", "hostnames: [shop.example.com, new.example.com]")
      .replace("port: 9090", "port: 9091");
    const stricter = gateway.replace('edge: "yes"', 'edge: "yes", zone: "a"');
    const second = await filled(stricter + more, first.made);
    expect(names(second.made)).toEqual([
      "Namespace shop",
      "Secret infra/edge-cert",
      "Service shop/web-v1",
      "Deployment shop/web-v1",
    ]);
    expect(second.made[0]!.metadata.labels).toMatchObject({ edge: "yes", zone: "a" });
    expect(issued).toEqual([["*.example.com", "shop.example.com", "new.example.com"]]);
    expect(second.made[2]!.spec.ports.map((port: { port: number }) => port.port)).toEqual([80, 9090, 9091]);
  });

  test("uses a Deployment of the Service's name that is there", async () => {
    const deployment = `---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web-v1, namespace: shop}
spec:
  selector: {matchLabels: {run: web}}
  template: {metadata: {labels: {run: web}}, spec: {containers: [{name: c, image: i, ports: [{containerPort: 3000}]}]}}
`;
    const { made } = await filled(gateway + route + deployment);
    const service = made.find(({ kind, metadata }) => kind === "Service" && metadata.name === "web-v1")!;
    expect(service.spec.selector).toEqual({ run: "web" });
    expect(service.spec.ports[0].targetPort).toBe(3000);
  });

  test("never includes permission", async () => {
    const { made } = await filled(gateway + route);
    expect(names(made).some((name) => name.startsWith("ReferenceGrant"))).toBe(false);
  });

  test("includes what an Ingress names: ports by name, class, Secret", async () => {
    const { made } = await filled(`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  ingressClassName: nginx
  tls: [{secretName: web-tls}]
  defaultBackend: {service: {name: fallback, port: {name: web}}}
  rules: [{host: a.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: app, port: {number: 8080}}}}]}}]
`);
    expect(names(made)).toEqual([
      "IngressClass nginx",
      "Secret default/web-tls",
      "Service default/fallback",
      "Deployment default/fallback",
      "Service default/app",
      "Deployment default/app",
    ]);
    expect(issued).toEqual([["a.example.com"]]);
    expect(made[2]!.spec.ports[0]).toMatchObject({ name: "web", port: 80 });
    expect(made[0]!.spec.controller).toBe("k8s.io/ingress-nginx");
  });

  test("survives files that are no valid objects", async () => {
    const { made } = await filled(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: odd}
spec: {rules: {a: b}, parentRefs: [{name: odd}], hostnames: [1]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: odd}
spec: {listeners: [null, {name: a, tls: {certificateRefs: [null, {}]}}]}
`);
    expect(made).toEqual([]);
  });

  test("comes from no file", async () => {
    const { manifests } = await filled(gateway + route);
    expect(recordSources(emptySources, manifests)).toEqual(emptySources);
  });

  test("a version is read from the end of a name", () => {
    expect(versionLabel("orders-v2")).toEqual({ version: "v2" });
    expect(versionLabel("web-canary")).toEqual({ version: "canary" });
    expect(versionLabel("v2-orders")).toEqual({});
  });
});

const mission = join(import.meta.dir, "../../../shared/mission/manifests");
describe.skipIf(!existsSync(mission))("the mission's manifests", () => {
  const file = (name: string) => readFileSync(join(mission, name), "utf8");

  test("04: a namespace that the Gateway lets in, both versions of orders, and the wildcard certificate", async () => {
    const { made } = await filled(file("04-gateway-api.yaml"));
    expect(names(made)).toEqual([
      "Namespace infra",
      "Namespace orders-team",
      "Secret infra/wildcard-cert",
      "Service orders-team/orders-v2",
      "Deployment orders-team/orders-v2",
      "Service orders-team/orders-v1",
      "Deployment orders-team/orders-v1",
    ]);
    expect(made[1]!.metadata.labels).toEqual({ "gateway-access": "true", "fairlead.dev/filled": "true" });
    expect(issued).toEqual([["api.example.com"]]);
    expect(made[3]!.spec.ports).toEqual([{ name: "http", port: 80, protocol: "TCP", targetPort: 8080 }]);
    expect(made[4]!.spec.template.metadata.labels).toMatchObject({ app: "orders-v2", version: "v2" });
  });

  test("03: the Services, the class and the certificate of the Ingress", async () => {
    const { made } = await filled(file("03-ingress.yaml"));
    expect(names(made).filter((name) => !name.startsWith("Deployment"))).toEqual([
      "IngressClass nginx",
      "Secret default/example-tls-cert",
      "Service default/users-service",
      "Service default/orders-service",
      "Service default/frontend",
    ]);
    expect(issued).toEqual([["api.example.com", "app.example.com"]]);
  });

  test("01: Services without pods stay as they are", async () => {
    expect((await filled(file("01-services.yaml"))).made).toEqual([]);
  });
});

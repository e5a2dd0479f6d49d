import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { KubeObject } from "../../api/object.ts";
import { validateResource } from "../../model/validate.ts";
import { tlsSecret } from "./testing/certificate.ts";
import { conditionLine, createWorld, put, readGolden, runGolden, type World } from "./testing/golden.ts";

const group = "gateway.networking.k8s.io/v1";
const manifest = () => readGolden(readFileSync(join(import.meta.dir, "testdata", "manifest-04.yaml"), "utf8"));

function rulesOf(world: World, table: string, host: string): readonly string[] {
  const entry = world.api.routeTables.get(table)?.hosts.find((one) => one.names.includes(host));
  return (entry?.rules ?? []).map((rule) => {
    if (rule.action.kind !== "forward") return rule.action.kind;
    return rule.action.to
      .map((to) => ("backend" in to.target ? to.target.backend : `${to.target.respond.status}`))
      .join(" ");
  });
}

describe("while things change", () => {
  const table = "gateway/infra/production-gateway/443/https";

  test("a namespace that loses its label loses its routes, and gets them back", async () => {
    const { world } = await runGolden(manifest());
    const label = (labels: Record<string, string>) =>
      put(world, { apiVersion: "v1", kind: "Namespace", metadata: { name: "orders-team", labels } });
    expect(rulesOf(world, table, "api.example.com")).toHaveLength(2);
    label({});
    expect(rulesOf(world, table, "api.example.com")).toHaveLength(0);
    const line =
      "HTTPRoute orders-team/orders-route parent infra/production-gateway Accepted=False/NotAllowedByListeners";
    expect(conditionLine(line, world)).toBe(line);
    label({ "gateway-access": "true" });
    expect(rulesOf(world, table, "api.example.com")).toHaveLength(2);
  });

  test("a certificate that comes late opens the listener; one that goes closes it", async () => {
    const golden = manifest();
    const { world } = await runGolden({ ...golden, certificates: {} });
    const name = "gateway/infra/production-gateway/443";
    expect(world.api.listeners.has(name)).toBe(false);
    expect(world.api.secrets.size).toBe(0);
    put(world, await tlsSecret("infra", "wildcard-cert", ["*.example.com"]));
    expect(world.api.listeners.get(name)?.chains[0]?.tls?.certificates).toEqual(["secret/infra/wildcard-cert"]);
    const secret = world.api.secrets.get("secret/infra/wildcard-cert")!;
    expect(validateResource("secrets", secret)).toEqual([]);
    expect(JSON.stringify(secret)).not.toContain("PRIVATE KEY");
    world.inputs.secrets.delete("infra/wildcard-cert");
    expect(world.api.listeners.has(name)).toBe(false);
  });

  test("a renewed certificate changes the secret, and no listener, table or status", async () => {
    const { world } = await runGolden(manifest());
    const seen: string[] = [];
    for (const collection of [world.api.listeners, world.api.routeTables, world.api.statuses, world.api.secrets]) {
      collection.subscribe((batch) => seen.push(...batch.map((change) => change.key)));
    }
    put(world, await tlsSecret("infra", "wildcard-cert", ["*.example.com"]));
    expect(seen).toEqual(["secret/infra/wildcard-cert"]);
  });

  test("a Secret that no Gateway names is not taken", async () => {
    const { world } = await runGolden(manifest());
    put(world, await tlsSecret("infra", "other", ["other.example"]));
    expect([...world.api.secrets.keys()]).toEqual(["secret/infra/wildcard-cert"]);
  });

  test("a ReferenceGrant that goes takes its reference with it", () => {
    const world = createWorld();
    const objects: KubeObject[] = [
      { apiVersion: group, kind: "GatewayClass", metadata: { name: "c" }, spec: { controllerName: "a.b/c" } },
      {
        apiVersion: group,
        kind: "Gateway",
        metadata: { namespace: "infra", name: "edge" },
        spec: { gatewayClassName: "c", listeners: [{ name: "http", protocol: "HTTP", port: 80 }] },
      },
      {
        apiVersion: group,
        kind: "HTTPRoute",
        metadata: { namespace: "infra", name: "r" },
        spec: {
          parentRefs: [{ name: "edge" }],
          rules: [{ backendRefs: [{ name: "app", namespace: "web", port: 80 }] }],
        },
      },
      {
        apiVersion: "v1",
        kind: "Service",
        metadata: { namespace: "web", name: "app" },
        spec: { ports: [{ port: 80 }] },
      },
      {
        apiVersion: "gateway.networking.k8s.io/v1beta1",
        kind: "ReferenceGrant",
        metadata: { namespace: "web", name: "infra" },
        spec: {
          from: [{ group: "gateway.networking.k8s.io", kind: "HTTPRoute", namespace: "infra" }],
          to: [{ group: "", kind: "Service" }],
        },
      },
    ];
    for (const object of objects) put(world, object);
    world.addresses.set("gateway/infra/edge", { owner: "gateway/infra/edge", address: "10.97.0.1" });
    expect(rulesOf(world, "gateway/infra/edge/80", "*")).toEqual(["service/web/app/80"]);
    world.inputs.referenceGrants.delete("web/infra");
    expect(rulesOf(world, "gateway/infra/edge/80", "*")).toEqual(["500"]);
    const line = "HTTPRoute infra/r parent infra/edge Accepted=True/Accepted ResolvedRefs=False/RefNotPermitted";
    expect(conditionLine(line, world)).toBe(line);
  });

  test("a route's status waits for its tables and listeners, and copies its parentRefs with group and kind", async () => {
    const { world } = await runGolden(manifest());
    const update = world.api.statuses.get("httproutes.gateway.networking.k8s.io orders-team/orders-route")!;
    expect(update.generation).toBe(2);
    expect(update.after).toEqual([
      { type: "listeners", name: "gateway/infra/production-gateway/443" },
      { type: "routeTables", name: table },
    ]);
    const [parent] = update.status["parents"] as readonly { readonly parentRef: unknown }[];
    expect(parent?.parentRef).toEqual({
      group: "gateway.networking.k8s.io",
      kind: "Gateway",
      namespace: "infra",
      name: "production-gateway",
    });
  });

  test("a Gateway that goes takes its listeners and tables, and its routes say so", async () => {
    const { world } = await runGolden(manifest());
    world.inputs.gateways.delete("infra/production-gateway");
    expect(world.api.listeners.size).toBe(0);
    expect(world.api.routeTables.size).toBe(0);
    const line = "HTTPRoute orders-team/orders-route parent infra/production-gateway Accepted=False/NoMatchingParent";
    expect(conditionLine(line, world)).toBe(line);
  });
});

test("clients are not told what is wrong inside of a route; the reason is for logs", async () => {
  const golden = readGolden(readFileSync(join(import.meta.dir, "testdata", "unsupported-filters.yaml"), "utf8"));
  const { world } = await runGolden(golden);
  const actions = [...world.api.routeTables.values()].flatMap((table) =>
    table.hosts.flatMap((host) => host.rules.map((rule) => rule.action)),
  );
  const responds = actions.filter((action) => action.kind === "respond");
  expect(responds.length).toBeGreaterThan(5);
  for (const { body, reason } of responds) {
    expect(body).toBe("the route cannot be served as it is configured\n");
    expect(reason).toStartWith("HTTPRoute infra/");
  }
});

test("hosts that the same routes serve are one entry", () => {
  const world = createWorld();
  const objects: KubeObject[] = [
    { apiVersion: group, kind: "GatewayClass", metadata: { name: "c" }, spec: { controllerName: "a.b/c" } },
    {
      apiVersion: group,
      kind: "Gateway",
      metadata: { namespace: "infra", name: "edge" },
      spec: { gatewayClassName: "c", listeners: [{ name: "http", protocol: "HTTP", port: 80 }] },
    },
    ...["one", "two"].map((name) => ({
      apiVersion: group,
      kind: "HTTPRoute",
      metadata: { namespace: "infra", name },
      spec: { parentRefs: [{ name: "edge" }], hostnames: ["a.example", "b.example"], rules: [{}] },
    })),
  ];
  for (const object of objects) put(world, object);
  const hosts = world.api.routeTables.get("gateway/infra/edge/80")?.hosts;
  expect(hosts?.map((host) => [host.names, host.rules.length])).toEqual([
    [["a.example", "b.example"], 2],
    [["*"], 0],
  ]);
});

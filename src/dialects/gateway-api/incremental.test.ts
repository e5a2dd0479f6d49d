import { expect, test } from "bun:test";
import fc from "fast-check";
import type { KubeObject } from "../../api/object.ts";
import { createWorld, put, type World } from "./testing/golden.ts";

const group = "gateway.networking.k8s.io/v1";

/** One change of one object: what it becomes, or that it goes. */
interface Step {
  readonly key: string;
  apply(world: World): void;
}

function objectStep(object: KubeObject, present: boolean): Step {
  const name = `${object.metadata.namespace ? `${object.metadata.namespace}/` : ""}${object.metadata.name}`;
  return {
    key: `${object.kind} ${name}`,
    apply(world) {
      if (present) return put(world, object);
      for (const input of world.objects) {
        if (input.get(name)?.kind === object.kind) input.delete(name);
      }
    },
  };
}

const gateway = fc
  .record({
    name: fc.constantFrom("one", "two"),
    address: fc.constantFrom(undefined, "10.97.0.1"),
    from: fc.constantFrom("Same", "All", "Selector"),
    hostname: fc.constantFrom(undefined, "*.example.com", "a.example.com"),
    extra: fc.constantFrom("TCP", "HTTP"),
    created: fc.constantFrom("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
  })
  .map(({ name, address, from, hostname, extra, created }) => ({
    apiVersion: group,
    kind: "Gateway",
    metadata: { namespace: "infra", name, creationTimestamp: created },
    spec: {
      gatewayClassName: "c",
      ...(address ? { addresses: [{ value: address }] } : {}),
      listeners: [
        {
          name: "a",
          protocol: "HTTP",
          port: 80,
          ...(hostname ? { hostname } : {}),
          allowedRoutes: { namespaces: { from, selector: { matchLabels: { open: "yes" } } } },
        },
        { name: "b", protocol: extra, port: 80, hostname: "b.example.com" },
      ],
    },
  }));

const route = fc
  .record({
    namespace: fc.constantFrom("infra", "shop"),
    name: fc.constantFrom("r", "s"),
    parents: fc.subarray(["one", "two"], { minLength: 1 }),
    hostnames: fc.subarray(["a.example.com", "b.example.com", "*.example.com"]),
    path: fc.constantFrom("/", "/a"),
    backend: fc.constantFrom("app", "other"),
  })
  .map(({ namespace, name, parents, hostnames, path, backend }) => ({
    apiVersion: group,
    kind: "HTTPRoute",
    metadata: { namespace, name },
    spec: {
      parentRefs: parents.map((parent) => ({ name: parent, namespace: "infra" })),
      hostnames,
      rules: [{ matches: [{ path: { value: path } }], backendRefs: [{ name: backend, namespace: "shop", port: 80 }] }],
    },
  }));

const others = fc.constantFrom<KubeObject[]>(
  { apiVersion: group, kind: "GatewayClass", metadata: { name: "c" }, spec: { controllerName: "a.b/c" } },
  { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } },
  { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop", labels: { open: "yes" } } },
  { apiVersion: "v1", kind: "Service", metadata: { namespace: "shop", name: "app" }, spec: { ports: [{ port: 80 }] } },
  { apiVersion: "v1", kind: "Service", metadata: { namespace: "shop", name: "app" }, spec: { ports: [{ port: 81 }] } },
  {
    apiVersion: "gateway.networking.k8s.io/v1beta1",
    kind: "ReferenceGrant",
    metadata: { namespace: "shop", name: "g" },
    spec: {
      from: [{ group: "gateway.networking.k8s.io", kind: "HTTPRoute", namespace: "infra" }],
      to: [{ group: "", kind: "Service" }],
    },
  },
);

const objects = fc.oneof(gateway, route, others) as fc.Arbitrary<KubeObject>;

const steps: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .tuple(objects, fc.constantFrom(true, true, true, false))
      .map(([one, present]) => objectStep(one, present)),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(
        fc.constantFrom("gateway/infra/one", "gateway/infra/two"),
        fc.constantFrom("10.97.0.1", "10.97.0.2", undefined),
      )
      .map(([owner, address]) => ({
        key: owner,
        apply: (world: World) =>
          address ? world.addresses.set(owner, { owner, address }) : world.addresses.delete(owner),
      })),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom("applied" as const, "rejected" as const).map((state) => ({
      key: "state",
      apply: (world: World) =>
        world.states.set("gateway/infra/one/80", { listener: "gateway/infra/one/80", state, message: "m" }),
    })),
  },
);

function outputs(world: World): unknown {
  const { listeners, routeTables, statuses, findings } = world.api;
  const sorted = (collection: { entries(): Iterable<readonly [string, unknown]> }) =>
    [...collection.entries()].sort(([a], [b]) => (a < b ? -1 : 1));
  return [listeners, routeTables, statuses, findings].map(sorted);
}

/** What has to be there for anything to be served. */
const first: readonly Step[] = [
  objectStep(
    { apiVersion: group, kind: "GatewayClass", metadata: { name: "c" }, spec: { controllerName: "a.b/c" } },
    true,
  ),
  ...["one", "two"].map((name, i) => ({
    key: `gateway/infra/${name}`,
    apply: ({ addresses }: World) =>
      addresses.set(`gateway/infra/${name}`, { owner: `gateway/infra/${name}`, address: `10.97.0.${i + 1}` }),
  })),
];

test("after any changes, everything is as a fresh start would make it", () => {
  let rules = 0;
  fc.assert(
    fc.property(fc.array(steps, { minLength: 10, maxLength: 50 }), (random) => {
      const changes = [...first, ...random];
      const world = createWorld();
      for (const change of changes) change.apply(world);
      // A fresh start sees only the last state of each object, and all at once.
      const last = new Map(changes.map((change) => [change.key, change]));
      const fresh = createWorld();
      fresh.addresses.batch(() => {
        for (const change of last.values()) change.apply(fresh);
      });
      expect(world.errors()).toEqual([]);
      expect(outputs(world)).toEqual(outputs(fresh));
      for (const table of world.api.routeTables.values()) rules += table.hosts.flatMap((host) => host.rules).length;
    }),
    { numRuns: 150 },
  );
  expect(rules).toBeGreaterThan(20); // or the changes come to nothing
});

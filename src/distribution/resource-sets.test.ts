import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { createGraph } from "../collections/graph.ts";
import { type Listener, resourceTypes } from "../model/model.ts";
import { type ResourceId, referencesOf, resourceId, splitId } from "./references.ts";
import { type ModelCollections, ResourceSets } from "./resource-sets.ts";
import { backend, endpoints, listener, modelSources, routeTable, secret } from "./testing/model-sources.ts";

/** The same by walking from the listeners. */
function reachable(model: ModelCollections): Map<string, Set<ResourceId>> {
  const scopes = new Map<string, Set<ResourceId>>();
  const visit = (scope: string, id: ResourceId) => {
    const ids = scopes.get(scope) ?? new Set();
    scopes.set(scope, ids);
    if (ids.has(id)) return;
    ids.add(id);
    const { type, name } = splitId(id);
    for (const one of referencesOf(type, model[type].get(name))) visit(scope, one);
  };
  for (const one of model.listeners.values()) visit(one.scope, resourceId("listeners", one.name));
  return scopes;
}

describe("resource sets", () => {
  test("a scope has what its listeners reach, and nothing else", () => {
    const model = modelSources(createGraph());
    model.listeners.set("l", listener("l", { routes: "t", secrets: ["s"] }));
    model.listeners.set("other", listener("other", { scope: "node-2", tcp: ["b2"] }));
    model.routeTables.set("t", routeTable("t", ["b1"]));
    model.backends.set("b1", backend("b1"));
    model.backends.set("b2", backend("b2"));
    model.backends.set("b3", backend("b3"));
    const sets = new ResourceSets(model, () => {});
    expect([...sets.membersOf("gateway")].toSorted()).toEqual([
      "backends/b1",
      "endpoints/b1",
      "listeners/l",
      "routeTables/t",
      "secrets/s",
    ]);
    expect([...sets.membersOf("node-2")].toSorted()).toEqual(["backends/b2", "endpoints/b2", "listeners/other"]);
    expect(sets.wanted(["node-2"], "backends/b1")).toBeUndefined();
    expect(sets.wanted(["gateway"], "backends/b1")).toEqual(backend("b1"));
    expect(sets.wanted(["gateway"], "secrets/s")).toBeUndefined(); // named, but absent
  });

  test("a scope has the authorities of clients, and what TLS to endpoints is verified and shown with", () => {
    const model = modelSources(createGraph());
    const plain = listener("l", { tcp: ["b", "c"], secrets: ["s"] });
    const chains = plain.chains.map((chain) => ({
      ...chain,
      tls: { ...chain.tls!, clients: { mode: "require" as const, authorities: "clients" } },
    }));
    model.listeners.set("l", { ...plain, chains });
    model.backends.set("b", { ...backend("b"), tls: { authorities: "signers", certificate: "mine" } });
    model.backends.set("c", { ...backend("c"), tls: { authorities: "system" } });
    const sets = new ResourceSets(model, () => {});
    expect([...sets.membersOf("gateway")].filter((id) => id.startsWith("secrets/")).toSorted()).toEqual([
      "secrets/clients",
      "secrets/mine",
      "secrets/s",
      "secrets/signers",
    ]);
  });

  test("a change tells the scopes that it concerns, once for all batches of a turn", async () => {
    const model = modelSources(createGraph());
    const told: [string, string[]][][] = [];
    const sets = new ResourceSets(model, (changed) =>
      told.push([...changed].map(([scope, ids]) => [scope, [...ids].toSorted()])),
    );
    model.listeners.set("l", listener("l", { tcp: ["b"] }));
    model.backends.set("b", backend("b"));
    model.endpoints.set("unrelated", endpoints("unrelated", "10.0.0.1"));
    await Promise.resolve();
    expect(told).toEqual([[["gateway", ["backends/b", "endpoints/b", "listeners/l"]]]]);
    told.length = 0;
    model.endpoints.set("unrelated", endpoints("unrelated", "10.0.0.2"));
    await Promise.resolve();
    model.endpoints.set("b", endpoints("b", "10.0.0.3"));
    await Promise.resolve();
    expect(told).toEqual([[["gateway", ["endpoints/b"]]]]);
    sets.dispose();
  });

  test("counting references gives what walking from the listeners gives, after any changes", () => {
    const names = fc.constantFrom("a", "b", "c");
    const lists = fc.uniqueArray(names, { maxLength: 3 });
    const scopes = fc.constantFrom("s1", "s2");
    const change = fc.oneof(
      fc.record({ type: fc.constant("listeners" as const), name: names, scope: scopes, routes: names, secrets: lists }),
      fc.record({ type: fc.constant("tcp" as const), name: names, scope: scopes, tcp: lists }),
      fc.record({ type: fc.constant("routeTables" as const), name: names, backends: lists }),
      fc.record({ type: fc.constant("backends" as const), name: names }),
      fc.record({ type: fc.constant("endpoints" as const), name: names }),
      fc.record({ type: fc.constant("secrets" as const), name: names }),
      fc.record({ type: fc.constant("delete" as const), of: fc.constantFrom(...resourceTypes), name: names }),
    );
    fc.assert(
      fc.property(fc.array(fc.tuple(change, fc.boolean()), { maxLength: 40 }), (changes) => {
        const model = modelSources(createGraph());
        const mirror = new Map<string, Set<ResourceId>>();
        const sets: ResourceSets = new ResourceSets(model, (changed) => {
          for (const [scope, ids] of changed) {
            const set = mirror.get(scope) ?? new Set();
            mirror.set(scope, set);
            for (const id of ids) {
              if (sets.membersOf(scope).has(id)) set.add(id);
              else set.delete(id);
            }
          }
        });
        for (const [one, flush] of changes) {
          const { name } = one;
          if (one.type === "listeners") model.listeners.set(name, listener(name, one));
          else if (one.type === "tcp") model.listeners.set(name, listener(name, one));
          else if (one.type === "routeTables") model.routeTables.set(name, routeTable(name, one.backends));
          else if (one.type === "backends") model.backends.set(name, backend(name));
          else if (one.type === "endpoints") model.endpoints.set(name, endpoints(name));
          else if (one.type === "secrets") model.secrets.set(name, secret(name));
          else if (one.type === "delete") model[one.of].delete(name);
          if (flush) sets.flush();
        }
        sets.flush();
        const wanted = reachable(model);
        for (const scope of ["s1", "s2"]) {
          expect(new Set(sets.membersOf(scope))).toEqual(wanted.get(scope) ?? new Set());
          expect(mirror.get(scope) ?? new Set()).toEqual(wanted.get(scope) ?? new Set());
        }
      }),
      { numRuns: 200 },
    );
  });

  test("a listener that moves to another scope leaves the first with all that it alone reached", () => {
    const model = modelSources(createGraph());
    model.listeners.set("l", listener("l", { tcp: ["b"] }));
    model.backends.set("b", backend("b"));
    const sets = new ResourceSets(model, () => {});
    const moved: Listener = listener("l", { scope: "node-2", tcp: ["b"] });
    model.listeners.set("l", moved);
    sets.flush();
    expect(sets.membersOf("gateway").size).toBe(0);
    expect(sets.scopesOf("endpoints/b")).toEqual(["node-2"]);
  });
});

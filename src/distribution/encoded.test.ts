import { expect, test } from "bun:test";
import fc from "fast-check";
import { fingerprint } from "../model/fingerprint.ts";
import { type Model, type ResourceOf, type ResourceType, resourceTypes } from "../model/model.ts";
import { resourceSize, resourceText } from "../model/resource-text.ts";
import { patchedRouteTable } from "../model/route-table-patch.ts";
import { arbitraryModel } from "../model/testing/arbitrary.ts";
import { toWire } from "../model/wire-codec.ts";
import { updateText } from "./encoded.ts";
import type { Delta } from "./subscription.ts";
import { routeTable, secret } from "./testing/model-sources.ts";

test("texts and fingerprints, put together from parts, are those of the whole", () => {
  fc.assert(
    fc.property(arbitraryModel(), (model: Model) => {
      const upsert: { [T in ResourceType]?: ResourceOf[ResourceType][] } = {};
      for (const type of resourceTypes) {
        upsert[type] = [...model[type].values()];
        for (const resource of upsert[type]) {
          for (let time = 0; time < 2; time++) {
            expect(resourceText(type, resource)).toBe(JSON.stringify(toWire(type, resource)));
            expect(resourceSize(type, resource)).toBeLessThanOrEqual(resourceText(type, resource).length);
            expect(fingerprint(type, resource)).toBe(fingerprint(type, JSON.parse(JSON.stringify(resource))));
          }
        }
      }
      const delta = { version: 3, upsert, remove: { backends: ["b"] } } as Delta;
      const wire = Object.fromEntries(
        resourceTypes.map((type) => [type, upsert[type]!.map((one) => toWire(type, one))]),
      );
      expect(updateText(delta)).toBe(
        JSON.stringify({ type: "update", version: 3, upsert: wire, remove: delta.remove }),
      );
    }),
    { numRuns: 50 },
  );
});

test("a secret's text has its key, and its fingerprint is its own", () => {
  expect(resourceText("secrets", secret("s"))).toContain("key of s");
  expect(fingerprint("secrets", secret("s", "f9"))).toBe("f9");
});

test("a route table that the proxy has travels as what differs from it", () => {
  const base = routeTable("t", ["a", "b"]);
  const next = {
    ...base,
    hosts: [{ ...base.hosts[0]!, rules: [...base.hosts[0]!.rules, ...routeTable("u", ["c"]).hosts[0]!.rules] }],
  };
  const delta: Delta = {
    version: 5,
    upsert: { routeTables: [next] },
    remove: {},
    bases: new Map([["t", { table: base, version: 4 }]]),
  };
  const update = JSON.parse(updateText(delta));
  expect(update.upsert).toEqual({});
  expect(update.patch.length).toBe(1);
  expect(patchedRouteTable(base, update.patch[0])).toEqual(next);
  expect(JSON.stringify(update.patch)).not.toContain('"service/a');
});

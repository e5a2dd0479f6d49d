import { expect, test } from "bun:test";
import fc from "fast-check";
import { fingerprint } from "../model/fingerprint.ts";
import { type Model, type ResourceOf, type ResourceType, resourceTypes } from "../model/model.ts";
import { resourceSize, resourceText } from "../model/resource-text.ts";
import { patchedRouteTable } from "../model/route-table-patch.ts";
import { arbitraryModel } from "../model/testing/arbitrary.ts";
import { usualFrameLength } from "../model/wire.ts";
import { joinedUpdate, toWire } from "../model/wire-codec.ts";
import { updateTexts } from "./encoded.ts";
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
      const texts = updateTexts(delta);
      if (texts.length === 1 && !texts[0]!.includes('"patch":')) {
        const some = Object.fromEntries(Object.entries(wire).filter(([, resources]) => resources.length > 0));
        const update = JSON.stringify({ type: "update", version: 3, upsert: some, remove: delta.remove });
        expect(texts[0] === update).toBeTrue();
        return;
      }
      // A large model goes in several messages, and its large tables by their rules.
      const messages = texts.map((text) => JSON.parse(text));
      const joined = joinedUpdate(messages.slice(0, -1), messages.at(-1));
      const tables = (joined.patch ?? []).map((one) => patchedRouteTable(undefined, one, joined.rules ?? []));
      const sent: Record<string, readonly unknown[] | undefined> = {
        ...joined.upsert,
        routeTables: [...(joined.upsert.routeTables ?? []), ...tables],
      };
      for (const type of resourceTypes) {
        const said = (resources: readonly unknown[]) => resources.map((one) => JSON.stringify(one)).sort();
        expect(said(sent[type] ?? [])).toEqual(said(wire[type]!));
      }
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
  const update = JSON.parse(updateTexts(delta).join());
  expect(update.upsert).toEqual({});
  expect(update.patch.length).toBe(1);
  expect(update.rules.length).toBe(1);
  expect(patchedRouteTable(base, update.patch[0], update.rules)).toEqual(next);
});

test("a large table travels ahead of its update in frames of a moderate size", () => {
  const names = Array.from({ length: 3000 }, (_, at) => `rule-${at}`);
  const rulesOf = (name: string) => routeTable("large", [name]).hosts[0]!.rules;
  const large = { ...routeTable("large", []), hosts: [{ names: ["*"], rules: names.flatMap(rulesOf) }] };
  const small = routeTable("small", ["a"]);
  const delta: Delta = { version: 1, upsert: { routeTables: [small, large] }, remove: {} };
  const texts = updateTexts(delta);
  expect(texts.length).toBeGreaterThan(3);
  for (const text of texts) expect(text.length).toBeLessThan(usualFrameLength + 200);
  const messages = texts.map((text) => JSON.parse(text));
  expect(messages.map(({ type }) => type)).toEqual([...texts.slice(1).fill("ahead"), "update"]);
  const { upsert, patch, rules } = joinedUpdate(messages.slice(0, -1), messages.at(-1));
  expect(upsert.routeTables as unknown).toEqual([small]);
  expect(patchedRouteTable(undefined, patch![0]!, rules!)).toEqual(large);
});

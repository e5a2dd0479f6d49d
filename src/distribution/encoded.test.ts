import { expect, test } from "bun:test";
import fc from "fast-check";
import { fingerprint } from "../model/fingerprint.ts";
import { type Model, type ResourceOf, type ResourceType, resourceTypes } from "../model/model.ts";
import { arbitraryModel } from "../model/testing/arbitrary.ts";
import { toWire } from "../model/wire-codec.ts";
import { knownFingerprint, resourceText, updateText } from "./encoded.ts";
import type { Delta } from "./subscription.ts";
import { secret } from "./testing/model-sources.ts";

test("texts and fingerprints, put together from parts, are those of the whole", () => {
  fc.assert(
    fc.property(arbitraryModel(), (model: Model) => {
      const upsert: { [T in ResourceType]?: ResourceOf[ResourceType][] } = {};
      for (const type of resourceTypes) {
        upsert[type] = [...model[type].values()];
        for (const resource of upsert[type]) {
          for (let time = 0; time < 2; time++) {
            expect(resourceText(type, resource)).toBe(JSON.stringify(toWire(type, resource)));
            expect(knownFingerprint(type, resource)).toBe(fingerprint(type, resource));
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
  expect(knownFingerprint("secrets", secret("s", "f9"))).toBe("f9");
});

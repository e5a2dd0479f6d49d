import { expect, test } from "bun:test";
import fc from "fast-check";
import { Beginnings, hashOn, hashSeed } from "./beginnings.ts";

test("all beginnings of a text are found as in a map, and nothing else", () => {
  const text = fc.string({ unit: fc.constantFrom("/", "a", "b"), maxLength: 8 });
  fc.assert(
    fc.property(fc.array(text, { maxLength: 40 }), text, (texts, path) => {
      const map = new Map<string, number>();
      const found = new Beginnings<number>();
      texts.forEach((one, index) => {
        if (!map.has(one)) map.set(one, index);
        expect(found.take(one, () => index)).toBe(map.get(one)!);
      });
      expect(found.size).toBe(map.size);
      let hash = hashSeed;
      for (let length = 0; length <= path.length; length++) {
        expect(found.get(path, length, hash)).toBe(map.get(path.slice(0, length)));
        hash = hashOn(hash, path.charCodeAt(length));
      }
    }),
  );
});

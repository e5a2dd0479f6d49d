import { expect, test } from "bun:test";
import fc from "fast-check";
import { StagedMap } from "./staged-map.ts";

test("both faces are in the order of keys, after any writes and commits, few or many at a time", () => {
  const key = fc.nat(120).map((n) => `k${n}`);
  const writes = fc.array(fc.tuple(key, fc.option(fc.nat(), { nil: undefined })), { maxLength: 150 });
  fc.assert(
    fc.property(fc.array(fc.tuple(writes, fc.boolean()), { maxLength: 6 }), (batches) => {
      const map = new StagedMap<number>();
      const committed = new Map<string, number>();
      const staged = new Map<string, number>();
      const sorted = (of: Map<string, number>) => [...of].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, n]) => n);
      for (const [batch, read] of batches) {
        for (const [name, n] of batch) {
          map.stage(name, n);
          if (n === undefined) staged.delete(name);
          else staged.set(name, n);
        }
        if (read) expect(map.currentSorted()).toEqual(sorted(staged));
        expect(map.sorted()).toEqual(sorted(committed));
        map.commit();
        committed.clear();
        for (const [name, n] of staged) committed.set(name, n);
        expect(map.sorted()).toEqual(sorted(committed));
        expect(map.sorted()).toBe(map.currentSorted());
      }
    }),
    { numRuns: 100 },
  );
});

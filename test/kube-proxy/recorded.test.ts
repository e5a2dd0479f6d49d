// What Fairlead writes is what kube-proxy 1.36.3 wrote for the same objects and flags (`recorded/`, made by `live-compare.ts`).

import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { differences, nodePortsAreLast, parseRules } from "./compare.ts";
import { fewObjects, objects } from "./objects.ts";
import { ourRules, variants } from "./variants.ts";

const all = objects();
const few = fewObjects();

describe.each(variants.map((variant, at) => ({ ...variant, objects: at < 2 ? all : few })))(
  "the rules of $name",
  (variant) => {
    test.each([4, 6] as const)("are kube-proxy's, IPv%d", async (family) => {
      const text = readFileSync(join(import.meta.dir, "recorded", `${variant.name}-v${family}.txt`), "utf8");
      const theirs = parseRules(variant.mode, family, text);
      const ours = parseRules(variant.mode, family, await ourRules(variant, family, variant.objects));
      expect(theirs.size).toBeGreaterThan(20);
      expect(differences(theirs, ours)).toEqual([]);
      if (variant.mode === "iptables") expect(nodePortsAreLast(ours)).toBe(true);
    });
  },
);

test("a comparison tells what is missing, what is too much, and what stands in another order", () => {
  const rules = (...lines: string[]) => new Map([["nat/KUBE-SVC-A", lines]]);
  expect(differences(rules("a", "b"), rules("a", "c"))).toEqual(["nat/KUBE-SVC-A\n    - b\n    + c"]);
  expect(differences(rules("a", "b"), rules("b", "a"))).toHaveLength(1);
  expect(differences(rules("a"), new Map())).toEqual(["nat/KUBE-SVC-A is only kube-proxy's\n    - a"]);
});

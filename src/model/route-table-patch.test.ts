import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { RouteTable, Rule } from "./model.ts";
import { NewRules, patchedRouteTable, patchRouteTable } from "./route-table-patch.ts";

const from = { kind: "Test", name: "t", field: "" };
const rule = (name: string): Rule => ({
  from,
  name,
  match: {},
  filters: [],
  action: { kind: "respond", status: 200, reason: name },
});
const pool = Array.from({ length: 12 }, (_, at) => rule(`r${at}`));
const fresh = fc.integer({ min: 100, max: 999 }).map((at) => rule(`new${at}`));
const host = fc.record({
  names: fc.constantFrom(["a.example"], ["b.example", "c.example"], ["*"]),
  rules: fc.array(fc.oneof(fc.constantFrom(...pool), fresh), { maxLength: 15 }),
});
const table = (hosts: RouteTable["hosts"]): RouteTable => ({ name: "t", from, hosts });

describe("a patch of a route table", () => {
  test("gives the wanted table back, also through JSON", () => {
    fc.assert(
      fc.property(
        fc.array(host, { maxLength: 4 }),
        fc.array(host, { maxLength: 4 }),
        fc.boolean(),
        (before, after, keep) => {
          const base = table(before);
          const next = table(keep ? [...before.slice(0, 2), ...after] : after);
          for (const from of [undefined, { table: base, version: 7 }]) {
            const added = new NewRules();
            const patch = JSON.parse(JSON.stringify(patchRouteTable(from, next, added)));
            expect(patchedRouteTable(from?.table, patch, added.rules)).toEqual(next);
          }
        },
      ),
    );
  });

  test("of one changed rule among a thousand is one rule, and the others stay the same objects", () => {
    const rules = Array.from({ length: 1000 }, (_, at) => rule(`rule-${at}`));
    const base = table([{ names: ["a.example"], rules }]);
    const next = table([{ names: ["a.example"], rules: rules.with(500, rule("changed")) }]);
    const added = new NewRules();
    const patch = patchRouteTable({ table: base, version: 1 }, next, added);
    expect(added.rules.length).toBe(1);
    expect(JSON.stringify(patch).length).toBeLessThan(300);
    const patched = patchedRouteTable(base, patch, added.rules);
    expect(patched.hosts[0]!.rules.filter((one, at) => one === rules[at]).length).toBe(999);
  });

  test("an unchanged host is the same object", () => {
    const base = table([
      { names: ["a.example"], rules: [pool[0]!] },
      { names: ["b.example"], rules: [pool[1]!] },
    ]);
    const next = table([base.hosts[0]!, { names: ["b.example"], rules: [pool[2]!] }]);
    const added = new NewRules();
    const patch = patchRouteTable({ table: base, version: 1 }, next, added);
    expect(patchedRouteTable(base, patch, added.rules).hosts[0]).toBe(base.hosts[0]!);
  });

  test("rules that several tables share travel once", () => {
    const added = new NewRules();
    const tables = ["a.example", "b.example"].map((name) => table([{ names: [name], rules: pool }]));
    const patches = tables.map((one) => patchRouteTable(undefined, one, added));
    expect(added.rules).toEqual(pool);
    expect(patches.map((patch) => patchedRouteTable(undefined, patch, added.rules))).toEqual(tables);
  });

  test("that refers to what is not there is an error", () => {
    const patch = { name: "t", from, base: 1, hosts: [{ names: ["*"], rules: [[0, 3] as const] }] };
    expect(() => patchedRouteTable(table([]), patch, [pool[0]!, pool[1]!])).toThrow(RangeError);
  });
});

import { expect, test } from "bun:test";
import fc from "fast-check";
import { atOnce } from "../../base/steps.ts";
import type { RouteTable, Rule } from "../../model/model.ts";
import { arbitraryModel, arbitraryRequest } from "../../model/testing/arbitrary.ts";
import { agree, compiled, headOf } from "./agreement.ts";
import { HostRules, Router } from "./router.ts";

test("the compiled router finds the rule that decide finds", () => {
  let pairs = 0;
  let withRule = 0;
  fc.assert(
    fc.property(arbitraryModel(), fc.array(arbitraryRequest, { minLength: 10, maxLength: 10 }), (model, requests) => {
      const routers = compiled(model);
      for (const request of requests) {
        if (agree(model, routers, request)) withRule++;
        pairs++;
      }
    }),
    { numRuns: 300 },
  );
  expect(pairs).toBeGreaterThanOrEqual(2000);
  // The generator is worth little if most requests find nothing.
  expect(withRule / pairs).toBeGreaterThan(0.1);
});

test("a host that takes over what stays of other rules finds what it finds without them", () => {
  const host = fc
    .array(arbitraryModel(), { minLength: 1, maxLength: 2 })
    .map((models) =>
      models.flatMap(({ routeTables }) =>
        [...routeTables.values()].flatMap(({ hosts }) => hosts.flatMap(({ rules }) => rules)),
      ),
    );
  fc.assert(
    fc.property(host, fc.array(fc.nat(), { maxLength: 3 }), fc.array(arbitraryRequest), (rules, places, requests) => {
      const before = rulesOf(rules);
      const paths = places.reduce((some, place) => {
        const at = place % Math.max(1, some.length);
        const name = `changed-${at}`;
        return some.map((rule, index) => (index === at ? { ...rule, name, ...(place % 2 && { match: {} }) } : rule));
      }, rules);
      for (const next of [paths, rules.slice(1), [...rules.slice(0, 1), ...rules]]) {
        const made: Rule[] = [];
        const host = { names: ["*"], rules: next };
        const found = atOnce(HostRules.of(host, (rule) => made.push(rule) && rule, before));
        expect(made).toEqual(next.filter((rule, at) => rule !== rules[at]));
        for (const request of requests) expect(found.find(headOf(request))).toBe(rulesOf(next).find(headOf(request)));
      }
    }),
    { numRuns: 40 },
  );
});

function rulesOf(rules: readonly Rule[]): HostRules<Rule> {
  return atOnce(HostRules.of({ names: ["*"], rules }, (rule) => rule));
}

const from = { kind: "Test", name: "test", field: "" };

function manyRules(count: number): RouteTable {
  const rules: Rule[] = Array.from({ length: count }, (_, index) => ({
    from,
    name: `rule-${index}`,
    match: {
      path: { kind: index % 2 ? "segments" : "exact", value: `/service-${index}/items` },
      ...(index % 10 === 0 ? { headers: [{ name: "x-version", match: { kind: "exact", value: "v2" } }] } : {}),
    },
    filters: [],
    action: { kind: "respond", status: 200, reason: "test" },
  }));
  return { name: "many", from, hosts: [{ names: ["*.example.com", "example.com"], rules }] };
}

test("the last of 1,000 rules is found in a number of lookups that does not grow with them", () => {
  const router = new Router(manyRules(1000), (rule) => rule.name);
  const head = headOf({
    address: "10.0.0.1",
    port: 80,
    method: "GET",
    authority: "www.example.com:80",
    target: "/service-999/items/7?x=1",
    headers: [],
  });
  expect(router.find(head)).toBe("rule-999");
  const began = performance.now();
  for (let round = 0; round < 10_000; round++) router.find(head);
  // A linear search takes some 10 µs a request; this is well under 1. The bound is wide for busy machines.
  expect((performance.now() - began) / 10_000).toBeLessThan(0.01);
});

test("1,000 rules are compiled in a few milliseconds", () => {
  const table = manyRules(1000);
  new Router(table, (rule) => rule.name);
  const began = performance.now();
  new Router(table, (rule) => rule.name);
  expect(performance.now() - began).toBeLessThan(50);
});

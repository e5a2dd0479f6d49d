import { expect, test } from "bun:test";
import fc from "fast-check";
import type { RouteTable, Rule } from "../../model/model.ts";
import { arbitraryModel, arbitraryRequest } from "../../model/testing/arbitrary.ts";
import { agree, compiled, headOf } from "./agreement.ts";
import { Router } from "./router.ts";

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

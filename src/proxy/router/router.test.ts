import { expect, test } from "bun:test";
import fc from "fast-check";
import { decide } from "../../model/decide.ts";
import type { DecideRequest } from "../../model/decision.ts";
import type { Model, RouteTable, Rule } from "../../model/model.ts";
import { parseTarget } from "../../model/path.ts";
import { arbitraryModel, arbitraryRequest } from "../../model/testing/arbitrary.ts";
import type { RequestHead } from "../exchange.ts";
import { HeaderBlock } from "../headers.ts";
import { parseFields } from "../http1/fields.ts";
import { Router } from "./router.ts";

/** A head as a codec would make it. */
function headOf(request: DecideRequest): RequestHead {
  const target = parseTarget(request.target);
  const headers = new HeaderBlock();
  const lines = Buffer.from(`${request.headers.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`);
  expect(parseFields(lines, 0, lines.length, headers)).toBe(lines.length);
  return {
    method: request.method,
    scheme: request.tls ? "https" : "http",
    authority: target.authority ?? request.authority,
    path: target.path,
    query: target.query,
    headers,
    hostKept: false,
    length: 0,
    upgrade: undefined,
    source: request.source ?? "",
  };
}

function agree(model: Model, routers: ReadonlyMap<string, Router<Rule>>, request: DecideRequest): void {
  const decision = decide(model, request);
  if (!decision.chain || !("routes" in decision.chain.serve)) return;
  const found = routers.get(decision.chain.serve.routes)!.find(headOf(request));
  if (decision.rule) expect(found).toBe(decision.rule);
  else if (decision.host) expect(found).toBe("no_route");
  else if (decision.outcome.kind === "respond" && decision.outcome.status === 400) expect(found).toBe("bad_host");
  else expect(found).toBe("no_host");
}

test("the compiled router finds the rule that decide finds", () => {
  let pairs = 0;
  let withRule = 0;
  fc.assert(
    fc.property(arbitraryModel(), fc.array(arbitraryRequest, { minLength: 10, maxLength: 10 }), (model, requests) => {
      const routers = new Map([...model.routeTables].map(([name, table]) => [name, new Router(table, (rule) => rule)]));
      for (const request of requests) {
        agree(model, routers, request);
        pairs++;
        if (decide(model, request).rule) withRule++;
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

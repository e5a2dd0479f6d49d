import { expect, test } from "bun:test";
import fc from "fast-check";
import { decide } from "../../model/decide.ts";
import { parseTarget } from "../../model/path.ts";
import { arbitraryModel, arbitraryRequest } from "../../model/testing/arbitrary.ts";
import type { RequestHead } from "../exchange.ts";
import type { FilterExchange } from "../filter.ts";
import { HeaderBlock } from "../headers.ts";
import { parseFields } from "../http1/fields.ts";
import { compileFilters } from "./order.ts";
import type { FilterRuntime } from "./runtime.ts";

const runtime = {} as FilterRuntime;

test("a request leaves the filters as decide says that it is sent", () => {
  let compared = 0;
  fc.assert(
    fc.property(arbitraryModel(), fc.array(arbitraryRequest, { minLength: 10, maxLength: 10 }), (model, requests) => {
      for (const request of requests) {
        const { outcome, rule } = decide(model, request);
        if (outcome.kind !== "forward" || !rule) continue;
        for (const share of outcome.shares) {
          const target = parseTarget(request.target);
          const headers = new HeaderBlock();
          const fields = request.headers.map(([name, value]) => `${name}: ${value}\r\n`);
          const bytes = Buffer.from(`${fields.join("")}\r\n`);
          parseFields(bytes, 0, bytes.length, headers);
          const head = { authority: target.authority ?? request.authority, path: target.path, headers } as RequestHead;
          const exchange = { path: head.path } as FilterExchange;
          const ofRule = compileFilters(rule.filters, runtime, rule.match.path);
          const ofShare = compileFilters(share.to.filters, runtime, rule.match.path);
          for (const { request } of [...ofRule, ...ofShare]) expect(request?.(head, exchange)).toBeUndefined();
          const path = head.path + (target.query === undefined ? "" : `?${target.query}`);
          expect({ authority: head.authority, target: path }).toEqual({
            authority: share.sends.authority,
            target: share.sends.target,
          });
          expect(headers.entries()).toEqual(share.sends.headers.map(([name, value]) => [name.toLowerCase(), value]));
          compared++;
        }
      }
    }),
    { numRuns: 300 },
  );
  expect(compared).toBeGreaterThan(200);
});

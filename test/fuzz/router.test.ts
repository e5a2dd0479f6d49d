// The compiled router against `decide`, the reference: 10,000 pairs of a random model and a request in CI, FUZZ_INPUTS=1000000 of
// them by hand. FUZZ_SEED as in `mutate.ts`; what disagrees is made smaller before it is shown.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { arbitraryModel, arbitraryRequest } from "../../src/model/testing/arbitrary.ts";
import { agree, compiled } from "../../src/proxy/router/agreement.ts";
import { inputsOf, randomOf } from "./mutate.ts";

test("the router finds what decide finds", () => {
  const requestsEach = 20;
  const pairs = inputsOf(10_000);
  let ruled = 0;
  let tables = 0;
  const requests = fc.array(arbitraryRequest, { minLength: requestsEach, maxLength: requestsEach });
  fc.assert(
    fc.property(arbitraryModel({ maxRules: 10 }), requests, (model, all) => {
      const routers = compiled(model);
      for (const request of all) {
        const found = agree(model, routers, request);
        if (found !== undefined) tables++;
        if (found) ruled++;
      }
    }),
    { numRuns: Math.ceil(pairs / requestsEach), seed: randomOf("router").below(2 ** 31) },
  );
  // Pairs that find nothing say little.
  expect(tables).toBeGreaterThan(pairs / 2);
  expect(ruled).toBeGreaterThan(pairs / 10);
});

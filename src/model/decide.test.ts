import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { decide } from "./decide.ts";
import { arbitraryModel, arbitraryRequest } from "./testing/arbitrary.ts";
import { validateModel } from "./validate.ts";

describe("decide on generated models", () => {
  test("generated models are valid but for the backend that is missing on purpose", () => {
    fc.assert(
      fc.property(arbitraryModel(), (model) => {
        const problems = validateModel(model).filter(
          (one) => one.message !== "backend service/test/missing/80 is not known",
        );
        expect(problems).toEqual([]);
      }),
      { numRuns: 50 },
    );
  });

  test("shares add up to one, the rule taken is the last looked at, and every outcome is reached", () => {
    const outcomes = new Map<string, number>();
    fc.assert(
      fc.property(arbitraryModel(), fc.array(arbitraryRequest, { minLength: 10, maxLength: 10 }), (model, requests) => {
        for (const request of requests) {
          const decision = decide(model, request);
          const { outcome } = decision;
          const what = outcome.kind === "respond" ? `respond ${outcome.status}` : outcome.kind;
          outcomes.set(what, (outcomes.get(what) ?? 0) + 1);
          if (outcome.kind === "forward") {
            expect(outcome.shares.reduce((sum, share) => sum + share.share, 0)).toBeCloseTo(1);
          }
          const rules = decision.trail.filter((step) => step.what === "rule");
          expect(rules.findIndex((step) => step.taken)).toBe(decision.rule ? rules.length - 1 : -1);
        }
      }),
      { numRuns: 150 },
    );
    for (const what of ["closed", "forward", "redirect", "respond 404", "respond 400", "respond 500"]) {
      expect(outcomes.get(what) ?? 0).toBeGreaterThan(5);
    }
  });
});

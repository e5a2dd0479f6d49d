import { expect, test } from "bun:test";
import fc from "fast-check";
import { decide } from "../../model/decide.ts";
import { joinTarget } from "../../model/path.ts";
import { normalizedPath } from "../../model/path-normalization.ts";
import { arbitraryModel, arbitraryRequest } from "../../model/testing/arbitrary.ts";
import { type FilterExchange, waits } from "../filter.ts";
import { reasons } from "../reason.ts";
import { headOf } from "../router/agreement.ts";
import { compileFilters } from "./order.ts";
import type { FilterRuntime } from "./runtime.ts";

const runtime = { random: Math.random } as FilterRuntime;

test("filters answer what decide says that they answer, and let requests leave as decide says that they are sent", () => {
  let forwarded = 0;
  let answered = 0;
  fc.assert(
    fc.property(arbitraryModel(), fc.array(arbitraryRequest, { minLength: 10, maxLength: 10 }), (model, requests) => {
      for (const request of requests) {
        const { listener, outcome, rule } = decide(model, request);
        if (rule?.action.kind !== "forward") continue;
        for (const to of rule.action.to) {
          const head = headOf(request);
          head.path = normalizedPath(head.path, listener?.pathNormalization ?? "NONE")!;
          const { headers } = head;
          head.length = Number(headers.get("content-length") ?? 0);
          const exchange = { path: head.path, keep() {}, putRequestStage() {} } as unknown as FilterExchange;
          const answer = (filters: typeof rule.filters) => {
            for (const { request: handler } of compileFilters(filters, runtime, rule.match.path)) {
              const verdict = handler?.(head, exchange);
              if (verdict === waits) throw new Error("nothing here waits");
              if (verdict !== undefined) return verdict.status ?? reasons[verdict.reason].status;
            }
            return undefined;
          };
          const ofRule = answer(rule.filters);
          if (outcome.kind !== "forward") {
            // All weights may be 0 besides; that is told by others.
            if (ofRule !== undefined) {
              expect<unknown>(outcome).toMatchObject({ kind: "respond", status: ofRule });
              answered++;
            } else expect(rule.action.to.every(({ weight }) => weight === 0)).toBeTrue();
            continue;
          }
          expect(ofRule).toBeUndefined();
          const share = outcome.shares.find((one) => one.to === to)!;
          const ofShare = answer(to.filters);
          if (ofShare !== undefined) {
            expect(share.answer?.status).toBe(ofShare);
            answered++;
            continue;
          }
          const path = joinTarget(head.path, head.query);
          expect({ authority: head.authority, target: path === "" ? head.authority : path }).toEqual({
            authority: share.sends.authority,
            target: share.sends.target,
          });
          expect(headers.entries()).toEqual(share.sends.headers.map(([name, value]) => [name.toLowerCase(), value]));
          forwarded++;
        }
      }
    }),
    { numRuns: 300 },
  );
  expect(forwarded).toBeGreaterThan(200);
  expect(answered).toBeGreaterThan(20);
  // Everything is compiled anew in each run, and a machine may be busy.
}, 30_000);

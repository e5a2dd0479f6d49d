// Scenarios of `side-by-side-policies.test.ts` that are there for what the access log says of failures.

import { each, forward, type Scenario } from "./beside-scenario.ts";
import { from } from "./proxy-harness.ts";

export const failures: readonly Scenario[] = [
  { name: "nobody can be reached", rules: [{ action: forward("gone") }], run: each({}) },
  { name: "nobody is there", rules: [{ action: forward("empty") }], run: each({}) },
  {
    name: "the request's time is over",
    rules: [{ timeouts: { request: 100 } }],
    run: each({ headers: { "x-hold": "300" } }),
  },
  {
    name: "a try's time is over, and tries are",
    rules: [
      {
        timeouts: { perTry: 100 },
        retry: { attempts: 1, on: ["5xx"], statuses: [], backoff: { base: 1, max: 2 }, elsewhere: false },
      },
    ],
    run: each({ headers: { "x-hold": "300" } }),
    flags: {
      why: "flags stand in one order, that of Envoy's list of them; Envoy 1.40 writes them as it came upon them",
      envoys: [[/URX,UT/, "UT,URX"]],
    },
  },
  {
    name: "tries are over",
    rules: [{ retry: { attempts: 1, on: ["5xx"], statuses: [], backoff: { base: 1, max: 2 }, elsewhere: false } }],
    run: each({ headers: { "x-status": "503" } }, { headers: { "x-status": "404" } }),
  },
  {
    name: "faults",
    rules: [
      {
        filters: [
          {
            kind: "fault",
            from,
            delay: { perMillion: 1_000_000, time: 10 },
            abort: { perMillion: 1_000_000, status: 500 },
          },
        ],
      },
    ],
    run: each({}),
  },
  {
    name: "a delay alone",
    rules: [{ filters: [{ kind: "fault", from, delay: { perMillion: 1_000_000, time: 10 } }] }],
    run: each({}),
  },
  { name: "a rule that takes nothing", rules: [{ match: { method: "PUT" } }], run: each({}) },
  {
    name: "a redirect and an answer of the proxy's own",
    rules: [{ action: { kind: "respond", status: 418, reason: "tea" } }],
    run: each({}),
  },
];

// Scenarios of `side-by-side-policies.test.ts` that are there for what the access log says of failures.

import type { Rule } from "../../src/model/model.ts";
import type { Difference } from "./beside.ts";
import { each, forward, type Scenario } from "./beside-scenario.ts";
import { from } from "./proxy-harness.ts";

const once: NonNullable<Rule["retry"]> = {
  ...{ attempts: 1, on: ["5xx"], statuses: [], backoff: { base: 1, max: 2 }, elsewhere: false },
};

const order: Difference = {
  why: "flags stand in one order, that of Envoy's list of them; Envoy 1.40 writes them as it came upon them",
  envoys: [[/URX,(UT|UF)/, "$1,URX"]],
};

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
        retry: once,
      },
    ],
    run: each({ headers: { "x-hold": "300" } }),
    flags: order,
  },
  {
    name: "tries are over",
    rules: [{ retry: once }],
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
  { name: "the backend closes", rules: [{ action: forward("closing") }], run: each({ method: "POST", body: "x" }) },
  {
    name: "the backend breaks off",
    rules: [{ action: forward("breaking") }],
    run: each({}),
    flags: {
      why: "a connection that ends before the answer does is a connection that has ended; to Envoy's parser it is an error of the protocol",
      ours: [[/UC/, "UPE"]],
    },
  },
  { name: "the backend says what is no answer", rules: [{ action: forward("talking") }], run: each({}) },
  {
    name: "nobody can be reached, twice",
    rules: [{ action: forward("gone"), retry: { ...once, on: ["connect-failure"] } }],
    run: each({}),
    flags: order,
  },
  {
    name: "a limit of tries",
    rules: [{ action: forward("no-retries"), retry: once }],
    run: each({ headers: { "x-status": "503" } }),
  },
  {
    name: "the client goes",
    rules: [{}],
    run: async (side) => {
      await side.leave({ headers: { "x-hold": "1" } });
      return "gone";
    },
  },
  {
    name: "a stream's time is over",
    rules: [{ timeouts: { stream: 100 } }],
    run: each({ headers: { "x-hold": "300" } }),
    flags: {
      why: "the time of a route's streams has the flag that Envoy keeps for the time of a cluster's: without one, nothing says why",
      ours: [[/UMSDR/, "-"]],
    },
  },
  {
    name: "nothing comes for too long",
    rules: [{ timeouts: { idle: 100 } }],
    run: each({ headers: { "x-hold": "400" } }),
  },
  { name: "a rule that takes nothing", rules: [{ match: { method: "PUT" } }], run: each({}) },
  {
    name: "a redirect and an answer of the proxy's own",
    rules: [{ action: { kind: "respond", status: 418, reason: "tea" } }],
    run: each({}),
  },
];

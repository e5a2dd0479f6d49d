import { describe, expect, test } from "bun:test";
import { FakeClock } from "../../base/clock.ts";
import type { Backend } from "../../model/model.ts";
import { Deadlines } from "../deadlines.ts";
import { EndpointHealth } from "./endpoint-health.ts";
import { HealthWatch, type Watched } from "./health-watch.ts";

const from = { kind: "Test", name: "test", field: "" };
const detection = {
  consecutive5xx: 2,
  consecutiveGatewayErrors: 0,
  interval: 1_000,
  baseEjection: 5_000,
  maxEjection: 60_000,
  maxEjectionPercent: 50,
  alwaysEjectOne: true,
} satisfies Backend["outlierDetection"];

function backend(more: Partial<Backend>): Backend {
  return { name: "b", from, protocol: "http1", balance: { kind: "roundRobin" }, connectTimeout: 1_000, ...more };
}

function watch(config: Backend, count = 4) {
  const clock = new FakeClock();
  const deadlines = new Deadlines(clock);
  const now = () => deadlines.now();
  const endpoints: Watched[] = Array.from({ length: count }, (_, index) => {
    const health = new EndpointHealth(now());
    health.configure(config, undefined, now());
    return { address: `10.0.0.${index + 1}`, port: 80, health };
  });
  let changes = 0;
  const made = new HealthWatch(config, deadlines, undefined, () => changes++);
  made.setEndpoints(endpoints);
  return {
    watch: made,
    clock,
    deadlines,
    endpoints,
    changes: () => changes,
    healthy: () => endpoints.map(({ health }) => health.healthy(now())),
  };
}

describe("outlier detection", () => {
  test("takes an endpoint out, says why, and lets it back at the interval after its time", () => {
    const { watch: w, endpoints, clock, healthy, changes } = watch(backend({ outlierDetection: detection }));
    const one = endpoints[1]!;
    w.answered(one, 500, 1);
    expect(changes()).toBe(0);
    w.answered(one, 500, 1);
    expect(healthy()).toEqual([true, false, true, true]);
    expect([one.health.outBecause, changes(), [...w.ejections]]).toEqual([
      "consecutive5xx",
      1,
      [["consecutive5xx", 1]],
    ]);
    clock.advance(4_900);
    expect(healthy()[1]).toBe(false);
    clock.advance(1_200);
    expect([healthy()[1], one.health.outBecause]).toEqual([true, undefined]);
  });

  test("failures to connect and timeouts are answers 503 and 504", () => {
    const { watch: w, endpoints, healthy } = watch(backend({ outlierDetection: detection }));
    w.failed(endpoints[0]!, "connectFailure", 1);
    w.failed(endpoints[0]!, "timeout", 1);
    expect(healthy()[0]).toBe(false);
  });

  test("begins anew under another policy, and goes on under the same", () => {
    const config = backend({ outlierDetection: detection });
    const { watch: w, endpoints, deadlines, healthy } = watch(config);
    const reconfigure = (now: Backend, before: Backend) => {
      for (const { health } of endpoints) health.configure(now, before, deadlines.now());
      w.configure(now);
      w.setEndpoints(endpoints);
    };
    w.answered(endpoints[0]!, 500, 1);
    reconfigure({ ...config, connectTimeout: 5 }, config);
    w.answered(endpoints[0]!, 500, 1);
    expect(healthy()[0]).toBe(false);
    reconfigure(backend({ outlierDetection: { ...detection, consecutive5xx: 3 } }), config);
    expect(healthy()[0]).toBe(true);
  });

  test("an endpoint that leaves while it is out makes room for another", () => {
    const {
      watch: w,
      endpoints,
      healthy,
    } = watch(backend({ outlierDetection: { ...detection, consecutive5xx: 1, maxEjectionPercent: 34 } }), 3);
    w.answered(endpoints[0]!, 500, 1);
    w.answered(endpoints[1]!, 500, 1);
    expect([healthy(), w.overflows]).toEqual([[false, true, true], 1]);
    w.setEndpoints(endpoints.slice(1));
    w.answered(endpoints[1]!, 500, 1);
    // One of two is more than 34 per cent, but one always may.
    expect(healthy()[1]).toBe(false);
  });
});

test("which statuses are failures is the backend's to say, for both ways; what gave no answer always is one", () => {
  const failureAccrual = { maxFailures: 2, minPenalty: 1_000, maxPenalty: 8_000, jitterRatio: 0 };
  const failureStatuses = [
    { first: 429, last: 429 },
    { first: 503, last: 503 },
  ];
  const gateway = { ...detection, consecutive5xx: 0, consecutiveGatewayErrors: 2 };
  const cases = [
    [{ outlierDetection: detection }, [429, 429], false],
    [{ outlierDetection: detection }, [429, 503], false],
    [{ outlierDetection: detection }, [500, 500, 502], true],
    [{ outlierDetection: detection }, [503, 500, 503], true],
    [{ outlierDetection: gateway }, [503, 503], false],
    [{ outlierDetection: gateway }, [429, 429], true],
    [{ failureAccrual }, [429, 503], false],
    [{ failureAccrual }, [500, 500, 200], true],
  ] as const;
  for (const [policy, statuses, healthyAfter] of cases) {
    const { watch: w, endpoints, healthy } = watch(backend({ ...policy, failureStatuses }));
    for (const status of statuses) w.answered(endpoints[0]!, status, 1);
    expect([statuses, healthy()[0]]).toEqual([statuses, healthyAfter]);
  }
  const { watch: w, endpoints, healthy } = watch(backend({ failureAccrual, failureStatuses }));
  w.failed(endpoints[0]!, "timeout", 1);
  w.failed(endpoints[0]!, "connectFailure", 1);
  expect(healthy()[0]).toBe(false);
});

describe("failure accrual", () => {
  const config = backend({ failureAccrual: { maxFailures: 1, minPenalty: 1_000, maxPenalty: 8_000, jitterRatio: 0 } });

  test("shuts, lets one probe through when its pause is over, and twice as long the next time", () => {
    const { watch: w, endpoints, clock, healthy, changes } = watch(config, 1);
    const one = endpoints[0]!;
    w.taken(one);
    w.answered(one, 503, 1);
    expect([healthy(), changes()]).toEqual([[false], 1]);
    clock.advance(1_010);
    // Told by the wheel, so that the choice is made anew.
    expect([healthy(), changes()]).toEqual([[true], 2]);
    w.taken(one);
    expect(healthy()).toEqual([false]);
    w.failed(one, "timeout", 1);
    clock.advance(1_010);
    expect(healthy()).toEqual([false]);
    clock.advance(1_000);
    expect(healthy()).toEqual([true]);
    w.taken(one);
    w.answered(one, 200, 1);
    expect([healthy(), one.health.outBecause]).toEqual([[true], undefined]);
  });

  test("a probe whose client leaves leaves the place to another", () => {
    const { watch: w, endpoints, clock, healthy } = watch(config, 1);
    const one = endpoints[0]!;
    w.failed(one, "connectFailure", 1);
    clock.advance(1_010);
    w.taken(one);
    expect(healthy()).toEqual([false]);
    w.abandoned(one);
    expect(healthy()).toEqual([true]);
  });
});

test("active checks: the first result counts, then thresholds do", () => {
  const check = {
    interval: 1_000,
    timeout: 500,
    unhealthyThreshold: 2,
    healthyThreshold: 2,
    check: { kind: "tcp" },
  } as const;
  const { watch: w, endpoints, healthy } = watch(backend({ healthCheck: check }), 1);
  const one = endpoints[0]!;
  const after = (problem: string | undefined) => {
    w.checked(one, problem);
    return healthy()[0];
  };
  expect([after("gone"), after(undefined), after(undefined)]).toEqual([false, false, true]);
  expect([after("gone"), after("gone")]).toEqual([true, false]);
  expect([...w.ejections]).toEqual([["healthCheck", 2]]);
});

test("while endpoints warm up their weights are looked at again, and then no more", () => {
  const { clock, changes, deadlines } = watch(
    backend({ balance: { kind: "roundRobin", slowStart: { window: 5_000 } } }),
    2,
  );
  clock.advance(2_500);
  expect(changes()).toBeGreaterThan(20);
  clock.advance(10_000);
  const so = changes();
  expect(so).toBeLessThanOrEqual(55);
  clock.advance(60_000);
  expect([changes(), deadlines.size]).toEqual([so, 0]);
});

test("the average of response times takes answers and timeouts, but no refusals", () => {
  const { watch: w, endpoints, deadlines } = watch(backend({ balance: { kind: "peakEwma", startAt: 10 } }), 1);
  const one = endpoints[0]!;
  const cost = () => one.health.cost!.load(0, deadlines.now());
  w.failed(one, "connectFailure", 500);
  expect(cost()).toBe(10);
  w.answered(one, 200, 100);
  expect(cost()).toBe(100);
  w.failed(one, "timeout", 1_000);
  expect(cost()).toBe(1_000);
});

// Outlier detection by rates, through the real proxy and real time: the endpoint whose success rate is far below the others', and the
// one that fails in more than so many per cent, are taken out at the end of an interval and come back; the arithmetic is a unit test.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { Backend } from "../../src/model/model.ts";
import { forwardAll, freePort, ProxyUnderTest } from "./proxy-harness.ts";
import { eventually } from "./stack.ts";

type Detection = NonNullable<Backend["outlierDetection"]>;

const detection: Detection = {
  ...{ consecutive5xx: 0, consecutiveGatewayErrors: 0, interval: 1_000, baseEjection: 3_000, maxEjection: 3_000 },
  ...{ maxEjectionPercent: 50, alwaysEjectOne: true },
};

let proxy: ProxyUnderTest;
let port: number;
let servers: { status: number; readonly port: number; readonly stop: () => void }[];

beforeEach(async () => {
  proxy = new ProxyUnderTest();
  port = freePort();
  await proxy.start();
});

afterEach(async () => {
  await proxy.stop();
  for (const { stop } of servers) stop();
});

/** Of so many servers the first answers with 500. */
async function serve(count: number, outlierDetection: Detection): Promise<void> {
  servers = Array.from({ length: count }, (_, index) => {
    const one = { status: index === 0 ? 500 : 200, port: 0, stop: () => {} };
    const server = Bun.serve({
      ...{ hostname: "127.0.0.1", port: 0 },
      fetch: () => new Response(String(index), { status: one.status }),
    });
    return Object.assign(one, { port: server.port!, stop: () => void server.stop(true) });
  });
  await forwardAll(
    proxy,
    port,
    servers.map((server) => server.port),
    { outlierDetection },
  );
}

/** Who answered so many requests. */
async function asked(times: number): Promise<string[]> {
  const answers = Array.from({ length: times }, async () => await (await fetch(`http://127.0.0.1:${port}/`)).text());
  return await Promise.all(answers);
}

async function ejections(cause: string): Promise<number> {
  const metrics = await (await proxy.get("/metrics")).text();
  const line = `fairlead_proxy_endpoint_ejections_total{backend="one",cause="${cause}"} `;
  return Number(
    metrics
      .split("\n")
      .find((one) => one.startsWith(line))
      ?.slice(line.length) ?? 0,
  );
}

/** Asks until the cause has ejected somebody, and then sees who answers. */
async function isTakenOutAndComesBack(cause: string): Promise<void> {
  const out = async () => {
    await asked(servers.length * 10);
    return await ejections(cause);
  };
  expect(await eventually(out, (count) => count > 0, 30_000)).toBe(1);
  const answers = await asked(50);
  expect(answers).not.toContain("0");
  expect(new Set(answers).size).toBe(servers.length - 1);
  servers[0]!.status = 200;
  const back = await eventually(
    () => asked(servers.length),
    (answers) => answers.includes("0"),
    30_000,
  );
  expect(back).toContain("0");
  expect(await ejections(cause)).toBe(1);
}

const successRate = { minimumHosts: 5, requestVolume: 5, deviationFactor: 1.9 };
const failurePercentage = { threshold: 85, minimumHosts: 3, requestVolume: 5 };

describe("an endpoint", () => {
  test("whose success rate is far below that of the others is taken out, and comes back", async () => {
    await serve(5, { ...detection, successRate });
    await isTakenOutAndComesBack("successRate");
  }, 60_000);

  test("that fails in more than so many per cent is taken out, and comes back", async () => {
    await serve(3, { ...detection, failurePercentage });
    await isTakenOutAndComesBack("failurePercentage");
  }, 60_000);

  test("of fewer than so many stays, whatever its rates", async () => {
    await serve(4, { ...detection, successRate, failurePercentage: { ...failurePercentage, minimumHosts: 5 } });
    const end = Date.now() + 2_500;
    while (Date.now() < end) expect(await asked(40)).toContain("0");
    expect([await ejections("successRate"), await ejections("failurePercentage")]).toEqual([0, 0]);
  }, 30_000);
});

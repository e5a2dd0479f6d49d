import { describe, expect, test } from "bun:test";
import type { Container, Probe } from "../api/kinds.ts";
import { FakeClock } from "../base/clock.ts";
import { type ProbeResult, Prober, type ProbeTarget, probeOnce } from "./probe.ts";

/** Lets what was resolved go on. */
const settle = async () => {
  for (let turn = 0; turn < 5; turn++) await Promise.resolve();
};

/** What a prober says when its probe succeeds in these seconds, `[from, to)`, and fails in all others. */
async function verdicts(
  probe: Probe,
  good: readonly (readonly [number, number])[],
  seconds: number,
): Promise<string[]> {
  const clock = new FakeClock();
  const start = clock.now();
  const at = () => (clock.now() - start) / 1000;
  const said: string[] = [];
  const once = async (): Promise<ProbeResult> => ({
    ok: good.some(([from, to]) => at() >= from && at() < to),
    message: "no",
  });
  const prober = new Prober(probe, once, clock, (passing) => said.push(`${passing ? "pass" : "fail"} at ${at()}s`));
  for (clock.advance(0); at() < seconds; clock.advance(250)) await settle();
  prober.dispose();
  return said;
}

describe("a probe that is repeated", () => {
  test("begins after its delay, and passes soon after the first success is possible", async () => {
    expect(await verdicts({ initialDelaySeconds: 5, periodSeconds: 10 }, [[0, 99]], 20)).toEqual(["pass at 5s"]);
    expect(await verdicts({ periodSeconds: 10 }, [[1.2, 99]], 20)).toEqual(["pass at 1.25s"]);
  });

  test("does not fail sooner than its period and threshold say", async () => {
    expect(await verdicts({ periodSeconds: 10, failureThreshold: 3 }, [], 30)).toEqual(["fail at 20s"]);
  });

  test("fails after as many failures in a row as its threshold, and passes again", async () => {
    const good = [
      [0, 1],
      [4, 5],
      [10, 99],
    ] as const;
    expect(await verdicts({ periodSeconds: 2, failureThreshold: 2 }, good, 20)).toEqual([
      "pass at 0s",
      "fail at 8s",
      "pass at 10s",
    ]);
  });
});

describe("one probe", () => {
  const target = (port: number, address = "127.0.0.1"): ProbeTarget => ({
    address,
    container: { name: "app", ports: [{ name: "web", containerPort: port }] } as Container,
    effectivePort: (one) => one,
    exec: async (argv) => ({ exitCode: argv[0] === "true" ? 0 : 1, stdout: "", stderr: "it broke" }),
  });

  test("of HTTP passes with 200 to 399, on a port that may be named", async () => {
    const server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: (request) => new Response("", { status: new URL(request.url).pathname === "/ok" ? 204 : 500 }),
    });
    const probe = (path: string) => probeOnce({ httpGet: { path, port: "web" } }, target(server.port!));
    expect(await probe("/ok")).toMatchObject({ ok: true });
    expect(await probe("/bad")).toEqual({ ok: false, message: "HTTP probe failed with statuscode: 500" });
    expect(await probeOnce({ tcpSocket: { port: "web" } }, target(server.port!))).toMatchObject({ ok: true });
    await server.stop(true);
    expect(await probeOnce({ tcpSocket: { port: "web" } }, target(server.port!))).toMatchObject({ ok: false });
  });

  test("of an IPv6 address asks that address", async () => {
    const server = Bun.serve({ hostname: "::1", port: 0, fetch: () => new Response("") });
    const at = target(server.port!, "::1");
    expect(await probeOnce({ httpGet: { port: "web" } }, at)).toMatchObject({ ok: true });
    expect(await probeOnce({ tcpSocket: { port: "web" } }, at)).toMatchObject({ ok: true });
    await server.stop(true);
  });

  test("of a command passes with exit code 0", async () => {
    expect(await probeOnce({ exec: { command: ["true"] } }, target(1))).toMatchObject({ ok: true });
    expect(await probeOnce({ exec: { command: ["false"] } }, target(1))).toEqual({ ok: false, message: "it broke" });
  });

  test("names a port that the container has not", async () => {
    const result = await probeOnce({ httpGet: { port: "grpc" } }, target(1));
    expect(result.message).toBe('container app has no port named "grpc"');
  });
});

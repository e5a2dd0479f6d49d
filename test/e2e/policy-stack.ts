// A real proxy with one rule whose filters are under test, and servers that keep what they were asked. Needs no privileges.

import { expect } from "bun:test";
import type { Backend, Endpoint, Endpoints, Filter, Rule } from "../../src/model/model.ts";
import {
  backend,
  endpoints,
  freePort,
  from,
  ProxyUnderTest,
  plainListener,
  routeTable,
  rule,
} from "./proxy-harness.ts";

export let proxy: ProxyUnderTest;
export let port: number;
/** What else a test has started. */
export const ends: (() => void)[] = [];

/** Before and after each test. */
export function setUp(): void {
  proxy = new ProxyUnderTest();
  port = freePort();
}

export async function tearDown(): Promise<void> {
  await proxy.stop();
  for (const end of ends.splice(0)) end();
}

export interface Seen {
  method: string;
  path: string;
  headers: Record<string, string>;
  body: string;
}

/** A server that keeps what it was asked; by default it answers with it, as JSON. */
export function server(answer?: (seen: Seen) => Response | Promise<Response>): { port: number; seen: Seen[] } {
  const seen: Seen[] = [];
  const made = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      const url = new URL(request.url);
      const one = {
        method: request.method,
        path: url.pathname + url.search,
        headers: Object.fromEntries(request.headers),
        body: await request.text(),
      };
      seen.push(one);
      return answer ? await answer(one) : Response.json(one);
    },
  });
  ends.push(() => made.stop(true));
  return { port: made.port!, seen };
}

/** Serves one rule with filters in front of `main`; other servers are backends by name. */
export async function serve(
  filters: readonly Filter[],
  main: { port: number },
  others: Record<string, { port: number }> = {},
  more: Partial<Rule> = {},
  secrets: readonly object[] = [],
  configs: Readonly<Record<string, Partial<Backend>>> = {},
): Promise<void> {
  await proxy.start();
  const all = { one: main, ...others };
  const rejected = await proxy.control.update({
    secrets,
    backends: Object.keys(all).map((name) => backend(name, configs[name])),
    endpoints: Object.entries(all).map(([name, { port: at }]): Endpoints => endpoints(name, at)),
    routeTables: [routeTable([rule("all", { filters, ...more })])],
    listeners: [plainListener(port)],
  });
  expect(rejected).toEqual([]);
}

export const url = (path = "/") => `http://127.0.0.1:${port}${path}`;
export const seenBy = async (answer: Response) => (await answer.json()) as Seen;

/** Serves one rule in front of one backend, whose endpoints are given or are ports of 127.0.0.1. The listener believes `x-forwarded-for`. */
export async function serveBackend(
  to: readonly (number | Endpoint)[],
  config: Partial<Backend> = {},
  more: Partial<Rule> = {},
  args: readonly string[] = [],
): Promise<void> {
  await proxy.start(...args);
  const rejected = await proxy.control.update({
    backends: [backend("one", config)],
    endpoints: [endpointsOf(to)],
    routeTables: [routeTable([rule("all", more)])],
    listeners: [{ ...plainListener(port), trusted: ["127.0.0.1/32"] }],
  });
  expect(rejected).toEqual([]);
}

/** The endpoints of {@link serveBackend}. */
export function endpointsOf(to: readonly (number | Endpoint)[]): Endpoints {
  const all = to.map((one) => (typeof one === "number" ? { address: "127.0.0.1", port: one, weight: 1 } : one));
  return { backend: "one", from, endpoints: all };
}

/** Waits for a condition, asking again and again. */
export async function until<T>(what: () => Promise<T | undefined | false>): Promise<T> {
  const end = performance.now() + 20_000;
  for (;;) {
    const result = await what();
    if (result !== undefined && result !== false) return result as T;
    if (performance.now() > end) throw new Error("it did not become true in 20 s");
    await Bun.sleep(10);
  }
}

// Servers of requests, and a proxy before them with the policies of one backend and one rule: what tests of those policies (`upstreams-*`)
// begin with. A proxy and servers are a test's own.

import { expect } from "bun:test";
import type { Backend, Rule } from "../../src/model/model.ts";
import { eachTest } from "./each-test.ts";
import { backend, endpoints, type ProxyUnderTest, plainListener, routeTable, rule } from "./proxy-harness.ts";

export type Answer = (request: Request, count: number) => Response | Promise<Response>;

export interface TestServer {
  readonly port: number;
  /** Requests so far. */
  count: number;
  readonly bodies: string[];
  answer: Answer;
}

export const failing: Answer = () => new Response("no", { status: 503 });

/** What the tests of a file share; `begins` is told of each one's proxy, not started yet, and of its port. */
export function eachUpstreamTest(begins: (proxy: ProxyUnderTest, port: number) => void = () => {}) {
  let proxy: ProxyUnderTest;
  let port: number;
  const ends = eachTest((fresh, free) => {
    proxy = fresh;
    port = free;
    begins(fresh, free);
  });

  /** A server that counts; by default it says which one it is. */
  function server(answer?: Answer): TestServer {
    const made = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      async fetch(request) {
        one.bodies.push(await request.text());
        return await one.answer(request, ++one.count);
      },
    });
    ends.push(() => made.stop(true));
    const one: TestServer = {
      port: made.port!,
      count: 0,
      bodies: [],
      answer: answer ?? (() => new Response(String(made.port))),
    };
    return one;
  }

  /** The proxy gives everything to these servers. */
  async function serve(
    servers: readonly { port: number }[],
    config: Partial<Backend> = {},
    more: Partial<Rule> = {},
    args: readonly string[] = [],
  ): Promise<void> {
    await proxy.start(...args);
    const rejected = await proxy.control.update({
      backends: [backend("one", config)],
      endpoints: [endpoints("one", ...servers.map((one) => one.port))],
      routeTables: [routeTable([rule("all", more)])],
      listeners: [plainListener(port)],
    });
    expect(rejected).toEqual([]);
  }

  const get = (path = "/", init: RequestInit = {}) =>
    fetch(`http://127.0.0.1:${port}${path}`, { keepalive: false, ...init });

  return { ends, server, serve, get };
}

/** Waits for a condition, asking again and again. */
export async function until<T>(what: () => Promise<T | undefined | false>): Promise<T> {
  const end = performance.now() + 15_000;
  for (;;) {
    const result = await what();
    if (result !== undefined && result !== false) return result as T;
    if (performance.now() > end) throw new Error("it did not become true in 15 s");
    await Bun.sleep(10);
  }
}

export const retry = {
  attempts: 2,
  on: [],
  statuses: [],
  backoff: { base: 1, max: 10 },
  elsewhere: true,
} satisfies Rule["retry"];

export const detection = {
  consecutive5xx: 3,
  consecutiveGatewayErrors: 0,
  interval: 100,
  baseEjection: 60_000,
  maxEjection: 300_000,
  maxEjectionPercent: 50,
  alwaysEjectOne: true,
} satisfies Backend["outlierDetection"];

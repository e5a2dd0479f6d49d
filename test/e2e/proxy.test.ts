// The proxy program as a whole: spawned, configured over its control socket, spoken to over loopback. Needs no privileges.

import { afterEach, expect, test } from "bun:test";
import {
  backend,
  endpoints,
  forwardTo,
  freePort,
  ProxyUnderTest,
  plainListener,
  routeTable,
  rule,
} from "./proxy-harness.ts";

let proxy: ProxyUnderTest;
const ends: (() => void)[] = [];

afterEach(async () => {
  await proxy?.stop();
  for (const end of ends.splice(0)) end();
});

/** A backend that says its name, and what it was asked. */
function echo(name: string): number {
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    async fetch(request) {
      const url = new URL(request.url);
      return Response.json({
        name,
        method: request.method,
        path: url.pathname + url.search,
        headers: Object.fromEntries(request.headers),
        body: await request.text(),
      });
    },
  });
  ends.push(() => server.stop(true));
  return server.port!;
}

test("a request goes the whole way", async () => {
  proxy = new ProxyUnderTest();
  const hello = await proxy.start();
  expect(hello).toMatchObject({ proxy: "test", scopes: ["gateway"], pid: proxy.process!.pid });
  const port = freePort();
  const rejected = await proxy.control.update({
    backends: [backend("one")],
    endpoints: [endpoints("one", echo("one"))],
    routeTables: [routeTable([rule("all", { match: { path: { kind: "segments", value: "/orders" } } })])],
    listeners: [plainListener(port)],
  });
  expect(rejected).toEqual([]);
  const answer = await fetch(`http://127.0.0.1:${port}/orders/7?x=1`, { method: "POST", body: "hello" });
  expect(answer.status).toBe(200);
  const seen = (await answer.json()) as { headers: Record<string, string> };
  expect(seen).toMatchObject({ name: "one", method: "POST", path: "/orders/7?x=1", body: "hello" });
  expect(seen.headers).toMatchObject({
    host: `127.0.0.1:${port}`,
    "x-forwarded-for": "127.0.0.1",
    "x-forwarded-proto": "http",
    "x-forwarded-host": `127.0.0.1:${port}`,
  });
  const missing = await fetch(`http://127.0.0.1:${port}/other`);
  expect(missing.status).toBe(404);
  expect(missing.headers.get("x-fairlead-reason")).toBe("no_route");
});

test("shares are given by weight", async () => {
  proxy = new ProxyUnderTest();
  await proxy.start();
  const port = freePort();
  await proxy.control.update({
    backends: [backend("one"), backend("two")],
    endpoints: [endpoints("one", echo("one")), endpoints("two", echo("two"))],
    routeTables: [
      routeTable([rule("split", { action: { kind: "forward", to: [forwardTo("one", 90), forwardTo("two", 10)] } })]),
    ],
    listeners: [plainListener(port)],
  });
  let two = 0;
  for (let request = 0; request < 1000; request++) {
    const answer = (await (await fetch(`http://127.0.0.1:${port}/`)).json()) as { name: string };
    if (answer.name === "two") two++;
  }
  // 3 sigma of a binomial would be 28; a low-discrepancy choice stays within a few.
  expect(Math.abs(two - 100)).toBeLessThanOrEqual(5);
});

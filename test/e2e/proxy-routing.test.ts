// Where a request goes and how it is changed on its way. The proxy program is spawned, configured over its
// control socket and spoken to over loopback. Needs no privileges.

import { describe, expect, test } from "bun:test";
import { eachProxyTest, echo, port, proxy, type Seen, serve, url } from "./proxy-cases.ts";
import { backend, endpoints, forwardTo, from, plainListener, routeTable, rule } from "./proxy-harness.ts";

eachProxyTest();

describe("routing", () => {
  test("a request goes the whole way", async () => {
    const hello = await proxy.start();
    expect(hello).toMatchObject({ proxy: "test", scopes: ["gateway"], pid: proxy.process!.pid });
    const rejected = await proxy.control.update({
      backends: [backend("one")],
      endpoints: [endpoints("one", echo("one"))],
      routeTables: [routeTable([rule("all", { match: { path: { kind: "segments", value: "/orders" } } })])],
      listeners: [plainListener(port)],
    });
    expect(rejected).toEqual([]);
    const answer = await fetch(url("/orders/7?x=1"), { method: "POST", body: "hello" });
    expect(answer.status).toBe(200);
    const seen = (await answer.json()) as Seen;
    expect(seen).toMatchObject({ name: "one", method: "POST", path: "/orders/7?x=1", body: "hello" });
    expect(seen.headers).toMatchObject({
      host: `127.0.0.1:${port}`,
      "x-forwarded-for": "127.0.0.1",
      "x-forwarded-proto": "http",
      "x-forwarded-host": `127.0.0.1:${port}`,
    });
    expect(seen.headers["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
    const missing = await fetch(url("/other"));
    expect(missing.status).toBe(404);
    expect(missing.headers.get("x-fairlead-reason")).toBe("no_route");
  });

  test("shares are given by weight", async () => {
    await proxy.start();
    const action = { kind: "forward" as const, to: [forwardTo("one", 90), forwardTo("two", 10)] };
    await proxy.control.update({
      backends: [backend("one"), backend("two")],
      endpoints: [endpoints("one", echo("one")), endpoints("two", echo("two"))],
      routeTables: [routeTable([rule("split", { action })])],
      listeners: [plainListener(port)],
    });
    let two = 0;
    for (let count = 0; count < 1000; count++) {
      const answer = (await (await fetch(url())).json()) as Seen;
      if (answer.name === "two") two++;
    }
    // 3 sigma of a binomial would be 28; a low-discrepancy choice stays within a few.
    expect(Math.abs(two - 100)).toBeLessThanOrEqual(5);
  });

  test("forwarding headers: addresses are appended, what a client may not claim is replaced, a request id is kept", async () => {
    await serve([echo("one")]);
    const answer = await fetch(url(), {
      headers: {
        "x-forwarded-for": "10.0.0.1",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "forged",
        "x-request-id": "given",
        connection: "x-hop",
        "x-hop": "1",
      },
    });
    const { headers } = (await answer.json()) as Seen;
    expect(headers).toMatchObject({
      "x-forwarded-for": "10.0.0.1, 127.0.0.1",
      "x-forwarded-proto": "http",
      "x-forwarded-host": `127.0.0.1:${port}`,
      "x-request-id": "given",
    });
    expect(headers["x-hop"]).toBeUndefined();
  });

  test("filters, rewrites, redirects and direct answers", async () => {
    const change = (set: string, remove: string) => ({ set: [{ name: set, value: "1" }], add: [], remove: [remove] });
    await serve(
      [echo("one")],
      [
        rule("rewrite", {
          match: { path: { kind: "segments", value: "/old" } },
          filters: [
            { kind: "requestHeaders", from, change: change("x-set", "x-remove") },
            { kind: "rewrite", from, host: "inside.example", path: { kind: "prefix", value: "/new" } },
            { kind: "responseHeaders", from, change: change("x-answer", "content-type") },
          ],
        }),
        rule("redirect", {
          match: { path: { kind: "exact", value: "/away" } },
          action: { kind: "redirect", scheme: "https", host: "b.example", status: 308 },
        }),
        rule("respond", {
          match: { path: { kind: "exact", value: "/teapot" } },
          action: { kind: "respond", status: 418, reason: "short and stout" },
        }),
        rule("weightless", {
          match: { path: { kind: "exact", value: "/weightless" } },
          action: { kind: "forward", to: [forwardTo("one", 0)] },
        }),
      ],
    );
    const rewritten = await fetch(url("/old/a?b=c"), { headers: { "x-remove": "1" } });
    expect(rewritten.headers.get("x-answer")).toBe("1");
    expect(rewritten.headers.get("content-type")).toBeNull();
    const seen = (await rewritten.json()) as Seen;
    expect(seen.path).toBe("/new/a?b=c");
    expect(seen.headers).toMatchObject({
      host: "inside.example",
      "x-set": "1",
      "x-forwarded-host": `127.0.0.1:${port}`,
    });
    expect(seen.headers["x-remove"]).toBeUndefined();
    const redirect = await fetch(url("/away?q"), { redirect: "manual" });
    expect([redirect.status, redirect.headers.get("location")]).toEqual([308, "https://b.example/away?q"]);
    const teapot = await fetch(url("/teapot"));
    expect([teapot.status, await teapot.text()]).toEqual([418, "short and stout\n"]);
    expect((await fetch(url("/weightless"))).status).toBe(500);
  });
});

// Which of the endpoints is asked, through a real proxy process: hashes, sessions, the quicker one, zones and weights. Needs no privileges.

import { describe, expect, test } from "bun:test";
import type { Rule } from "../../src/model/model.ts";
import {
  backend,
  endpoints,
  forwardTo,
  from,
  type ProxyUnderTest,
  plainListener,
  routeTable,
  rule,
} from "./proxy-harness.ts";
import { eachUpstreamTest } from "./upstream-servers.ts";

let proxy: ProxyUnderTest;
let port: number;
const { server, serve, get } = eachUpstreamTest((fresh, free) => {
  proxy = fresh;
  port = free;
});

describe("who is asked", () => {
  test("the same key goes to the same endpoint; a client without a cookie gets one", async () => {
    const servers = [server(), server(), server(), server()];
    await serve(servers, { balance: { kind: "ringHash" } }, { hash: [{ kind: "header", name: "x-user" }] });
    for (const user of ["ann", "bob", "cid", "dan", "eve"]) {
      const seen = new Set<string>();
      for (let index = 0; index < 4; index++) seen.add(await (await get("/", { headers: { "x-user": user } })).text());
      expect(seen.size).toBe(1);
    }
    await proxy.control.update({
      routeTables: [routeTable([rule("all", { hash: [{ kind: "cookie", name: "fl", path: "/", ttl: 60 }] })])],
    });
    const first = await get();
    const cookie = first.headers.get("set-cookie")!;
    expect(cookie).toMatch(/^fl=[0-9a-f-]{36}; Path=\/; Max-Age=60; HttpOnly; SameSite=Lax$/);
    const at = await first.text();
    for (let index = 0; index < 4; index++) {
      const again = await get("/", { headers: { cookie: cookie.split(";")[0]! } });
      expect([await again.text(), again.headers.get("set-cookie")]).toEqual([at, null]);
    }
  });

  test("a session keeps its endpoint, and gets another when that is gone", async () => {
    const servers = [server(), server(), server()];
    const persistence = { carrier: { kind: "cookie", name: "s" }, keeps: "endpoint" } satisfies Rule["persistence"];
    await serve(servers, {}, { persistence });
    const first = await get();
    const cookie = first.headers.get("set-cookie")!.split(";")[0]!;
    const at = await first.text();
    expect(cookie).not.toContain(at);
    for (let index = 0; index < 6; index++) {
      const again = await get("/", { headers: { cookie } });
      expect([await again.text(), again.headers.get("set-cookie")]).toEqual([at, null]);
    }
    const left = servers.filter((one) => String(one.port) !== at).map((one) => one.port);
    await proxy.control.update({ endpoints: [endpoints("one", ...left)] });
    const moved = await get("/", { headers: { cookie } });
    expect(await moved.text()).not.toBe(at);
    expect(moved.headers.get("set-cookie")).toStartWith("s=");
    await proxy.control.update({
      routeTables: [routeTable([rule("all", { persistence: { ...persistence, fallback: false } })])],
    });
    const refused = await get("/", { headers: { cookie } });
    expect([refused.status, refused.headers.get("x-fairlead-reason")]).toEqual([503, "kept_gone"]);
  });

  test("a session keeps its backend among weighted ones", async () => {
    const [a, b] = [server(), server()];
    await proxy.start();
    await proxy.control.update({
      backends: [backend("one"), backend("two")],
      endpoints: [endpoints("one", a.port), endpoints("two", b.port)],
      routeTables: [
        routeTable([
          rule("all", {
            action: { kind: "forward", to: [forwardTo("one"), forwardTo("two")] },
            persistence: { carrier: { kind: "header", name: "x-session" }, keeps: "backend" },
          }),
        ]),
      ],
      listeners: [plainListener(port)],
    });
    const first = await get();
    const at = await first.text();
    const session = first.headers.get("x-session")!;
    for (let index = 0; index < 6; index++)
      expect(await (await get("/", { headers: { "x-session": session } })).text()).toBe(at);
  });

  test("the quicker one, and endpoints of the own zone", async () => {
    const slow = server(async () => {
      await Bun.sleep(150);
      return new Response("slow");
    });
    const quick = server();
    await serve([slow, quick], { balance: { kind: "peakEwma", startAt: 1 } }, {}, ["--zone", "a"]);
    for (let index = 0; index < 20; index++) await get();
    expect(quick.count).toBeGreaterThan(slow.count * 3);

    const zoned = [slow, quick].map((one, index) => ({
      address: "127.0.0.1",
      port: one.port,
      weight: 1,
      zone: index === 0 ? "b" : "a",
    }));
    await proxy.control.update({
      backends: [backend("one", { locality: { zonePreference: { minimum: 0 } } })],
      endpoints: [{ backend: "one", from, endpoints: zoned }],
    });
    const before = slow.count;
    for (let index = 0; index < 10; index++) await get();
    expect(slow.count).toBe(before);
  });
});

test("shares follow weights within three standard deviations", async () => {
  const servers = [server(), server(), server()];
  await serve(servers);
  const weights = [1, 2, 3];
  const weighted = servers.map((one, index) => ({ address: "127.0.0.1", port: one.port, weight: weights[index]! }));
  await proxy.control.update({ endpoints: [{ backend: "one", from, endpoints: weighted }] });
  const all = 600;
  for (let index = 0; index < all; index += 20) await Promise.all(Array.from({ length: 20 }, () => get()));
  servers.forEach(({ count }, index) => {
    const share = weights[index]! / 6;
    expect(Math.abs(count - all * share)).toBeLessThan(3 * Math.sqrt(all * share * (1 - share)));
  });
});

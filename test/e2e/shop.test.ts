// The example that the README shows, as a user runs it: `fairlead up -f examples/shop` without privileges, then curl.

import { afterAll, describe, expect, test } from "bun:test";
import { run, TestStack } from "./stack.ts";

const stack = new TestStack("shop", "loopback");
afterAll(() => stack.remove());

describe("examples/shop", () => {
  let address = "";
  /** 80, or where it was moved to when this user may not open it. */
  let port = 80;

  test("comes up, and says so", async () => {
    const { code, out, err } = await stack.up("-f", "examples/shop");
    expect(code, err).toBe(0);
    expect(out).toContain("Gateway shop/shop");
    expect(out).toContain("x-preview: yes");
    address = await stack.address("shop", "shop");
    const status = JSON.parse((await stack.fairlead("status", "-o", "json")).out) as {
      movedPorts?: readonly { port: number; effective: number }[];
    };
    port = status.movedPorts?.find((moved) => moved.port === 80)?.effective ?? 80;
  }, 60_000);

  const host = "www.shop.example";
  const curl = async (path: string, ...more: string[]) => {
    const url = `http://${host}:${port}${path}`;
    return (await run(["curl", "-sS", "-m", "5", "--resolve", `${host}:${port}:${address}`, ...more, url])).out;
  };

  test("answers each route with the pods that it names", async () => {
    expect(JSON.parse(await curl("/"))).toMatchObject({ namespace: "shop", labels: { app: "web" } });
    for (let turn = 0; turn < 10; turn++) {
      expect(JSON.parse(await curl("/catalog", "-H", "x-preview: yes"))).toMatchObject({ version: "v2" });
    }
    const cart = JSON.parse(await curl("/cart/items"));
    expect(cart.labels.app).toBe("cart");
    expect(cart.headers["x-entry"]).toEqual(["storefront"]);
  }, 30_000);

  test("splits the catalog 90 to 10", async () => {
    let second = 0;
    for (let turn = 0; turn < 300; turn++) {
      const answer = await fetch(`http://${address}:${port}/catalog`, { headers: { host } });
      if (((await answer.json()) as { version: string }).version === "v2") second++;
    }
    // 30 expected; three standard deviations are 15.6.
    expect(second).toBeGreaterThan(14);
    expect(second).toBeLessThan(46);
  }, 60_000);

  test("redirects what has moved", async () => {
    expect(await curl("/products/7", "-i")).toMatch(
      /HTTP\/1.1 301[\s\S]*location: http:\/\/www.shop.example(:\d+)?\/catalog\/7/i,
    );
  }, 30_000);
});

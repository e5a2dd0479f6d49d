// Requests that go round in circles, and those that say how far they may go (RFC 9110 §7.6.2), through a real proxy process. Needs no
// privileges.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { Rule } from "../../src/model/model.ts";
import { port, proxy, seenBy, serve, server, setUp, tearDown, url } from "./policy-stack.ts";
import { forwardTo } from "./proxy-harness.ts";
import { exchange } from "./proxy-raw.ts";

beforeEach(setUp);
afterEach(tearDown);

/** Connections to the backend, which is the proxy itself: idle ones are kept. */
async function connections(): Promise<number> {
  const text = await (await proxy.get("/metrics")).text();
  return Number(/^fairlead_proxy_upstream_connections\{[^}]*\} (\d+)/m.exec(text)?.[1] ?? Number.NaN);
}

describe("a proxy whose backend is itself", () => {
  const retry = {
    ...{ on: ["5xx", "reset", "connect-failure"], statuses: [], attempts: 3, elsewhere: false },
    backoff: { base: 1, max: 5 },
  } as const;
  const rules: readonly (readonly [string, Partial<Rule>])[] = [
    ["with no policy", {}],
    ["that tries 5xx again", { retry } as Partial<Rule>],
  ];

  test.each(rules)("%s refuses after 32 rounds, and has its connections back", async (_name, more) => {
    await serve([], { port }, {}, more);
    const requests = async () => {
      const text = await (await proxy.get("/metrics")).text();
      return [...text.matchAll(/^fairlead_proxy_requests_total\{[^}]*\} (\d+)/gm)].reduce(
        (sum, [, n]) => sum + Number(n),
        0,
      );
    };
    const before = await requests();
    const answer = await fetch(url());
    expect(answer.status).toBe(508);
    expect(answer.headers.get("x-fairlead-reason")).toBe("loop_detected");
    expect(await answer.text()).toBe("the request has passed too many proxies\n");
    expect((await requests()) - before).toBe(33);
    // Many at once, one after the other: connections are used again.
    for (let round = 0; round < 3; round++) {
      const answers = await Promise.all(Array.from({ length: 10 }, () => fetch(url())));
      expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(508));
    }
    expect(await connections()).toBeLessThanOrEqual(330);
  });
});

describe("how far a request may go", () => {
  const ask = (method: string, left: number, ...more: string[]) =>
    exchange(
      port,
      `${method} /a?b HTTP/1.1\r\nhost: x.example\r\nmax-forwards: ${left}\r\nconnection: close\r\n${more.map((field) => `${field}\r\n`).join("")}\r\n`,
    );
  const traced = { match: { method: "TRACE" }, action: { kind: "forward" as const, to: [forwardTo("one")] } };

  test("OPTIONS is counted down, and answered where nothing is left", async () => {
    const main = server();
    await serve([], main);
    expect(await ask("OPTIONS", 2)).toStartWith("HTTP/1.1 200");
    expect(main.seen[0]!.headers["max-forwards"]).toBe("1");
    expect(await ask("OPTIONS", 0)).toMatch(/^HTTP\/1.1 200 [\s\S]*x-fairlead-reason: last_hop/);
    expect(main.seen).toHaveLength(1);
    // It is for these two methods only.
    const seen = await seenBy(await fetch(url(), { headers: { "max-forwards": "0" } }));
    expect(seen.headers["max-forwards"]).toBe("0");
  });

  test("TRACE is not there unless a rule names it; then its answer says what came, and no secrets", async () => {
    const main = server();
    await serve([], main);
    expect(await ask("TRACE", 0)).toMatch(/^HTTP\/1.1 501 [\s\S]*x-fairlead-reason: method_not_supported/);
    expect(main.seen).toEqual([]);
    await tearDown();
    setUp();
    await serve(
      [{ kind: "addresses", from: { kind: "Test", name: "", field: "" }, deny: ["10.0.0.0/8"] }],
      main,
      {},
      traced,
    );
    const answer = await ask("TRACE", 0, "x-here: 1", "cookie: secret=1", "authorization: secret");
    expect(answer).toMatch(/^HTTP\/1.1 200 [\s\S]*content-type: message\/http/);
    expect(answer).toContain("\r\n\r\nTRACE /a?b HTTP/1.1\r\nhost: x.example\r\n");
    expect(answer).toContain("x-here: 1\r\n");
    expect(answer).not.toContain("secret");
  });
});

// Connections to backends, kept, lost, waited for. The proxy program is spawned, configured over its
// control socket and spoken to over loopback. Needs no privileges.

import { describe, expect, test } from "bun:test";
import { answering, eachProxyTest, echo, ends, proxy, type Seen, serve, until, url } from "./proxy-cases.ts";
import { endpoints, freePort, rule } from "./proxy-harness.ts";
import { rawBackend } from "./proxy-raw.ts";

eachProxyTest();

describe("upstream", () => {
  test("connections are kept and reused", async () => {
    const one = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    await serve([one.port]);
    for (let count = 0; count < 20; count++) await (await fetch(url())).text();
    expect(one.connections()).toBe(1);
  });

  test("a backend that closes kept connections without a word costs no error", async () => {
    const one = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", { close: true });
    await serve([one.port]);
    for (const method of ["GET", "POST"]) {
      for (let count = 0; count < 200; count++) expect((await fetch(url(), { method })).status).toBe(200);
    }
  });

  test("a request is sent again only while that is safe", async () => {
    // The second request on a connection is answered with a close.
    const one = rawBackend((socket, text) => {
      const heads = text.split("\r\n\r\n").length - 1;
      if (heads === 1) socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
      else socket.terminate();
    });
    ends.push(one.stop);
    await serve([one.port]);
    const text = async (method: string) => {
      const answer = await fetch(url(), { method });
      return `${answer.status} ${answer.headers.get("x-fairlead-reason")}`;
    };
    expect(await text("GET")).toBe("200 null");
    expect(await text("GET")).toBe("200 null");
    expect(await text("POST")).toBe("503 upstream_closed");
  });

  test("an endpoint that cannot be reached is passed over; when all are, the reason is told", async () => {
    const dead = freePort();
    await serve([dead, echo("one")]);
    for (let count = 0; count < 10; count++)
      expect((await fetch(url(), { method: "POST", body: "x" })).status).toBe(200);
    await proxy.control.update({ endpoints: [endpoints("one", dead)] });
    const refused = await fetch(url());
    expect([refused.status, refused.headers.get("x-fairlead-reason")]).toEqual([503, "connect_failed"]);
    await proxy.control.update({ endpoints: [endpoints("one")] });
    const none = await fetch(url());
    expect([none.status, none.headers.get("x-fairlead-reason")]).toEqual([503, "no_endpoints"]);
  });

  test("an endpoint that goes away finishes what it has and gets nothing new", async () => {
    let release: () => void = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let asked = 0;
    const leaving = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      async fetch() {
        asked++;
        await held;
        return new Response("finished");
      },
    });
    ends.push(() => leaving.stop(true));
    await serve([leaving.port!]);
    const first = fetch(url());
    await until(() => asked === 1);
    await proxy.control.update({ endpoints: [endpoints("one", echo("one"))] });
    for (let count = 0; count < 5; count++) expect(((await (await fetch(url())).json()) as Seen).name).toBe("one");
    release();
    expect(await (await first).text()).toBe("finished");
    expect(asked).toBe(1);
    const connections = async () =>
      ((await (await proxy.get("/stats")).json()) as { backends: { connections: number }[] }).backends[0]!.connections;
    await until(async () => (await connections()) === 1);
  });

  test("timeouts of the request and of the try answer 504", async () => {
    const one = rawBackend(() => {});
    ends.push(one.stop);
    await serve(
      [one.port],
      [
        rule("try", { match: { path: { kind: "exact", value: "/try" } }, timeouts: { perTry: 50 } }),
        rule("request", { timeouts: { request: 50 } }),
      ],
    );
    for (const [path, reason] of [
      ["/try", "try_timeout"],
      ["/", "request_timeout"],
    ]) {
      const answer = await fetch(url(path));
      expect([answer.status, answer.headers.get("x-fairlead-reason")]).toEqual([504, reason!]);
    }
  });

  test("limits: waiting requests are served in turn, too many are refused", async () => {
    let release: () => void = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      async fetch() {
        await held;
        return new Response("ok");
      },
    });
    ends.push(() => server.stop(true));
    await serve([server.port!], undefined, { limits: { connections: 1, pending: 1 } });
    const first = fetch(url("/1"));
    const pending = async (count: number) => {
      for (;;) {
        const stats = (await (await proxy.get("/stats")).json()) as {
          backends: { connections: number; pending: number }[];
        };
        if (stats.backends[0]!.connections + stats.backends[0]!.pending === count) return;
      }
    };
    await pending(1);
    const second = fetch(url("/2"));
    await pending(2);
    const third = await fetch(url("/3"));
    expect([third.status, third.headers.get("x-fairlead-reason")]).toEqual([503, "overflow"]);
    release();
    expect([(await first).status, (await second).status]).toEqual([200, 200]);
  });
});

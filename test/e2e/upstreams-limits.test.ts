// What bounds the use of backends, through a real proxy process: limits of requests and connections, what is kept and made ahead, times; and
// that policies which make no sense are refused. Needs no privileges.

import { describe, expect, test } from "bun:test";
import { createServer, type ServerHttp2Stream } from "node:http2";
import { backend, endpoints, type ProxyUnderTest, routeTable, rule } from "./proxy-harness.ts";
import { RawClient } from "./proxy-raw.ts";
import { detection, eachUpstreamTest, retry, until } from "./upstream-servers.ts";

let proxy: ProxyUnderTest;
let port: number;
const { ends, server, serve, get } = eachUpstreamTest((fresh, free) => {
  proxy = fresh;
  port = free;
});

describe("limits", () => {
  test("requests under way", async () => {
    const { promise, resolve } = Promise.withResolvers<Response>();
    const one = server(() => promise.then(() => new Response("done")));
    await serve([one], { limits: { requests: 2 } });
    const under = [get(), get()];
    await until(async () => one.count === 2);
    const third = await get();
    expect([third.status, third.headers.get("x-envoy-overloaded"), third.headers.get("x-fairlead-reason")]).toEqual([
      503,
      "true",
      "overflow",
    ]);
    resolve(new Response());
    for (const answer of await Promise.all(under)) expect(answer.status).toBe(200);
    expect((await get()).status).toBe(200);
  });

  test("requests of one connection, and how long an unused one is kept", async () => {
    const opened: number[] = [];
    const raw = Bun.listen<{ requests: number }>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open(socket) {
          socket.data = { requests: 0 };
        },
        data(socket) {
          if (socket.data.requests++ === 0) opened.push(performance.now());
          socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        },
      },
    });
    ends.push(() => raw.stop(true));
    await serve([raw], { limits: { requestsPerConnection: 2 } });
    for (let index = 0; index < 6; index++) expect((await get()).status).toBe(200);
    expect(opened.length).toBe(3);
    await proxy.control.update({ backends: [backend("one", { limits: { idleTimeout: 50 } })] });
    await get();
    const before = opened.length;
    await Bun.sleep(100);
    await get();
    expect(opened.length).toBe(before + 1);
  });
});

describe("timeouts", () => {
  test("a try's time ends no answer that has begun, a stream's does", async () => {
    const one = server(
      () =>
        new Response(
          new ReadableStream({
            async start(controller) {
              for (let index = 0; index < 12; index++) {
                controller.enqueue("part ");
                await Bun.sleep(100);
              }
              controller.close();
            },
          }),
        ),
    );
    await serve([one], {}, { timeouts: { perTry: 300 } });
    expect(await (await get()).text()).toBe("part ".repeat(12));
    await proxy.control.update({ routeTables: [routeTable([rule("all", { timeouts: { stream: 300 } })])] });
    const client = await RawClient.connect(port);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    const seen = await client.read(() => false);
    expect(seen).toContain("part ");
    expect(seen).not.toEndWith("0\r\n\r\n");
  });

  test("a request's time ends with the beginning of a tunnel, a stream's does not", async () => {
    const raw = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        data(socket, bytes) {
          if (bytes.includes("GET")) {
            socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
          } else socket.write(bytes);
        },
      },
    });
    ends.push(() => raw.stop(true));
    await serve([raw], {}, { timeouts: { request: 300, perTry: 200, stream: 1_200 } });
    const client = await RawClient.connect(port);
    const began = performance.now();
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    await client.read((all) => all.includes("\r\n\r\n"));
    await Bun.sleep(600);
    client.send("still there");
    await client.read((all) => all.endsWith("still there"));
    await client.read(() => false);
    expect(performance.now() - began).toBeGreaterThan(1_100);
  });

  test("nothing either way for longer than the idle timeout", async () => {
    const one = server(() => Bun.sleep(30_000).then(() => new Response("late")));
    await serve([one], {}, { timeouts: { idle: 200 } });
    const answer = await get();
    expect([answer.status, answer.headers.get("x-fairlead-reason")]).toEqual([504, "upstream_idle"]);
  });
});

describe("connections", () => {
  /** Counts connections, and says on which one a request came. */
  function counting(answer: (text: string, connection: number) => string | undefined = () => undefined) {
    let made = 0;
    let open = 0;
    const listener = Bun.listen<{ number: number; seen: string }>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open(socket) {
          socket.data = { number: ++made, seen: "" };
          open++;
        },
        data(socket, bytes) {
          const { data } = socket;
          data.seen += bytes.toString("latin1");
          if (!data.seen.includes("\r\n\r\n")) return;
          const text = answer(data.seen, data.number) ?? `${listener.port}`;
          data.seen = "";
          const wait = text.startsWith("wait") ? 800 : 0;
          setTimeout(() => socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${text.length}\r\n\r\n${text}`), wait);
        },
        close: () => void open--,
      },
    });
    ends.push(() => listener.stop(true));
    return { port: listener.port, made: () => made, open: () => open };
  }

  test("are made before they are needed, as many as are said, and again when they die", async () => {
    const one = counting();
    const two = counting();
    await serve([one, two], { warm: { connections: 3 }, limits: { idleTimeout: 1_500 } });
    await until(async () => one.open() === 3 && two.open() === 3);
    // The old ones go when they have been idle for too long, others come in their place.
    await until(async () => one.made() >= 6 && one.open() === 3);
    expect((await get()).status).toBe(200);
    const [before] = [one.made()];
    await proxy.control.update({
      routeTables: [routeTable([rule("all", { action: { kind: "respond", status: 200, reason: "" } })])],
    });
    await until(async () => one.open() === 0 && two.open() === 0);
    expect(one.made()).toBeLessThan(before + 9);
  }, 30_000);

  test("are so many times those in use", async () => {
    const one = counting(() => "wait");
    await serve([one], { warm: { ratio: 2 } });
    await Promise.all([get(), get(), get()]);
    expect(one.made()).toBe(6);
  });

  test("are made ahead over HTTP/2, too, and none to who is out", async () => {
    const sessions = [0, 0];
    const servers = await Promise.all(
      sessions.map(async (_, index) => {
        const made = createServer();
        made.on("session", () => sessions[index]!++);
        made.on("stream", (stream: ServerHttp2Stream) => {
          stream.respond({ ":status": index === 0 ? 200 : 503 });
          stream.end("ok");
        });
        await new Promise<void>((done) => made.listen(0, "127.0.0.1", done));
        ends.push(() => made.close());
        return { port: (made.address() as { port: number }).port };
      }),
    );
    const config = { protocol: "h2c", outlierDetection: { ...detection, consecutive5xx: 1 } } as const;
    await serve(servers, config);
    for (let index = 0; index < 4; index++) await get();
    expect(sessions).toEqual([1, 1]);
    await proxy.control.update({ backends: [backend("one", { ...config, warm: { connections: 3 } })] });
    await until(async () => sessions[0] === 3);
    expect(sessions).toEqual([3, 1]);
  });

  test("that are unused are kept up to the limit", async () => {
    const one = counting(() => "wait");
    await serve([one], { limits: { idleConnections: 2 } });
    await Promise.all([get(), get(), get(), get(), get()]);
    expect(one.made()).toBe(5);
    await until(async () => one.open() === 2);
  });

  test("that are all in use are waited for, by sessions and hashes at their own endpoint", async () => {
    const [one, two] = [counting((text) => (text.includes("/slow") ? "wait" : undefined)), counting()];
    const persistence = { carrier: { kind: "header", name: "x-session" }, keeps: "endpoint" } as const;
    await serve([one, two], { limits: { connections: 1 } }, { persistence });
    const session = async (port: number) => {
      for (;;) {
        const answer = await get();
        if ((await answer.text()) === String(port)) return answer.headers.get("x-session")!;
        // The one connection that there may be is closed, so that the next request goes elsewhere.
        await proxy.control.update({ endpoints: [endpoints("one", two.port), endpoints("one", two.port, one.port)] });
        await proxy.control.update({ endpoints: [endpoints("one", port)] });
        await proxy.control.update({ endpoints: [endpoints("one", one.port, two.port)] });
      }
    };
    const ofOne = await session(one.port);
    const ofTwo = await session(two.port);
    const at = async (token: string, path = "/") => (await get(path, { headers: { "x-session": token } })).text();
    // An unused connection to the other endpoint makes room.
    for (let round = 0; round < 3; round++)
      expect([await at(ofOne), await at(ofTwo)]).toEqual([`${one.port}`, `${two.port}`]);
    // One in use is waited for.
    const slow = at(ofOne, "/slow");
    await Bun.sleep(50);
    const waiting = [at(ofTwo), at(ofOne), at(ofTwo)];
    expect(await slow).toBe("wait");
    expect(await Promise.all(waiting)).toEqual([`${two.port}`, `${one.port}`, `${two.port}`]);
    expect([one.open() + two.open()]).toEqual([1]);
    // Those who may be served anywhere do not pass who waits for an endpoint without a connection.
    const order: string[] = [];
    const again = at(ofOne, "/slow");
    await Bun.sleep(50);
    const bound = at(ofTwo).then(() => order.push("bound"));
    await Bun.sleep(50);
    const others = Array.from({ length: 3 }, () => get().then(() => order.push("other")));
    await Promise.all([again, bound, ...others]);
    expect(order[0]).toBe("bound");
  });

  test("that are all in use are not waited for by more than may wait, whoever they are for", async () => {
    const one = counting(() => "wait");
    const hash = [{ kind: "header", name: "x-user" }] as const;
    const config = { balance: { kind: "maglev" }, limits: { connections: 1, pending: 1 } } as const;
    const two = counting(() => "wait");
    await serve([one, two], config, { hash });
    const status = async () => (await get("/", { headers: { "x-user": "a" } })).status;
    const first = status();
    await until(async () => one.open() + two.open() === 1);
    await Bun.sleep(20);
    expect((await Promise.all([status(), status(), status()])).sort()).toEqual([200, 503, 503]);
    expect(await first).toBe(200);
  });
});

test("policies that make no sense are refused by field", async () => {
  await proxy.start();
  const rejected = await proxy.control.update({
    backends: [
      backend("a", { limits: { requests: 0 } }),
      backend("b", { outlierDetection: { ...detection, maxEjectionPercent: 101 } }),
      backend("c", { balance: { kind: "maglev", tableSize: 10 } }),
    ],
    routeTables: [routeTable([rule("all", { retry: { ...retry, on: ["5xx", "always" as "5xx"] } })])],
  });
  expect(rejected.map(({ name, reason }) => `${name}: ${reason}`)).toEqual([
    "a: limits.requests 0 is no whole number of at least 1",
    "b: outlierDetection.maxEjectionPercent 101 is no number of 0 to 100",
    "c: balance.tableSize 10 is no prime",
    expect.stringContaining('main: hosts[0].rules[0].retry.on[1] "always" is no condition'),
  ]);
});

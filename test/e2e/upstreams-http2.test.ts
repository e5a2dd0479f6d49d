// The policies of backends where the backend speaks HTTP/2, whose requests share connections. Needs no privileges.

import { describe, expect, test } from "bun:test";
import { constants, createServer, type ServerHttp2Stream } from "node:http2";
import { detection, eachUpstreamTest, retry, until } from "./upstream-servers.ts";

const { ends, serve, get } = eachUpstreamTest();

describe("over HTTP/2 to the backend", () => {
  /** Answers what `answer` does, as streams of how many sessions. */
  async function http2Server(answer: (stream: ServerHttp2Stream, count: number, path: string) => void) {
    const made = createServer();
    const one = { port: 0, count: 0, sessions: 0 };
    made.on("session", () => one.sessions++);
    made.on("stream", (stream: ServerHttp2Stream, headers) => {
      stream.on("error", () => {});
      answer(stream, ++one.count, headers[":path"]!);
    });
    await new Promise<void>((done) => made.listen(0, "127.0.0.1", done));
    ends.push(() => made.close());
    one.port = (made.address() as { port: number }).port;
    return one;
  }

  const ok = (stream: ServerHttp2Stream, text = "ok") => {
    stream.respond({ ":status": 200 });
    stream.end(text);
  };

  test("statuses, timeouts and resets are tried again, bodies and all", async () => {
    const one = await http2Server((stream, count, path) => {
      if (count % 3 === 0) {
        const parts: Buffer[] = [];
        stream.on("data", (part: Buffer) => parts.push(part));
        stream.on("end", () => ok(stream, Buffer.concat(parts).toString()));
      } else if (path === "/status") {
        stream.respond({ ":status": 503 });
        stream.end("no");
      } else if (path === "/reset") stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    });
    await serve(
      [one],
      { protocol: "h2c" },
      { retry: { ...retry, on: ["5xx", "reset"] }, timeouts: { perTry: 500, request: 30_000 } },
    );
    for (const path of ["/status", "/reset", "/silent"]) {
      const answer = await get(path, { method: "POST", body: `for ${path}` });
      expect([answer.status, await answer.text()]).toEqual([200, `for ${path}`]);
    }
    expect(one.count).toBe(9);
  });

  test("limits of requests, and of requests of one connection", async () => {
    const held: ServerHttp2Stream[] = [];
    const one = await http2Server((stream, _, path) => (path === "/held" ? held.push(stream) : ok(stream)));
    await serve([one], { protocol: "h2c", limits: { requests: 2, requestsPerConnection: 3 } });
    const under = [get("/held"), get("/held")];
    await until(async () => held.length === 2);
    expect((await get()).headers.get("x-fairlead-reason")).toBe("overflow");
    for (const stream of held) ok(stream);
    for (const answer of await Promise.all(under)) expect(answer.status).toBe(200);
    for (let index = 0; index < 7; index++) expect((await get()).status).toBe(200);
    expect(one.sessions).toBe(3);
  });

  test("a try that is late and the one beside it are streams of one connection", async () => {
    const streams: ServerHttp2Stream[] = [];
    let reset = 0;
    const one = await http2Server((stream) => {
      streams.push(stream);
      stream.on("close", () => void (stream.rstCode === constants.NGHTTP2_CANCEL && reset++));
      if (streams.length === 2) setTimeout(() => ok(streams[0]!, "late"), 200);
      else if (streams.length === 4) ok(stream, "beside");
    });
    const hedged = { retry: { ...retry, on: ["5xx"] as const, attempts: 1, hedge: true }, timeouts: { perTry: 500 } };
    await serve([one], { protocol: "h2c" }, hedged);
    expect(await (await get("/", { method: "POST", body: "x" })).text()).toBe("late");
    await until(async () => reset === 1);
    // The third stays silent, the fourth answers.
    expect(await (await get("/", { method: "POST", body: "x" })).text()).toBe("beside");
    await until(async () => reset === 2);
    expect([one.count, one.sessions]).toEqual([4, 1]);
  });

  test("an endpoint that fails is taken out, and idle exchanges end", async () => {
    const bad = await http2Server((stream) => {
      stream.respond({ ":status": 503 }, { endStream: true });
    });
    const good = await http2Server((stream, _, path) => void (path === "/silent" || ok(stream)));
    await serve(
      [bad, good],
      { protocol: "h2c", outlierDetection: { ...detection, consecutive5xx: 2 } },
      { timeouts: { idle: 300 } },
    );
    for (let index = 0; index < 8; index++) await get();
    expect(bad.count).toBe(2);
    const answer = await get("/silent");
    expect([answer.status, answer.headers.get("x-fairlead-reason")]).toEqual([504, "upstream_idle"]);
  });
});

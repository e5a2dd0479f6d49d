// What holds for every pairing of a client's and a backend's protocol (HTTP/1.1 and HTTP/2), through a real proxy process: events that
// are passed on as they come, 100 Continue, trailers, answers without a body, and uploads that nobody reads. Needs no privileges.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import http2 from "node:http2";
import net, { type AddressInfo } from "node:net";
import { Flag, FrameType } from "../../src/proxy/http2/frame.ts";
import { frame } from "../../src/proxy/http2/peer.ts";
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
import { RawClient } from "./proxy-raw.ts";
import { RawHttp2 } from "./raw-http2.ts";
import { eventually } from "./stack.ts";

const proxy = new ProxyUnderTest();
const ports = { http1: freePort(), h2c: freePort() };
/** What backends have seen of requests that say more than their path. */
const seen: string[] = [];
/** Sends the next event of a backend's stream. */
let sendEvent = (_text: string) => {};

const over1 = net.createServer((socket) => {
  let text = "";
  let continued = false;
  socket.on("error", () => {});
  socket.on("data", (bytes) => {
    text += bytes.toString("latin1");
    const end = text.indexOf("\r\n\r\n");
    if (end < 0) return;
    const path = text.split(" ")[1]!;
    const body = text.slice(end + 4);
    const answer = (...lines: string[]) => {
      text = "";
      socket.write(lines.join("\r\n"));
    };
    if (path === "/head") answer("HTTP/1.1 200 OK", "content-length: 55", "", "");
    if (path === "/204") answer("HTTP/1.1 204 No Content", "", "");
    if (path === "/304") answer("HTTP/1.1 304 Not Modified", 'etag: "a"', "content-length: 77", "", "");
    if (path === "/unread") socket.pause();
    if (path === "/events") {
      answer("HTTP/1.1 200 OK", "content-type: text/event-stream", "transfer-encoding: chunked", "", "");
      sendEvent = (event) => socket.write(`${event.length.toString(16)}\r\n${event}\r\n`);
    }
    if (path === "/continue") {
      if (!continued) socket.write("HTTP/1.1 100 Continue\r\n\r\n");
      continued = true;
      if (body === "hello") answer("HTTP/1.1 200 OK", "content-length: 2", "", "ok");
    }
    if (path === "/trailers" && body.includes("\r\n0\r\n") && body.endsWith("\r\n\r\n")) {
      seen.push(/\r\n0\r\n(x-req: 1)/i.exec(body)?.[1] ?? body);
      answer("HTTP/1.1 200 OK", "transfer-encoding: chunked", "", "1", "a", "0", "x-sum: 7", "", "");
    }
  });
});

const over2 = http2.createServer();
over2.on("stream", (stream: http2.ServerHttp2Stream, { ":path": path }) => {
  stream.on("error", () => {});
  if (path === "/head") stream.respond({ ":status": 200, "content-length": "55" }, { endStream: true });
  if (path === "/204") stream.respond({ ":status": 204 }, { endStream: true });
  if (path === "/304") stream.respond({ ":status": 304, etag: '"a"' }, { endStream: true });
  if (path === "/unread") stream.pause();
  if (path === "/events") {
    stream.respond({ ":status": 200, "content-type": "text/event-stream" });
    sendEvent = (event) => stream.write(event);
  }
  if (path === "/continue") {
    stream.additionalHeaders({ ":status": 100 });
    stream.resume().on("end", () => {
      stream.respond({ ":status": 200 });
      stream.end("ok");
    });
  }
  if (path === "/trailers") {
    stream.on("trailers", (trailers) => {
      seen.push(`x-req: ${trailers["x-req"]}`);
      stream.respond({ ":status": 200 }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": "7" }));
      stream.end("a");
    });
    stream.resume();
  }
});

beforeAll(async () => {
  for (const server of [over1, over2]) await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  await proxy.start();
  const at = (server: { address(): unknown }) => (server.address() as AddressInfo).port;
  const listener = (name: "http1" | "h2c") => ({
    ...plainListener(ports[name]),
    ...{ name, chains: [{ ...plainListener(ports[name]).chains[0]!, serve: { routes: name } }] },
  });
  const table = (name: string) => ({
    ...routeTable([rule("all", { action: { kind: "forward", to: [forwardTo(name)] } })]),
    name,
  });
  const rejected = await proxy.control.update({
    backends: [backend("http1"), backend("h2c", { protocol: "h2c" })],
    endpoints: [endpoints("http1", at(over1)), endpoints("h2c", at(over2))],
    routeTables: [table("http1"), table("h2c")],
    listeners: [listener("http1"), listener("h2c")],
  });
  expect(rejected).toEqual([]);
});

afterAll(async () => {
  await proxy.stop();
  over1.close();
  over2.close();
});

const head = (path: string, method = "GET", more: Record<string, string> = {}) => ({
  ...{ ":method": method, ":scheme": "http", ":authority": "a", ":path": path },
  ...more,
});
const patient = async (holds: () => boolean) => expect(await eventually(async () => holds(), Boolean)).toBeTrue();

describe.each(["http1", "h2c"] as const)("a client of HTTP/1.1 and a backend of %s", (to) => {
  let client: RawClient;
  const open = async (text: string) => {
    client = await RawClient.connect(ports[to]);
    client.send(text);
  };

  test.each([
    ["HEAD", "/head", "200"],
    ["GET", "/204", "204"],
    ["GET", "/304", "304"],
  ])("%s %s has no body, and the connection goes on", async (method, path, status) => {
    const request = `${method} ${path} HTTP/1.1\r\nhost: a\r\n\r\n`;
    await open(request);
    await patient(() => client.seen.includes("\r\n\r\n"));
    const first = client.seen;
    expect(first).toStartWith(`HTTP/1.1 ${status} `);
    expect(first).toEndWith("\r\n\r\n");
    client.send(request);
    await patient(() => client.seen.length > first.length && client.seen.endsWith("\r\n\r\n"));
    expect(client.seen.slice(first.length)).toStartWith(`HTTP/1.1 ${status} `);
    client.close();
  });

  test("trailers come through both ways", async () => {
    seen.length = 0;
    await open("POST /trailers HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send("2\r\nhi\r\n0\r\nx-req: 1\r\n\r\n");
    await patient(() => client.seen.includes("x-sum: 7\r\n\r\n"));
    expect(seen).toEqual(["x-req: 1"]);
    client.close();
  });

  test("a body that waits for 100 Continue follows it", async () => {
    await open("POST /continue HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    await patient(() => client.seen.includes("HTTP/1.1 100 Continue\r\n\r\n"));
    client.send("hello");
    await patient(() => client.seen.endsWith("ok") || client.seen.includes("\r\nok\r\n"));
    client.close();
  });

  test("each event comes before the next is sent", async () => {
    await open("GET /events HTTP/1.1\r\nhost: a\r\n\r\n");
    await patient(() => client.seen.includes("text/event-stream"));
    for (let n = 0; n < 4; n++) {
      sendEvent(`data: ${n}\n\n`);
      await patient(() => client.seen.includes(`data: ${n}\n\n`));
    }
    client.close();
  });

  test("an upload that nobody reads is held back", async () => {
    const socket = net.connect(ports[to], "127.0.0.1").on("error", () => {});
    socket.write("POST /unread HTTP/1.1\r\nhost: a\r\ncontent-length: 500000000\r\n\r\n");
    expect(await taken(socket)).toBeLessThan(64 * 2 ** 20);
    socket.destroy();
  });
});

describe.each(["http1", "h2c"] as const)("a client of HTTP/2 and a backend of %s", (to) => {
  const ended = (client: RawHttp2, id: number) =>
    client.frames.some((one) => one.id === id && (one.type === 0 || one.type === 1) && (one.flags & 1) !== 0);
  const fields = (client: RawHttp2, id: number) => client.heads.filter((one) => one.id === id).map((one) => one.fields);
  const status = (client: RawHttp2, id: number) => fields(client, id).at(-1)?.[0]?.[1];

  test("HEAD, 204 and 304 have no body, and the stream ends", async () => {
    const client = await RawHttp2.connect(ports[to]);
    client.send(client.headers(1, head("/head", "HEAD")));
    client.send(client.headers(3, head("/204")));
    client.send(client.headers(5, head("/304")));
    await patient(() => [1, 3, 5].every((id) => ended(client, id)));
    expect([1, 3, 5].map((id) => status(client, id))).toEqual(["200", "204", "304"]);
    expect([1, 3, 5].map((id) => client.text(id))).toEqual(["", "", ""]);
    client.close();
  });

  test("trailers come through both ways", async () => {
    seen.length = 0;
    const client = await RawHttp2.connect(ports[to]);
    client.send(client.headers(1, head("/trailers", "POST", { te: "trailers" }), false));
    client.send(frame(FrameType.data, 0, 1, "hi"), client.headers(1, { "x-req": "1" }, true));
    await patient(() => ended(client, 1));
    expect(fields(client, 1).at(-1)).toEqual([["x-sum", "7"]]);
    expect(seen).toEqual(["x-req: 1"]);
    client.close();
  });

  test("a body that waits for 100 follows it", async () => {
    const client = await RawHttp2.connect(ports[to]);
    client.send(client.headers(1, head("/continue", "POST", { expect: "100-continue", "content-length": "5" }), false));
    await patient(() => status(client, 1) === "100");
    client.send(frame(FrameType.data, Flag.endStream, 1, "hello"));
    await patient(() => client.text(1) === "ok");
    client.close();
  });

  test("each event comes before the next is sent", async () => {
    const client = await RawHttp2.connect(ports[to]);
    client.send(client.headers(1, head("/events")));
    await patient(() => status(client, 1) === "200");
    for (let n = 0; n < 4; n++) {
      sendEvent(`data: ${n}\n\n`);
      await patient(() => client.text(1).includes(`data: ${n}\n\n`));
    }
    client.close();
  });

  test("an upload that nobody reads is held back", async () => {
    const session = http2.connect(`http://127.0.0.1:${ports[to]}`).on("error", () => {});
    const stream = session.request({ ":method": "POST", ":path": "/unread" });
    stream.on("error", () => {});
    expect(await taken(stream)).toBeLessThan(64 * 2 ** 20);
    session.destroy();
  });
});

/** Bytes that a stream takes until it takes no more for half a second. */
async function taken(stream: { write(chunk: Buffer): boolean; readonly writableLength: number }): Promise<number> {
  const chunk = Buffer.alloc(65_536);
  let given = 0;
  let before = -1;
  for (let still = 0; still < 25 && given < 128 * 2 ** 20; ) {
    while (stream.writableLength < 2 ** 20) {
      stream.write(chunk);
      given += chunk.length;
    }
    await Bun.sleep(20);
    const now = given - stream.writableLength;
    still = now === before ? still + 1 : 0;
    before = now;
  }
  return before;
}

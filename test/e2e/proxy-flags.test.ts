// What is told of requests that go wrong: the access log's response flags, each of a real request, and the same in the counters.
// Over loopback, no privileges.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ErrorCode } from "../../src/proxy/http2/frame.ts";
import { backend, endpoints, freePort, ProxyUnderTest, plainListener, routeTable, rule } from "./proxy-harness.ts";
import { exchange, RawClient } from "./proxy-raw.ts";
import { RawHttp2 } from "./raw-http2.ts";
import { eventually } from "./stack.ts";

const proxy = new ProxyUnderTest();
const port = freePort();
const log = join(proxy.folder, "flags.log");
const text =
  "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %UPSTREAM_CLUSTER% " +
  "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_PORT% %BYTES_SENT%";
const listener = { ...plainListener(port), accessLog: { path: log, format: { text } } };
const ends: (() => unknown)[] = [];

beforeAll(async () => {
  const origin = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("ok") });
  ends.push(() => origin.stop(true));
  await proxy.start();
  const rejected = await proxy.control.update({
    backends: [backend("one")],
    endpoints: [endpoints("one", origin.port!)],
    routeTables: [routeTable([rule("ok", { match: { path: { kind: "exact", value: "/ok" } } })], ["a.example"])],
    listeners: [listener],
  });
  expect(rejected).toEqual([]);
});

afterAll(async () => {
  await proxy.stop();
  for (const end of ends) end();
});

/** Lines that came since the last look. */
let seen = 0;
async function lines(count: number): Promise<string[]> {
  const read = async () => (existsSync(log) ? readFileSync(log, "latin1").split("\n").slice(seen, -1) : []);
  const found = await eventually(read, ({ length }) => length >= count);
  seen += found.length;
  return found;
}

/** Counters of a family, by their labels as they are written; 0 is left out. */
async function counts(family: string): Promise<Record<string, number>> {
  const metrics = await (await proxy.get("/metrics")).text();
  const found = metrics.matchAll(new RegExp(`^fairlead_proxy_${family}\\{(.*)\\} (\\d+)$`, "gm"));
  return Object.fromEntries([...found].map(([, labels, value]) => [labels!, Number(value)]));
}

describe("what could not be read", () => {
  const malformed: readonly (readonly [reason: string, status: number, sent: string])[] = [
    ["bad_request", 400, "GET /ok HTTP/1.1\r\nhost : a.example\r\n\r\n"],
    ["bad_request", 400, 'GET /"\x1b[31m\n HTTP/1.1\r\n\r\n'],
    ["bad_host", 400, "GET /ok HTTP/1.1\r\n\r\n"],
    ["bad_framing", 400, "POST /ok HTTP/1.1\r\nhost: a.example\r\ncontent-length: 1, 2\r\n\r\n"],
    ["head_too_large", 431, `GET /ok HTTP/1.1\r\nhost: a.example\r\nx: ${"x".repeat(70_000)}\r\n\r\n`],
    ["target_too_long", 414, `GET /${"x".repeat(17_000)} HTTP/1.1\r\nhost: a.example\r\n\r\n`],
    ["coding_not_supported", 501, "POST /ok HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: gzip, chunked\r\n\r\n"],
    ["version_not_supported", 505, "GET /ok HTTP/3.0\r\nhost: a.example\r\n\r\n"],
    ["expectation_failed", 417, "GET /ok HTTP/1.1\r\nhost: a.example\r\nexpect: tea\r\n\r\n"],
    // Another protocol, which gets no answer.
    ["bad_request", 0, "SUBSCRIBE news MQTT\r\n\r\n"],
  ];

  test("is a line with DPE, with nothing of what was sent, and counted", async () => {
    const answers: string[] = [];
    for (const [, , sent] of malformed) answers.push(await exchange(port, sent));
    expect(answers.map((answer) => Number(answer.slice(9, 12)))).toEqual(malformed.map(([, status]) => status));
    const bytes = answers.map((answer) => answer.length - Math.max(0, answer.indexOf("\r\n\r\n") + 4) || 0);
    expect(await lines(malformed.length)).toEqual(
      malformed.map(
        ([reason, status], index) =>
          `- - HTTP/1.1 ${status} DPE ${reason} - 127.0.0.1 ${port} ${status === 0 ? 0 : bytes[index]}`,
      ),
    );
    const requests = await counts("requests_total");
    expect(requests).toEqual({
      'route="",backend="",code="none"': 1,
      'route="",backend="",code="4xx"': 7,
      'route="",backend="",code="5xx"': 2,
    });
    expect(await counts("response_flags_total")).toEqual({ 'route="",backend="",flag="DPE"': malformed.length });
    expect(await counts("errors_total")).toMatchObject({ 'reason="bad_request"': 3, 'reason="bad_framing"': 1 });
  }, 20_000);

  test("is one line of a connection, behind those of the requests before it, and what follows it is not read", async () => {
    const client = await RawClient.connect(port);
    client.send("GET /ok HTTP/1.1\r\nhost: a.example\r\n\r\n");
    await client.read((all) => all.endsWith("\r\n\r\nok"));
    client.send("GET /secret HTTP/1.1\r\nhost : a.example\r\n\r\n".repeat(3));
    await client.read(() => false);
    client.close();
    await exchange(port, "GET /ok HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n");
    const flags = (await lines(3)).map((line) => line.split(" ").slice(0, 6).join(" "));
    expect(flags).toEqual([
      "GET /ok HTTP/1.1 200 - via_upstream",
      "- - HTTP/1.1 400 DPE bad_request",
      "GET /ok HTTP/1.1 200 - via_upstream",
    ]);
  }, 20_000);

  test("over HTTP/2 is a line of a stream that was reset, and of one that was answered", async () => {
    const client = await RawHttp2.connect(port);
    const get = { ":method": "GET", ":scheme": "http", ":authority": "a.example", ":path": "/ok" };
    client.send(client.headers(1, { ...get, te: "gzip" }, true));
    await client.until(() => client.reset(1) === ErrorCode.protocolError);
    client.send(client.headers(3, { ...get, ":path": `/${"x".repeat(17_000)}` }, true));
    await client.until(() => client.heads.some(({ id }) => id === 3));
    client.send(client.headers(5, get, true));
    await client.until(() => client.heads.some(({ id }) => id === 5));
    client.close();
    const flags = (await lines(3)).map((line) => line.split(" ").slice(0, 8).join(" "));
    expect(flags).toEqual([
      "- - HTTP/2 0 DPE bad_request - 127.0.0.1",
      "- - HTTP/2 414 DPE target_too_long - 127.0.0.1",
      "GET /ok HTTP/2 200 - via_upstream one 127.0.0.1",
    ]);
  }, 20_000);
});

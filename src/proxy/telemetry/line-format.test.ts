// Lines of access logs: templates, what clients could forge, and how long a line can become.

import { expect, test } from "bun:test";
import fc from "fast-check";
import type { AccessLogSettings } from "../../model/listener-telemetry.ts";
import { addForwardingHeaders } from "../filters/forwarded.ts";
import { HeaderBlock } from "../headers.ts";
import { parseFields } from "../http1/fields.ts";
import { Http1RequestHead } from "../http1/request.ts";
import type { AccessRecord } from "./access-record.ts";
import { defaultTextFormat } from "./default-formats.ts";
import { KeptValues } from "./kept-values.ts";
import { lineFormat } from "./line-format.ts";
import { TraceContext } from "./trace-context.ts";

function head(fields: Readonly<Record<string, string>>): HeaderBlock {
  const bytes = Buffer.from(
    `${Object.entries(fields)
      .map(([name, value]) => `${name}: ${value}\r\n`)
      .join("")}\r\n`,
    "latin1",
  );
  const block = new HeaderBlock();
  expect(parseFields(bytes, 0, bytes.length, block)).toBe(bytes.length);
  return block;
}

const record: AccessRecord = {
  startTime: Date.parse("2026-01-01T00:00:00.123Z"),
  duration: 1.6,
  protocol: "HTTP/1.1",
  method: "GET",
  scheme: "http",
  authority: "shop.example.com",
  path: "/cart",
  query: "x=1",
  headers: head({ "User-Agent": 'curl "quoted"\\', "x-request-id": "abc" }),
  status: 503,
  flags: "UH",
  details: "no_endpoints",
  bytesReceived: 0,
  bytesSent: 91,
  upstreamTime: -1,
  attempts: 1,
  route: "shop/cart",
  backend: "service/shop/cart/80",
  endpoint: undefined,
  upstreamLocal: undefined,
  local: { address: "10.97.0.1", port: 80 },
  addresses: { source: "10.98.0.254", sourcePort: 40000, destination: "10.97.0.1", destinationPort: 80 },
  source: "10.98.0.254",
  serverName: undefined,
  tlsVersion: undefined,
  peerUri: undefined,
  peerSubject: undefined,
  peer: undefined,
  trace: undefined,
  answerFields: undefined,
  trailers: undefined,
  requestTime: -1,
  upstreamProtocol: "HTTP/1.1",
};

/** A line behind other bytes, without its end. */
function written(
  format: AccessLogSettings["format"],
  changes: Partial<AccessRecord> = {},
  asked = { fields: [] as string[], trailers: [] as string[], kept: 0 },
): string {
  const line = lineFormat(format, asked);
  const to = Buffer.alloc(7 + line.most, 0x2a);
  const end = line.write(to, 7, { ...record, ...changes });
  expect(to.subarray(0, 7).toString()).toBe("*******");
  expect(to[end - 1]).toBe(10);
  return to.subarray(7, end - 1).toString();
}

const text = (template: string, changes?: Partial<AccessRecord>) => written({ text: template }, changes);
const json = (fields: Record<string, string>, changes?: Partial<AccessRecord>): Record<string, unknown> =>
  JSON.parse(written({ json: fields }, changes));

test("Istio's default format is written", () => {
  expect(text(defaultTextFormat)).toBe(
    '[2026-01-01T00:00:00.123Z] "GET /cart?x=1 HTTP/1.1" 503 UH no_endpoints - "-" 0 91 2 - "-" ' +
      '"curl \\x22quoted\\x22\\x5c" "abc" "shop.example.com" "-" service/shop/cart/80 - 10.97.0.1:80 ' +
      "10.98.0.254:40000 - shop/cart",
  );
  const endpoint = { address: "fd00::1", port: 8080 };
  expect(text("%UPSTREAM_HOST% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%", { endpoint, upstreamTime: 12.4 })).toBe(
    "[fd00::1]:8080 12",
  );
});

test("JSON keeps numbers as numbers and absent values as null, and parts of texts are `-`", () => {
  expect(
    json({
      code: "%RESPONSE_CODE%",
      host: "%UPSTREAM_HOST%",
      who: "%REQ(X-REQUEST-ID):2%!",
      pc: "%%",
      none: "",
      'a"': "é %UPSTREAM_HOST%",
    }),
  ).toEqual({ code: 503, host: null, who: "ab!", pc: "%", none: "", 'a"': "é -" });
});

test.each(["%NO_SUCH%", "100%", "%REQ(%", "%REQ()%"])("%s is refused with its name", (template) => {
  expect(() => lineFormat({ text: template }, { fields: [], trailers: [], kept: 0 })).toThrow(
    /is no operator|no second %|needs the name/,
  );
});

test("a field is looked up as filters would: several joined, the first name that is there, what the proxy put to it", () => {
  const headers = head({ "X-B": "b", "x-a": "1", "X-A": "2" });
  headers.add("x-a", "3");
  headers.add("x-c", "c");
  headers.remove("x-b");
  expect(text("%REQ(X-A)% %REQ(X-A):4% %REQ(X-B?X-C)% %REQ(X-C?X-A)% %REQ(X-B)%", { headers })).toBe(
    "1,2,3 1,2, c c -",
  );
  // Lines that the proxy puts behind all others when no filter looks at them.
  const request = new Http1RequestHead();
  Object.assign(request, { authority: "x-forwarded-proto", source: "10.0.0.1", scheme: "https" });
  addForwardingHeaders(request, true, { source: "", scheme: "", authority: "", lines: "" });
  const added = "%REQ(X-FORWARDED-FOR)% %REQ(X-FORWARDED-HOST):11% %REQ(X-FORWARDED-PROTO)% %REQ(X-FORWARDED)%";
  expect(text(added, { headers: request.headers })).toBe("10.0.0.1 x-forwarded https -");
  expect(text("%REQ(X-REQUEST-ID)%", { headers: request.headers })).toBe(request.headers.tailEnd);
});

test("fields of the answer are asked for by their places in one list", () => {
  const asked = { fields: ["x-first"], trailers: [] as string[], kept: 0 };
  const one = { text: "%RESP(X-VERSION)% %RESP(X-FIRST)% %RESP(X-VERSION?X-NONE)%" };
  expect(written(one, { answerFields: [undefined, "v2"] }, asked)).toBe("v2 - v2");
  expect(asked.fields).toEqual(["x-first", "x-version", "x-none"]);
});

test("the id of the trace, and who the client is where hops are believed", () => {
  const trace = new TraceContext(new HeaderBlock(), 0);
  expect(text("%TRACE_ID%", { trace })).toBe(trace.traceId);
  expect(json({ id: "%TRACE_ID%" }, { trace })).toEqual({ id: trace.traceId });
  expect(text("%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", { source: "203.0.113.5" })).toBe(
    "203.0.113.5:0 203.0.113.5",
  );
});

test("where the client connected to is told by its connection, or by the listener once that is closed", () => {
  const template = "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_PORT%";
  const came = { source: "10.98.0.254", sourcePort: 40000 };
  expect(text(template, { addresses: { ...came, destination: "203.0.113.5", destinationPort: 443 } })).toBe(
    "203.0.113.5:443 203.0.113.5 443",
  );
  expect(text(template, { addresses: { ...came, destination: "0.0.0.0", destinationPort: 80 } })).toBe(
    "10.97.0.1:80 10.97.0.1 80",
  );
  const direct = "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS% %DOWNSTREAM_REMOTE_PORT% %UPSTREAM_LOCAL_ADDRESS%";
  expect(text(direct, { source: "203.0.113.9", upstreamLocal: { address: "10.0.0.1", port: 5 } })).toBe(
    "10.98.0.254:40000 0 10.0.0.1:5",
  );
});

const anyText = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)) }),
);

test("whatever a name is, a line of text is printable ASCII and its quotes are the template's", () => {
  fc.assert(
    fc.property(anyText, (route) => {
      expect(text('"%ROUTE_NAME%"', { route })).toMatch(/^"([ !#-[\]-~]|\\x[0-9a-f]{2})*"$/);
    }),
  );
});

test("whatever a name is, JSON gives it back", () => {
  fc.assert(
    fc.property(anyText, (route) => {
      expect(json({ route: "%ROUTE_NAME%", all: ">%ROUTE_NAME%" }, { route })).toEqual({
        route: route === "" ? null : route,
        all: `>${route === "" ? "-" : route}`,
      });
    }),
  );
});

test("whatever a field holds, JSON gives it back byte by byte", () => {
  const value = fc.string({
    unit: fc
      .integer({ min: 0x21, max: 0xff })
      .filter((code) => code !== 0x7f)
      .map((code) => String.fromCharCode(code)),
  });
  fc.assert(
    fc.property(value, (agent) => {
      const headers = head({ "user-agent": agent });
      expect(json({ agent: "%REQ(USER-AGENT)%" }, { headers })).toEqual({ agent: agent === "" ? null : agent });
    }),
  );
});

test("a text that is too long is cut, and hides nothing of the rest of the line", () => {
  const long = '"'.repeat(40_000);
  const headers = head({ "x-a": long, "x-b": "b" });
  const fields = {
    a: "%REQ(X-A)%",
    path: "%REQ(:PATH)%",
    again: "%REQ(X-A)%",
    b: "%REQ(X-B)%",
    code: "%RESPONSE_CODE%",
  };
  const line = json(fields, { headers, path: `/${long}`, query: long });
  expect(line["a"]).toMatch(/^"{2500,2800}$/);
  expect(line["path"]).toMatch(/^\/"{2500,2800}\?"{2500,2800}$/);
  expect(line).toMatchObject({ again: line["a"], b: "b", code: 503 });
});

test("numbers and times of all sizes", () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.integer({ min: 0, max: 4_000_000_000_000 }), (bytesSent, startTime) => {
      const line = text("%BYTES_SENT% %START_TIME%", { bytesSent, startTime });
      expect(line).toBe(`${bytesSent} ${new Date(startTime).toISOString()}`);
    }),
  );
});

test("a line knows whether connections to backends keep values of it, which they are asked for once", () => {
  const tells = (format: AccessLogSettings["format"]) =>
    lineFormat(format, { fields: [], trailers: [], kept: 0 }).tellsOfUpstreams;
  expect(tells({ text: defaultTextFormat })).toBeTrue();
  expect(tells({ json: { status: "%RESPONSE_CODE%", from: "%UPSTREAM_LOCAL_ADDRESS%" } })).toBeTrue();
  expect(tells({ text: "%RESPONSE_CODE% %DOWNSTREAM_LOCAL_ADDRESS% %%UPSTREAM_LOCAL_ADDRESS%%" })).toBeFalse();
});

test("what follows from a connection is written once, and anew when what it follows from has changed", () => {
  const line = lineFormat(
    {
      text: '%REQ(X-FORWARDED-FOR)% "%REQ(:AUTHORITY)%" %UPSTREAM_HOST% %UPSTREAM_LOCAL_PORT% %DOWNSTREAM_REMOTE_ADDRESS%',
    },
    { fields: [], trailers: [], kept: 0 },
  );
  const clientValues = new KeptValues();
  const upstreamValues = new KeptValues();
  const to = Buffer.alloc(line.most);
  const of = (client: unknown, upstream: unknown, changes: Partial<AccessRecord>) => {
    clientValues.of(line, client, undefined, undefined);
    upstreamValues.of(line, upstream, undefined, undefined);
    return to.latin1Slice(0, line.write(to, 0, { ...record, clientValues, upstreamValues, ...changes }));
  };
  const endpoint = { address: "10.1.1.1", port: 80 };
  const first = { endpoint, headers: head({ "x-forwarded-for": "10.9.9.9" }) };
  expect(of("a", "b", first)).toBe('10.9.9.9 "shop.example.com" 10.1.1.1:80 - 10.98.0.254:40000\n');
  // Whoever says the same has the same, as long as it is the connection's own and not the client's word.
  const second = { endpoint, authority: "other", source: "10.2.2.2", headers: head({ "x-forwarded-for": "10.8.8.8" }) };
  expect(of("a", "b", second)).toBe('10.8.8.8 "shop.example.com" 10.1.1.1:80 - 10.98.0.254:40000\n');
  expect(of("c", "b", second)).toBe('10.8.8.8 "other" 10.1.1.1:80 - 10.2.2.2:0\n');
  expect(of("c", "d", { ...second, endpoint: undefined })).toBe('10.8.8.8 "other" - - 10.2.2.2:0\n');

  const finished = head({});
  finished.finishWithId("x-forwarded-for: 10.7.7.7\r\nx-request-id: ");
  expect(of("c", "d", { headers: finished })).toStartWith("10.7.7.7 ");
  finished.finishWithId("x-forwarded-for: 10.6.6.6\r\nx-request-id: ");
  expect(of("c", "d", { headers: finished })).toStartWith("10.7.7.7 ");
  expect(of("e", "d", { headers: finished })).toStartWith("10.6.6.6 ");
});

test("what is kept is not what is written over the line", () => {
  const line = lineFormat({ text: "%UPSTREAM_CLUSTER%" }, { fields: [], trailers: [], kept: 0 });
  const upstreamValues = new KeptValues();
  const to = Buffer.alloc(line.most);
  upstreamValues.of(line, 1, 2, 3);
  line.write(to, 0, { ...record, upstreamValues, backend: "one" });
  to.fill("x");
  expect(to.latin1Slice(0, line.write(to, 0, { ...record, upstreamValues, backend: "two" }))).toBe("one\n");
});

test("what is long is not kept", () => {
  const line = lineFormat({ text: "%REQUESTED_SERVER_NAME%" }, { fields: [], trailers: [], kept: 0 });
  const clientValues = new KeptValues();
  const to = Buffer.alloc(line.most);
  clientValues.of(line, 1, 2, 3);
  for (const [serverName, wanted] of [
    ["n".repeat(600), "n".repeat(600)],
    ["m", "m"],
    ["o", "m"],
  ] as const)
    expect(to.latin1Slice(0, line.write(to, 0, { ...record, clientValues, serverName }))).toBe(`${wanted}\n`);
});

const call = head({ "content-type": "application/grpc" });
const grpcTemplate =
  "%GRPC_STATUS% %GRPC_STATUS(CAMEL_STRING)% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%";

test.each<[Partial<AccessRecord>, string]>([
  [{ trailers: ["1"], answerFields: ["2"] }, "Canceled Canceled CANCELLED 1 1"],
  [{ answerFields: ["7"] }, "PermissionDenied PermissionDenied PERMISSION_DENIED 7 7"],
  [{ status: 503 }, "Unavailable Unavailable UNAVAILABLE 14 14"],
  [{ trailers: ["99"] }, "99 99 99 99 99"],
  [{ trailers: ["x"] }, "- - - - -"],
  [{ status: 0 }, "- - - - -"],
  [{ trailers: ["0"], headers: head({}) }, "- - - - -"],
])("the status of a call of gRPC that ended with %j is %s", (end, line) => {
  expect(text(grpcTemplate, { headers: call, ...end })).toBe(line);
});

test("trailers are asked for by their places, with another name, and cut", () => {
  const asked = { fields: [], trailers: ["x-sum"], kept: 0 };
  const format = { text: "%TRAILER(X-NONE?X-Sum):3% %RESPONSE_TRAILER(X-None)%" };
  expect(written(format, { trailers: ["abcdef", undefined] }, asked)).toBe("abc -");
  expect(asked).toEqual({ fields: [], trailers: ["x-sum", "x-none"], kept: 0 });
});

test("times are written in the format that they are asked for", () => {
  const startTime = Date.parse("2026-03-05T07:08:09.012Z") + 0.345;
  const format = "%START_TIME(%Y/%m/%dT%H:%M:%S.%3f%z %s.%6f %a %b %e %j)% %EMIT_TIME%";
  expect(text(format, { startTime, duration: 1000 })).toBe(
    "2026/03/05T07:08:09.012+0000 1772694489.012344 Thu Mar  5 064 2026-03-05T07:08:10.012Z".replace(
      "012344",
      String(Math.floor((startTime % 1000) * 1000)).padStart(6, "0"),
    ),
  );
  const later = { startTime, duration: 2000 };
  expect(json({ at: '%START_TIME("%T" %f)%', end: "%EMIT_TIME(%s)%" }, later)).toEqual({
    at: expect.stringMatching(/^"07:08:09" 01234[45]000$/),
    end: "1772694491",
  });
  expect(Date.parse(text("%START_TIME_LOCAL(%FT%H:%M:%E3S%Ez)%", { startTime }))).toBe(Math.floor(startTime));
});

test("what else Envoy's formats have", () => {
  const changes: Partial<AccessRecord> = {
    endpoint: { address: "fd00::1", port: 8080 },
    upstreamLocal: { address: "10.0.0.1", port: 5 },
    requestTime: 3.4,
    query: "a=1&name=b%20c",
    flags: "UF,URX",
  };
  const template =
    "%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_REMOTE_PORT% %UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% " +
    "%UPSTREAM_LOCAL_PORT% %UPSTREAM_PROTOCOL% %REQUEST_DURATION% %QUERY_PARAM(name)% %RESPONSE_FLAGS_LONG% %STREAM_ID%";
  expect(text(template, changes)).toBe(
    "fd00::1 8080 10.0.0.1 5 HTTP/1.1 3 b c UpstreamConnectionFailure,UpstreamRetryLimitExceeded abc",
  );
  const paths = "%PATH% %PATH(NQ)% %PATH(WQ:PATH):3% %REQ_WITHOUT_QUERY(X-A?:PATH)% %REQ_WITHOUT_QUERY(X-B):2%";
  expect(text(paths, { headers: head({ "x-b": "c?d" }) })).toBe("/cart?x=1 /cart /ca /cart c");
  expect(text("%ACCESS_LOG_TYPE% %DOWNSTREAM_DIRECT_REMOTE_PORT% %SPAN_ID%")).toBe("DownstreamEnd 40000 -");
});

// Trace context and access log lines.

import { expect, test } from "bun:test";
import fc from "fast-check";
import type { TraceFormat } from "../../model/listener-telemetry.ts";
import { type AccessRecord, defaultTextFormat, jsonFormat, textFormat } from "./access-log-format.ts";
import { newId, readTraceContext, traceHeaders } from "./trace-context.ts";

const lookUp = (headers: Record<string, string>) => (name: string) => headers[name];
const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
const parentId = "00f067aa0ba902b7";

test.each([
  [`00-${traceId}-${parentId}-01`, true],
  [`00-${traceId}-${parentId}-00`, false],
  [`01-${traceId}-${parentId}-03-what-the-future-brings`, true],
])("traceparent %s is read", (traceparent, sampled) => {
  expect(readTraceContext(lookUp({ traceparent }))).toEqual({ traceId, parentId, sampled });
});

test.each([
  `ff-${traceId}-${parentId}-01`,
  `00-${traceId}-${parentId}-01-more`,
  `00-${traceId.toUpperCase()}-${parentId}-01`,
  `00-${"0".repeat(32)}-${parentId}-01`,
  `00-${traceId}-${"0".repeat(16)}-01`,
  `00-${traceId}-${parentId}`,
  "",
])("traceparent %j is as if it were not there", (traceparent) => {
  expect(readTraceContext(lookUp({ traceparent }))).toBeUndefined();
  expect(readTraceContext(lookUp({ traceparent, b3: `${traceId}-${parentId}-0` }))?.sampled).toBe(false);
});

test("B3 is read from one header and from several, short trace ids too", () => {
  expect(readTraceContext(lookUp({ b3: `${parentId}-${parentId}` }))).toEqual({
    traceId: `${"0".repeat(16)}${parentId}`,
    parentId,
    sampled: undefined,
  });
  expect(readTraceContext(lookUp({ b3: `${traceId}-${parentId}-d-${parentId}` }))?.sampled).toBe(true);
  const several = { "x-b3-traceid": traceId, "x-b3-spanid": parentId };
  expect(readTraceContext(lookUp({ ...several, "x-b3-sampled": "0" }))?.sampled).toBe(false);
  expect(readTraceContext(lookUp({ ...several, "x-b3-flags": "1" }))?.sampled).toBe(true);
  expect(readTraceContext(lookUp({ b3: "0" }))).toBeUndefined();
});

test("what is written is read, in all formats", () => {
  fc.assert(
    fc.property(fc.constantFrom<TraceFormat>("w3c", "b3", "b3multi"), fc.boolean(), (format, sampled) => {
      const ids = { traceId: newId(16), parentId: newId(8) };
      const headers = Object.fromEntries(traceHeaders(format, ids.traceId, ids.parentId, sampled));
      expect(readTraceContext(lookUp(headers))).toEqual({ ...ids, sampled });
    }),
  );
});

const record: AccessRecord = {
  startTime: Date.parse("2026-01-01T00:00:00.123Z"),
  method: "GET",
  authority: "shop.example.com",
  target: "/cart?x=1",
  protocol: "HTTP/1.1",
  status: 503,
  flags: "UH",
  details: "no_endpoints",
  bytesReceived: 0,
  bytesSent: 91,
  duration: 1.6,
  upstreamTime: undefined,
  attempts: 1,
  route: "shop/cart",
  backend: "service/shop/cart/80",
  endpoint: undefined,
  upstreamLocal: undefined,
  downstreamLocal: "10.97.0.1:80",
  downstreamRemote: "10.98.0.254:40000",
  serverName: undefined,
  tlsVersion: undefined,
  peer: undefined,
  traceId: undefined,
  requestHeader: lookUp({ "user-agent": 'curl "quoted"\n', "x-request-id": "abc" }),
  responseHeader: () => undefined,
};

test("Istio's default format is written", () => {
  expect(textFormat(defaultTextFormat)(record)).toBe(
    '[2026-01-01T00:00:00.123Z] "GET /cart?x=1 HTTP/1.1" 503 UH no_endpoints - "-" 0 91 2 - "-" ' +
      '"curl \\x22quoted\\x22\\x0a" "abc" "shop.example.com" "-" service/shop/cart/80 - 10.97.0.1:80 ' +
      "10.98.0.254:40000 - shop/cart",
  );
});

test("JSON keeps numbers as numbers and absent values as null", () => {
  const line = jsonFormat({
    code: "%RESPONSE_CODE%",
    host: "%UPSTREAM_HOST%",
    who: "%REQ(X-REQUEST-ID):2%!",
    pc: "%%",
  });
  expect(JSON.parse(line(record))).toEqual({ code: 503, host: null, who: "ab!", pc: "%" });
});

test.each(["%NO_SUCH%", "100%", "%REQ(%", "%REQ()%"])("%s is refused with its name", (template) => {
  expect(() => textFormat(template)).toThrow(/is no operator|no second %/);
});

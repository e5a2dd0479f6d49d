// Trace context: what is read, what is as if it were not there, and what the backend is told.

import { expect, test } from "bun:test";
import fc from "fast-check";
import type { TraceFormat } from "../../model/listener-telemetry.ts";
import { HeaderBlock } from "../headers.ts";
import { parseFields } from "../http1/fields.ts";
import { TraceContext } from "./trace-context.ts";

function head(fields: Readonly<Record<string, string>>): HeaderBlock {
  const bytes = Buffer.from(
    `${Object.entries(fields)
      .map(([name, value]) => `${name}: ${value}\r\n`)
      .join("")}\r\n`,
    "latin1",
  );
  const block = new HeaderBlock();
  parseFields(bytes, 0, bytes.length, block);
  return block;
}

/** What is made of a request whose caller decides about sampling, or nobody does. */
function read(fields: Readonly<Record<string, string>>, share = 0) {
  const { traceId, parentId, sampled } = new TraceContext(head(fields), share);
  return { traceId, parentId, sampled };
}

const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
const parentId = "f0f067aa0ba902b7";

test.each([
  [`00-${traceId}-${parentId}-01`, true],
  [`00-${traceId}-${parentId}-00`, false],
  [`01-${traceId}-${parentId}-03-what-the-future-brings`, true],
])("traceparent %s is read", (traceparent, sampled) => {
  expect(read({ TraceParent: traceparent }, sampled ? 0 : 1)).toEqual({ traceId, parentId, sampled });
});

test.each([
  `ff-${traceId}-${parentId}-01`,
  `00-${traceId}-${parentId}-01-more`,
  `00-${traceId.toUpperCase()}-${parentId}-01`,
  `00-${"0".repeat(32)}-${parentId}-01`,
  `00-${traceId}-${"0".repeat(16)}-01`,
  `00-${traceId}-${parentId}-0x`,
  `0g-${traceId}-${parentId}-01`,
  `00-${traceId}-${parentId}`,
  `00-${traceId}-${parentId}-01,00-${traceId}-${parentId}-01`,
  "",
])("traceparent %j is as if it were not there", (traceparent) => {
  const headers = head({ traceparent, tracestate: "a=1" });
  expect(new TraceContext(headers, 0)).toMatchObject({ parentId: "", sampled: false });
  expect(headers.entries()).toEqual([]);
  expect(read({ traceparent, b3: `${traceId}-${parentId}-0` }, 1)).toEqual({ traceId, parentId, sampled: false });
});

test("B3 is read from one header and from several, short trace ids too", () => {
  const short = { traceId: `${"0".repeat(16)}${parentId}`, parentId };
  expect(read({ b3: `${parentId}-${parentId}` }, 1)).toEqual({ ...short, sampled: true });
  expect(read({ b3: `${parentId}-${parentId}` }, 0)).toEqual({ ...short, sampled: false });
  expect(read({ b3: `${traceId}-${parentId}-d-${parentId}` }).sampled).toBe(true);
  const several = { "X-B3-TraceId": traceId, "X-B3-SpanId": parentId };
  expect(read({ ...several, "X-B3-Sampled": "0" }, 1)).toEqual({ traceId, parentId, sampled: false });
  expect(read({ ...several, "X-B3-Flags": "1" }).sampled).toBe(true);
  expect(read({ ...several, b3: "1-2-3" }, 1)).toMatchObject({ parentId: "", sampled: true });
  expect(read({ b3: `${traceId}-${parentId.toUpperCase()}-1` }).parentId).toBe("");
});

test.each([
  [{ b3: "0" }, false],
  [{ b3: "1" }, true],
  [{ b3: "d" }, true],
  [{ "x-b3-sampled": "0" }, false],
  [{ "x-b3-sampled": "true" }, true],
  [{ "x-b3-flags": "1" }, true],
])("%j is a decision about a trace that begins here", (fields, sampled) => {
  expect(read(fields, sampled ? 0 : 1)).toMatchObject({ parentId: "", sampled });
});

/** What the backend is told, of what came in these fields. */
function told(fields: Readonly<Record<string, string>>, formats: readonly TraceFormat[], last = false) {
  const came = head(fields);
  const context = new TraceContext(came, 0);
  context.passOn(came, formats, last);
  return { context, came, sent: Object.fromEntries([...came.entries(), ...lateField(came)]) };
}

test("what the backend is told is the same trace with another span, in each format, whether it is written late or not", () => {
  fc.assert(
    fc.property(
      fc.constantFrom<TraceFormat>("w3c", "b3", "b3multi"),
      fc.boolean(),
      fc.boolean(),
      (format, sampled, last) => {
        const traceparent = `00-${traceId}-${parentId}-0${sampled ? 1 : 0}`;
        const { context, came, sent } = told({ traceparent, tracestate: "a=1", x: "y" }, [format], last);
        expect(sent).toMatchObject({ tracestate: "a=1", x: "y" });
        expect(came.last !== undefined).toBe(last);
        expect(read(sent)).toEqual({ traceId, parentId: context.spanId, sampled });
        const { traceparent: _, ...others } = sent;
        if (format !== "w3c") expect(read(others)).toEqual({ traceId, parentId: context.spanId, sampled });
        expect(context.spanId).not.toBe(parentId);
      },
    ),
  );
});

test("the backend is told in what its listener says and in what the caller used, and of the caller's span", () => {
  const several = { "x-b3-traceid": traceId, "x-b3-spanid": parentId, "x-b3-parentspanid": "00f067aa0ba902b7" };
  const one = told({ ...several, "x-b3-sampled": "1" }, ["w3c"]);
  const { spanId } = one.context;
  expect(one.sent).toEqual({
    traceparent: `00-${traceId}-${spanId}-01`,
    "x-b3-traceid": traceId,
    "x-b3-spanid": spanId,
    "x-b3-parentspanid": parentId,
    "x-b3-sampled": "1",
  });
  const both = told({ b3: `${traceId}-${parentId}-0`, traceparent: `00-${traceId}-${parentId}-01` }, ["b3"]);
  expect(both.sent).toEqual({
    b3: `${traceId}-${both.context.spanId}-1-${parentId}`,
    traceparent: `00-${traceId}-${both.context.spanId}-01`,
  });
  expect(Object.keys(told({ b3: "not one" }, ["w3c"]).sent)).toEqual(["traceparent"]);
});

test("a decision without a trace is passed on with the trace that begins here, debug as debug", () => {
  const denied = told({ b3: "0" }, ["b3multi"]);
  const { traceId: trace, spanId: span } = denied.context;
  expect(denied.sent).toEqual({
    b3: `${trace}-${span}-0`,
    "x-b3-traceid": trace,
    "x-b3-spanid": span,
    "x-b3-sampled": "0",
  });
  const debug = told({ "x-b3-flags": "1" }, ["b3"]);
  expect(debug.sent).toMatchObject({ b3: expect.stringMatching(/-d$/), "x-b3-flags": "1" });
  expect(debug.sent["x-b3-sampled"]).toBeUndefined();
});

test("a trace that begins here has ids of its own, and a share of them is recorded", () => {
  const contexts = Array.from({ length: 2_000 }, () => new TraceContext(head({ host: "a" }), 0.5));
  expect(new Set(contexts.map((one) => one.traceId)).size).toBe(2_000);
  expect(new Set(contexts.map((one) => one.spanId)).size).toBe(2_000);
  expect(contexts.every((one) => /^[0-9a-f]{32}$/.test(one.traceId) && /^[0-9a-f]{16}$/.test(one.spanId))).toBe(true);
  const recorded = contexts.filter((one) => one.sampled).length;
  expect(recorded).toBeGreaterThan(800);
  expect(recorded).toBeLessThan(1_200);
});

function lateField({ last }: HeaderBlock): [string, string][] {
  if (last === undefined) return [];
  const line = last.line().toString();
  expect(line).toEndWith("\r\n");
  const [name, value] = line.trimEnd().split(": ") as [string, string];
  return [[name, value]];
}

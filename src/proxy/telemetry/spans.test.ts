// Spans on their way to a collector, and sizes.

import { expect, test } from "bun:test";
import fc from "fast-check";
import { FakeClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { Deadlines } from "../deadlines.ts";
import { Backends } from "../upstream/backends.ts";
import { Sizes, sizeBounds } from "./sizes.ts";
import { exportRequest, type Span, SpanExporter } from "./spans.ts";

const collector = { backend: "service/observability/otel/4318", path: "/v1/traces", service: "gateway" };
const span: Span = {
  traceId: "4bf92f3577b34da6a3ce929d0e0e4736",
  spanId: "00f067aa0ba902b7",
  parentId: "",
  name: "GET shop/cart",
  start: 1_767_225_600_000.125,
  end: 1_767_225_600_012.5,
  failed: true,
  attributes: { "http.response.status_code": 503, "url.path": "/cart", "error.type": undefined },
};

test("a batch is OTLP's JSON: ids in hexadecimal, nanoseconds and whole numbers as text, no parent where there is none", () => {
  const request = exportRequest(collector, [span]);
  expect(request).toMatchObject({ backend: collector.backend, path: "/v1/traces", authority: "otel.observability" });
  expect(JSON.parse(request.body![0]!.toString())).toEqual({
    resourceSpans: [
      {
        resource: { attributes: [{ key: "service.name", value: { stringValue: "gateway" } }] },
        scopeSpans: [
          {
            scope: { name: "fairlead.proxy" },
            spans: [
              {
                traceId: span.traceId,
                spanId: span.spanId,
                name: "GET shop/cart",
                kind: 2,
                startTimeUnixNano: "1767225600000125000",
                endTimeUnixNano: "1767225600012500000",
                attributes: [
                  { key: "http.response.status_code", value: { intValue: "503" } },
                  { key: "url.path", value: { stringValue: "/cart" } },
                ],
                status: { code: 2 },
              },
            ],
          },
        ],
      },
    ],
  });
});

test("a queue that is full drops spans and counts them, and what a collector does not take counts as failed", () => {
  const clock = new FakeClock();
  const deadlines = new Deadlines(clock);
  const exporter = new SpanExporter({ backends: new Backends(deadlines, clock), deadlines }, clock, silentLogger);
  for (let index = 0; index < 5_000; index++) exporter.add(collector, span);
  expect(exporter.counts).toEqual({ sent: 0, dropped: 904, failed: 0 });
  // The backend is not known, so that each batch fails at once; full batches follow each other.
  exporter.flush();
  expect(exporter.counts).toEqual({ sent: 0, dropped: 904, failed: 4_096 });
  exporter.flush();
  expect(exporter.waiting).toBe(0);
});

test("a size is counted in the first bucket whose bound it does not exceed", () => {
  fc.assert(
    fc.property(fc.oneof(fc.nat(), fc.nat({ max: 70_000 }), fc.maxSafeNat()), (bytes) => {
      const sizes = new Sizes();
      sizes.record(3, bytes);
      const expected = sizeBounds.findIndex((bound) => bytes <= bound);
      expect(sizes.bucket(3, expected < 0 ? sizeBounds.length : expected)).toBe(1);
      expect(sizes.sum(3)).toBe(bytes);
    }),
  );
});

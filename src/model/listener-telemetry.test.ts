// Access logs and traces of listeners: what is well formed.

import { expect, test } from "bun:test";
import { accessLogOperators, templatePieces } from "./access-log-template.ts";
import type { AccessLogSettings, TracingSettings } from "./listener-telemetry.ts";
import type { Listener } from "./model.ts";
import { validateResource } from "./validate.ts";

const from = { kind: "Test", name: "test", field: "" };
const tracing: TracingSettings = { backend: "otel", service: "edge", sample: 0.5, formats: ["w3c"] };

function problems(telemetry: { accessLog?: AccessLogSettings; tracing?: TracingSettings }): string[] {
  const listener: Listener = {
    ...{ name: "l", from, scope: "gateway", address: "127.0.0.1", port: 80, transport: "tcp" },
    chains: [{ from, when: { kind: "plain" }, serve: { routes: "main" } }],
    ...telemetry,
  };
  return validateResource("listeners", listener).map(({ field, message }) => `${field} ${message}`);
}

test("what is well formed has no problems", () => {
  const text = accessLogOperators.map((name) => `%${name}%`).join(" ");
  expect(problems({ accessLog: { path: "/var/log/a.log", format: { text }, sample: 0.1 }, tracing })).toEqual([]);
  const json = { status: "%RESPONSE_CODE%", agent: "%REQ(USER-AGENT):40%", id: "%REQ(X-A?X-B)%" };
  expect(problems({ accessLog: { path: "/dev/stderr", format: { json } } })).toEqual([]);
});

test.each<[Partial<AccessLogSettings>, string]>([
  [{ path: "a.log" }, 'accessLog.path "a.log" is no absolute path'],
  [{ path: "/var/../etc/passwd" }, "is no absolute path"],
  [{ sample: 2 }, "accessLog.sample 2 is no share from 0 to 1"],
  [{ sample: null as unknown as number }, "accessLog.sample null is no share"],
  [{ sample: true as unknown as number }, "accessLog.sample true is no share"],
  [{ format: { json: {} } }, "accessLog.format.json has no fields"],
  [{ format: { json: { a: "%NO%" } } }, "accessLog.format.json.a %NO% is no operator of access logs"],
  [{ format: { text: "a\nb" } }, "accessLog.format.text has a line break in it"],
  [{ format: { text: "%REQ(a b)%" } }, '"a b" is no header name'],
])("access log %j: %s", (wrong, problem) => {
  const accessLog = { path: "/var/log/a.log", format: { text: "x" }, ...wrong };
  expect(problems({ accessLog })).toEqual([expect.stringContaining(problem)]);
});

test.each<[Partial<TracingSettings>, string]>([
  [{ backend: "" }, "tracing.backend is empty"],
  [{ service: "" }, "tracing.service is empty"],
  [{ sample: Number.NaN }, "tracing.sample NaN is no share"],
  [{ formats: [] }, "tracing.formats names none of w3c, b3, b3multi"],
  [{ formats: ["zipkin" as "b3"] }, 'tracing.formats[0] "zipkin" is none of'],
  [{ path: "v1" }, 'path "v1" does not begin with "/"'],
])("tracing %j: %s", (wrong, problem) => {
  expect(problems({ tracing: { ...tracing, ...wrong } })).toEqual([expect.stringContaining(problem)]);
});

test("a template is taken apart, and two per cent signs are one", () => {
  expect(templatePieces("a %REQ(:PATH?X-Path):9%%%%DURATION%")).toEqual([
    "a ",
    { header: "REQ", names: [":path", "x-path"], most: 9 },
    "%",
    { operator: "DURATION" },
  ]);
});

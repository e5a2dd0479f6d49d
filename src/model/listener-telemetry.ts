// What a listener tells of its requests: access logs by template (`access-log-template.ts`), and traces. The types, and what is well
// formed.

import { templatePieces } from "./access-log-template.ts";
import type { BackendName, Listener } from "./model.ts";
import { isNumberOf, type Problems, pathProblem, token } from "./problems.ts";

export interface AccessLogSettings {
  /** An absolute path of the proxy's machine; lines are put behind what is there. `/dev/stderr` is the proxy's own log. */
  readonly path: string;
  /** One line of text, or an object with a template for each field. */
  readonly format: { readonly text: string } | { readonly json: Readonly<Record<string, string>> };
  /** The share of requests that are logged, 0 to 1; all unless given. */
  readonly sample?: number;
}

export type TraceFormat = "w3c" | "b3" | "b3multi";

export interface TracingSettings {
  /** Takes spans as OTLP/HTTP with JSON. */
  readonly backend: BackendName;
  /** Where it takes them; `/v1/traces` unless given. */
  readonly path?: string;
  /** `service.name` of the spans. */
  readonly service: string;
  /** The share of traces that begin here and are recorded, 0 to 1. What a caller decided about a trace stands. */
  readonly sample: number;
  /** How the next hop is told, besides the formats in which the request told of its trace; at least one. */
  readonly formats: readonly TraceFormat[];
}

const traceFormats: readonly TraceFormat[] = ["w3c", "b3", "b3multi"];

export function checkTelemetry(problems: Problems, { accessLog, tracing, transport, chains }: Listener): void {
  if (accessLog) checkAccessLog(problems, accessLog);
  if (!tracing) return;
  if (transport === "udp" || chains.every(({ serve }) => !("routes" in serve)))
    problems.add("tracing", "is for requests, and this listener has none");
  if (tracing.backend === "") problems.add("tracing.backend", "is empty");
  if (tracing.service === "") problems.add("tracing.service", "is empty");
  if (tracing.path !== undefined) {
    const problem = pathProblem(tracing.path);
    if (problem) problems.add("tracing.path", problem);
  }
  checkShare(problems, "tracing.sample", tracing.sample);
  if (tracing.formats.length === 0) problems.add("tracing.formats", `names none of ${traceFormats.join(", ")}`);
  tracing.formats.forEach((format, i) => {
    if (!traceFormats.includes(format))
      problems.add(`tracing.formats[${i}]`, `"${format}" is none of ${traceFormats.join(", ")}`);
  });
}

function checkAccessLog(problems: Problems, { path, format, sample }: AccessLogSettings): void {
  if (!path.startsWith("/") || path.includes("\0") || path.split("/").includes(".."))
    problems.add("accessLog.path", `"${path}" is no absolute path`);
  if (sample !== undefined) checkShare(problems, "accessLog.sample", sample);
  const templates: [string, string][] =
    "text" in format
      ? [["accessLog.format.text", format.text]]
      : Object.entries(format.json).map(([name, template]) => [`accessLog.format.json.${name}`, template]);
  if (templates.length === 0) problems.add("accessLog.format.json", "has no fields");
  for (const [field, template] of templates) {
    if (/[\r\n]/.test(template)) problems.add(field, "has a line break in it: one request is one line");
    try {
      for (const piece of templatePieces(template)) {
        if (typeof piece === "string" || !("names" in piece)) continue;
        const wrong = piece.names.find((name) => !token.test(name.replace(/^:/, "")));
        if (wrong !== undefined) problems.add(field, `"${wrong}" is no header name`);
      }
    } catch (error) {
      problems.add(field, (error as Error).message);
    }
  }
}

function checkShare(problems: Problems, field: string, share: number): void {
  if (!isNumberOf(share, 0, 1)) problems.add(field, `${share} is no share from 0 to 1`);
}

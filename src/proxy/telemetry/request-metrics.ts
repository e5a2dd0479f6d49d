// Sizes and response flags of requests, and how access logs and spans fare, in Prometheus' text format.

import type { Metrics } from "./metrics.ts";
import { type Sizes, sizeBounds } from "./sizes.ts";
import type { Telemetry } from "./telemetry.ts";

type Labels = (values: object) => string;

export function requestLines(metrics: Metrics, labels: Labels): string[] {
  const flags = metrics.series.flatMap((series, slot) =>
    Object.entries(metrics.flags(slot)).map(
      ([flag, count]) => `fairlead_proxy_response_flags_total{${labels({ ...series, flag })}} ${count}`,
    ),
  );
  return [
    "# HELP fairlead_proxy_response_flags_total Requests that went wrong, by route, backend and Envoy's response flag.",
    "# TYPE fairlead_proxy_response_flags_total counter",
    ...flags,
    ...sizeLines("request", metrics, metrics.requestBytes, labels),
    ...sizeLines("response", metrics, metrics.responseBytes, labels),
  ];
}

function sizeLines(what: string, metrics: Metrics, sizes: Sizes, labels: Labels): string[] {
  const name = `fairlead_proxy_${what}_body_bytes`;
  const lines = [`# HELP ${name} Bytes of ${what} bodies.`, `# TYPE ${name} histogram`];
  metrics.series.forEach((series, slot) => {
    let count = 0;
    for (let bucket = 0; bucket <= sizeBounds.length; bucket++) count += sizes.bucket(slot, bucket);
    if (count === 0) return;
    let upTo = 0;
    for (let bucket = 0; bucket <= sizeBounds.length; bucket++) {
      upTo += sizes.bucket(slot, bucket);
      const le = bucket < sizeBounds.length ? String(sizeBounds[bucket]) : "+Inf";
      lines.push(`${name}_bucket{${labels({ ...series, le })}} ${upTo}`);
    }
    lines.push(`${name}_sum{${labels(series)}} ${sizes.sum(slot)}`, `${name}_count{${labels(series)}} ${count}`);
  });
  return lines;
}

export function telemetryLines({ files, spans }: Telemetry): string[] {
  const { sent, dropped, failed } = spans.counts;
  return [
    "# HELP fairlead_proxy_access_log_lines_total Lines of access logs, written or dropped because they could not be.",
    "# TYPE fairlead_proxy_access_log_lines_total counter",
    `fairlead_proxy_access_log_lines_total{result="written"} ${files.written}`,
    `fairlead_proxy_access_log_lines_total{result="dropped"} ${files.dropped}`,
    "# HELP fairlead_proxy_spans_total Spans: sent, dropped because too many waited, or not taken by the collector.",
    "# TYPE fairlead_proxy_spans_total counter",
    `fairlead_proxy_spans_total{result="sent"} ${sent}`,
    `fairlead_proxy_spans_total{result="dropped"} ${dropped}`,
    `fairlead_proxy_spans_total{result="failed"} ${failed}`,
  ];
}

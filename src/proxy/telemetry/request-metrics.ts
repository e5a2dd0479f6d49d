// Sizes and response flags of requests, and how access logs and spans fare, in Prometheus' text format.

import { family, histogram, labels } from "./exposition.ts";
import type { Metrics } from "./metrics.ts";
import { type Sizes, sizeBounds } from "./sizes.ts";
import type { Telemetry } from "./telemetry.ts";

const flagsTotal = "fairlead_proxy_response_flags_total";
const bounds = sizeBounds.map(String);

export function* requestLines(metrics: Metrics): Generator<string> {
  yield family(flagsTotal, "counter", "Requests that went wrong, by route, backend and Envoy's response flag.");
  for (let slot = 0; slot < metrics.series.length; slot++) {
    let lines = "";
    for (const [flag, count] of Object.entries(metrics.flags(slot)))
      lines += `${flagsTotal}{${labels({ ...metrics.series[slot]!, flag })}} ${count}\n`;
    yield lines;
  }
  yield* sizeLines("request", metrics, metrics.requestBytes);
  yield* sizeLines("response", metrics, metrics.responseBytes);
}

function* sizeLines(what: string, { series }: Metrics, sizes: Sizes): Generator<string> {
  const name = `fairlead_proxy_${what}_body_bytes`;
  yield family(name, "histogram", `Bytes of ${what} bodies.`);
  for (let slot = 0; slot < series.length; slot++)
    yield histogram(name, labels(series[slot]!), bounds, (bucket) => sizes.bucket(slot, bucket), sizes.sum(slot));
}

export function telemetryLines({ files, spans }: Telemetry): string {
  const { sent, dropped, failed } = spans.counts;
  const lines = "fairlead_proxy_access_log_lines_total";
  const told = "fairlead_proxy_spans_total";
  return `${family(lines, "counter", "Lines of access logs, written or dropped because they could not be.")}\
${lines}{result="written"} ${files.written}
${lines}{result="dropped"} ${files.dropped}
${family(told, "counter", "Spans: sent, dropped because too many waited, or not taken by the collector.")}\
${told}{result="sent"} ${sent}
${told}{result="dropped"} ${dropped}
${told}{result="failed"} ${failed}
`;
}

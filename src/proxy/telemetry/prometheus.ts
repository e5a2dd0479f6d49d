// The proxy's figures in Prometheus' text format (exposition format 0.0.4), in pieces: a series or a backend each, a histogram of
// one series whole, so that who prints them may serve requests in between. Made when asked for; the hot path knows nothing of it.

import type { Listeners } from "../listener/listeners.ts";
import type { ProxyRuntime } from "../runtime.ts";
import { family, histogram, labels } from "./exposition.ts";
import { bounds, type Metrics, statusClasses } from "./metrics.ts";
import { relayLines } from "./relay-metrics.ts";
import { requestLines, telemetryLines } from "./request-metrics.ts";
import { upstreamLines } from "./upstream-metrics.ts";

/** The text in pieces of whole lines. What changes while they are taken is told as it is then; one piece is of one moment. */
export function* prometheusText(runtime: ProxyRuntime, listeners: Listeners): Generator<string> {
  const { metrics, backends } = runtime;
  yield family(
    "fairlead_proxy_requests_total",
    "counter",
    "Requests by route, backend and class of the answer's status.",
  );
  yield* statusLines(metrics);
  const durations = "fairlead_proxy_request_duration_seconds";
  yield family(durations, "histogram", "From the end of a request's head to the end of its answer.");
  for (let slot = 0; slot < metrics.series.length; slot++) {
    const sum = metrics.sum(slot) / 1000;
    yield histogram(durations, labels(metrics.series[slot]!), secondBounds, (one) => metrics.bucket(slot, one), sum);
  }
  yield* requestLines(metrics);
  yield processLines(runtime, listeners);
  yield telemetryLines(runtime.telemetry);
  yield* relayLines(runtime.relays);
  yield* upstreamLines(backends.all());
}

const secondBounds = bounds.map((milliseconds) => String(milliseconds / 1000));

function* statusLines(metrics: Metrics): Generator<string> {
  for (let slot = 0; slot < metrics.series.length; slot++) {
    const own = labels(metrics.series[slot]!);
    let lines = "";
    for (let status = 0; status < statusClasses; status++) {
      const count = metrics.count(slot, status);
      if (count === 0) continue;
      lines += `fairlead_proxy_requests_total{${own},code="${status === 0 ? "none" : `${status}xx`}"} ${count}\n`;
    }
    yield lines;
  }
}

/** What there is once in a process. */
function processLines({ metrics, connections, overload }: ProxyRuntime, { tlsCounts }: Listeners): string {
  const { handshakes, failures, unknownNames } = tlsCounts;
  const one = (name: string, type: "counter" | "gauge", help: string, value: number) =>
    `${family(name, type, help)}${name} ${value}\n`;
  let text = family("fairlead_proxy_errors_total", "counter", "Requests that ended for a reason of the proxy's own.");
  for (const [reason, count] of metrics.reasons)
    text += `fairlead_proxy_errors_total{${labels({ reason })}} ${count}\n`;
  text += one("fairlead_proxy_retries_total", "counter", "Further tries of requests.", metrics.retries);
  text += one("fairlead_proxy_connections", "gauge", "Open client connections.", connections.open);
  text += one("fairlead_proxy_connections_total", "counter", "Accepted client connections.", connections.accepted);
  const closed = "Client connections closed because there were too many.";
  text += one("fairlead_proxy_connections_refused_total", "counter", closed, connections.refused);
  const begun = "Requests that have begun and not ended.";
  text += one("fairlead_proxy_requests_under_way", "gauge", begun, overload.active);
  const refused = "Requests refused because there was too much to do.";
  text += one("fairlead_proxy_requests_refused_total", "counter", refused, overload.refused);
  text += one("fairlead_proxy_memory_bytes", "gauge", "Resident memory.", process.memoryUsage.rss());
  const tls = "fairlead_proxy_tls_handshakes_total";
  text += family(tls, "counter", "TLS handshakes by result.");
  text += `${tls}{result="ok"} ${handshakes}\n${tls}{result="unknown_name"} ${unknownNames}\n`;
  return `${text}${tls}{result="failed"} ${Math.max(0, failures - unknownNames)}\n`;
}

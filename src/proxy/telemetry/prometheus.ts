// The proxy's figures in Prometheus' text format (exposition format 0.0.4). Made when asked for; the hot path knows nothing of it.

import type { Listeners } from "../listener/listeners.ts";
import type { ProxyRuntime } from "../runtime.ts";
import { bounds, statusClasses } from "./metrics.ts";
import { relayLines } from "./relay-metrics.ts";
import { requestLines, telemetryLines } from "./request-metrics.ts";
import { upstreamLines } from "./upstream-metrics.ts";

export function prometheusText(runtime: ProxyRuntime, listeners: Listeners): string {
  const { metrics, connections, backends } = runtime;
  const out: string[] = [];
  const family = (name: string, type: "counter" | "gauge" | "histogram", help: string) =>
    out.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);

  family("fairlead_proxy_requests_total", "counter", "Requests by route, backend and class of the answer's status.");
  metrics.series.forEach((series, slot) => {
    for (let status = 0; status < statusClasses; status++) {
      const count = metrics.count(slot, status);
      if (count === 0) continue;
      const code = status === 0 ? "none" : `${status}xx`;
      out.push(`fairlead_proxy_requests_total{${labels({ ...series, code })}} ${count}`);
    }
  });
  family(
    "fairlead_proxy_request_duration_seconds",
    "histogram",
    "From the end of a request's head to the end of its answer.",
  );
  metrics.series.forEach((series, slot) => {
    let sum = 0;
    for (let bucket = 0; bucket <= bounds.length; bucket++) sum += metrics.bucket(slot, bucket);
    if (sum === 0) return;
    let upTo = 0;
    for (let bucket = 0; bucket <= bounds.length; bucket++) {
      upTo += metrics.bucket(slot, bucket);
      const le = bucket < bounds.length ? String(bounds[bucket]! / 1000) : "+Inf";
      out.push(`fairlead_proxy_request_duration_seconds_bucket{${labels({ ...series, le })}} ${upTo}`);
    }
    out.push(`fairlead_proxy_request_duration_seconds_sum{${labels(series)}} ${metrics.sum(slot) / 1000}`);
    out.push(`fairlead_proxy_request_duration_seconds_count{${labels(series)}} ${sum}`);
  });
  out.push(...requestLines(metrics, labels));
  family("fairlead_proxy_errors_total", "counter", "Requests that ended for a reason of the proxy's own.");
  for (const [reason, count] of metrics.reasons)
    out.push(`fairlead_proxy_errors_total{${labels({ reason })}} ${count}`);
  family("fairlead_proxy_retries_total", "counter", "Further tries of requests.");
  out.push(`fairlead_proxy_retries_total ${metrics.retries}`);
  family("fairlead_proxy_connections", "gauge", "Open client connections.");
  out.push(`fairlead_proxy_connections ${connections.open}`);
  family("fairlead_proxy_connections_total", "counter", "Accepted client connections.");
  out.push(`fairlead_proxy_connections_total ${connections.accepted}`);
  family(
    "fairlead_proxy_connections_refused_total",
    "counter",
    "Client connections closed because there were too many.",
  );
  out.push(`fairlead_proxy_connections_refused_total ${connections.refused}`);
  family("fairlead_proxy_requests_under_way", "gauge", "Requests that have begun and not ended.");
  out.push(`fairlead_proxy_requests_under_way ${runtime.overload.active}`);
  family("fairlead_proxy_requests_refused_total", "counter", "Requests refused because there was too much to do.");
  out.push(`fairlead_proxy_requests_refused_total ${runtime.overload.refused}`);
  family("fairlead_proxy_memory_bytes", "gauge", "Resident memory.");
  out.push(`fairlead_proxy_memory_bytes ${process.memoryUsage.rss()}`);
  const { handshakes, failures, unknownNames } = listeners.tlsCounts;
  family("fairlead_proxy_tls_handshakes_total", "counter", "TLS handshakes by result.");
  out.push(`fairlead_proxy_tls_handshakes_total{result="ok"} ${handshakes}`);
  out.push(`fairlead_proxy_tls_handshakes_total{result="unknown_name"} ${unknownNames}`);
  out.push(`fairlead_proxy_tls_handshakes_total{result="failed"} ${Math.max(0, failures - unknownNames)}`);
  out.push(...telemetryLines(runtime.telemetry));
  out.push(...relayLines(runtime.relays, labels));
  out.push(...upstreamLines(backends.all(), labels));
  return `${out.join("\n")}\n`;
}

function labels(values: object): string {
  return Object.entries(values)
    .map(([name, value]) => `${name}="${escapeLabel(String(value))}"`)
    .join(",");
}

function escapeLabel(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

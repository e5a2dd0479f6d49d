// The measures of a node's Service rules in Prometheus' text format, under kube-proxy's names (pkg/proxy/metrics/metrics.go,
// 1.36), so that dashboards and alerts made for kube-proxy work. Pure.

import type { ServicePort } from "../../services/service-table.ts";
import type { Histogram, RulesMeasures } from "../rules-measures.ts";
import type { Rules } from "../service-rules.ts";

export interface ProxyMetrics {
  readonly mode: string;
  readonly measures: RulesMeasures;
  readonly rows: Iterable<ServicePort>;
  /** The rules as they should be, for their number by iptables table; undefined for other backends. */
  readonly rules?: Rules;
  /** Answers of `/healthz` and `/livez` so far, by status. */
  readonly healthz: ReadonlyMap<number, number>;
  readonly livez: ReadonlyMap<number, number>;
}

export function metricsText(metrics: ProxyMetrics): string {
  const { mode, measures } = metrics;
  const out: string[] = [];
  const family = (name: string, type: string, help: string, samples: readonly string[]) => {
    if (samples.length === 0) return;
    out.push(`# HELP kubeproxy_${name} [ALPHA] ${help}`, `# TYPE kubeproxy_${name} ${type}`);
    for (const sample of samples) out.push(`kubeproxy_${name}${sample}`);
  };
  const value = (name: string, type: "counter" | "gauge", help: string, number: number) =>
    family(name, type, help, [` ${number}`]);
  const histogram = (name: string, help: string, one: Histogram) => {
    let sum = 0;
    const samples = one.bounds.map((bound, at) => {
      sum += one.counts[at]!;
      return `_bucket{le="${bound}"} ${sum}`;
    });
    family(name, "histogram", help, [
      ...samples,
      `_bucket{le="+Inf"} ${one.count}`,
      `_sum ${one.sum}`,
      `_count ${one.count}`,
    ]);
  };
  const seconds = (at: number | undefined) => (at ?? 0) / 1000;

  histogram("sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds", measures.sync);
  histogram(
    "sync_full_proxy_rules_duration_seconds",
    "SyncProxyRules latency in seconds for full resyncs",
    measures.fullSync,
  );
  histogram(
    "sync_partial_proxy_rules_duration_seconds",
    "SyncProxyRules latency in seconds for partial resyncs",
    measures.partialSync,
  );
  histogram(
    "network_programming_duration_seconds",
    "In Cluster Network Programming Latency in seconds",
    measures.programming,
  );
  value(
    "sync_proxy_rules_last_timestamp_seconds",
    "gauge",
    "The last time proxy rules were successfully synced",
    seconds(measures.lastApplied),
  );
  value(
    "sync_proxy_rules_last_queued_timestamp_seconds",
    "gauge",
    "The last time a sync of proxy rules was queued",
    seconds(measures.lastQueued),
  );
  value(
    "sync_proxy_rules_endpoint_changes_pending",
    "gauge",
    "Pending proxy rules Endpoint changes",
    measures.pendingEndpoints,
  );
  value(
    "sync_proxy_rules_endpoint_changes_total",
    "counter",
    "Cumulative proxy rules Endpoint changes",
    measures.endpointChanges,
  );
  value(
    "sync_proxy_rules_service_changes_pending",
    "gauge",
    "Pending proxy rules Service changes",
    measures.pendingServices,
  );
  value(
    "sync_proxy_rules_service_changes_total",
    "counter",
    "Cumulative proxy rules Service changes",
    measures.serviceChanges,
  );
  if (mode === "iptables") {
    value(
      "sync_proxy_rules_iptables_restore_failures_total",
      "counter",
      "Cumulative proxy iptables restore failures",
      measures.fullFailures + measures.partialFailures,
    );
    value(
      "sync_proxy_rules_iptables_partial_restore_failures_total",
      "counter",
      "Cumulative proxy iptables partial restore failures",
      measures.partialFailures,
    );
    const counts = new Map([
      ["filter", 0],
      ["nat", 0],
    ]);
    for (const [name, lines] of metrics.rules ?? []) {
      const table = name.slice(0, name.indexOf("/"));
      if (counts.has(table)) counts.set(table, counts.get(table)! + lines.length);
    }
    const byTable = [...counts].map(([table, count]) => `{table="${table}"} ${count}`);
    family("sync_proxy_rules_iptables_total", "gauge", "Total number of iptables rules owned by kube-proxy", byTable);
  }
  if (mode === "nftables") {
    value(
      "sync_proxy_rules_nftables_sync_failures_total",
      "counter",
      "Cumulative proxy nftables sync failures",
      measures.fullFailures + measures.partialFailures,
    );
  }
  const without = withoutLocalEndpoints(metrics.rows);
  family(
    "sync_proxy_rules_no_local_endpoints_total",
    "gauge",
    "Number of services with a Local traffic policy and no endpoints",
    [`{traffic_policy="external"} ${without.external}`, `{traffic_policy="internal"} ${without.internal}`],
  );
  histogram(
    "conntrack_reconciler_sync_duration_seconds",
    "ReconcileConntrackFlowsLatency latency in seconds",
    measures.conntrack,
  );
  value(
    "conntrack_reconciler_deleted_entries_total",
    "counter",
    "Cumulative conntrack flows deleted by conntrack reconciler",
    measures.conntrackDeleted,
  );
  const answers = (counts: ReadonlyMap<number, number>) =>
    [...counts].sort(([a], [b]) => a - b).map(([code, count]) => `{code="${code}"} ${count}`);
  family("proxy_healthz_total", "counter", "Cumulative proxy healthz HTTP status", answers(metrics.healthz));
  family("proxy_livez_total", "counter", "Cumulative proxy livez HTTP status", answers(metrics.livez));
  return `${out.join("\n")}\n`;
}

/** Ports that this node cannot serve though another could. */
function withoutLocalEndpoints(rows: Iterable<ServicePort>): { internal: number; external: number } {
  const counts = { internal: 0, external: 0 };
  for (const row of rows) {
    if (!row.hasEndpoints || row.localEndpoints.length > 0) continue;
    if (row.internalPolicyLocal) counts.internal++;
    if (row.externalPolicyLocal) counts.external++;
  }
  return counts;
}

// The measures of a node's Service rules in Prometheus' text format, under kube-proxy's names (pkg/proxy/metrics/metrics.go,
// 1.36), so that dashboards and alerts made for kube-proxy work. Pure.

import type { IpFamily } from "../../base/ip.ts";
import type { ServicePort } from "../../services/service-table.ts";
import type { Histogram, RulesMeasures } from "../rules-measures.ts";
import type { Rules } from "../service-rules.ts";

export interface ProxyMetrics {
  readonly mode: string;
  readonly families: readonly FamilyMetrics[];
  readonly rows: readonly ServicePort[];
  /** Answers of `/healthz` and `/livez` so far, by status. */
  readonly healthz: ReadonlyMap<number, number>;
  readonly livez: ReadonlyMap<number, number>;
}

export interface FamilyMetrics {
  readonly family: IpFamily;
  readonly measures: RulesMeasures;
  /** The rules as they should be, for their number by iptables table; undefined for other backends. */
  rules?(): Rules;
}

export function metricsText({ mode, families, rows, healthz, livez }: ProxyMetrics): string {
  const out: string[] = [];
  const write = (name: string, type: string, help: string, samples: readonly string[]) => {
    if (samples.length === 0) return;
    out.push(`# HELP kubeproxy_${name} [ALPHA] ${help}`, `# TYPE kubeproxy_${name} ${type}`);
    for (const sample of samples) out.push(`kubeproxy_${name}${sample}`);
  };
  const each = (samples: (one: FamilyMetrics, label: string) => readonly string[]) =>
    families.flatMap((one) => samples(one, `ip_family="IPv${one.family}"`));
  const value = (name: string, type: "counter" | "gauge", help: string, number: (of: RulesMeasures) => number) =>
    write(
      name,
      type,
      help,
      each(({ measures }, label) => [`{${label}} ${number(measures)}`]),
    );
  const histogram = (name: string, help: string, of: (measures: RulesMeasures) => Histogram) =>
    write(
      name,
      "histogram",
      help,
      each(({ measures }, label) => histogramSamples(of(measures), label)),
    );

  for (const [name, help, of] of histograms) histogram(name, help, of);
  for (const [name, type, help, of] of values) value(name, type, help, of);
  if (mode === "iptables") {
    value(
      "sync_proxy_rules_iptables_restore_failures_total",
      "counter",
      "Cumulative proxy iptables restore failures",
      (of) => of.fullFailures + of.partialFailures,
    );
    value(
      "sync_proxy_rules_iptables_partial_restore_failures_total",
      "counter",
      "Cumulative proxy iptables partial restore failures",
      (of) => of.partialFailures,
    );
    write(
      "sync_proxy_rules_iptables_total",
      "gauge",
      "Total number of iptables rules owned by kube-proxy",
      each(({ rules }, label) =>
        [...rulesByTable(rules?.() ?? new Map())].map(([table, count]) => `{${label},table="${table}"} ${count}`),
      ),
    );
  }
  if (mode === "nftables") {
    value(
      "sync_proxy_rules_nftables_sync_failures_total",
      "counter",
      "Cumulative proxy nftables sync failures",
      (of) => of.fullFailures + of.partialFailures,
    );
  }
  write(
    "sync_proxy_rules_no_local_endpoints_total",
    "gauge",
    "Number of services with a Local traffic policy and no endpoints",
    each(({ family }, label) => {
      const { external, internal } = withoutLocalEndpoints(rows.filter((row) => row.family === family));
      return [`{${label},traffic_policy="external"} ${external}`, `{${label},traffic_policy="internal"} ${internal}`];
    }),
  );
  const answers = (counts: ReadonlyMap<number, number>) =>
    [...counts].sort(([a], [b]) => a - b).map(([code, count]) => `{code="${code}"} ${count}`);
  write("proxy_healthz_total", "counter", "Cumulative proxy healthz HTTP status", answers(healthz));
  write("proxy_livez_total", "counter", "Cumulative proxy livez HTTP status", answers(livez));
  return `${out.join("\n")}\n`;
}

const seconds = (at: number | undefined) => (at ?? 0) / 1000;

const histograms: readonly (readonly [name: string, help: string, of: (measures: RulesMeasures) => Histogram])[] = [
  ["sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds", (of) => of.sync],
  ["sync_full_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for full resyncs", (of) => of.fullSync],
  [
    "sync_partial_proxy_rules_duration_seconds",
    "SyncProxyRules latency in seconds for partial resyncs",
    (of) => of.partialSync,
  ],
  ["network_programming_duration_seconds", "In Cluster Network Programming Latency in seconds", (of) => of.programming],
  [
    "conntrack_reconciler_sync_duration_seconds",
    "ReconcileConntrackFlowsLatency latency in seconds",
    (of) => of.conntrack,
  ],
];

const values: readonly (readonly [
  name: string,
  type: "counter" | "gauge",
  help: string,
  of: (measures: RulesMeasures) => number,
])[] = [
  [
    "sync_proxy_rules_last_timestamp_seconds",
    "gauge",
    "The last time proxy rules were successfully synced",
    (of) => seconds(of.lastApplied),
  ],
  [
    "sync_proxy_rules_last_queued_timestamp_seconds",
    "gauge",
    "The last time a sync of proxy rules was queued",
    (of) => seconds(of.lastQueued),
  ],
  [
    "sync_proxy_rules_endpoint_changes_pending",
    "gauge",
    "Pending proxy rules Endpoint changes",
    (of) => of.pendingEndpoints,
  ],
  [
    "sync_proxy_rules_endpoint_changes_total",
    "counter",
    "Cumulative proxy rules Endpoint changes",
    (of) => of.endpointChanges,
  ],
  [
    "sync_proxy_rules_service_changes_pending",
    "gauge",
    "Pending proxy rules Service changes",
    (of) => of.pendingServices,
  ],
  [
    "sync_proxy_rules_service_changes_total",
    "counter",
    "Cumulative proxy rules Service changes",
    (of) => of.serviceChanges,
  ],
  [
    "conntrack_reconciler_deleted_entries_total",
    "counter",
    "Cumulative conntrack flows deleted by conntrack reconciler",
    (of) => of.conntrackDeleted,
  ],
];

function histogramSamples(one: Histogram, label: string): readonly string[] {
  let sum = 0;
  const buckets = one.bounds.map((bound, at) => {
    sum += one.counts[at]!;
    return `_bucket{${label},le="${bound}"} ${sum}`;
  });
  return [
    ...buckets,
    `_bucket{${label},le="+Inf"} ${one.count}`,
    `_sum{${label}} ${one.sum}`,
    `_count{${label}} ${one.count}`,
  ];
}

function rulesByTable(rules: Rules): ReadonlyMap<string, number> {
  const counts = new Map([
    ["filter", 0],
    ["nat", 0],
  ]);
  for (const [name, lines] of rules) {
    const table = name.slice(0, name.indexOf("/"));
    if (counts.has(table)) counts.set(table, counts.get(table)! + lines.length);
  }
  return counts;
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

// The DNS server's figures under CoreDNS's names (plugin/metrics, plugin/cache, plugin/forward, plugin/proxy, plugin/kubernetes),
// in Prometheus' text format. On the way of a question only numbers in arrays are added to; text is made when asked for.

import { addressWithPort } from "../base/ip.ts";
import type { ForwardObserver } from "./forwarder.ts";

/** Types with a label of their own; the others are `other` (CoreDNS's plugin/metrics/vars). */
const typeNames = new Map([
  [1, "A"],
  [2, "NS"],
  [5, "CNAME"],
  [6, "SOA"],
  [12, "PTR"],
  [15, "MX"],
  [16, "TXT"],
  [28, "AAAA"],
  [33, "SRV"],
  [43, "DS"],
  [46, "RRSIG"],
  [47, "NSEC"],
  [48, "DNSKEY"],
  [65, "HTTPS"],
  [255, "ANY"],
]);
const typeCount = 256;
const rcodeNames = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];
const rcodeCount = 16;
/** Seconds: CoreDNS's TimeBuckets, 0.25 ms doubled fifteen times. */
const timeBuckets = Array.from({ length: 16 }, (_, at) => 0.00025 * 2 ** at);
/** Seconds: of the Kubernetes programming latency, 1 ms doubled nineteen times. */
const programmingBuckets = Array.from({ length: 20 }, (_, at) => 0.001 * 2 ** at);

class Histogram {
  readonly #bounds: readonly number[];
  readonly #counts: Float64Array;
  #sum = 0;

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  add(value: number): void {
    let at = 0;
    while (at < this.#bounds.length && value > this.#bounds[at]!) at++;
    this.#counts[at]! += 1;
    this.#sum += value;
  }

  lines(name: string, labels: string): string[] {
    let total = 0;
    const buckets = [...this.#counts].map((count, at) => {
      total += count;
      const bound = this.#bounds[at] ?? "+Inf";
      return `${name}_bucket{${labels}${labels && ","}le="${bound}"} ${total}`;
    });
    const own = labels ? `{${labels}}` : "";
    return [...buckets, `${name}_sum${own} ${this.#sum}`, `${name}_count${own} ${total}`];
  }
}

export type Transport = "udp" | "tcp";

export interface MetricsGauges {
  readonly cacheEntries: () => { readonly success: number; readonly denial: number };
  readonly services: () => number;
}

export class DnsMetrics implements ForwardObserver {
  /** Labels of `zone`: the cluster's zones, then `.` for names of others. */
  readonly #zones: readonly string[];
  readonly #server: string;
  readonly #family: string;
  readonly #requests: Float64Array;
  readonly #responses: Float64Array;
  readonly #durations: readonly Histogram[];
  readonly #programming = new Histogram(programmingBuckets);
  readonly #cache = { success: 0, denial: 0, miss: 0, prefetch: 0 };
  readonly #asked = new Map<string, Map<string, Histogram>>();
  #rejects = 0;
  #autopath = 0;
  #reloads = 0;
  #reloadFailures = 0;

  constructor(zones: readonly string[], address: string, port: number) {
    this.#zones = [...zones.map((zone) => `${zone}.`), "."];
    this.#server = `dns://${addressWithPort(address, port)}`;
    this.#family = address.includes(":") ? "2" : "1";
    this.#requests = new Float64Array(this.#zones.length * 2 * typeCount);
    this.#responses = new Float64Array(this.#zones.length * rcodeCount);
    this.#durations = this.#zones.map(() => new Histogram(timeBuckets));
  }

  get zoneCount(): number {
    return this.#zones.length;
  }

  /** The index of names that are not the cluster's. */
  get otherZone(): number {
    return this.#zones.length - 1;
  }

  /** One question answered: `type` and `rcode` by their numbers, `zone` by its index. */
  answered(over: Transport, zone: number, type: number, rcode: number, seconds: number): void {
    const column = type < typeCount ? type : 0;
    this.#requests[(zone * 2 + (over === "udp" ? 0 : 1)) * typeCount + column]! += 1;
    this.#responses[zone * rcodeCount + (rcode & 15)]! += 1;
    this.#durations[zone]!.add(seconds);
  }

  cached(kind: "success" | "denial" | "miss" | "prefetch"): void {
    this.#cache[kind]++;
  }

  asked(to: string, rcode: number | undefined, seconds: number): void {
    const name = rcode === undefined ? "timeout" : (rcodeNames[rcode] ?? String(rcode));
    let byRcode = this.#asked.get(to);
    if (!byRcode) {
      if (this.#asked.size >= 64) return; // servers come and go with the host's networks
      byRcode = new Map();
      this.#asked.set(to, byRcode);
    }
    let histogram = byRcode.get(name);
    if (!histogram) {
      histogram = new Histogram(timeBuckets);
      byRcode.set(name, histogram);
    }
    histogram.add(seconds);
  }

  rejected(): void {
    this.#rejects++;
  }

  searched(): void {
    this.#autopath++;
  }

  programmed(seconds: number): void {
    this.#programming.add(Math.max(0, seconds));
  }

  reloaded(ok: boolean): void {
    if (ok) this.#reloads++;
    else this.#reloadFailures++;
  }

  /** Prometheus' text format 0.0.4. */
  text(gauges: MetricsGauges): string {
    const out: string[] = [];
    const family = (name: string, type: "counter" | "gauge" | "histogram", help: string, lines: readonly string[]) => {
      if (lines.length > 0) out.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...lines);
    };
    const server = `server="${this.#server}"`;
    const own = (zone: string) => `${server},zone="${zone}",view=""`;
    family(
      "coredns_dns_requests_total",
      "counter",
      "Counter of DNS requests made per zone, protocol and family.",
      this.#requestLines(
        (zone, proto, type) =>
          `coredns_dns_requests_total{${own(zone)},proto="${proto}",family="${this.#family}",type="${type}"}`,
      ),
    );
    family(
      "coredns_dns_request_duration_seconds",
      "histogram",
      "Histogram of the time (in seconds) each request took per zone.",
      this.#zones.flatMap((zone, at) => this.#durations[at]!.lines("coredns_dns_request_duration_seconds", own(zone))),
    );
    family(
      "coredns_dns_responses_total",
      "counter",
      "Counter of response status codes.",
      this.#zones.flatMap((zone, at) =>
        Array.from({ length: rcodeCount }, (_, rcode) => rcode).flatMap((rcode) => {
          const count = this.#responses[at * rcodeCount + rcode]!;
          const plugin = zone === "." ? "forward" : "kubernetes";
          const name = rcodeNames[rcode] ?? String(rcode);
          return count === 0
            ? []
            : [`coredns_dns_responses_total{${own(zone)},rcode="${name}",plugin="${plugin}"} ${count}`];
        }),
      ),
    );
    const zones = `${server},zones=".",view=""`;
    const { success, denial, miss, prefetch } = this.#cache;
    family("coredns_cache_hits_total", "counter", "The count of cache hits.", [
      `coredns_cache_hits_total{${zones},type="success"} ${success}`,
      `coredns_cache_hits_total{${zones},type="denial"} ${denial}`,
    ]);
    family("coredns_cache_misses_total", "counter", "The count of cache misses.", [
      `coredns_cache_misses_total{${zones}} ${miss}`,
    ]);
    family("coredns_cache_requests_total", "counter", "The count of cache requests.", [
      `coredns_cache_requests_total{${zones}} ${success + denial + miss}`,
    ]);
    family("coredns_cache_prefetch_total", "counter", "The number of times the cache has prefetched a cached item.", [
      `coredns_cache_prefetch_total{${zones}} ${prefetch}`,
    ]);
    const entries = gauges.cacheEntries();
    family("coredns_cache_entries", "gauge", "The number of elements in the cache.", [
      `coredns_cache_entries{${zones},type="success"} ${entries.success}`,
      `coredns_cache_entries{${zones},type="denial"} ${entries.denial}`,
    ]);
    family(
      "coredns_proxy_request_duration_seconds",
      "histogram",
      "Histogram of the time each request took.",
      [...this.#asked].flatMap(([to, byRcode]) =>
        [...byRcode].flatMap(([rcode, histogram]) =>
          histogram.lines("coredns_proxy_request_duration_seconds", `proxy_name="forward",to="${to}",rcode="${rcode}"`),
        ),
      ),
    );
    family(
      "coredns_forward_max_concurrent_rejects_total",
      "counter",
      "Queries rejected because too many are under way.",
      [`coredns_forward_max_concurrent_rejects_total ${this.#rejects}`],
    );
    family("coredns_autopath_success_total", "counter", "Counter of requests that did autopath.", [
      `coredns_autopath_success_total{${server}} ${this.#autopath}`,
    ]);
    family(
      "coredns_kubernetes_dns_programming_duration_seconds",
      "histogram",
      "Histogram of the time (in seconds) it took to program a dns instance.",
      this.#programming.lines(
        "coredns_kubernetes_dns_programming_duration_seconds",
        'service_kind="headless_with_selector"',
      ),
    );
    family("coredns_reload_total", "counter", "Counter of configurations taken.", [
      `coredns_reload_total ${this.#reloads}`,
    ]);
    family("coredns_reload_failed_total", "counter", "Counter of configurations that were refused.", [
      `coredns_reload_failed_total ${this.#reloadFailures}`,
    ]);
    family("fairlead_dns_services", "gauge", "Services whose names are known.", [
      `fairlead_dns_services ${gauges.services()}`,
    ]);
    family("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", [
      `process_resident_memory_bytes ${process.memoryUsage.rss()}`,
    ]);
    return `${out.join("\n")}\n`;
  }

  #requestLines(name: (zone: string, proto: string, type: string) => string): string[] {
    return this.#zones.flatMap((zone, at) =>
      ["udp", "tcp"].flatMap((proto, protoAt) => {
        const counts = new Map<string, number>();
        for (let type = 0; type < typeCount; type++) {
          const count = this.#requests[(at * 2 + protoAt) * typeCount + type]!;
          const label = typeNames.get(type) ?? "other";
          if (count > 0) counts.set(label, (counts.get(label) ?? 0) + count);
        }
        return [...counts].map(([type, count]) => `${name(zone, proto, type)} ${count}`);
      }),
    );
  }
}

// Figures of connections and UDP sessions that were passed through, as Prometheus lines.

import type { RelayCount, RelayCounts } from "../tcp/counts.ts";
import { family, labels } from "./exposition.ts";

const families: readonly [suffix: string, type: "counter" | "gauge", field: keyof RelayCount, help: string][] = [
  ["connections_total", "counter", "opened", "TCP connections and UDP sessions passed through, by backend."],
  ["connections", "gauge", "open", "TCP connections and UDP sessions that are there."],
  ["received_bytes_total", "counter", "bytesOut", "Bytes from clients to backends."],
  ["sent_bytes_total", "counter", "bytesIn", "Bytes from backends to clients."],
];

export function* relayLines(counts: RelayCounts): Generator<string> {
  for (const [suffix, type, field, help] of families) {
    const name = `fairlead_proxy_relayed_${suffix}`;
    yield family(name, type, help);
    for (const protocol of ["tcp", "udp"] as const) {
      for (const [backend, count] of counts[protocol])
        yield `${name}{${labels({ protocol, backend })}} ${count[field]}\n`;
    }
  }
}

// Figures of relayed connections and sessions, by what they are and by backend: plain numbers that a relay adds to.

/** One backend's. Bytes as the backend sees them. */
export interface RelayCount {
  opened: number;
  open: number;
  /** Sent to the backend, and received from it. */
  bytesOut: number;
  bytesIn: number;
}

/** What is counted as a backend where clients are passed on to where they wanted to go. */
export const original = "original";

/** Most backends that are told apart; further ones are counted together as `other`. */
const maxBackends = 20_000;

export class RelayCounts {
  readonly tcp = new Map<string, RelayCount>();
  readonly udp = new Map<string, RelayCount>();

  of(kind: "tcp" | "udp", backend: string): RelayCount {
    const counts = this[kind];
    let count = counts.get(backend);
    if (!count) {
      if (counts.size >= maxBackends && backend !== "other") return this.of(kind, "other");
      count = { opened: 0, open: 0, bytesOut: 0, bytesIn: 0 };
      counts.set(backend, count);
    }
    return count;
  }
}

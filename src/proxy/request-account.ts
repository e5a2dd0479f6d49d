// What is known of one request while it goes by, and what is told of it at its end: counters, and the lines and the span of its
// listener. `forwarding.ts` fills it in; it is that class's base so that a request is one object.

import type { Attempts } from "./attempts.ts";
import type { CompiledRule, CompiledShare } from "./compile.ts";
import type { Downstream } from "./exchange.ts";
import type { Filtering } from "./filtering.ts";
import { type Reason, reasons } from "./reason.ts";
import type { ProxyRuntime } from "./runtime.ts";
import type { Place } from "./telemetry/access-record.ts";
import type { RequestEnd, Watched } from "./telemetry/watched.ts";
import type { EndpointPool } from "./upstream/pool.ts";
import { turn } from "./wire.ts";

export abstract class RequestAccount implements RequestEnd {
  protected readonly runtime: ProxyRuntime;
  protected readonly down: Downstream;
  /** Who makes the listener's line and the span; undefined where there are none. */
  protected readonly watched: Watched | undefined;
  /** As they came: filters may change the head. */
  readonly path: string;
  readonly authority: string;
  protected rule: CompiledRule | undefined = undefined;
  protected share: CompiledShare | undefined = undefined;
  /** The endpoint of the last try. */
  protected pool: EndpointPool | undefined = undefined;
  tries = 0;
  /** Only where a policy, or a failure, asks for it. */
  protected attempts: Attempts | undefined = undefined;
  /** Only where the rule has filters. */
  protected filtering: Filtering | undefined = undefined;
  /** Of the answer as the client gets it; 0 until it begins. */
  status = 0;
  /** Of bodies, as the client sends and gets them. */
  bytesReceived = 0;
  bytesSent = 0;
  /** What went wrong, when everything is told. */
  reason: Reason | undefined = undefined;
  /** Everything is told. */
  protected over = false;

  constructor(runtime: ProxyRuntime, down: Downstream, watched?: Watched) {
    this.runtime = runtime;
    this.down = down;
    this.watched = watched;
    this.path = down.head.path;
    this.authority = down.head.authority;
  }

  /** Once, when the request is over. `reason`: what went wrong. */
  protected tell(reason: Reason | undefined): void {
    const { metrics } = this.runtime;
    const milliseconds = turn.now - this.down.began;
    const slot = this.share?.slot ?? this.rule?.slot ?? this.runtime.unrouted;
    metrics.record(slot, this.status, milliseconds, this.bytesReceived, this.bytesSent);
    if (reason) metrics.ended(reason, slot);
    if (this.filtering?.delayed) metrics.flagged(slot, "DI");
    if (this.attempts?.limited) metrics.flagged(slot, this.attempts.limited);
    this.reason = reason;
    this.watched?.finished(this);
  }

  get flags(): string {
    const flag: string = this.reason ? reasons[this.reason].flag : "-";
    const limited = this.attempts?.limited;
    if (limited === undefined && !this.filtering?.delayed) return flag;
    // In the order in which they came about, as Envoy has them.
    return [this.filtering?.delayed ? "DI" : "-", flag, limited ?? "-"].filter((one) => one !== "-").join(",");
  }

  get route(): string | undefined {
    return this.rule?.rule.name;
  }

  get backend(): string | undefined {
    return this.share?.backend?.name;
  }

  get upstreamProtocol(): string | undefined {
    // What refused the connection spoke nothing.
    if (this.reason && reasons[this.reason].flag === "UF") return undefined;
    const backend = this.share?.backend;
    if (backend?.useClientProtocol) return this.down.protocol === "HTTP/2" ? "HTTP/2" : "HTTP/1.1";
    return backend && (backend.protocol === "h2c" ? "HTTP/2" : "HTTP/1.1");
  }

  /** Of the last try. */
  get endpoint(): Place | undefined {
    return this.pool;
  }
}

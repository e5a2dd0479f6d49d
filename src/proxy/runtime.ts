// What every exchange of a proxy process shares. One object, made once in `proxy.ts`.

import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import type { Deadlines } from "./deadlines.ts";
import type { FilterRuntime } from "./filters/runtime.ts";
import type { Overload } from "./overload.ts";
import type { ClientTimeouts } from "./server.ts";
import type { RelayCounts } from "./tcp/counts.ts";
import type { OwnEnds } from "./tcp/own-ends.ts";
import type { Metrics } from "./telemetry/metrics.ts";
import type { Telemetry } from "./telemetry/telemetry.ts";
import type { Backends } from "./upstream/backends.ts";

export interface ProxyRuntime {
  readonly clock: Clock;
  readonly log: Logger;
  readonly deadlines: Deadlines;
  readonly backends: Backends;
  readonly filters: FilterRuntime;
  readonly metrics: Metrics;
  readonly relays: RelayCounts;
  /** Of what is relayed, by what it is: one address and port may be both. */
  readonly ownEnds: { readonly tcp: OwnEnds; readonly udp: OwnEnds };
  readonly telemetry: Telemetry;
  /** The series of requests that no rule took. */
  readonly unrouted: number;
  readonly clientTimeouts: ClientTimeouts;
  /** Milliseconds that idle connections stay when the process drains. */
  idleGrace: number;
  /** Of clients. `most`: further ones are closed at once; `overload` sets it. */
  readonly connections: { open: number; accepted: number; refused: number; most: number };
  readonly overload: Overload;
}

// One request that is logged or traced: takes note of what the log line and the span need while the request goes by, and makes
// them at its end. Requests of listeners without access log and tracing have none of it.

import type { TracingSettings } from "../../model/listener-telemetry.ts";
import type { Downstream, ResponseHead } from "../exchange.ts";
import { type HeaderBlock, Kind } from "../headers.ts";
import type { Reason } from "../reason.ts";
import { turn } from "../wire.ts";
import type { AccessRecord, LineFormat } from "./access-log-format.ts";
import type { LogFile } from "./log-files.ts";
import type { Collector, SpanExporter } from "./spans.ts";
import { newId, readTraceContext, traceHeaders } from "./trace-context.ts";

/** What a listener's settings come to. */
export interface ListenerTelemetry {
  readonly log:
    | {
        readonly file: LogFile;
        readonly line: LineFormat;
        readonly sample: number;
        /** Fields of answers that lines have in them, in lower case. */
        readonly responseHeaders: readonly string[];
      }
    | undefined;
  readonly tracing:
    | { readonly settings: TracingSettings; readonly collector: Collector; readonly exporter: SpanExporter }
    | undefined;
  /** `address:port`. */
  readonly local: string;
  /** Milliseconds since 1970 at `turn.now` 0. */
  readonly epoch: number;
}

/** What is known of a request at its end. */
export interface RequestEnd {
  readonly status: number;
  readonly reason: Reason | undefined;
  /** Response flags, separated by commas. */
  readonly flags: string;
  readonly bytesReceived: number;
  readonly bytesSent: number;
  readonly attempts: number;
  readonly route: string | undefined;
  readonly backend: string | undefined;
  readonly endpoint: { readonly address: string; readonly port: number } | undefined;
}

const traceFields = [
  "traceparent",
  "b3",
  "x-b3-traceid",
  "x-b3-spanid",
  "x-b3-parentspanid",
  "x-b3-sampled",
  "x-b3-flags",
];

/** Whether any field begins like those of traces do: most requests of clients have none, and looking for each costs more. */
function carriesTrace(headers: HeaderBlock): boolean {
  const { source, spans, kinds, count } = headers;
  for (let index = 0; index < count; index++) {
    if (kinds[index] !== Kind.other) continue;
    const first = source[spans[index * 4]!]! | 0x20;
    if (first === 0x74 || first === 0x62) return true;
    if (first === 0x78 && (source[spans[index * 4]! + 2]! | 0x20) === 0x62) return true;
  }
  return headers.extra !== undefined;
}

/** A request's watch; undefined when there is nothing to be told of it. */
export function watch(telemetry: ListenerTelemetry, down: Downstream): Watched | undefined {
  const { log, tracing } = telemetry;
  const logged = log !== undefined && (log.sample >= 1 || Math.random() < log.sample);
  if (!logged && !tracing) return undefined;
  return new Watched(telemetry, down, logged);
}

export class Watched implements AccessRecord {
  traceId: string | undefined = undefined;
  readonly method: string;
  readonly authority: string;
  readonly target: string;
  upstreamTime: number | undefined = undefined;
  duration = 0;
  readonly #telemetry: ListenerTelemetry;
  readonly #down: Downstream;
  readonly #logged: boolean;
  #spanId = "";
  #parentId = "";
  #sampled = false;
  #answerFields: (string | undefined)[] | undefined = undefined;
  #end!: RequestEnd;

  /** Filters may change the head; what is told is what came. Puts the context of the trace into it. */
  constructor(telemetry: ListenerTelemetry, down: Downstream, logged: boolean) {
    this.#telemetry = telemetry;
    this.#down = down;
    this.#logged = logged;
    const { head } = down;
    this.method = head.method;
    this.authority = head.authority;
    this.target = head.query === undefined ? head.path : `${head.path}?${head.query}`;
    if (telemetry.tracing) this.#trace(telemetry.tracing.settings);
  }

  #trace({ sample, formats }: TracingSettings): void {
    const { headers } = this.#down.head;
    const carries = carriesTrace(headers);
    const told = carries ? readTraceContext((name) => headers.get(name)) : undefined;
    this.traceId = told?.traceId ?? newId(16);
    this.#parentId = told?.parentId ?? "";
    this.#spanId = newId(8);
    this.#sampled = told?.sampled ?? Math.random() < sample;
    // Malformed ones go, too: the next hop would take them for a trace of its own.
    if (carries) for (const name of traceFields) headers.remove(name);
    for (const format of formats) {
      for (const [name, value] of traceHeaders(format, this.traceId, this.#spanId, this.#sampled))
        headers.add(name, value);
    }
    if (carries && told === undefined) headers.remove("tracestate");
  }

  /** The head of a backend's answer is there. */
  responded(): void {
    this.upstreamTime = turn.now - this.#down.began;
  }

  /** The answer's head, as the client gets it. */
  answered(head: ResponseHead): void {
    const names = this.#logged ? this.#telemetry.log!.responseHeaders : [];
    if (names.length > 0) this.#answerFields = names.map((name) => head.headers.get(name));
  }

  finished(end: RequestEnd): void {
    this.#end = end;
    this.duration = turn.now - this.#down.began;
    const { log, tracing } = this.#telemetry;
    if (this.#logged) log!.file.write(log!.line(this));
    if (!tracing || !this.#sampled) return;
    const { status, reason, route, backend, attempts } = end;
    tracing.exporter.add(tracing.collector, {
      traceId: this.traceId!,
      spanId: this.#spanId,
      parentId: this.#parentId,
      name: route === undefined ? this.method : `${this.method} ${route}`,
      start: this.startTime,
      end: this.startTime + this.duration,
      failed: status === 0 || status >= 500,
      attributes: {
        "http.request.method": this.method,
        "url.scheme": this.#down.head.scheme,
        "url.path": this.target.split("?", 1)[0]!,
        "server.address": this.authority,
        "client.address": this.#down.head.source,
        "http.response.status_code": status === 0 ? undefined : status,
        "error.type": reason,
        "http.request.resend_count": attempts > 1 ? attempts - 1 : undefined,
        "fairlead.route": route,
        "fairlead.backend": backend,
        "network.peer.address": end.endpoint?.address,
      },
    });
  }

  // ------------------------------------------------------------------------------------------- what a line can be made of

  get startTime(): number {
    return this.#telemetry.epoch + this.#down.began;
  }

  get protocol(): string {
    return this.#down.protocol;
  }

  get status(): number {
    return this.#end.status;
  }

  get flags(): string | undefined {
    return this.#end.flags;
  }

  get details(): string | undefined {
    const { reason, endpoint } = this.#end;
    return reason ?? (endpoint ? "via_upstream" : "direct_response");
  }

  get bytesReceived(): number {
    return this.#end.bytesReceived;
  }

  get bytesSent(): number {
    return this.#end.bytesSent;
  }

  get attempts(): number {
    return this.#end.attempts;
  }

  get route(): string | undefined {
    return this.#end.route;
  }

  get backend(): string | undefined {
    return this.#end.backend;
  }

  get endpoint(): string | undefined {
    const { endpoint } = this.#end;
    return endpoint && withPort(endpoint.address, endpoint.port);
  }

  get upstreamLocal(): string | undefined {
    return undefined;
  }

  get downstreamLocal(): string | undefined {
    return this.#telemetry.local;
  }

  get downstreamRemote(): string | undefined {
    return this.#down.head.source;
  }

  get serverName(): string | undefined {
    return this.#down.forwardingLines.serverName;
  }

  get tlsVersion(): string | undefined {
    return this.#down.forwardingLines.tlsVersion;
  }

  get peer(): string | undefined {
    return this.#down.head.client?.uris[0];
  }

  requestHeader(name: string): string | undefined {
    const { headers } = this.#down.head;
    return headers.get(name) ?? (name === "x-request-id" && headers.tailEnd !== "" ? headers.tailEnd : undefined);
  }

  responseHeader(name: string): string | undefined {
    if (name === "x-envoy-upstream-service-time") {
      const { upstreamTime } = this;
      return upstreamTime === undefined ? undefined : String(Math.round(upstreamTime));
    }
    const at = this.#telemetry.log?.responseHeaders.indexOf(name) ?? -1;
    return at < 0 ? undefined : this.#answerFields?.[at];
  }
}

export function withPort(address: string, port: number): string {
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

// One request that is logged or traced: takes note of what the log line and the span need while the request goes by, and has
// them written at its end. Requests of listeners without access log and tracing have none of it.

import type { TracingSettings } from "../../model/listener-telemetry.ts";
import type { Downstream, ResponseHead, Upstream } from "../exchange.ts";
import type { HeaderBlock } from "../headers.ts";
import type { ClientIdentity } from "../listener/client-identity.ts";
import type { ProxyAddresses } from "../listener/proxy-protocol.ts";
import { turn } from "../wire.ts";
import type { AccessRecord, Place } from "./access-record.ts";
import { KeptValues, UpstreamValues } from "./kept-values.ts";
import type { LineFormat } from "./line-format.ts";
import type { LogFile } from "./log-files.ts";
import type { Collector, Span, SpanExporter } from "./spans.ts";
import { TraceContext } from "./trace-context.ts";

/** What a listener's settings come to. */
export interface ListenerTelemetry {
  readonly logs: readonly { readonly file: LogFile; readonly line: LineFormat; readonly sample: number }[];
  /** Fields of answers that lines have in them, in lower case. */
  readonly answerFields: readonly string[];
  readonly trailers: readonly string[];
  /** Lines have values in them that are kept by the connections to backends. */
  readonly tellsOfUpstreams: boolean;
  readonly tracing:
    | { readonly settings: TracingSettings; readonly collector: Collector; readonly exporter: SpanExporter }
    | undefined;
  readonly local: Place;
  /** Milliseconds since 1970 at `turn.now` 0. */
  readonly epoch: number;
}

/** A line in each log that wants one. */
export function writeLines({ logs }: ListenerTelemetry, record: AccessRecord): void {
  for (let index = 0; index < logs.length; index++) {
    const { file, line, sample } = logs[index]!;
    if (sample >= 1 || Math.random() < sample) file.write(line, record);
  }
}

/** What is known of a request at its end. */
export interface RequestEnd
  extends Pick<
    AccessRecord,
    "authority" | "path" | "status" | "flags" | "bytesReceived" | "bytesSent" | "route" | "upstreamProtocol"
  > {
  /** What went wrong. */
  readonly reason: string | undefined;
  readonly tries: number;
  readonly backend: string | undefined;
  readonly endpoint: Place | undefined;
}

export class Watched implements AccessRecord {
  readonly trace: TraceContext | undefined;
  /** As it came, whatever filters change of the head; without what they say is a secret. */
  query: string | undefined;
  upstreamTime = -1;
  upstreamValues: UpstreamValues | undefined = undefined;
  answerFields: readonly (string | undefined)[] | undefined = undefined;
  trailers: readonly (string | undefined)[] | undefined = undefined;
  requestTime = -1;
  readonly #telemetry: ListenerTelemetry;
  readonly #down: Downstream;
  #end!: RequestEnd;

  constructor(telemetry: ListenerTelemetry, down: Downstream) {
    this.#telemetry = telemetry;
    this.#down = down;
    const { head } = down;
    const { tracing } = telemetry;
    this.query = head.query;
    this.trace = tracing && new TraceContext(head.headers, tracing.settings.sample);
  }

  /** The head is as the backend gets it, but for what filters do that (with `last`) look at no trace. */
  passOn(headers: HeaderBlock, last: boolean): void {
    this.trace?.passOn(headers, this.#telemetry.tracing!.settings.formats, last);
  }

  /** It goes to a backend, perhaps not for the first time. Asking for an address is a system call: only where a line has it. */
  connected(upstream: Upstream): void {
    if (!this.#telemetry.tellsOfUpstreams) return;
    upstream.told ??= new UpstreamValues(upstream.wire);
    this.upstreamValues = upstream.told;
  }

  /** The head of a backend's answer is there. */
  responded(): void {
    this.upstreamTime = turn.now - this.#down.began;
  }

  /** The answer's head, as the client gets it. */
  answered(head: ResponseHead): void {
    const { answerFields } = this.#telemetry;
    if (answerFields.length > 0) this.answerFields = answerFields.map((name) => head.headers.get(name));
  }

  /** The request is there to its end. */
  requested(): void {
    if (this.requestTime < 0) this.requestTime = turn.now - this.#down.began;
  }

  /** The answer's trailers, as the backend sent them. */
  ending(trailers: HeaderBlock): void {
    const { trailers: names } = this.#telemetry;
    if (names.length > 0) this.trailers = names.map((name) => trailers.get(name));
  }

  finished(end: RequestEnd): void {
    this.#end = end;
    if (this.#telemetry.logs.length > 0) {
      this.clientValues.of(this.#telemetry, this.source, end.authority, this.headers.tail);
      this.upstreamValues?.of(this.#telemetry, end.backend, end.endpoint, undefined);
      writeLines(this.#telemetry, this);
    }
    const { tracing } = this.#telemetry;
    if (tracing && this.trace!.sampled) tracing.exporter.add(tracing.collector, this.#span(this.trace!));
  }

  #span(trace: TraceContext): Span {
    const { status, reason, route, backend, tries, path, authority, endpoint } = this.#end;
    return {
      traceId: trace.traceId,
      spanId: trace.spanId,
      parentId: trace.parentId,
      name: route === undefined ? this.method : `${this.method} ${route}`,
      start: this.startTime,
      end: this.startTime + this.duration,
      failed: status === 0 || status >= 500,
      attributes: {
        "http.request.method": this.method,
        "url.scheme": this.scheme,
        "url.path": path,
        "server.address": authority,
        "client.address": this.source,
        "http.response.status_code": status === 0 ? undefined : status,
        "error.type": reason,
        "http.request.resend_count": tries > 1 ? tries - 1 : undefined,
        "fairlead.route": route,
        "fairlead.backend": backend,
        "network.peer.address": endpoint?.address,
      },
    };
  }

  // ------------------------------------------------------------------------------------------- what a line can be made of

  get startTime(): number {
    return this.#telemetry.epoch + this.#down.began;
  }

  get duration(): number {
    return turn.now - this.#down.began;
  }

  get protocol(): string {
    return this.#down.protocol;
  }

  get method(): string {
    return this.#down.head.method;
  }

  get scheme(): string {
    return this.#down.head.scheme;
  }

  get authority(): string | undefined {
    return this.#end.authority;
  }

  get path(): string | undefined {
    return this.#end.path;
  }

  get headers(): HeaderBlock {
    return this.#down.head.headers;
  }

  get status(): number {
    return this.#end.status;
  }

  get flags(): string {
    return this.#end.flags;
  }

  get details(): string {
    return this.#end.reason ?? (this.#end.endpoint ? "via_upstream" : "direct_response");
  }

  get bytesReceived(): number {
    return this.#end.bytesReceived;
  }

  get bytesSent(): number {
    return this.#end.bytesSent;
  }

  get attempts(): number {
    return this.#end.tries;
  }

  get route(): string | undefined {
    return this.#end.route;
  }

  get backend(): string | undefined {
    return this.#end.backend;
  }

  get endpoint(): Place | undefined {
    return this.#end.endpoint;
  }

  get upstreamLocal(): Place | undefined {
    return this.upstreamValues?.local;
  }

  get clientValues(): KeptValues {
    const lines = this.#down.forwardingLines;
    lines.told ??= new KeptValues();
    return lines.told;
  }

  get local(): Place {
    return this.#telemetry.local;
  }

  get addresses(): ProxyAddresses | undefined {
    return this.#down.forwardingLines.addresses;
  }

  get source(): string {
    return this.#down.head.source;
  }

  get serverName(): string | undefined {
    return this.#down.forwardingLines.serverName;
  }

  get tlsVersion(): string | undefined {
    return this.#down.forwardingLines.tlsVersion;
  }

  get peerUri(): string | undefined {
    return this.#down.head.client?.uris[0];
  }

  get peer(): ClientIdentity | undefined {
    return this.#down.head.client;
  }

  get upstreamProtocol(): string | undefined {
    return this.#end.upstreamProtocol;
  }

  get peerSubject(): string | undefined {
    return this.#down.head.client?.subject;
  }
}

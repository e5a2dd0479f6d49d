// Spans on their way to a collector: gathered in a bounded queue, sent in batches as OTLP/HTTP with JSON
// (opentelemetry-proto docs: OTLP/HTTP, JSON Protobuf encoding; names of attributes from the HTTP semantic conventions). What the
// queue has no room for, or a collector does not take, is dropped and counted: traces are samples, and traffic comes first.

import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { BackendName } from "../../model/model.ts";
import { type CallRequest, call } from "../call.ts";
import type { Deadlines } from "../deadlines.ts";
import type { Backends } from "../upstream/backends.ts";

/** A request as the collector is told of it. Times in milliseconds since 1970. */
export interface Span {
  readonly traceId: string;
  readonly spanId: string;
  /** Empty: the trace begins here. */
  readonly parentId: string;
  readonly name: string;
  readonly start: number;
  readonly end: number;
  readonly failed: boolean;
  readonly attributes: Readonly<Record<string, string | number | undefined>>;
}

export interface Collector {
  readonly backend: BackendName;
  readonly path: string;
  readonly service: string;
}

const maxQueue = 4_096;
const maxBatch = 512;
const interval = 1_000;
const timeout = 10_000;
/** SPAN_KIND_SERVER and STATUS_CODE_ERROR of the protocol. */
const server = 2;
const error = 2;

export class SpanExporter {
  readonly counts = { sent: 0, dropped: 0, failed: 0 };
  readonly #runtime: { backends: Backends; deadlines: Deadlines };
  readonly #log: Logger;
  readonly #queues = new Map<string, { readonly collector: Collector; spans: Span[]; sending: boolean }>();
  #told = false;

  constructor(runtime: { backends: Backends; deadlines: Deadlines }, clock: Clock, log: Logger) {
    this.#runtime = runtime;
    this.#log = log;
    clock.every(interval, () => this.flush());
  }

  add(collector: Collector, span: Span): void {
    const key = `${collector.backend} ${collector.path} ${collector.service}`;
    let queue = this.#queues.get(key);
    if (!queue) {
      queue = { collector, spans: [], sending: false };
      this.#queues.set(key, queue);
    }
    if (queue.spans.length >= maxQueue) {
      this.counts.dropped++;
      return;
    }
    queue.spans.push(span);
  }

  /** Batches that are under way, or wait. */
  get waiting(): number {
    return this.#queues.size;
  }

  /** Sends what is there: one batch a collector at a time, so that a slow one is not buried. */
  flush(): void {
    for (const [key, queue] of this.#queues) {
      if (queue.sending) continue;
      if (queue.spans.length === 0) {
        this.#queues.delete(key);
        continue;
      }
      const batch = queue.spans.splice(0, maxBatch);
      queue.sending = true;
      call(this.#runtime, exportRequest(queue.collector, batch), (end) => {
        queue.sending = false;
        const status = typeof end === "string" ? end : end.status;
        if (typeof status === "number" && status < 300) this.counts.sent += batch.length;
        else {
          this.counts.failed += batch.length;
          if (!this.#told)
            this.#log.warn("the collector does not take spans; they are dropped", { ...queue.collector, status });
          this.#told = true;
        }
        if (queue.spans.length >= maxBatch) this.flush();
      });
    }
  }
}

export function exportRequest({ backend, path, service }: Collector, spans: readonly Span[]): CallRequest {
  const body = {
    resourceSpans: [
      {
        resource: { attributes: attributesOf({ "service.name": service }) },
        scopeSpans: [{ scope: { name: "fairlead.proxy" }, spans: spans.map(inProtocol) }],
      },
    ],
  };
  return {
    backend,
    method: "POST",
    scheme: "http",
    authority: backend.split("/").slice(1, 3).reverse().join(".") || backend,
    path,
    headers: [{ name: "content-type", value: "application/json" }],
    body: [Buffer.from(JSON.stringify(body))],
    timeout,
    maxBytes: "discard",
  };
}

function inProtocol({ traceId, spanId, parentId, name, start, end, failed, attributes }: Span): object {
  return {
    ...{ traceId, spanId, ...(parentId === "" ? {} : { parentSpanId: parentId }), name, kind: server },
    startTimeUnixNano: nanoseconds(start),
    endTimeUnixNano: nanoseconds(end),
    attributes: attributesOf(attributes),
    status: failed ? { code: error } : {},
  };
}

function nanoseconds(milliseconds: number): string {
  return `${Math.round(milliseconds * 1000)}000`;
}

function attributesOf(attributes: Span["attributes"]): object[] {
  return Object.entries(attributes).flatMap(([key, value]) => {
    if (value === undefined) return [];
    return [{ key, value: typeof value === "number" ? { intValue: String(value) } : { stringValue: value } }];
  });
}

// What a proxy tells of its listeners' requests: their settings made ready to run, and what all of them share.

import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { AccessLogSettings } from "../../model/listener-telemetry.ts";
import type { Listener, ListenerName } from "../../model/model.ts";
import type { Deadlines } from "../deadlines.ts";
import type { Backends } from "../upstream/backends.ts";
import { turn } from "../wire.ts";
import { lineFormat } from "./line-format.ts";
import type { AskedOfAnswers } from "./line-piece.ts";
import { LogFiles } from "./log-files.ts";
import { SpanExporter } from "./spans.ts";
import type { ListenerTelemetry } from "./watched.ts";

export class Telemetry {
  readonly files: LogFiles;
  readonly spans: SpanExporter;
  readonly #clock: Clock;
  /** By listener: the path of its access log. */
  readonly #paths = new Map<ListenerName, string>();

  /** Of all listeners. */
  readonly #common: AccessLogSettings | undefined;

  /** `common`: a log that all listeners write to besides their own. Throws an Error when it cannot be opened. */
  constructor(
    runtime: { backends: Backends; deadlines: Deadlines },
    clock: Clock,
    log: Logger,
    common?: AccessLogSettings,
  ) {
    this.#clock = clock;
    this.#common = common;
    this.files = new LogFiles(clock, log);
    if (common) this.files.open(common.path);
    this.spans = new SpanExporter(runtime, clock, log);
  }

  /** Of a listener that is put in force now; undefined when it tells nothing. Throws an Error when its log cannot be opened. */
  of({ name, accessLog, tracing, address, port }: Listener): ListenerTelemetry | undefined {
    if (accessLog) this.files.open(accessLog.path);
    if (this.#paths.get(name) !== accessLog?.path) this.forget(name);
    if (accessLog) this.#paths.set(name, accessLog.path);
    const settings = [accessLog, this.#common].filter((one) => one !== undefined);
    if (settings.length === 0 && !tracing) return undefined;
    const asked: AskedOfAnswers = { fields: [], trailers: [], kept: 0 };
    const logs = settings.map(({ path, format, sample = 1 }) => ({
      file: this.files.open(path),
      line: lineFormat(format, asked),
      sample,
    }));
    return {
      logs,
      answerFields: asked.fields,
      trailers: asked.trailers,
      tellsOfUpstreams: logs.some(({ line }) => line.tellsOfUpstreams),
      tracing: tracing && {
        settings: tracing,
        collector: { backend: tracing.backend, path: tracing.path ?? "/v1/traces", service: tracing.service },
        exporter: this.spans,
      },
      local: { address, port },
      epoch: this.#clock.now() - turn.source(),
    };
  }

  /** Writes and sends what waits, as far as a moment suffices. */
  async end(): Promise<void> {
    this.files.close();
    this.spans.flush();
    await new Promise<void>((resolve) => void this.#clock.after(this.spans.waiting > 0 ? lastBatches : 0, resolve));
  }

  /** A listener is gone. Its last requests may still be under way, so that its log is closed a while later. */
  forget(name: ListenerName): void {
    if (!this.#paths.delete(name)) return;
    this.#clock.after(closeAfter, () =>
      this.files.keep(new Set([...this.#paths.values(), ...(this.#common ? [this.#common.path] : [])])),
    );
  }
}

/** Milliseconds: longer than a drain. */
const closeAfter = 60_000;
/** Milliseconds for spans at the end of the process. */
const lastBatches = 500;

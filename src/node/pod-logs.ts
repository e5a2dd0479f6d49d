// The logs of pods, read from the files of their node: what `kubectl logs` asks of a kubelet. Stand-ins log one line a request;
// commands log what they write. (The shape is that of the API server's `PodLogs`, which this room does not import.)

import { closeSync, existsSync, openSync, readdirSync, readSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Pod } from "../api/kinds.ts";
import { type KubeObject, nameOf } from "../api/object.ts";
import { StatusError } from "../api/status-error.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import type { Collection } from "../collections/collection.ts";
import { type LineFilter, LineSplitter, type LogFormat, parseLine, showLine } from "./log-lines.ts";
import { podFiles } from "./pod-files.ts";
import { logTime } from "./standin/container-log.ts";

export interface LogRequest {
  readonly container: string;
  readonly follow: boolean;
  readonly previous: boolean;
  readonly timestamps: boolean;
  /** Milliseconds since the epoch. */
  readonly since?: number;
  readonly tailLines?: number;
  readonly limitBytes?: number;
}

export interface LogSink {
  /** False: wait for `onDrain`. */
  write(chunk: string | Uint8Array): boolean;
  end(): void;
  onDrain(then: () => void): void;
}

export interface PodLogsOptions {
  readonly pods: Collection<KubeObject>;
  /** The state directory of a node's agent; undefined for a node that is not ours. */
  readonly stateDir: (node: string) => string | undefined;
  readonly clock?: Clock;
}

/** How often a followed file is looked at, in milliseconds. */
const lookEvery = 100;
const chunkSize = 64 * 1024;

export class PodLogFiles {
  readonly #options: PodLogsOptions;
  readonly #clock: Clock;

  constructor(options: PodLogsOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Throws a StatusError when there is nothing to read. */
  open(
    pod: { readonly namespace: string; readonly name: string; readonly uid: string },
    request: LogRequest,
    sink: LogSink,
  ): Disposable {
    const found = this.#options.pods.get(nameOf(pod.namespace, pod.name)) as Pod | undefined;
    const stateDir = this.#options.stateDir(found?.spec?.nodeName ?? "");
    const log = stateDir && found?.metadata.uid === pod.uid ? newestLog(stateDir, pod.uid, request) : undefined;
    if (!log) {
      const what = request.previous ? "previous terminated container" : "container";
      const reason = request.previous ? "not found" : "is waiting to start: ContainerCreating";
      throw new StatusError(400, "BadRequest", `${what} "${request.container}" in pod "${pod.name}" ${reason}`);
    }
    const alive = () => {
      const now = this.#options.pods.get(nameOf(pod.namespace, pod.name)) as Pod | undefined;
      return now?.metadata.uid === pod.uid && !hasMovedOn(now, request.container, log.attempt);
    };
    const reading = new Reading(
      log,
      request,
      sink,
      request.follow && !request.previous ? alive : () => false,
      this.#clock,
    );
    reading.start();
    return reading;
  }
}

interface LogFile {
  readonly path: string;
  readonly format: LogFormat;
  readonly attempt: number;
}

/** The log of the run that is asked for: the newest one, or the one before. */
function newestLog(stateDir: string, uid: string, request: LogRequest): LogFile | undefined {
  const folder = join(podFiles(stateDir, uid).folder, request.container);
  if (!existsSync(folder)) return undefined;
  const logs = readdirSync(folder)
    .map((name) => /^([0-9]+)\.(log|out)$/.exec(name))
    .filter((match) => match !== null)
    .map((match) => ({
      path: join(folder, match[0]),
      format: match[2] === "log" ? ("cri" as const) : ("plain" as const),
      attempt: Number(match[1]),
    }))
    .sort((a, b) => b.attempt - a.attempt);
  return logs[request.previous ? 1 : 0];
}

/** Whether this run of the container is over. */
function hasMovedOn(pod: Pod, container: string, attempt: number): boolean {
  const statuses = [...(pod.status?.containerStatuses ?? []), ...(pod.status?.initContainerStatuses ?? [])];
  const status = statuses.find((one) => one.name === container);
  return status !== undefined && (status.restartCount > attempt || status.state?.terminated !== undefined);
}

/** One client's reading of one file. */
class Reading implements Disposable {
  readonly #log: LogFile;
  readonly #sink: LogSink;
  readonly #clock: Clock;
  readonly #filter: LineFilter;
  readonly #alive: () => boolean;
  readonly #tailLines: number | undefined;
  readonly #splitter = new LineSplitter();
  #left: number;
  #offset = 0;
  #following = false;
  #ended = false;
  #timer: Disposable | undefined;

  constructor(log: LogFile, request: LogRequest, sink: LogSink, alive: () => boolean, clock: Clock) {
    this.#log = log;
    this.#sink = sink;
    this.#clock = clock;
    this.#alive = alive;
    this.#tailLines = request.tailLines;
    this.#left = request.limitBytes ?? Number.POSITIVE_INFINITY;
    const { since, timestamps } = request;
    this.#filter = { timestamps, ...(since === undefined ? {} : { since }) };
  }

  start(): void {
    const put = `${this.#log.path}.1`;
    if (this.#tailLines !== undefined) this.#offset = tailOffset(this.#log.path, this.#tailLines);
    else if (existsSync(put)) {
      // What was put aside when the file grew long comes first; it is complete.
      for (let at = 0; ; ) {
        const chunk = readChunk(put, at);
        if (!chunk) break;
        at += chunk.length;
        this.#show(this.#splitter.push(chunk));
      }
    }
    this.#read();
  }

  dispose(): void {
    this.#ended = true;
    this.#timer?.dispose();
  }

  /** Reads what is there, as fast as the sink takes it; then waits for more, or ends. */
  #read(): void {
    // What is written after this look and before the end of the run must still be read.
    const alive = this.#alive();
    while (!this.#ended) {
      if ((statSync(this.#log.path, { throwIfNoEntry: false })?.size ?? 0) < this.#offset) this.#offset = 0;
      const chunk = readChunk(this.#log.path, this.#offset);
      if (!chunk) break;
      this.#offset += chunk.length;
      if (!this.#show(this.#splitter.push(chunk))) {
        this.#sink.onDrain(() => this.#read());
        return;
      }
    }
    if (this.#ended) return;
    if (!alive) {
      const rest = this.#splitter.rest();
      if (rest !== "") this.#show([rest]);
      this.#finish();
      return;
    }
    this.#following = true;
    this.#timer = this.#clock.after(lookEvery, () => this.#read());
  }

  /** False when the sink wants a pause. */
  #show(lines: readonly string[]): boolean {
    const otherwise = logTime(this.#following ? this.#clock.now() : modified(this.#log.path));
    let text = "";
    for (const line of lines) text += showLine(parseLine(line, this.#log.format, otherwise), this.#filter) ?? "";
    if (text === "") return true;
    let bytes: Uint8Array = Buffer.from(text);
    if (bytes.length >= this.#left) bytes = bytes.subarray(0, this.#left);
    this.#left -= bytes.length;
    const goOn = this.#sink.write(bytes);
    if (this.#left <= 0) this.#finish();
    return goOn;
  }

  #finish(): void {
    if (this.#ended) return;
    this.dispose();
    this.#sink.end();
  }
}

function modified(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now();
}

function readChunk(path: string, offset: number): Buffer | undefined {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch {
    return undefined;
  }
  try {
    const chunk = Buffer.allocUnsafe(chunkSize);
    const read = readSync(fd, chunk, 0, chunkSize, offset);
    return read === 0 ? undefined : chunk.subarray(0, read);
  } finally {
    closeSync(fd);
  }
}

/** Where the last `count` lines of a file begin. */
export function tailOffset(path: string, count: number): number {
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  if (count <= 0) return size;
  let found = 0;
  for (let end = size; end > 0; ) {
    const start = Math.max(0, end - chunkSize);
    const chunk = readChunk(path, start)?.subarray(0, end - start);
    if (!chunk) return 0;
    for (let at = chunk.length - 1; at >= 0; at--) {
      // The newline that ends the file begins no line.
      if (chunk[at] !== 10 || start + at === size - 1) continue;
      if (++found === count) return start + at + 1;
    }
    end = start;
  }
  return 0;
}

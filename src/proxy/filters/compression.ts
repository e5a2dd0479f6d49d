// Codes answers that the client takes coded (RFC 9110 §8.4): gzip, br and zstd by node:zlib, off the event loop, flushed when the
// backend pauses. What is coded already, short, partial, or marked no-transform (RFC 9111 §5.2.2.6) passes as it is.

import zlib from "node:zlib";
import { type Coding, chosenCoding, typeListed } from "../../model/content-coding.ts";
import type { Compression } from "../../model/filters.ts";
import { BodyStage } from "../body-stage.ts";
import { Deadline, type Deadlines } from "../deadlines.ts";
import type { ResponseHead } from "../exchange.ts";
import type { Filter, FilterExchange } from "../filter.ts";
import type { HeaderBlock } from "../headers.ts";
import { beginTurn, endTurn } from "../wire.ts";
import { addToList } from "./fields.ts";

/** Milliseconds that a coder may keep what came last. */
const flushAfter = 20;
/** Coders at a time in this process, of at most about 2 MiB each; further answers go as they are. */
const maxCoders = 512;
/** Base 2 logarithm of the window of br and zstd: 512 KiB, what is worth its memory for answers of the usual sizes. */
const window = 19;
let coders = 0;

export const compression: Filter<"compression"> = {
  kind: "compression",
  compile: (config, { deadlines }) => ({
    request(head, exchange) {
      exchange.keep(config, chosenCoding(config.codings, head.headers.get("accept-encoding")));
      return undefined;
    },
    response(head, exchange) {
      if (head.status === 101 || !fits(config, head, exchange)) return undefined;
      const { headers } = head;
      addToList(headers, "vary", "accept-encoding");
      const coding = exchange.kept<Coding>(config);
      if (coding === undefined || coders >= maxCoders) return undefined;
      const tag = headers.get("etag");
      if (tag !== undefined && !tag.startsWith("W/")) headers.set("etag", `W/${tag}`);
      if (head.status === 304) return undefined;
      headers.set("content-encoding", coding);
      headers.remove("content-length");
      headers.remove("accept-ranges");
      for (const digest of ["digest", "content-digest", "content-md5"]) headers.remove(digest);
      if (exchange.bodiless) return undefined;
      const { length } = head;
      head.length = -1;
      exchange.putResponseStage(new Coder(coder(coding, config.level, length), deadlines, exchange));
      return undefined;
    },
  }),
};

/** Whether this answer is one that is coded for clients that take it. */
function fits(
  { minBytes, types }: Compression,
  { status, headers, length }: ResponseHead,
  { bodiless }: FilterExchange,
) {
  if (status === 204 || status === 206) return false;
  if (headers.get("cache-control")?.toLowerCase().includes("no-transform")) return false;
  if (status === 304) return true;
  if ((headers.get("content-encoding") ?? "identity").toLowerCase() !== "identity") return false;
  if (!typeListed(types, headers.get("content-type"))) return false;
  const known = bodiless ? Number(headers.get("content-length") ?? -1) : length;
  return known < 0 || known >= minBytes;
}

function coder(
  coding: Coding,
  level: number | undefined,
  length: number,
): zlib.Gzip | zlib.BrotliCompress | zlib.ZstdCompress {
  const { constants } = zlib;
  if (coding === "gzip") return zlib.createGzip({ level: level ?? 6 });
  if (coding === "br") {
    const params = {
      [constants.BROTLI_PARAM_QUALITY]: level ?? 5,
      [constants.BROTLI_PARAM_LGWIN]: window,
      [constants.BROTLI_PARAM_SIZE_HINT]: Math.max(0, Math.min(length, 2 ** 30)),
    };
    return zlib.createBrotliCompress({ params });
  }
  const params = { [constants.ZSTD_c_compressionLevel]: level ?? 3, [constants.ZSTD_c_windowLog]: window };
  return zlib.createZstdCompress({ params });
}

/** A stage around a coder of node:zlib, whose events are turns of their own. */
class Coder extends BodyStage {
  readonly #coder: ReturnType<typeof coder>;
  readonly #deadlines: Deadlines;
  readonly #pause: Flush;
  #trailers: HeaderBlock | undefined = undefined;
  #over = false;

  constructor(made: ReturnType<typeof coder>, deadlines: Deadlines, exchange: FilterExchange) {
    super();
    coders++;
    this.#coder = made;
    this.#deadlines = deadlines;
    this.#pause = new Flush(made);
    made.on("data", (bytes: Buffer) => this.#inTurn(() => this.#coded(bytes)));
    made.on("drain", () => this.#inTurn(() => this.writerResume()));
    made.on("end", () => this.#inTurn(() => this.#ended()));
    made.on("error", () => this.#inTurn(() => exchange.fail("upstream_malformed")));
  }

  override write(chunk: Buffer, start: number, end: number): boolean {
    this.#deadlines.arm(this.#pause, flushAfter);
    return this.#coder.write(start === 0 && end === chunk.length ? chunk : chunk.subarray(start, end));
  }

  override end(trailers?: HeaderBlock): void {
    this.#deadlines.disarm(this.#pause);
    this.#trailers = trailers;
    this.#coder.end();
  }

  #coded(bytes: Buffer): void {
    if (!this.next.write(bytes, 0, bytes.length)) this.#coder.pause();
  }

  #ended(): void {
    this.#close();
    this.next.end(this.#trailers);
  }

  override drained(): void {
    this.#coder.resume();
  }

  override cancel(): void {
    this.#deadlines.disarm(this.#pause);
    this.#close();
    this.#coder.destroy();
  }

  #close(): void {
    if (!this.#over) coders--;
    this.#over = true;
  }

  #inTurn(run: () => void): void {
    if (this.#over) return;
    beginTurn();
    run();
    endTurn();
  }
}

/** The backend has paused: what the coder holds goes out. */
class Flush extends Deadline {
  readonly #coder: ReturnType<typeof coder>;

  constructor(made: ReturnType<typeof coder>) {
    super();
    this.#coder = made;
  }

  expired(): void {
    this.#coder.flush(this.#coder instanceof zlib.BrotliCompress ? zlib.constants.BROTLI_OPERATION_FLUSH : undefined);
  }
}

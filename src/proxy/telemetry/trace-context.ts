// Where a request stands in a distributed trace: read from what came (W3C Trace Context level 1 `traceparent`, Zipkin's B3 in one
// header or several), and passed on with this proxy's span as the parent. Ids are kept as numbers and become digits when the head
// is sent: every request has one, and hardly any is recorded. What is malformed is as if it were not there (W3C §3.3.1.1).

import type { TraceFormat } from "../../model/listener-telemetry.ts";
import { type FinishedLine, type HeaderBlock, Kind } from "../headers.ts";
import { hexWord } from "../hex.ts";

/** Fields that tell of traces, by format; they are replaced as a whole. */
const traceFields: Readonly<Record<TraceFormat, readonly string[]>> = {
  w3c: ["traceparent"],
  b3: ["b3"],
  b3multi: ["x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags"],
};
const allFormats = Object.keys(traceFields) as TraceFormat[];
const noFormats: readonly TraceFormat[] = [];

/** `traceparent: ` and version 00, 32 digits of the trace, 16 of the span, and flags. */
const line = Buffer.from(`traceparent: 00-${"0".repeat(32)}-${"0".repeat(16)}-00\r\n`);
const traceAt = 16;
const spanAt = 49;
const flagsAt = 67;

/** Random bits, taken from the system in large pieces. */
const pool = new Int32Array(2048);
let used = pool.length;

function random(): number {
  if (used === pool.length) {
    crypto.getRandomValues(pool);
    used = 0;
  }
  return pool[used++]!;
}

/** A request's place in its trace, and the span that this proxy is. */
export class TraceContext implements FinishedLine {
  /** Whether the span is recorded. */
  readonly sampled: boolean;
  /** The caller said so for whoever comes behind, too (B3's debug). */
  #debug = false;
  /** What the caller told of the trace in. */
  #told: readonly TraceFormat[] = noFormats;
  /** 128 bits, from the left. */
  #trace0 = 0;
  #trace1 = 0;
  #trace2 = 0;
  #trace3 = 0;
  /** 64 bits of the caller's span; all 0: the trace begins here. */
  #parent0 = 0;
  #parent1 = 0;
  readonly #span0: number;
  readonly #span1: number;

  /**
   * Takes what the request says of its trace out of its head. `share`: of traces that begin here and of those that nobody decided
   * about, those that are recorded, 0 to 1.
   */
  constructor(headers: HeaderBlock, share: number) {
    let sampled: boolean | undefined;
    if (carriesTrace(headers)) {
      const traceparent = headers.get("traceparent");
      if (traceparent !== undefined) sampled = this.#readTraceparent(Buffer.from(traceparent, "latin1"));
      if (!this.#isTold) sampled = this.#readB3(headers);
      if (this.#isTold || sampled !== undefined)
        this.#told = allFormats.filter((format) => traceFields[format].some((name) => headers.get(name) !== undefined));
      // Malformed ones go, too: the next hop would take them for a trace of its own.
      for (const format of allFormats) for (const name of traceFields[format]) headers.remove(name);
      if (!this.#isTold) headers.remove("tracestate");
    }
    if (!this.#isTold) {
      this.#trace0 = random();
      this.#trace1 = random();
      this.#trace2 = random();
      this.#trace3 = random() || 1;
    }
    this.#span0 = random();
    this.#span1 = random() || 1;
    this.sampled = sampled ?? (share > 0 && Math.random() < share);
  }

  get #isTold(): boolean {
    return (this.#parent0 | this.#parent1) !== 0;
  }

  /** What the caller decided; undefined when it is malformed. */
  #readTraceparent(bytes: Uint8Array): boolean | undefined {
    const { length } = bytes;
    if (length < 55 || bytes[2] !== hyphen || bytes[35] !== hyphen || bytes[52] !== hyphen) return undefined;
    const version = digits(bytes, 0, 2);
    const flags = digits(bytes, 53, 55);
    // Version 00 is all of the text; later ones may have more behind; ff is forbidden.
    if (version < 0 || version === 0xff || flags < 0) return undefined;
    if (length > 55 && (version === 0 || bytes[55] !== hyphen)) return undefined;
    return this.#take(bytes, 3, 35, 36) ? (flags & 1) === 1 : undefined;
  }

  /** What the caller decided, if it did; undefined also when it is malformed. A decision may stand alone, without ids. */
  #readB3(headers: HeaderBlock): boolean | undefined {
    const single = headers.get("b3")?.split("-");
    if (single?.length === 1) return this.#decided(single[0]);
    const [trace, span, state] =
      single ?? ["x-b3-traceid", "x-b3-spanid", "x-b3-sampled"].map((name) => headers.get(name));
    const decided = single === undefined && headers.get("x-b3-flags") === "1" ? "d" : state;
    if (trace === undefined && span === undefined) return this.#decided(decided);
    if ((trace?.length !== 16 && trace?.length !== 32) || span?.length !== 16) return undefined;
    const bytes = Buffer.from(`${trace.padStart(32, "0")}${span}`, "latin1");
    return this.#take(bytes, 0, 32, 32) ? this.#decided(decided) : undefined;
  }

  #decided(state: string | undefined): boolean | undefined {
    this.#debug = state === "d";
    if (state === "1" || state === "d" || state === "true") return true;
    return state === "0" || state === "false" ? false : undefined;
  }

  /** The ids of a caller. False when one is not hexadecimal or all zero. */
  #take(bytes: Uint8Array, start: number, end: number, parentAt: number): boolean {
    for (let at = start; at < end; at++) if (hexValues[bytes[at]!]! < 0) return false;
    for (let at = parentAt; at < parentAt + 16; at++) if (hexValues[bytes[at]!]! < 0) return false;
    const trace0 = word(bytes, start);
    const trace1 = word(bytes, start + 8);
    const trace2 = word(bytes, start + 16);
    const trace3 = word(bytes, start + 24);
    const parent0 = word(bytes, parentAt);
    const parent1 = word(bytes, parentAt + 8);
    if ((trace0 | trace1 | trace2 | trace3) === 0 || (parent0 | parent1) === 0) return false;
    this.#trace0 = trace0;
    this.#trace1 = trace1;
    this.#trace2 = trace2;
    this.#trace3 = trace3;
    this.#parent0 = parent0;
    this.#parent1 = parent1;
    return true;
  }

  /**
   * Puts it into the head that the backend gets, in these formats and in those that the caller used: what is behind us may know no
   * others. With `last`, nothing looks at the head or changes it any more. `tracestate` is passed on by whoever passes on fields.
   */
  passOn(headers: HeaderBlock, formats: readonly TraceFormat[], last: boolean): void {
    for (const format of formats) this.#add(headers, format, last);
    for (const format of this.#told) if (!formats.includes(format)) this.#add(headers, format, last);
  }

  #add(headers: HeaderBlock, format: TraceFormat, last: boolean): void {
    if (format === "w3c" && last) headers.last = this;
    else for (const [name, value] of this.#fields(format)) headers.add(name, value);
  }

  #fields(format: TraceFormat): readonly (readonly [name: string, value: string])[] {
    const { traceId, spanId, parentId } = this;
    const sampled = this.sampled ? "1" : "0";
    switch (format) {
      case "w3c":
        return [["traceparent", `00-${traceId}-${spanId}-0${sampled}`]];
      case "b3": {
        const parent = parentId === "" ? "" : `-${parentId}`;
        return [["b3", `${traceId}-${spanId}-${this.#debug ? "d" : sampled}${parent}`]];
      }
      case "b3multi":
        return [
          ["x-b3-traceid", traceId],
          ["x-b3-spanid", spanId],
          ...(parentId === "" ? [] : ([["x-b3-parentspanid", parentId]] as const)),
          // Debug says so by itself.
          this.#debug ? ["x-b3-flags", "1"] : ["x-b3-sampled", sampled],
        ];
    }
  }

  line(): Buffer {
    this.writeTraceId(line, traceAt);
    this.writeSpanId(line, spanAt);
    line[flagsAt] = this.sampled ? 0x31 : 0x30;
    return line;
  }

  /** 32 digits; returns where they end. */
  writeTraceId(to: Uint8Array, at: number): number {
    return hexWord(
      to,
      hexWord(to, hexWord(to, hexWord(to, at, this.#trace0), this.#trace1), this.#trace2),
      this.#trace3,
    );
  }

  /** 16 digits; returns where they end. */
  writeSpanId(to: Uint8Array, at: number): number {
    return hexWord(to, hexWord(to, at, this.#span0), this.#span1);
  }

  get traceId(): string {
    return text(this.#trace0, this.#trace1, this.#trace2, this.#trace3);
  }

  get spanId(): string {
    return text(this.#span0, this.#span1);
  }

  /** Empty: the trace begins here. */
  get parentId(): string {
    return this.#isTold ? text(this.#parent0, this.#parent1) : "";
  }
}

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

const hyphen = 0x2d;

/** Lower case only, as both formats have it; -1: no digit. */
const hexValues = new Int8Array(256).fill(-1);
for (let value = 0; value < 16; value++) hexValues[value.toString(16).charCodeAt(0)] = value;

/** A number of a few digits; negative when one is none. */
function digits(bytes: Uint8Array, start: number, end: number): number {
  let value = 0;
  for (let at = start; at < end; at++) {
    const digit = hexValues[bytes[at]!]!;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

/** 32 bits from eight digits. */
function word(bytes: Uint8Array, at: number): number {
  let bits = 0;
  for (let index = at; index < at + 8; index++) bits = (bits << 4) | hexValues[bytes[index]!]!;
  return bits;
}

function text(...words: readonly number[]): string {
  return words.map((bits) => (bits >>> 0).toString(16).padStart(8, "0")).join("");
}

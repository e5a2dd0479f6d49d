// Where a request stands in a distributed trace: read from what came (W3C Trace Context level 1 `traceparent`, Zipkin's B3 in one
// header or several), and written for the backend with this proxy's span as the parent. Ids are lower-case hexadecimal. What is
// malformed is as if it were not there (W3C §3.3.1.1).

import type { TraceFormat } from "../../model/listener-telemetry.ts";

export interface TraceContext {
  /** 32 digits. */
  readonly traceId: string;
  /** 16 digits: the caller's span. */
  readonly parentId: string;
  /** Undefined: nobody decided yet (B3 without a sampled state). */
  readonly sampled: boolean | undefined;
}

/** A header's value by its lower-case name. */
export type HeaderLookup = (name: string) => string | undefined;

const zeros = /^0+$/;

/** The context of a request, W3C's before B3's. */
export function readTraceContext(header: HeaderLookup): TraceContext | undefined {
  const parent = header("traceparent");
  return (parent === undefined ? undefined : readTraceparent(parent)) ?? readB3(header);
}

function readTraceparent(text: string): TraceContext | undefined {
  const match = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(text);
  if (!match) return undefined;
  const [, version, traceId, parentId, flags, more] = match as unknown as [
    string,
    string,
    string,
    string,
    string,
    string?,
  ];
  // Version 00 is all of the text; later ones may have more behind; ff is forbidden.
  if (version === "ff" || (version === "00" && more !== undefined)) return undefined;
  if (zeros.test(traceId) || zeros.test(parentId)) return undefined;
  return { traceId, parentId, sampled: (Number.parseInt(flags, 16) & 1) === 1 };
}

function readB3(header: HeaderLookup): TraceContext | undefined {
  const single = header("b3")?.split("-");
  const [traceId, parentId, state] = single ?? [header("x-b3-traceid"), header("x-b3-spanid"), header("x-b3-sampled")];
  if (traceId === undefined || parentId === undefined) return undefined;
  if (!/^([0-9a-f]{16}|[0-9a-f]{32})$/.test(traceId) || !/^[0-9a-f]{16}$/.test(parentId)) return undefined;
  if (zeros.test(traceId) || zeros.test(parentId)) return undefined;
  const decided = single === undefined && header("x-b3-flags") === "1" ? "d" : state;
  const sampled =
    decided === "1" || decided === "d" || decided === "true"
      ? true
      : decided === "0" || decided === "false"
        ? false
        : undefined;
  return { traceId: traceId.padStart(32, "0"), parentId, sampled };
}

/** Headers that tell a backend of the span `spanId` of this proxy. `tracestate` is passed on by whoever passes on headers. */
export function traceHeaders(
  format: TraceFormat,
  traceId: string,
  spanId: string,
  sampled: boolean,
): readonly (readonly [name: string, value: string])[] {
  switch (format) {
    case "w3c":
      return [["traceparent", `00-${traceId}-${spanId}-0${sampled ? 1 : 0}`]];
    case "b3":
      return [["b3", `${traceId}-${spanId}-${sampled ? 1 : 0}`]];
    case "b3multi":
      return [
        ["x-b3-traceid", traceId],
        ["x-b3-spanid", spanId],
        ["x-b3-sampled", sampled ? "1" : "0"],
      ];
  }
}

const pool = new Uint8Array(4096);
let used = pool.length;

/** A new id of so many bytes; never all zeros. Random bytes are taken from the system in large pieces. */
export function newId(bytes: 8 | 16): string {
  if (used + bytes > pool.length) {
    crypto.getRandomValues(pool);
    used = 0;
  }
  const id = pool.subarray(used, used + bytes).toHex();
  used += bytes;
  return zeros.test(id) ? newId(bytes) : id;
}

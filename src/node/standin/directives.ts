// What a request can ask of a stand-in, in its query (`?status=503&delay=200ms`) or in a header
// (`x-stand-in: status=503, delay=200ms`). The header wins. In the query, a value that is none of ours (`?status=open`) is
// taken as the application's own and passed over; in the header it is an error.

import type { StandInRequest } from "./request.ts";

/** How a request wants to be answered. */
export interface Directives {
  /** 200 to 599. */
  readonly status?: number;
  /** Milliseconds before the answer begins; at most an hour. */
  readonly delay?: number;
  /** Answer with this many bytes of text instead of JSON; at most 1 GiB. */
  readonly size?: number;
  /** Answer with `Transfer-Encoding: chunked` instead of a Content-Length. */
  readonly chunked?: boolean;
  /** Of a call of gRPC: answer with this code and nothing else. */
  readonly grpcStatus?: number;
  /** Instead of an answer: end the connection. */
  readonly abort?: boolean;
  /** Headers added to the answer. */
  readonly headers?: readonly (readonly [string, string])[];
}

type Mutable = { -readonly [K in keyof Directives]: Directives[K] };

const none: Directives = {};
const headerName = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const headerValue = /^[\x20-\x7e\t]*$/;

/** What a request asks for, in either form. Throws an Error that says which part of its header is wrong. */
export function directivesOf({ target, headers }: Pick<StandInRequest, "target" | "headers">): Directives {
  const mark = target.indexOf("?");
  const header = headers.find(([name]) => name.length === 10 && name.toLowerCase() === "x-stand-in");
  return readDirectives(mark < 0 ? "" : target.slice(mark + 1), header?.[1]);
}

/** Reads both forms. Throws an Error that says which part of the header is wrong. */
export function readDirectives(query: string, header: string | undefined): Directives {
  if (query === "" && header === undefined) return none;
  const found: Mutable = {};
  for (const part of query === "" ? [] : query.split("&")) {
    const equals = part.indexOf("=");
    const name = equals < 0 ? part : part.slice(0, equals);
    if (!(name in readers)) continue;
    read(found, name, equals < 0 ? "" : decode(part.slice(equals + 1)));
  }
  for (const part of header === undefined ? [] : header.split(",")) {
    const text = part.trim();
    if (text === "") continue;
    const equals = text.indexOf("=");
    const name = (equals < 0 ? text : text.slice(0, equals)).trim();
    if (!read(found, name, equals < 0 ? "" : text.slice(equals + 1).trim())) {
      const known = Object.keys(readers).join(", ");
      throw new Error(`x-stand-in: "${text}" is not understood (known: ${known}; status=503, delay=200ms, size=1024)`);
    }
  }
  return found;
}

/** Each takes a value into what was found, or says that it is none. */
const readers: Readonly<Record<string, (found: Mutable, value: string) => boolean>> = {
  status(found, value) {
    const status = Number(value);
    if (!/^[2-5][0-9][0-9]$/.test(value)) return false;
    found.status = status;
    return true;
  },
  "grpc-status"(found, value) {
    if (!/^([0-9]|1[0-6])$/.test(value)) return false;
    found.grpcStatus = Number(value);
    return true;
  },
  delay(found, value) {
    const match = /^([0-9]+(?:\.[0-9]+)?)(ms|s|m)$/.exec(value);
    if (!match) return false;
    const unit = match[2] === "ms" ? 1 : match[2] === "s" ? 1000 : 60_000;
    found.delay = Math.min(Number(match[1]) * unit, 3_600_000);
    return true;
  },
  size(found, value) {
    const match = /^([0-9]{1,10})(k|m)?$/i.exec(value);
    if (!match) return false;
    const unit = match[2] === undefined ? 1 : match[2].toLowerCase() === "k" ? 1024 : 1024 * 1024;
    found.size = Math.min(Number(match[1]) * unit, 1024 * 1024 * 1024);
    return true;
  },
  chunked(found, value) {
    if (value !== "" && value !== "true" && value !== "1") return false;
    found.chunked = true;
    return true;
  },
  abort(found, value) {
    if (value !== "" && value !== "true" && value !== "1") return false;
    found.abort = true;
    return true;
  },
  header(found, value) {
    const colon = value.indexOf(":");
    const name = value.slice(0, colon).trim();
    const text = value.slice(colon + 1).trim();
    if (colon < 1 || !headerName.test(name) || !headerValue.test(text)) return false;
    if (/^(content-length|transfer-encoding|connection)$/i.test(name)) return false;
    found.headers = [...(found.headers ?? []), [name, text]];
    return true;
  },
};

function read(found: Mutable, name: string, value: string): boolean {
  return Object.hasOwn(readers, name) && readers[name]!(found, value);
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch {
    return text;
  }
}

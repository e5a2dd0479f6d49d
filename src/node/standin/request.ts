// Reading HTTP/1.1 requests (RFC 9112) from the bytes of one connection: strict, incremental, pipelined. It keeps the headers
// as they were sent, in order, and of a body its beginning and its length. Not the proxy's parser, on purpose: the
// thing that a test measures with must not share the faults of the thing that is measured.

/** The longest head (request line and headers), in bytes. */
const longestHead = 64 * 1024;
/** How much of a body is kept to be shown. */
export const keptBody = 64 * 1024;

export interface StandInRequest {
  readonly method: string;
  readonly target: string;
  readonly version: "1.0" | "1.1" | "2.0";
  /** Of HTTP/2, where no Host field need say it. */
  readonly authority?: string;
  /** In the order they came, names as they were written. */
  readonly headers: readonly (readonly [string, string])[];
  readonly keepAlive: boolean;
  readonly expectContinue: boolean;
  /** The first bytes of the body; complete when `bodyLength` is its length. */
  body: Buffer;
  bodyLength: number;
}

/** Why a connection cannot be read further. */
export interface RequestError {
  readonly status: 400 | 431 | 501 | 505;
  readonly reason: string;
}

const empty = Buffer.alloc(0);
const tchar = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

type Mode = "head" | "length" | "chunk-size" | "chunk-data" | "chunk-end" | "trailers";

export class RequestReader {
  #pending: Buffer = empty;
  #mode: Mode = "head";
  #request: StandInRequest | undefined;
  #left = 0;
  #continue = false;
  error: RequestError | undefined;

  /** Adds bytes; call `next` until it has nothing more. */
  push(chunk: Buffer): void {
    this.#pending = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
  }

  get buffered(): number {
    return this.#pending.length;
  }

  /** What was read and belongs to no request, for who goes on with another protocol. */
  takeRest(): Buffer {
    const rest = this.#pending;
    this.#pending = empty;
    return rest;
  }

  /** True once for each request that waits for `100 Continue` before it sends its body. */
  takeContinue(): boolean {
    const wanted = this.#continue;
    this.#continue = false;
    return wanted;
  }

  /** Whether no part of a request has been read yet. */
  get between(): boolean {
    return this.#mode === "head" && this.#pending.length === 0;
  }

  /** The next complete request; undefined when more bytes are needed or `error` is set. */
  next(): StandInRequest | undefined {
    for (;;) {
      if (this.error) return undefined;
      switch (this.#mode) {
        case "head": {
          if (!this.#readHead()) return undefined;
          if (this.#mode === "head") return this.#done();
          break;
        }
        case "length": {
          this.#takeBody();
          if (this.#left > 0) return undefined;
          return this.#done();
        }
        case "chunk-size": {
          const line = this.#line();
          if (line === undefined) return undefined;
          const size = /^([0-9a-fA-F]{1,12})(?:[ \t]*;.*)?$/.exec(line);
          if (!size) return this.#fail(400, "a chunk size is no hexadecimal number");
          this.#left = Number.parseInt(size[1]!, 16);
          this.#mode = this.#left === 0 ? "trailers" : "chunk-data";
          break;
        }
        case "chunk-data": {
          this.#takeBody();
          if (this.#left > 0) return undefined;
          this.#mode = "chunk-end";
          break;
        }
        case "chunk-end": {
          const line = this.#line();
          if (line === undefined) return undefined;
          if (line !== "") return this.#fail(400, "a chunk is longer than it says");
          this.#mode = "chunk-size";
          break;
        }
        case "trailers": {
          const line = this.#line();
          if (line === undefined) return undefined;
          if (line === "") return this.#done();
          break;
        }
      }
    }
  }

  #done(): StandInRequest {
    const request = this.#request!;
    this.#request = undefined;
    this.#mode = "head";
    return request;
  }

  #fail(status: RequestError["status"], reason: string): undefined {
    this.error = { status, reason };
    this.#pending = empty;
    return undefined;
  }

  #line(): string | undefined {
    const end = this.#pending.indexOf("\r\n");
    if (end < 0) {
      if (this.#pending.length > longestHead) this.#fail(431, "a line is too long");
      return undefined;
    }
    const line = this.#pending.toString("latin1", 0, end);
    this.#pending = this.#pending.subarray(end + 2);
    return line;
  }

  #takeBody(): void {
    const part = this.#pending.length <= this.#left ? this.#pending : this.#pending.subarray(0, this.#left);
    if (part.length === 0) return;
    const request = this.#request!;
    if (request.bodyLength < keptBody) {
      request.body = Buffer.concat([request.body, part.subarray(0, keptBody - request.bodyLength)]);
    }
    request.bodyLength += part.length;
    this.#left -= part.length;
    this.#pending = this.#pending.subarray(part.length);
  }

  /** Reads a head if it is whole. Leaves the mode at "head" when the request has no body. */
  #readHead(): boolean {
    // Empty lines before a request are allowed (RFC 9112, 2.2).
    while (this.#pending.length >= 2 && this.#pending[0] === 13 && this.#pending[1] === 10) {
      this.#pending = this.#pending.subarray(2);
    }
    const end = this.#pending.indexOf("\r\n\r\n");
    if (end < 0 || end > longestHead) {
      if (this.#pending.length > longestHead) this.#fail(431, `the head is longer than ${longestHead} bytes`);
      return false;
    }
    const text = this.#pending.toString("latin1", 0, end);
    this.#pending = this.#pending.subarray(end + 4);

    let at = text.indexOf("\r\n");
    const requestLine = at < 0 ? text : text.slice(0, at);
    const firstSpace = requestLine.indexOf(" ");
    const lastSpace = requestLine.lastIndexOf(" ");
    const method = requestLine.slice(0, firstSpace);
    const target = requestLine.slice(firstSpace + 1, lastSpace);
    const protocol = requestLine.slice(lastSpace + 1);
    if (firstSpace < 1 || lastSpace <= firstSpace || target === "" || target.includes(" ") || !tchar.test(method)) {
      this.#fail(400, "the request line is none");
      return false;
    }
    if (protocol !== "HTTP/1.1" && protocol !== "HTTP/1.0") {
      this.#fail(/^HTTP\/[0-9]/.test(protocol) ? 505 : 400, `the protocol ${JSON.stringify(protocol)} is not HTTP/1.1`);
      return false;
    }

    const headers: (readonly [string, string])[] = [];
    let length: number | undefined;
    let chunked = false;
    let close = protocol === "HTTP/1.0";
    let expectContinue = false;
    while (at >= 0) {
      const start = at + 2;
      at = text.indexOf("\r\n", start);
      const line = at < 0 ? text.slice(start) : text.slice(start, at);
      const colon = line.indexOf(":");
      const name = line.slice(0, colon);
      if (colon < 1 || !tchar.test(name)) {
        this.#fail(400, "a header line has no valid name");
        return false;
      }
      const value = line.slice(colon + 1).trim();
      headers.push([name, value]);
      switch (name.toLowerCase()) {
        case "content-length": {
          if (!/^[0-9]{1,15}$/.test(value) || (length !== undefined && length !== Number(value))) {
            this.#fail(400, "Content-Length is no number");
            return false;
          }
          length = Number(value);
          break;
        }
        case "transfer-encoding": {
          if (value.toLowerCase() !== "chunked" || chunked) {
            this.#fail(501, `Transfer-Encoding ${value} is not known`);
            return false;
          }
          chunked = true;
          break;
        }
        case "connection": {
          const lower = value.toLowerCase();
          if (lower.includes("close")) close = true;
          else if (lower.includes("keep-alive")) close = false;
          break;
        }
        case "expect": {
          expectContinue = value.toLowerCase() === "100-continue";
          break;
        }
      }
    }
    if (chunked && length !== undefined) {
      this.#fail(400, "both Content-Length and Transfer-Encoding are there");
      return false;
    }
    const version = protocol === "HTTP/1.1" ? "1.1" : "1.0";
    this.#request = {
      method,
      target,
      version,
      headers,
      keepAlive: !close,
      expectContinue,
      body: empty,
      bodyLength: 0,
    };
    if (chunked) this.#mode = "chunk-size";
    else if (length !== undefined && length > 0) {
      this.#mode = "length";
      this.#left = length;
    }
    this.#continue = expectContinue && this.#mode !== "head" && this.#pending.length === 0;
    return true;
  }
}

// One HTTP request and its answer as the API server sees them, so that nothing behind this file depends on the HTTP
// implementation. Bodies are bounded (kube-apiserver's 3 MiB, MaxRequestBodyBytes).

import type { IncomingMessage, ServerResponse } from "node:http";
import { gzip } from "node:zlib";
import { StatusError } from "../api/status-error.ts";

/** staging/src/k8s.io/apiserver/pkg/server/config.go: MaxRequestBodyBytes. */
const maxBodyBytes = 3 * 1024 * 1024;

/** Answers at least this long are compressed for clients that ask for it (apiserver's defaultGzipThresholdBytes). */
const gzipFrom = 128 * 1024;

export class Exchange {
  readonly method: string;
  readonly #rawPath: string;
  readonly query: URLSearchParams;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #warnings: string[] = [];
  #onClose: (() => void)[] = [];
  #closed = false;

  constructor(request: IncomingMessage, response: ServerResponse) {
    this.#request = request;
    this.#response = response;
    this.method = request.method ?? "GET";
    const target = request.url ?? "/";
    const mark = target.indexOf("?");
    this.#rawPath = mark < 0 ? target : target.slice(0, mark);
    this.query = new URLSearchParams(mark < 0 ? "" : target.slice(mark + 1));
    response.on("close", () => {
      this.#closed = true;
      for (const end of this.#onClose) end();
      this.#onClose = [];
    });
  }

  /** Decoded. Throws BadRequest when it is not percent-encoded correctly. */
  get path(): string {
    return decodePath(this.#rawPath);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The client has gone, or all has been sent. */
  onClose(end: () => void): void {
    if (this.#closed) end();
    else this.#onClose.push(end);
  }

  header(name: string): string | undefined {
    const value = this.#request.headers[name];
    return Array.isArray(value) ? value.join(", ") : value;
  }

  /** Each value of a header that may be repeated. */
  headerValues(name: string): readonly string[] {
    const raw = this.#request.rawHeaders;
    const values: string[] = [];
    for (let i = 0; i + 1 < raw.length; i += 2) if (raw[i]!.toLowerCase() === name) values.push(raw[i + 1]!);
    return values;
  }

  get headerNames(): readonly string[] {
    return Object.keys(this.#request.headers);
  }

  /** A text that the client shows to its user (RFC 9111 Warning, code 299). */
  warn(text: string): void {
    if (!this.#warnings.includes(text)) this.#warnings.push(text);
  }

  /** The whole body. Throws RequestEntityTooLarge beyond the bound. */
  async body(): Promise<Buffer> {
    const tooLarge = () =>
      new StatusError(413, "RequestEntityTooLarge", `Request entity too large: limit is ${maxBodyBytes}`);
    if (Number(this.header("content-length") ?? 0) > maxBodyBytes) throw tooLarge();
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of this.#request) {
      size += (chunk as Buffer).length;
      if (size > maxBodyBytes) throw tooLarge();
      chunks.push(chunk as Buffer);
    }
    return chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
  }

  /** Answers with a whole body. */
  send(code: number, contentType: string, body: string | Buffer, headers: Readonly<Record<string, string>> = {}): void {
    if (this.#closed || this.#response.headersSent) return;
    const bytes = typeof body === "string" ? Buffer.from(body) : body;
    if (bytes.length >= gzipFrom && /\bgzip\b/.test(this.header("accept-encoding") ?? "")) {
      gzip(bytes, { level: 1 }, (error, packed) => {
        if (error || this.#closed) this.#finish(code, contentType, bytes, headers);
        else {
          this.#finish(code, contentType, packed, { ...headers, "content-encoding": "gzip", vary: "Accept-Encoding" });
        }
      });
      return;
    }
    this.#finish(code, contentType, bytes, headers);
  }

  /** Starts an answer of unknown length. */
  stream(code: number, contentType: string): BodyStream {
    const response = this.#response;
    response.writeHead(code, this.#head(contentType, {}));
    response.flushHeaders();
    return {
      write: (chunk) => !this.#closed && response.write(chunk),
      end: () => response.end(),
      reset: () => response.destroy(),
      onDrain: (then) => {
        response.on("drain", then);
      },
    };
  }

  /** Like {@link stream}, and nothing is sent before the first write, so that a failure until then is an answer of its own. */
  lazyStream(code: number, contentType: string): BodyStream & { begin(): void } {
    let started: BodyStream | undefined;
    let drained: (() => void)[] = [];
    const start = () => {
      if (!started) {
        started = this.stream(code, contentType);
        for (const then of drained) started.onDrain(then);
        drained = [];
      }
      return started;
    };
    return {
      begin: () => void start(),
      write: (chunk) => start().write(chunk),
      end: () => start().end(),
      reset: () => start().reset(),
      onDrain: (then) => {
        if (started) started.onDrain(then);
        else drained.push(then);
      },
    };
  }

  #finish(code: number, contentType: string, bytes: Buffer, headers: Readonly<Record<string, string>>): void {
    if (this.#closed) return;
    // A body that was not read to its end would be taken for the next request.
    const close = this.#request.complete ? {} : { connection: "close" };
    this.#response.writeHead(code, {
      ...this.#head(contentType, headers),
      "content-length": String(bytes.length),
      ...close,
    });
    this.#response.end(this.method === "HEAD" ? undefined : bytes);
  }

  #head(contentType: string, headers: Readonly<Record<string, string>>): Record<string, string | string[]> {
    return {
      "content-type": contentType,
      "cache-control": "no-cache, private",
      ...(this.#warnings.length > 0 ? { warning: this.#warnings.map((text) => `299 - ${quoted(text)}`) } : {}),
      ...headers,
    };
  }
}

export interface BodyStream {
  /** False: it has been taken, and more should wait for `onDrain`. */
  write(chunk: string | Uint8Array): boolean;
  end(): void;
  /** Breaks the connection off, so that the client sees that it did not get all. */
  reset(): void;
  onDrain(then: () => void): void;
}

function decodePath(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    throw new StatusError(400, "BadRequest", `the path ${JSON.stringify(path)} is not percent-encoded correctly`);
  }
}

/** A quoted-string; control characters have no place in a header. */
function quoted(text: string): string {
  return `"${text.replace(/[\x00-\x1f\x7f]/g, " ").replace(/["\\]/g, (character) => `\\${character}`)}"`;
}

// HTTP/1.1 messages read by a second, small and slow parser, so that tests do not judge the proxy by its own code: an origin that
// records what came on each connection and answers each request it can make out, and a reader of answers. It knows only the
// plain spelling in which a proxy must write: CRLF, one Content-Length or `chunked`, no folding; anything else is `broken`.

import type { Socket } from "bun";

export interface ReferenceMessage {
  readonly start: string;
  /** Names in lower case, in the order they came. */
  readonly fields: readonly (readonly [string, string])[];
  readonly body: string;
  readonly trailers: readonly (readonly [string, string])[];
}

export interface Reading {
  readonly messages: readonly ReferenceMessage[];
  /** What follows the last whole message. */
  readonly rest: string;
  /** Why what follows can be no message; undefined while it may still become one. */
  readonly broken: string | undefined;
}

export function field(message: ReferenceMessage, name: string): string | undefined {
  return message.fields.find(([one]) => one === name)?.[1];
}

/** Reads all messages of a connection. `over`: no more will come, so that an answer without a length ends here. */
export function readMessages(text: string, kind: "request" | "response", over = false): Reading {
  const messages: ReferenceMessage[] = [];
  let at = 0;
  for (;;) {
    const result = readOne(text, at, kind, over);
    if (typeof result !== "object") return { messages, rest: text.slice(at), broken: result };
    messages.push(result.message);
    at = result.end;
  }
}

const startLines = {
  request: /^[!#$%&'*+.^_`|~0-9A-Za-z-]+ [!-~]+ HTTP\/1\.1$/,
  response: /^HTTP\/1\.[01] \d{3}( .*)?$/,
};

function fieldsOf(lines: readonly string[]): [string, string][] | string {
  const fields: [string, string][] = [];
  for (const line of lines) {
    const match = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\0-\x08\x0a-\x1f\x7f]*?)[ \t]*$/.exec(line);
    if (!match) return `no field line: ${JSON.stringify(line)}`;
    fields.push([match[1]!.toLowerCase(), match[2]!]);
  }
  return fields;
}

/** A message and its end, or why there is none, or undefined while bytes are missing. */
function readOne(
  text: string,
  at: number,
  kind: "request" | "response",
  over: boolean,
): { message: ReferenceMessage; end: number } | string | undefined {
  const headEnd = text.indexOf("\r\n\r\n", at);
  if (headEnd < 0) return undefined;
  const [start, ...lines] = text.slice(at, headEnd).split("\r\n") as [string, ...string[]];
  if (!startLines[kind].test(start)) return `no start line: ${JSON.stringify(start)}`;
  const fields = fieldsOf(lines);
  if (typeof fields === "string") return fields;
  const all = (name: string) => fields.filter(([one]) => one === name).map(([, value]) => value);
  const lengths = all("content-length");
  const codings = all("transfer-encoding");
  const from = headEnd + 4;
  if (lengths.length + codings.length > 1) return "more than one length";
  const status = kind === "response" ? Number(start.slice(9, 12)) : 0;
  const empty = { message: { start, fields, body: "", trailers: [] }, end: from };
  if (status > 0 && (status < 200 || status === 204 || status === 304)) return empty;
  if (codings.length === 1) {
    if (codings[0]!.toLowerCase() !== "chunked") return `the coding ${codings[0]}`;
    return readChunks(text, from, start, fields);
  }
  if (lengths.length === 1) {
    if (!/^\d+$/.test(lengths[0]!)) return `the length ${lengths[0]}`;
    const end = from + Number(lengths[0]);
    return end > text.length
      ? undefined
      : { message: { start, fields, body: text.slice(from, end), trailers: [] }, end };
  }
  if (kind === "request") return empty;
  return over ? { message: { start, fields, body: text.slice(from), trailers: [] }, end: text.length } : undefined;
}

function readChunks(text: string, from: number, start: string, fields: readonly (readonly [string, string])[]) {
  let at = from;
  let body = "";
  for (;;) {
    const lineEnd = text.indexOf("\r\n", at);
    if (lineEnd < 0) return undefined;
    const size = text.slice(at, lineEnd);
    if (!/^[0-9a-fA-F]+$/.test(size)) return `the chunk size ${JSON.stringify(size)}`;
    const length = Number.parseInt(size, 16);
    if (length === 0) {
      if (text.startsWith("\r\n", lineEnd + 2))
        return { message: { start, fields, body, trailers: [] }, end: lineEnd + 4 };
      const end = text.indexOf("\r\n\r\n", lineEnd + 2);
      if (end < 0) return undefined;
      const trailers = fieldsOf(text.slice(lineEnd + 2, end).split("\r\n"));
      if (typeof trailers === "string") return trailers;
      return { message: { start, fields, body, trailers }, end: end + 4 };
    }
    const end = lineEnd + 2 + length;
    if (text.length < end + 2) return undefined;
    if (text.slice(end, end + 2) !== "\r\n") return "a chunk without its end";
    body += text.slice(lineEnd + 2, end);
    at = end + 2;
  }
}

/** What an origin got on one connection. */
export interface Recorded {
  text: string;
  answered: number;
}

/**
 * An origin that answers each request with 200 and `x-origin: METHOD TARGET`. `close`: one answer a connection, so that each
 * recording is what was sent for one request. What it cannot read it answers with 400 and closes.
 */
export class ReferenceOrigin {
  readonly connections: Recorded[] = [];
  /** `METHOD TARGET` of all requests, in the order they came. */
  readonly seen: string[] = [];
  readonly port: number;
  readonly #listener: { stop(force: boolean): void };

  constructor(close: boolean) {
    const listener = Bun.listen<Recorded>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open: (socket) => {
          socket.data = { text: "", answered: 0 };
          this.connections.push(socket.data);
        },
        data: (socket, bytes) => {
          socket.data.text += bytes.toString("latin1");
          this.#answer(socket, close);
        },
        error() {},
      },
    });
    this.port = listener.port;
    this.#listener = listener;
  }

  #answer(socket: Socket<Recorded>, close: boolean): void {
    const { messages, broken } = readMessages(socket.data.text, "request");
    for (const message of messages.slice(socket.data.answered)) {
      const what = message.start.split(" ").slice(0, 2).join(" ");
      this.seen.push(what);
      socket.data.answered++;
      const body = message.start.startsWith("HEAD ") ? "" : "ok";
      socket.write(
        `HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-origin: ${what}\r\n${close ? "connection: close\r\n" : ""}\r\n${body}`,
      );
      if (close) socket.end();
    }
    if (broken === undefined) return;
    this.seen.push(`broken: ${broken}`);
    socket.end("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
  }

  /** Notes what has come; the function that it gives says what has come since, one text a connection that got something. */
  mark(): () => readonly string[] {
    const before = this.connections.map(({ text }) => text.length);
    return () =>
      this.connections.map(({ text }, index) => text.slice(before[index] ?? 0)).filter((text) => text !== "");
  }

  stop(): void {
    this.#listener.stop(true);
  }
}

/** Sends bytes and reads until the other side closes, or for so long; gives the text and whether it was closed. */
export async function converse(port: number, text: string, limit: number): Promise<{ text: string; closed: boolean }> {
  let seen = "";
  let finish = (_closed: boolean) => {};
  const done = new Promise<boolean>((resolve) => {
    finish = resolve;
  });
  const bytes = Buffer.from(text, "latin1");
  let sent = 0;
  const more = (socket: Socket<undefined>) => {
    if (sent < bytes.length) sent += Math.max(0, socket.write(bytes.subarray(sent)));
  };
  const socket = await Bun.connect<undefined>({
    hostname: "127.0.0.1",
    port,
    socket: {
      data(_socket, chunk) {
        seen += chunk.toString("latin1");
      },
      drain: more,
      end: () => finish(true),
      close: () => finish(true),
      error: () => finish(true),
    },
  });
  more(socket);
  const timer = setTimeout(() => finish(false), limit);
  const closed = await done;
  clearTimeout(timer);
  socket.terminate();
  return { text: seen, closed };
}

// A connection of a stand-in that turned out to be HTTP/2 with prior knowledge (RFC 9113 §3.3): the same answers as over HTTP/1.1, and
// gRPC. Frames are node's business; here its streams are answered, and the socket is made to look like one of node's.

import {
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { Duplex } from "node:stream";
import type { Socket } from "bun";
import { describeRequest, hasNoBody, type Peer } from "./answer.ts";
import { type Directives, directivesOf } from "./directives.ts";
import { answerCall, framed, type GrpcAnswer, GrpcCode, notServing } from "./grpc.ts";
import { filler, type Port, type PortConnection } from "./port-connection.ts";
import { keptBody, type StandInRequest } from "./request.ts";

/** What a client of HTTP/2 begins with. */
export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

const grpcType = /^application\/grpc(?!-web)/;

/** One for all connections: what belongs to one is found by its session's socket. */
let shared: Http2Server | undefined;

function server(): Http2Server {
  if (!shared) {
    shared = createServer();
    shared.on("session", (session: ServerHttp2Session) => {
      const connection = arriving;
      connection?.began(session);
      session.on("error", () => connection?.terminate());
      session.on("stream", (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) =>
        connection?.take(stream, headers),
      );
    });
    shared.on("sessionError", () => {});
  }
  return shared;
}

/** Whose session is being made: node makes it while it is told of the connection. */
let arriving: Http2Connection | undefined;

export class Http2Connection implements PortConnection {
  readonly #port: Port;
  readonly #wire: SocketStream;
  readonly #peer: Peer;
  #session: ServerHttp2Session | undefined;
  /** Under way; those that only watch are apart. */
  readonly #streams = new Set<ServerHttp2Stream>();
  readonly #watchers = new Set<ServerHttp2Stream>();
  #ending = false;

  constructor(port: Port, socket: Socket<PortConnection>, peer: Peer) {
    this.#port = port;
    this.#peer = peer;
    this.#wire = new SocketStream(socket);
    arriving = this;
    server().emit("connection", this.#wire);
    arriving = undefined;
  }

  began(session: ServerHttp2Session): void {
    this.#session = session;
  }

  read(chunk: Buffer): void {
    this.#wire.arrived(chunk);
  }

  drained(): void {
    this.#wire.drained();
  }

  ended(): void {
    this.#wire.arrived(null);
    this.endIfIdle();
  }

  closed(): void {
    this.#wire.destroy();
    this.#session?.destroy();
    this.#port.left(this);
  }

  endIfIdle(): void {
    if (this.#streams.size > 0) return;
    this.#ending = true;
    for (const watcher of this.#watchers) this.#endWatch(watcher);
    // With GOAWAY, after what is left to be sent.
    this.#session?.close();
    this.#wire.end();
  }

  terminate(): void {
    this.#wire.cut();
  }

  // ------------------------------------------------------------------------------------------------------------ streams

  take(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    this.#streams.add(stream);
    const request = requestOf(headers);
    stream.on("data", (chunk: Buffer) => {
      if (request.bodyLength < keptBody) {
        request.body = Buffer.concat([request.body, chunk.subarray(0, keptBody - request.bodyLength)]);
      }
      request.bodyLength += chunk.length;
    });
    stream.on("end", () => this.#answer(stream, request));
    stream.on("error", () => {});
    stream.on("close", () => {
      this.#watchers.delete(stream);
      this.#streams.delete(stream);
      if (this.#port.draining && !this.#ending) this.endIfIdle();
    });
  }

  #answer(stream: ServerHttp2Stream, request: StandInRequest): void {
    let directives: Directives;
    try {
      directives = directivesOf(request);
    } catch (error) {
      this.#send(stream, request, 400, "text/plain; charset=utf-8", Buffer.from(`${(error as Error).message}\n`), {});
      return;
    }
    const respond = () => {
      if (!stream.destroyed) this.#respond(stream, request, directives);
    };
    if (directives.delay === undefined) respond();
    else setTimeout(respond, directives.delay);
  }

  #respond(stream: ServerHttp2Stream, request: StandInRequest, directives: Directives): void {
    const status = directives.status ?? 200;
    const type = request.headers.find(([name]) => name === "content-type")?.[1];
    if (directives.abort) {
      this.#log(request, "aborted", 0);
      this.terminate();
    } else if (type !== undefined && grpcType.test(type) && directives.status === undefined) {
      this.#respondToCall(stream, request, directives);
    } else if (directives.size !== undefined) {
      const whole = Math.ceil(directives.size / filler.length);
      const body = Buffer.concat(Array.from({ length: whole }, () => filler)).subarray(0, directives.size);
      this.#send(stream, request, status, "text/plain", body, directives);
    } else {
      const body = Buffer.from(describeRequest(request, this.#peer, this.#port.identity));
      this.#send(stream, request, status, "application/json", body, directives);
    }
  }

  #send(
    stream: ServerHttp2Stream,
    request: StandInRequest,
    status: number,
    type: string,
    body: Buffer,
    { headers = [], chunked }: Directives,
  ): void {
    const silent = request.method === "HEAD" || hasNoBody(status);
    stream.respond(
      {
        ":status": status,
        "content-type": type,
        ...(chunked || hasNoBody(status) ? {} : { "content-length": String(body.length) }),
        ...added(headers),
      },
      { endStream: silent },
    );
    if (!silent) stream.end(body);
    this.#log(request, status, body.length);
  }

  #respondToCall(stream: ServerHttp2Stream, request: StandInRequest, directives: Directives): void {
    const { target, headers, body, bodyLength, authority = "" } = request;
    const path = target.replace(/\?.*/s, "");
    const tooLong: GrpcAnswer = { code: GrpcCode.invalidArgument, text: `messages are read up to ${keptBody} bytes` };
    const asked: GrpcAnswer = { code: directives.grpcStatus ?? GrpcCode.ok, text: "as asked by x-stand-in" };
    const answer = directives.grpcStatus
      ? asked
      : bodyLength > body.length
        ? tooLong
        : answerCall({ path, authority, headers, body }, this.#port.pod);
    const head = { ":status": 200, "content-type": "application/grpc", ...added(directives.headers ?? []) };
    const trailers = { "grpc-status": String(answer.code), ...(answer.text ? { "grpc-message": answer.text } : {}) };
    this.#log(request, `200 grpc-status=${answer.code}`, answer.message?.length ?? 0);
    if (!answer.message) {
      stream.respond({ ...head, ...trailers }, { endStream: true });
      return;
    }
    stream.respond(head, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers(watched.get(stream) ?? trailers));
    if (!answer.stays) stream.end(answer.message);
    else {
      stream.write(answer.message);
      this.#watchers.add(stream);
      this.#streams.delete(stream);
      if (this.#port.draining) this.#endWatch(stream);
    }
  }

  /** Of a pod that ends: its health is not that of one that serves. */
  #endWatch(stream: ServerHttp2Stream): void {
    this.#watchers.delete(stream);
    watched.set(stream, { "grpc-status": String(GrpcCode.unavailable), "grpc-message": "the pod ends" });
    stream.end(framed(notServing));
  }

  #log(request: StandInRequest, status: number | string, length: number): void {
    this.#port.logRequest(this.#peer.client, request, status, length);
  }
}

/** The trailers of watches that ended with the pod. */
const watched = new WeakMap<ServerHttp2Stream, Record<string, string>>();

function added(headers: readonly (readonly [string, string])[]): Record<string, string[]> {
  const byName: Record<string, string[]> = {};
  for (const [name, value] of headers) {
    const values = byName[name.toLowerCase()] ?? [];
    byName[name.toLowerCase()] = [...values, value];
  }
  return byName;
}

function requestOf(headers: IncomingHttpHeaders): StandInRequest {
  const fields: [string, string][] = [];
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith(":")) continue;
    for (const one of Array.isArray(value) ? value : [value ?? ""]) fields.push([name, one]);
  }
  const pseudo = headers as Record<string, string | undefined>;
  return {
    method: pseudo[":method"] ?? "",
    target: pseudo[":path"] ?? "",
    version: "2.0",
    authority: pseudo[":authority"] ?? headers.host ?? "",
    headers: fields,
    keepAlive: true,
    expectContinue: false,
    body: Buffer.alloc(0),
    bodyLength: 0,
  };
}

/** A socket of Bun as a stream of node. */
class SocketStream extends Duplex {
  readonly #socket: Socket<PortConnection>;
  #rest: { bytes: Buffer; taken: () => void } | undefined;

  constructor(socket: Socket<PortConnection>) {
    super({ allowHalfOpen: true });
    this.#socket = socket;
    this.on("error", () => {});
  }

  arrived(chunk: Buffer | null): void {
    if (!this.push(chunk === null ? null : Buffer.from(chunk)) && chunk !== null) this.#socket.pause();
  }

  drained(): void {
    const rest = this.#rest;
    this.#rest = undefined;
    if (rest) this._write(rest.bytes, "buffer", rest.taken);
  }

  cut(): void {
    this.#socket.terminate();
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(bytes: Buffer, _encoding: string, taken: () => void): void {
    const count = Math.max(0, this.#socket.write(bytes));
    if (count < bytes.length) this.#rest = { bytes: bytes.subarray(count), taken };
    else taken();
  }

  override _final(done: () => void): void {
    this.#socket.end();
    done();
  }

  override _destroy(_error: Error | null, done: () => void): void {
    this.#socket.end();
    done();
  }
}

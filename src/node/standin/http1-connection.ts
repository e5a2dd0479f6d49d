// A connection of a stand-in that speaks HTTP/1.1. Answers of pipelined requests leave in order and in one write.

import type { Socket } from "bun";
import { describeRequest, hasNoBody, type Peer, responseHead } from "./answer.ts";
import { type Directives, directivesOf } from "./directives.ts";
import { filler, type Port, type PortConnection } from "./port-connection.ts";
import { RequestReader, type StandInRequest } from "./request.ts";
import { handshake, WebSocketConnection } from "./websocket.ts";

/** How long a connection may be silent before it counts as idle, in milliseconds: as in Go's http.Server.Shutdown. */
const freshFor = 5_000;

/** Bytes that a connection may send ahead of its answers before it is paused. */
const mostAhead = 256 * 1024;

/** Requests that cannot be read are logged, too, and upgrades change a connection. */
interface RefusingPort extends Port {
  seat(socket: Socket<PortConnection>, connection: PortConnection): void;
  logRefusal(client: string, status: number, reason: string): void;
}

export class Http1Connection implements PortConnection {
  readonly #port: RefusingPort;
  readonly #socket: Socket<PortConnection>;
  readonly #peer: Peer;
  readonly #reader = new RequestReader();
  #output = "";
  /** What the socket has not taken yet. */
  #rest: Buffer | undefined;
  /** Bytes of a made-up body still to be written. */
  #filling = 0;
  #fillingChunked = false;
  #busy = false;
  readonly #opened = performance.now();
  #asked = false;
  #paused = false;
  #ending = false;
  #peerEnded = false;
  #closed = false;

  constructor(port: RefusingPort, socket: Socket<PortConnection>, peer: Peer) {
    this.#port = port;
    this.#socket = socket;
    this.#peer = peer;
  }

  read(chunk: Buffer): void {
    if (this.#ending) return;
    this.#asked = true;
    this.#reader.push(chunk);
    this.#pump();
    if ((this.#busy || this.#rest) && this.#reader.buffered > mostAhead && !this.#paused) {
      this.#paused = true;
      this.#socket.pause();
    }
  }

  drained(): void {
    if (this.#closed) return;
    if (this.#rest) {
      const rest = this.#rest;
      this.#rest = undefined;
      this.#write(rest);
    }
    if (!this.#rest && this.#filling > 0) this.#fill();
    if (!this.#rest) this.#pump();
    this.#finish();
  }

  ended(): void {
    this.#peerEnded = true;
    this.endIfIdle();
  }

  closed(): void {
    this.#closed = true;
    this.#port.left(this);
  }

  /** Whether no request is being read or answered, nor about to be. */
  get isIdle(): boolean {
    // Its first request is on its way.
    if (!this.#asked && !this.#peerEnded && performance.now() - this.#opened < freshFor) return false;
    return !this.#busy && !this.#rest && this.#filling === 0 && (this.#peerEnded || this.#reader.between);
  }

  endIfIdle(): void {
    if (!this.isIdle) return;
    this.#ending = true;
    this.#finish();
  }

  terminate(): void {
    if (!this.#closed) this.#socket.terminate();
  }

  #pump(): void {
    while (!this.#busy && !this.#ending && !this.#rest) {
      const request = this.#reader.next();
      if (request) {
        this.#take(request);
        continue;
      }
      if (this.#reader.error) this.#refuse(this.#reader.error.status, this.#reader.error.reason);
      else if (this.#reader.takeContinue()) this.#output += "HTTP/1.1 100 Continue\r\n\r\n";
      break;
    }
    this.#flush();
    if (this.#paused && !this.#busy && !this.#rest) {
      this.#paused = false;
      this.#socket.resume();
    }
    this.#finish();
  }

  #take(request: StandInRequest): void {
    let directives: Directives;
    try {
      directives = directivesOf(request);
    } catch (error) {
      this.#respond(request, { status: 400 }, `${(error as Error).message}\n`);
      return;
    }
    if (directives.delay === undefined) {
      this.#respond(request, directives);
      return;
    }
    this.#busy = true;
    setTimeout(() => {
      this.#busy = false;
      if (this.#closed) return;
      this.#respond(request, directives);
      this.#pump();
    }, directives.delay);
  }

  /** The connection is another's when the request asked for WebSocket. */
  #upgrade(request: StandInRequest): boolean {
    const head = handshake(request);
    if (head === undefined) return false;
    this.#log(request, 101, 0);
    this.#output += head;
    this.#flush();
    const webSocket = new WebSocketConnection(this.#socket, () => this.#port.left(webSocket));
    // Nothing is read here any more.
    this.#busy = true;
    this.#port.seat(this.#socket, webSocket);
    const rest = this.#reader.takeRest();
    if (rest.length > 0) webSocket.read(rest);
    return true;
  }

  #respond(request: StandInRequest, directives: Directives, problem?: string): void {
    if (problem === undefined && directives.status === undefined && !directives.abort && this.#upgrade(request)) return;
    if (directives.abort) {
      this.#log(request, "aborted", 0);
      this.#ending = true;
      this.#output = "";
      this.terminate();
      return;
    }
    const status = directives.status ?? 200;
    const keepAlive = request.keepAlive && !this.#port.draining && !this.#peerEnded;
    const silent = request.method === "HEAD" || hasNoBody(status);
    const chunked = directives.chunked === true && request.version === "1.1";
    if (directives.size !== undefined && problem === undefined) {
      this.#output += responseHead(status, "text/plain", chunked ? undefined : directives.size, keepAlive, directives);
      this.#log(request, status, directives.size);
      if (!keepAlive) this.#ending = true;
      if (silent) return;
      this.#filling = directives.size;
      this.#fillingChunked = chunked;
      if (chunked && directives.size === 0) this.#output += "0\r\n\r\n";
      this.#busy = this.#filling > 0;
      this.#flush();
      if (!this.#rest && this.#filling > 0) this.#fill();
      return;
    }
    const body = problem ?? describeRequest(request, this.#peer, this.#port.identity);
    const length = Buffer.byteLength(body);
    const type = problem === undefined ? "application/json" : "text/plain; charset=utf-8";
    let answer = responseHead(status, type, chunked ? undefined : length, keepAlive, directives);
    if (!silent) answer += chunked ? `${length.toString(16)}\r\n${body}\r\n0\r\n\r\n` : body;
    this.#output += answer;
    this.#log(request, status, length);
    if (!keepAlive) this.#ending = true;
  }

  #refuse(status: number, reason: string): void {
    const body = `${reason}\n`;
    this.#output += responseHead(status, "text/plain; charset=utf-8", Buffer.byteLength(body), false, {}) + body;
    this.#port.logRefusal(this.#peer.client, status, reason);
    this.#ending = true;
  }

  #log(request: StandInRequest, status: number | string, length: number): void {
    this.#port.logRequest(this.#peer.client, request, status, length);
  }

  /** Writes what is left of a made-up body, as much as the socket takes. */
  #fill(): void {
    while (this.#filling > 0 && !this.#rest) {
      const part = filler.subarray(0, Math.min(this.#filling, filler.length));
      this.#filling -= part.length;
      if (this.#fillingChunked) {
        const tail = this.#filling === 0 ? "\r\n0\r\n\r\n" : "\r\n";
        this.#write(Buffer.concat([Buffer.from(`${part.length.toString(16)}\r\n`), part, Buffer.from(tail)]));
      } else this.#write(part);
    }
    if (this.#filling === 0) this.#busy = false;
  }

  #flush(): void {
    if (this.#output === "" || this.#closed) return;
    const text = this.#output;
    this.#output = "";
    this.#write(Buffer.from(text));
  }

  #write(bytes: Buffer): void {
    if (this.#closed) return;
    if (this.#rest) {
      this.#rest = Buffer.concat([this.#rest, bytes]);
      return;
    }
    const taken = Math.max(0, this.#socket.write(bytes));
    if (taken < bytes.length) this.#rest = bytes.subarray(taken);
  }

  /** Ends the connection once everything is written. */
  #finish(): void {
    if (!this.#ending || this.#busy || this.#rest || this.#filling > 0 || this.#output !== "" || this.#closed) return;
    this.#socket.end();
  }
}

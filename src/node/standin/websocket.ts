// A connection of a stand-in that was upgraded to WebSocket (RFC 6455): what comes is sent back, frame by frame. Nothing is
// compressed, and whether text is UTF-8 is not looked at.

import { createHash } from "node:crypto";
import type { Socket } from "bun";
import type { PortConnection } from "./port-connection.ts";
import type { StandInRequest } from "./request.ts";

/** The longest frame that is echoed, in bytes. */
const longestFrame = 1024 * 1024;

const Opcode = { close: 8, ping: 9, pong: 10 } as const;
const CloseCode = { goingAway: 1001, protocolError: 1002, tooBig: 1009 } as const;

/** The head of the answer to a handshake (§4.2.2); undefined when the request is none. */
export function handshake({ method, version, headers }: StandInRequest): string | undefined {
  const get = (wanted: string) => headers.find(([name]) => name.toLowerCase() === wanted)?.[1] ?? "";
  const key = get("sec-websocket-key");
  const asks = /(^|,)\s*upgrade\s*(,|$)/i.test(get("connection")) && /^websocket$/i.test(get("upgrade"));
  if (method !== "GET" || version !== "1.1" || !asks || get("sec-websocket-version") !== "13") return undefined;
  if (Buffer.from(key, "base64").length !== 16) return undefined;
  const accept = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
  return `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`;
}

export class WebSocketConnection implements PortConnection {
  readonly #socket: Socket<PortConnection>;
  readonly #left: () => void;
  #pending = Buffer.alloc(0);
  /** What the socket has not taken yet. */
  #rest: Buffer = Buffer.alloc(0);
  #ending = false;
  #closed = false;

  /** `left` is called when the socket is gone. */
  constructor(socket: Socket<PortConnection>, left: () => void) {
    this.#socket = socket;
    this.#left = left;
  }

  read(chunk: Buffer): void {
    if (this.#ending) return;
    this.#pending = Buffer.concat([this.#pending, chunk]);
    while (!this.#ending && this.#frame());
  }

  /** Takes one frame; false when it is not whole. */
  #frame(): boolean {
    const bytes = this.#pending;
    if (bytes.length < 2) return false;
    const [first, second] = [bytes[0]!, bytes[1]!];
    const short = second & 127;
    const head = short < 126 ? 2 : short === 126 ? 4 : 10;
    if (bytes.length < head) return false;
    const length = short < 126 ? short : short === 126 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
    if ((second & 128) === 0 || (first & 0x70) !== 0) return this.#close(CloseCode.protocolError);
    if (length > longestFrame) return this.#close(CloseCode.tooBig);
    if (bytes.length < head + 4 + length) return false;
    const mask = bytes.subarray(head, head + 4);
    const content = Buffer.from(bytes.subarray(head + 4, head + 4 + length));
    for (let index = 0; index < content.length; index++) content[index]! ^= mask[index & 3]!;
    this.#pending = bytes.subarray(head + 4 + length);
    this.#take(first, content);
    return true;
  }

  #take(first: number, content: Buffer): void {
    const opcode = first & 15;
    if (opcode === Opcode.pong) return;
    this.#send(opcode === Opcode.ping ? 0x80 | Opcode.pong : first, content);
    if (opcode === Opcode.close) this.#end();
  }

  #close(code: number): false {
    const reason = Buffer.alloc(2);
    reason.writeUInt16BE(code);
    this.#send(0x80 | Opcode.close, reason);
    this.#end();
    return false;
  }

  /** A frame of a server: not masked (§5.1). */
  #send(first: number, content: Buffer): void {
    const { length } = content;
    const head = Buffer.alloc(length < 126 ? 2 : length < 65_536 ? 4 : 10);
    head[0] = first;
    head[1] = length < 126 ? length : length < 65_536 ? 126 : 127;
    if (head.length === 4) head.writeUInt16BE(length, 2);
    else if (head.length === 10) head.writeBigUInt64BE(BigInt(length), 2);
    this.#write(Buffer.concat([head, content]));
  }

  #write(bytes: Buffer): void {
    if (this.#closed) return;
    const all = this.#rest.length > 0 ? Buffer.concat([this.#rest, bytes]) : bytes;
    this.#rest = all.subarray(Math.max(0, this.#socket.write(all)));
    if (this.#rest.length > 0) this.#socket.pause();
  }

  drained(): void {
    this.#write(Buffer.alloc(0));
    if (this.#rest.length > 0) return;
    this.#socket.resume();
    if (this.#ending) this.#socket.end();
  }

  #end(): void {
    this.#ending = true;
    if (this.#rest.length === 0) this.#socket.end();
  }

  ended(): void {
    this.#end();
  }

  closed(): void {
    this.#closed = true;
    this.#left();
  }

  /** It never rests: its pod ends, and says so. */
  endIfIdle(): void {
    if (!this.#ending) this.#close(CloseCode.goingAway);
  }

  terminate(): void {
    if (!this.#closed) this.#socket.terminate();
  }
}

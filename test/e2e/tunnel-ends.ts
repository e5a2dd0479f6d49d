// The two ends of a WebSocket through a proxy as raw bytes: clients over HTTP/1.1 (RFC 6455) and HTTP/2 (RFC 8441), and backends of
// both, plain or over TLS. Each has two halves, of which the other side's may end first. They make the handshake and know nothing of WebSocket's frames; what they sent and what came can be compared byte by byte.

import type { Socket } from "bun";
import { acceptOf, makeKey } from "../../src/proxy/http1/websocket.ts";
import { Flag, FrameType, preface, Setting } from "../../src/proxy/http2/frame.ts";
import { frame, number, Peer, settings, settingsAck } from "../../src/proxy/http2/peer.ts";

/** SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 §3). */
const enableConnectProtocol = 8;

type Fields = Readonly<Record<string, string>>;

/** One end of a tunnel. */
export abstract class End {
  /** Of the other side's handshake: its request, or its answer. */
  told: Fields = {};
  ended = false;
  /** There is no connection any more, whoever closed it; of HTTP/2, no stream. */
  gone = false;
  readonly #came: Buffer[] = [];
  #length = 0;
  #changed: (() => void)[] = [];

  abstract send(bytes: Uint8Array): void;
  /** Says that no more will come. */
  abstract end(): void;
  /** Is gone at once. */
  abstract vanish(): void;

  get length(): number {
    return this.#length;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#came);
  }

  protected take(bytes: Buffer): void {
    this.#came.push(bytes);
    this.#length += bytes.length;
    this.change();
  }

  /** The other side says no more; `all`: nor may we. */
  protected close(all: boolean): void {
    this.ended = true;
    this.gone ||= all;
    this.change();
  }

  change(): void {
    for (const changed of this.#changed.splice(0)) changed();
  }

  /** Waits until it holds. Rejects after 20 seconds, or when the end comes before. */
  async until(holds: () => boolean): Promise<void> {
    const late = Date.now() + 20_000;
    while (!holds()) {
      if (this.ended) throw new Error(`it ended after ${this.#length} bytes`);
      if (Date.now() > late) throw new Error(`nothing more came after ${this.#length} bytes`);
      const timer = setTimeout(() => this.change(), 1_000);
      await new Promise<void>((resolve) => this.#changed.push(resolve));
      clearTimeout(timer);
    }
  }

  async untilEnd(): Promise<void> {
    await this.until(() => this.ended).catch((error) => {
      if (!this.ended) throw error;
    });
  }

  async untilGone(): Promise<void> {
    for (let times = 0; !this.gone; times++) {
      if (times > 2_000) throw new Error("it is still there");
      await Bun.sleep(10);
    }
  }
}

/** A socket's outgoing bytes, kept until the kernel takes them. */
class Outgoing {
  readonly socket: Socket<unknown>;
  #waiting: Buffer[] = [];
  #ends = false;

  constructor(socket: Socket<unknown>) {
    this.socket = socket;
  }

  write(bytes: Uint8Array): void {
    this.#waiting.push(Buffer.from(bytes));
    this.drain();
  }

  drain(): void {
    while (this.#waiting.length > 0) {
      const first = this.#waiting[0]!;
      const taken = Math.max(0, this.socket.write(first));
      if (taken < first.length) {
        this.#waiting[0] = first.subarray(taken);
        return;
      }
      this.#waiting.shift();
    }
    if (this.#ends) this.socket.shutdown();
  }

  end(): void {
    this.#ends = true;
    this.drain();
  }
}

/** Head and rest of a message of HTTP/1.1; undefined while the head is not whole. */
function splitHead(bytes: Buffer): { start: string; fields: Fields; rest: Buffer } | undefined {
  const end = bytes.indexOf("\r\n\r\n");
  if (end < 0) return undefined;
  const [start = "", ...lines] = bytes.toString("latin1", 0, end).split("\r\n");
  const fields = Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf(":")).toLowerCase(), line.slice(line.indexOf(":") + 1).trim()]),
  );
  return { start, fields, rest: bytes.subarray(end + 4) };
}

/** Over HTTP/1.1: the bytes behind the heads. */
class Http1End extends End {
  outgoing!: Outgoing;
  #head: Buffer | undefined = Buffer.alloc(0);
  readonly #onHead: (start: string, fields: Fields) => void;

  constructor(onHead: (start: string, fields: Fields) => void) {
    super();
    this.#onHead = onHead;
  }

  receive(bytes: Buffer): void {
    if (this.#head === undefined) {
      this.take(Buffer.from(bytes));
      return;
    }
    this.#head = Buffer.concat([this.#head, bytes]);
    const split = splitHead(this.#head);
    if (!split) return;
    this.#head = undefined;
    this.told = split.fields;
    this.#onHead(split.start, split.fields);
    if (split.rest.length > 0) this.take(split.rest);
    else this.change();
  }

  override close(all: boolean): void {
    super.close(all);
  }

  send(bytes: Uint8Array): void {
    this.outgoing.write(bytes);
  }
  end(): void {
    this.outgoing.end();
  }
  vanish(): void {
    this.outgoing.socket.terminate();
  }
}

/** A connection of HTTP/2 and its streams, with the windows that the other side gives. */
class Http2Connection {
  readonly peer: Peer;
  readonly streams = new Map<number, Http2End>();
  outgoing!: Outgoing;
  window = 65_535;
  streamWindow = 65_535;
  /** The other side's SETTINGS came. */
  greeted = false;
  readonly #opened: (end: Http2End) => void;

  /** `opened`: a stream's first head came. */
  constructor(peer: Peer, opened: (end: Http2End) => void) {
    this.peer = peer;
    this.#opened = opened;
  }

  receive(bytes: Buffer): void {
    this.peer.write(bytes, 0, bytes.length);
    for (const { type, flags, id, payload } of this.peer.frames.splice(0)) {
      const stream = this.streams.get(id);
      if (type === FrameType.settings && (flags & Flag.ack) === 0) this.#settings(payload);
      else if (type === FrameType.windowUpdate) {
        if (stream) stream.window += payload.readUInt32BE(0);
        else if (id === 0) this.window += payload.readUInt32BE(0);
      } else if (type === FrameType.headers) this.#head(stream ?? new Http2End(this, id));
      else if (type === FrameType.data && payload.length > 0) {
        for (const of of stream ? [0, id] : [0])
          this.outgoing.write(frame(FrameType.windowUpdate, 0, of, number(payload.length)));
        stream?.take(payload);
      } else if (type === FrameType.rstStream) stream?.close(true);
      else if (type === FrameType.ping && (flags & Flag.ack) === 0)
        this.outgoing.write(frame(FrameType.ping, Flag.ack, 0, payload));
      if (type <= FrameType.headers && (flags & Flag.endStream) !== 0) stream?.close(stream.saidAll);
    }
    for (const stream of this.streams.values()) stream.flush();
  }

  #head(stream: Http2End): void {
    stream.told = Object.fromEntries(this.peer.heads.at(-1)!.fields);
    stream.change();
    this.#opened(stream);
  }

  #settings(payload: Buffer): void {
    for (let at = 0; at < payload.length; at += 6) {
      if (payload.readUInt16BE(at) !== Setting.initialWindowSize) continue;
      const size = payload.readUInt32BE(at + 2);
      for (const stream of this.streams.values()) stream.window += size - this.streamWindow;
      this.streamWindow = size;
    }
    this.outgoing.write(settingsAck);
    this.greeted = true;
  }

  /** A connection without the other half is of no use to HTTP/2. */
  close(): void {
    for (const stream of this.streams.values()) stream.close(true);
    this.outgoing.end();
  }
}

/** Over one stream of HTTP/2. */
class Http2End extends End {
  window: number;
  saidAll = false;
  readonly id: number;
  readonly connection: Http2Connection;
  #waiting: Buffer[] = [];
  #ends = false;

  constructor(connection: Http2Connection, id: number) {
    super();
    this.connection = connection;
    this.id = id;
    this.window = connection.streamWindow;
    connection.streams.set(id, this);
  }

  override take(bytes: Buffer): void {
    super.take(bytes);
  }
  override close(all: boolean): void {
    super.close(all);
  }

  send(bytes: Uint8Array): void {
    this.#waiting.push(Buffer.from(bytes));
    this.flush();
  }

  /** Each piece that was sent is a DATA frame, or several. */
  flush(): void {
    const { connection } = this;
    while (this.#waiting.length > 0) {
      const room = Math.min(16_384, connection.window, this.window);
      const first = this.#waiting[0]!;
      if (room <= 0 && first.length > 0) return;
      const part = first.subarray(0, room);
      connection.window -= part.length;
      this.window -= part.length;
      connection.outgoing.write(frame(FrameType.data, 0, this.id, part));
      if (part.length === first.length) this.#waiting.shift();
      else this.#waiting[0] = first.subarray(part.length);
    }
    if (!this.#ends) return;
    this.#ends = false;
    this.saidAll = true;
    if (this.ended) this.gone = true;
    connection.outgoing.write(frame(FrameType.data, Flag.endStream, this.id));
  }

  end(): void {
    this.#ends = true;
    this.flush();
  }
  vanish(): void {
    this.connection.outgoing.socket.terminate();
  }
}

type Side = Http1End | Http2Connection;

const handler = {
  data: (socket: Socket<Side>, bytes: Buffer) => socket.data.receive(bytes),
  drain: (socket: Socket<Side>) => socket.data.outgoing.drain(),
  end: (socket: Socket<Side>) => socket.data.close(false),
  close: (socket: Socket<Side>) => socket.data.close(true),
  error() {},
};

/** What a client believes, where it speaks TLS. */
export interface ClientTls {
  readonly ca: string;
  readonly serverName: string;
}

/** Who opens WebSockets at a port: resolves with the end and the status of the answer. */
export type Opener = (
  port: number,
  fields: Fields,
  tls?: ClientTls,
) => Promise<{ readonly end: End; readonly status: number }>;

/** A connection to the port, once it can be written to. */
async function connect<S extends Side>(port: number, side: S, tls: ClientTls | undefined, alpn: string): Promise<void> {
  const where = { hostname: "127.0.0.1", port, allowHalfOpen: true, data: side as Side };
  if (!tls) {
    side.outgoing = new Outgoing(await Bun.connect<Side>({ ...where, socket: handler }));
    return;
  }
  const shaken = Promise.withResolvers<void>();
  const socket = await Bun.connect<Side>({
    ...where,
    tls: { ...tls, ALPNProtocols: Buffer.from(`${String.fromCharCode(alpn.length)}${alpn}`, "latin1") } as object,
    socket: {
      ...handler,
      handshake: (_, done, error) => (done && !error ? shaken.resolve() : shaken.reject(error)),
    },
  });
  side.outgoing = new Outgoing(socket);
  await shaken.promise;
}

export const openHttp1: Opener = async (port, fields, tls) => {
  let status = 0;
  const end = new Http1End((start) => {
    status = Number(start.split(" ")[1]);
  });
  await connect(port, end, tls, "http/1.1");
  const key = makeKey();
  const all = {
    ...{ host: "example.com", connection: "Upgrade", upgrade: "websocket", "sec-websocket-version": "13" },
    ...{ "sec-websocket-key": key, ...fields },
  };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  end.send(Buffer.from(`GET /chat?x=1 HTTP/1.1\r\n${lines.join("")}\r\n`));
  await end.until(() => status !== 0);
  if (status === 101 && end.told["sec-websocket-accept"] !== acceptOf(key))
    throw new Error("not the answer to the key");
  return { end, status };
};

export const openHttp2: Opener = async (port, fields, tls) => {
  const peer = new Peer();
  const connection = new Http2Connection(peer, () => {});
  await connect(port, connection, tls, "h2");
  connection.outgoing.write(Buffer.concat([preface, settings()]));
  // RFC 8441 §3: not before the server has said that it takes it.
  while (!connection.greeted) await Bun.sleep(1);
  const end = new Http2End(connection, 1);
  const pseudo = { ":method": "CONNECT", ":protocol": "websocket", ":scheme": "http", ":path": "/chat?x=1" };
  const all = { ...pseudo, ":authority": "example.com", "sec-websocket-version": "13", ...fields };
  connection.outgoing.write(peer.headers(1, all, false));
  await end.until(() => end.told[":status"] !== undefined);
  return { end, status: Number(end.told[":status"]) };
};

/** A backend that takes WebSockets; `fields` of its answer. What was opened last is the next that `accepted` gives. */
export class TunnelBackend {
  readonly port: number;
  fields: Fields = {};
  readonly #listener: { readonly port: number; stop(force: boolean): void };
  #open: End[] = [];
  #waiting: ((end: End) => void)[] = [];

  /** `tls`: the certificate and its key. */
  constructor(protocol: "http1" | "h2c", tls?: { readonly cert: string; readonly key: string }) {
    const alpn = protocol === "http1" ? "\x08http/1.1" : "\x02h2";
    const secured = tls && { tls: { ...tls, ALPNProtocols: Buffer.from(alpn, "latin1") } as object };
    this.#listener = Bun.listen<Side>({
      ...{ hostname: "127.0.0.1", port: 0, allowHalfOpen: true, ...secured },
      socket: {
        ...handler,
        open: (socket) => {
          socket.data = protocol === "http1" ? this.#http1() : this.#http2();
          socket.data.outgoing = new Outgoing(socket);
          if (protocol === "h2c") socket.data.outgoing.write(settings([enableConnectProtocol, 1]));
        },
      },
    });
    this.port = this.#listener.port;
  }

  #http1(): Http1End {
    const end: Http1End = new Http1End((_start, fields) => {
      const all = { upgrade: "websocket", connection: "Upgrade", ...this.fields };
      const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
      const accept = `sec-websocket-accept: ${acceptOf(fields["sec-websocket-key"] ?? "")}\r\n`;
      end.send(Buffer.from(`HTTP/1.1 101 Switching Protocols\r\n${lines.join("")}${accept}\r\n`));
      this.#accept(end);
    });
    return end;
  }

  #http2(): Http2Connection {
    return new Http2Connection(new Peer(true), (end) => {
      const { peer, outgoing } = end.connection;
      outgoing.write(peer.headers(end.id, { ":status": "200", ...this.fields }, false));
      this.#accept(end);
    });
  }

  #accept(end: End): void {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(end);
    else this.#open.push(end);
  }

  async accepted(): Promise<End> {
    return this.#open.shift() ?? (await new Promise<End>((resolve) => this.#waiting.push(resolve)));
  }

  stop(): void {
    this.#listener.stop(true);
  }
}

// A client of HTTP/2 that sends the frames it is told, and keeps what comes.

import type { Socket } from "bun";
import { preface } from "../../src/proxy/http2/frame.ts";
import { Peer, settings } from "../../src/proxy/http2/peer.ts";

export class RawHttp2 extends Peer {
  readonly socket: Socket<undefined>;
  #changed: (() => void)[] = [];
  closed = false;

  private constructor(socket: Socket<undefined>) {
    super();
    this.socket = socket;
  }

  static async connect(port: number, greet = settings()): Promise<RawHttp2> {
    let client: RawHttp2 | undefined;
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port,
      socket: {
        data: (_socket, bytes) => client!.take(bytes),
        close: () => client?.end(),
      },
    });
    client = new RawHttp2(socket);
    socket.write(Buffer.concat([preface, greet]));
    return client;
  }

  take(bytes: Buffer): void {
    super.write(bytes, 0, bytes.length);
    for (const changed of this.#changed.splice(0)) changed();
  }

  close(): void {
    this.socket.terminate();
  }

  override end(): void {
    this.closed = true;
    for (const changed of this.#changed.splice(0)) changed();
  }

  send(...frames: readonly Uint8Array[]): void {
    this.socket.write(Buffer.concat(frames));
  }

  async until(done: () => unknown): Promise<void> {
    while (!done()) {
      if (this.closed) throw new Error("the connection was closed");
      await new Promise<void>((resolve) => this.#changed.push(resolve));
    }
  }
}

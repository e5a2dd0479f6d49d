// A client of HTTP/2 that sends the frames it is told, and keeps what comes.

import type { Socket } from "bun";
import { preface } from "../../src/proxy/http2/frame.ts";
import { Peer, settings } from "../../src/proxy/http2/peer.ts";

export class RawHttp2 extends Peer {
  readonly socket: Socket<undefined>;
  #changed: (() => void)[] = [];
  /** What the kernel did not take yet. */
  #unsent: Buffer = Buffer.alloc(0);
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
        drain: () => client!.send(),
        close: () => client?.end(),
        error() {},
      },
    });
    client = new RawHttp2(socket);
    client.send(preface, greet);
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

  /** How many bytes wait for the other side. */
  get waiting(): number {
    return this.#unsent.length;
  }

  send(...frames: readonly Uint8Array[]): void {
    const idle = this.#unsent.length === 0;
    this.#unsent = Buffer.concat([this.#unsent, ...frames]);
    // `drain` comes otherwise.
    if (!idle && frames.length > 0) return;
    const taken = Math.max(0, this.socket.write(this.#unsent));
    this.#unsent = this.#unsent.subarray(taken);
  }

  async until(done: () => unknown): Promise<void> {
    while (!done()) {
      if (this.closed) throw new Error("the connection was closed");
      await new Promise<void>((resolve) => this.#changed.push(resolve));
    }
  }
}

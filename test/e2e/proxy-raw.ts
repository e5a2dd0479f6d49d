// Raw sockets for tests that care about bytes: a client that sends what it is told, and a backend that answers what it is told.

import type { Socket } from "bun";

/** Sends text and gives everything that comes back until the other side closes, or until `done` says that it is enough. */
export async function exchange(
  port: number,
  text: string,
  done: (seen: string) => boolean = () => false,
): Promise<string> {
  const client = await RawClient.connect(port);
  client.send(text);
  const seen = await client.read((all) => done(all));
  client.close();
  return seen;
}

export class RawClient {
  seen = "";
  bytes = 0;
  closed = false;
  socket!: Socket<undefined>;
  #keep = true;
  #changed: (() => void)[] = [];

  static async connect(port: number, options: { keep?: boolean } = {}): Promise<RawClient> {
    const client = new RawClient();
    client.#keep = options.keep ?? true;
    client.socket = await Bun.connect({
      hostname: "127.0.0.1",
      port,
      allowHalfOpen: true,
      socket: {
        data: (_socket, bytes) => {
          client.bytes += bytes.length;
          if (client.#keep) client.seen += bytes.toString("latin1");
          client.#change();
        },
        end: (socket) => {
          client.closed = true;
          client.#change();
          socket.end();
        },
        close: () => {
          client.closed = true;
          client.#change();
        },
        error: () => {},
      },
    });
    return client;
  }

  #change(): void {
    for (const changed of this.#changed.splice(0)) changed();
  }

  send(text: string): void {
    this.socket.write(Buffer.from(text, "latin1"));
  }

  /** Waits for the close, or for `done`. */
  async read(done: (seen: string) => boolean): Promise<string> {
    while (!this.closed && !done(this.seen)) await new Promise<void>((resolve) => this.#changed.push(resolve));
    return this.seen;
  }

  close(): void {
    this.socket.terminate();
  }
}

/** A backend of raw bytes: `answer` is called with each connection's text so far and what it writes. */
export function rawBackend(answer: (socket: Socket<{ text: string }>, text: string) => void): {
  port: number;
  connections: () => number;
  stop(): void;
} {
  let connections = 0;
  const listener = Bun.listen<{ text: string }>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open(socket) {
        connections++;
        socket.data = { text: "" };
      },
      data(socket, bytes) {
        socket.data.text += bytes.toString("latin1");
        answer(socket, socket.data.text);
      },
      error() {},
    },
  });
  return { port: listener.port, connections: () => connections, stop: () => listener.stop(true) };
}

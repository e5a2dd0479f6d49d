// The control process's end of the local protocol (`model/wire.ts`): a Unix socket that only its owner can open. It encodes
// the deltas of `distribution.ts` as frames and hands the answers back; what to send is decided there.

import { existsSync, unlinkSync } from "node:fs";
import type { Socket } from "bun";
import { type Clock, systemClock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import { messageOf, UserError } from "../base/errors.ts";
import { type Logger, silentLogger } from "../base/log.ts";
import { encodeFrameText, FrameDecoder } from "../model/frame.ts";
import type { Composition, FromProxy, ToProxy } from "../model/wire.ts";
import type { Distribution, Subscription } from "./distribution.ts";
import { updateTexts } from "./encoded.ts";
import { parseFromProxy } from "./proxy-messages.ts";

export interface ProxyServerOptions {
  readonly path: string;
  readonly distribution: Distribution;
  /**
   * Nothing is sent before this resolves: when the model is complete. A control process that has just started would
   * otherwise tell its proxies to forget everything it has not read yet.
   */
  readonly ready?: Promise<void>;
  readonly log?: Logger;
  readonly clock?: Clock;
}

export interface ProxyServer extends Disposable {
  /**
   * Asks proxies to finish within `deadline` milliseconds and exit: all, or those of a name, or of a process, workers by the name and
   * the first process of what they belong to. `successors`: others listen on each of the same ports by so many sockets, and go on.
   * Returns how many were asked.
   */
  drain(deadline: number, which?: { readonly proxy?: string; readonly pid?: number }, successors?: number): number;
}

/** Milliseconds a connection may stay without saying who it is. */
const helloTimeout = 10_000;
/** sockaddr_un.sun_path on Linux, without its final zero. */
const maxPathBytes = 107;

/** Listens on a Unix socket of mode 0600. A stale socket file of an earlier process is replaced. Throws a UserError. */
export function serveProxies(options: ProxyServerOptions): ProxyServer {
  const { path, distribution, ready = Promise.resolve(), log = silentLogger, clock = systemClock } = options;
  if (Buffer.byteLength(path) > maxPathBytes) {
    throw new UserError(`the socket path ${path} is longer than ${maxPathBytes} bytes`, {
      remedy: "use a state directory with a shorter path",
    });
  }
  const connections = new Set<Connection>();
  const server = listenPrivately(path, {
    open(socket) {
      socket.data = new Connection(socket, { distribution, ready, log, clock, connections });
      connections.add(socket.data);
    },
    data: (socket, chunk) => socket.data.receive(chunk),
    drain: (socket) => socket.data.flush(),
    close: (socket) => socket.data.closed(),
    error(socket, error) {
      log.warn("proxy connection failed", { error });
      socket.data.close();
    },
  });
  return {
    drain(deadline, { proxy, pid } = {}, successors) {
      const asked = [...connections].filter(
        (one) =>
          (proxy === undefined || (one.composition?.name ?? one.proxy) === proxy) &&
          (pid === undefined || (one.composition?.pid ?? one.pid) === pid),
      );
      for (const one of asked)
        one.send({ type: "drain", deadline, ...(successors === undefined ? {} : { successors }) });
      return asked.length;
    },
    dispose() {
      server.stop(true);
      for (const one of [...connections]) one.close();
    },
  };
}

function listenPrivately(path: string, socket: Bun.SocketHandler<Connection>): Bun.UnixSocketListener<Connection> {
  if (existsSync(path)) unlinkSync(path);
  // By the mask rather than by chmod afterwards, so that there is no moment in which others could connect.
  const mask = process.umask(0o177);
  try {
    return Bun.listen<Connection>({ unix: path, socket });
  } catch (error) {
    throw new UserError(`cannot listen on ${path}: ${messageOf(error)}`, { cause: error });
  } finally {
    process.umask(mask);
  }
}

interface ConnectionParts {
  readonly distribution: Distribution;
  readonly ready: Promise<void>;
  readonly log: Logger;
  readonly clock: Clock;
  readonly connections: Set<Connection>;
}

class Connection {
  readonly #socket: Socket<Connection>;
  readonly #parts: ConnectionParts;
  readonly #decoder = new FrameDecoder();
  readonly #hello: Disposable;
  /** What the socket has not taken yet; at most one update and a drain. */
  #unsent: Uint8Array[] = [];
  #subscription: Subscription | undefined;
  #closed = false;
  proxy: string | undefined;
  pid: number | undefined;
  composition: Composition | undefined;

  constructor(socket: Socket<Connection>, parts: ConnectionParts) {
    this.#socket = socket;
    this.#parts = parts;
    this.#hello = parts.clock.after(helloTimeout, () => this.#fail("no hello came"));
  }

  receive(chunk: Uint8Array): void {
    try {
      for (const message of this.#decoder.push(chunk)) this.#take(parseFromProxy(message));
    } catch (error) {
      this.#fail(messageOf(error));
    }
  }

  #take(message: FromProxy): void {
    if (this.#closed) return;
    if (message.type === "applied") {
      this.#subscription?.acknowledge(message.version, message.rejected);
      for (const { resource, name, reason } of message.rejected) {
        this.#parts.log.warn("proxy refused a resource", { proxy: this.proxy, resource, name, reason });
      }
      return;
    }
    if (this.proxy !== undefined) throw new Error("a second hello");
    this.proxy = message.proxy;
    this.pid = message.pid;
    this.composition = message.composition;
    this.#hello.dispose();
    // A process has one connection: a new one means that the old one is dead, whether or not its end has arrived. Another
    // process of the same name is its successor, and both are told what changes until the old one goes.
    for (const one of [...this.#parts.connections]) {
      if (one !== this && one.proxy === message.proxy && one.pid === message.pid) one.close();
    }
    void this.#parts.ready.then(() => {
      if (this.#closed) return;
      const { type: _, ...proxy } = message;
      this.#parts.log.info("proxy connected", { proxy: proxy.proxy, pid: proxy.pid, scopes: proxy.scopes });
      this.#subscription = this.#parts.distribution.subscribe(proxy, (delta) => this.#sendTexts(updateTexts(delta)));
    });
  }

  send(message: ToProxy): void {
    this.#sendTexts([JSON.stringify(message)]);
  }

  #sendTexts(messages: readonly string[]): void {
    if (this.#closed) return;
    try {
      this.#unsent.push(...messages.map((message) => encodeFrameText(message)));
    } catch (error) {
      this.#fail(messageOf(error));
      return;
    }
    this.flush();
  }

  flush(): void {
    while (this.#unsent.length > 0 && !this.#closed) {
      const first = this.#unsent[0]!;
      const written = this.#socket.write(first);
      if (written < first.length) {
        if (written > 0) this.#unsent[0] = first.subarray(written);
        return;
      }
      this.#unsent.shift();
    }
    this.#socket.flush();
  }

  #fail(reason: string): void {
    this.#parts.log.warn("closing the connection of a proxy", { proxy: this.proxy, reason });
    this.close();
  }

  close(): void {
    if (this.#closed) return;
    this.closed();
    this.#socket.end();
  }

  closed(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#hello.dispose();
    this.#parts.connections.delete(this);
    this.#unsent = [];
    if (this.#subscription) this.#parts.log.info("proxy disconnected", { proxy: this.proxy });
    this.#subscription?.dispose();
  }
}

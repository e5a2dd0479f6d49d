// The control process's end of `zone-messages.ts`: whoever connects is told the configuration, the state and its changes.
// It also knows how far the DNS server is, for those who wait until a change can be asked for.

import { existsSync, unlinkSync } from "node:fs";
import type { Socket } from "bun";
import type { Disposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { encodeFrame, FrameDecoder } from "../model/frame.ts";
import type { DnsConfig } from "./config.ts";
import type { ZoneChanges, ZoneFeed } from "./zone-changes.ts";
import type { FromServer, ToServer } from "./zone-messages.ts";

export interface ZoneServerOptions {
  /** The socket's path. */
  readonly path: string;
  readonly feed: ZoneFeed;
  readonly config: DnsConfig;
  /** What a server that is up to date says it is; one of another program is followed only until there is such a one. */
  readonly program: string;
  readonly log: Logger;
}

export interface Listening {
  readonly pid: number;
  readonly address: string;
  readonly port: number;
  readonly program?: string;
}

export interface ZoneServer extends Disposable {
  /** Takes another configuration. */
  configure(config: DnsConfig): void;
  /** Where the DNS server listens, when it is connected. */
  listening(): Listening | undefined;
  /** Resolves when a DNS server that listens has connected. */
  connected(): Promise<Listening>;
  /** Resolves when a DNS server of the present program knows and answers everything. */
  upToDate(): Promise<void>;
  /** Resolves when what is known now is answered; at once when no DNS server is connected. */
  settled(): Promise<void>;
}

interface Connection {
  readonly decoder: FrameDecoder;
  unsent: Uint8Array[];
  listening: Listening | undefined;
  applied: number;
}

/** Listens on a Unix socket of mode 0600; a stale socket file is replaced. */
export function serveZone(options: ZoneServerOptions): ZoneServer {
  const { path, feed, log } = options;
  let { config } = options;
  let version = 0;
  let current: Socket<Connection> | undefined;
  const waiting = new Set<() => void>();
  const tell = () => {
    for (const one of [...waiting]) one();
  };

  function send(socket: Socket<Connection>, message: ToServer): void {
    socket.data.unsent.push(encodeFrame(message));
    flush(socket);
  }
  function flush(socket: Socket<Connection>): void {
    const { unsent } = socket.data;
    let sent = 0;
    while (sent < unsent.length) {
      const first = unsent[sent]!;
      const written = socket.write(first);
      if (written < first.length) {
        if (written > 0) unsent[sent] = first.subarray(written);
        break;
      }
      sent++;
    }
    unsent.splice(0, sent);
  }
  function take(socket: Socket<Connection>, message: FromServer): void {
    if (message.type === "applied") {
      socket.data.applied = message.version;
      tell();
      return;
    }
    const { pid, address, port, program } = message;
    const isPresent = (one: string | undefined) => one === options.program;
    // The one before is on its way out, and not to be heard any more.
    if (current && isPresent(current.data.listening?.program) && !isPresent(program)) {
      socket.end();
      return;
    }
    socket.data.listening = { pid, address, port, ...(program === undefined ? {} : { program }) };
    current?.end();
    current = socket;
    log.info("the DNS server connected", { pid, address, port });
    send(socket, { type: "config", config });
    send(socket, { type: "begin" });
    for (const changes of feed.snapshot()) send(socket, { type: "changes", version, changes });
    send(socket, { type: "end", version });
    tell();
  }

  const subscription = feed.subscribe((changes: ZoneChanges) => {
    version++;
    if (current) send(current, { type: "changes", version, changes });
  });
  if (existsSync(path)) unlinkSync(path);
  // By the mask rather than by chmod afterwards, so that there is no moment in which others could connect.
  const mask = process.umask(0o177);
  const server = Bun.listen<Connection>({
    unix: path,
    socket: {
      open(socket) {
        socket.data = { decoder: new FrameDecoder(), unsent: [], listening: undefined, applied: -1 };
      },
      data(socket, chunk) {
        try {
          for (const message of socket.data.decoder.push(chunk)) take(socket, message as FromServer);
        } catch (error) {
          log.warn("closing the connection of the DNS server", { reason: messageOf(error) });
          socket.end();
        }
      },
      drain: flush,
      close(socket) {
        if (current !== socket) return;
        current = undefined;
        log.info("the DNS server disconnected");
        tell();
      },
    },
  });
  process.umask(mask);

  const until = (holds: () => boolean): Promise<void> =>
    new Promise((resolve) => {
      const look = () => {
        if (!holds()) return;
        waiting.delete(look);
        resolve();
      };
      waiting.add(look);
      look();
    });
  return {
    configure(next) {
      config = next;
      if (current) send(current, { type: "config", config });
    },
    listening: () => current?.data.listening,
    async connected() {
      await until(() => current !== undefined);
      return current!.data.listening!;
    },
    upToDate() {
      const isThere = () =>
        current?.data.listening?.program === options.program && (current?.data.applied ?? -1) >= version;
      return until(isThere);
    },
    settled() {
      const wanted = version;
      return until(() => !current || current.data.applied >= wanted);
    },
    dispose() {
      subscription.dispose();
      server.stop(true);
      current = undefined;
      tell();
    },
  };
}

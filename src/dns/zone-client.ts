// The DNS process's end of `zone-messages.ts`: connects to the control process for as long as it lives, and takes up what
// it says. While the control process is away, what is known stays as it is.

import type { Socket } from "bun";
import type { Clock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { encodeFrame, FrameDecoder } from "../model/frame.ts";
import type { DnsConfig } from "./config.ts";
import type { ToServer } from "./zone-messages.ts";
import type { Listening } from "./zone-server.ts";
import type { ZoneTable } from "./zone-table.ts";

export interface ZoneClientOptions {
  /** The control process's socket. */
  readonly path: string;
  readonly table: ZoneTable;
  readonly listening: Listening;
  readonly clock: Clock;
  readonly log: Logger;
  readonly onConfig: (config: DnsConfig) => void;
  /** Seconds from a change of endpoints to its answer. */
  readonly onProgrammed?: (seconds: number) => void;
}

/** Milliseconds of taking up in one go; then questions that came meanwhile are answered. */
const turn = 1;
/** Bytes taken up before the time is looked at. */
const pieceBytes = 8 * 1024;
/** Bytes that may wait to be taken up; then the control process waits. */
const mostWaiting = 4 * 1024 * 1024;

/** Milliseconds between attempts to connect: the control process is back soon, or not for long. */
const retryEvery = 50;

export function followZone(options: ZoneClientOptions): Disposable {
  const { path, table, listening, clock, log, onConfig, onProgrammed } = options;
  let disposed = false;
  let socket: Socket | undefined;
  let applied = -1;
  /** False while a state is being sent: a part of it is not yet what its version says. */
  let whole = false;

  function take(message: ToServer): void {
    if (message.type === "config") onConfig(message.config);
    else if (message.type === "begin") {
      table.begin();
      whole = false;
    } else if (message.type === "end") {
      table.end();
      whole = true;
      applied = message.version;
    } else {
      table.apply(message.changes);
      if (whole) applied = message.version;
      for (const time of message.changes.triggered ?? []) onProgrammed?.((clock.now() - time) / 1000);
    }
  }
  /** What came on one connection, taken up piece by piece. */
  function follower(from: Socket): (chunk: Uint8Array) => void {
    const decoder = new FrameDecoder();
    let waiting: Uint8Array[] = [];
    let bytes = 0;
    let paused = false;
    let scheduled = false;
    const work = () => {
      scheduled = false;
      const began = performance.now();
      const before = applied;
      let at = 0;
      try {
        while (at < waiting.length && performance.now() - began < turn) {
          const piece = waiting[at++]!;
          bytes -= piece.length;
          for (const message of decoder.push(piece)) take(message as ToServer);
        }
      } catch (error) {
        log.error("what the control process said could not be taken", { error: messageOf(error) });
        from.end();
        return;
      }
      waiting = waiting.slice(at);
      if (applied !== before && from === socket) from.write(encodeFrame({ type: "applied", version: applied }));
      if (paused && bytes < mostWaiting / 2) {
        paused = false;
        from.resume();
      }
      if (waiting.length > 0) schedule();
    };
    const schedule = () => {
      if (scheduled) return;
      scheduled = true;
      setImmediate(work);
    };
    return (chunk) => {
      const copy = new Uint8Array(chunk);
      for (let at = 0; at < copy.length; at += pieceBytes) waiting.push(copy.subarray(at, at + pieceBytes));
      bytes += copy.length;
      if (!paused && bytes > mostWaiting) {
        paused = true;
        from.pause();
      }
      if (!scheduled) work();
    };
  }
  let retrying = false;
  function retry(): void {
    if (retrying) return;
    retrying = true;
    clock.after(retryEvery, () => {
      retrying = false;
      connect();
    });
  }
  function connect(): void {
    if (disposed) return;
    let receive: (chunk: Uint8Array) => void = () => {};
    Bun.connect({
      unix: path,
      socket: {
        open(opened) {
          socket = opened;
          applied = -1;
          receive = follower(opened);
          opened.write(encodeFrame({ type: "hello", ...listening }));
        },
        data(_from, chunk) {
          receive(chunk);
        },
        close() {
          socket = undefined;
          retry();
        },
      },
    }).catch(retry);
  }
  connect();
  return {
    dispose() {
      disposed = true;
      socket?.end();
    },
  };
}

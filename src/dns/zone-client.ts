// The DNS process's end of `zone-messages.ts`: connects to the control process for as long as it lives, and takes up what
// it says. While the control process is away, what is known stays as it is.

import type { Socket } from "bun";
import type { Clock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { encodeFrame } from "../model/frame.ts";
import { FrameIntake } from "../model/frame-intake.ts";
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
  /** What came on one connection, taken up piece by piece: questions that came meanwhile are answered in between. */
  function follower(from: Socket): FrameIntake {
    let told = applied;
    return new FrameIntake(from, {
      take: (message) => take(message as ToServer),
      after: () => {
        if (applied === told || from !== socket) return;
        told = applied;
        from.write(encodeFrame({ type: "applied", version: applied }));
      },
      failed: (error) => {
        log.error("what the control process said could not be taken", { error: messageOf(error) });
        from.end();
      },
    });
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
    let intake: FrameIntake | undefined;
    Bun.connect({
      unix: path,
      socket: {
        open(opened) {
          socket = opened;
          applied = -1;
          intake = follower(opened);
          opened.write(encodeFrame({ type: "hello", ...listening }));
        },
        data(_from, chunk) {
          intake?.push(chunk);
        },
        close() {
          intake?.end();
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

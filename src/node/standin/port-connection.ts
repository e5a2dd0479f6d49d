// A connection of a stand-in's port, whatever it speaks, and what it needs of its port.

import type { StandInPod } from "./protocol.ts";
import type { StandInRequest } from "./request.ts";

/** The events of its socket, and the end of its pod. */
export interface PortConnection {
  read(chunk: Buffer): void;
  drained(): void;
  /** The client sends no more. */
  ended(): void;
  /** The socket is gone. */
  closed(): void;
  /** Ends what rests. */
  endIfIdle(): void;
  terminate(): void;
}

export interface Port {
  readonly pod: StandInPod;
  /** What answers say of it, as members of JSON. */
  readonly identity: string;
  /** Connections end with what is under way on them. */
  readonly draining: boolean;
  left(connection: PortConnection): void;
  /** `status`: what was answered, or what was done instead. */
  logRequest(client: string, request: StandInRequest, status: number | string, length: number): void;
}

/** What made-up bodies consist of. */
export const filler = Buffer.from("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-\n".repeat(1024));

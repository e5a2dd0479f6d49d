// What the peer has said in SETTINGS (RFC 9113 §6.5.2, RFC 8441 §3), as far as it concerns us. Frames larger than the smallest
// limit are never sent (they would gain nothing and hold up other streams), so that limit is checked and forgotten.

import { defaultWindow, ErrorCode, maxWindow, Setting } from "./frame.ts";

export class PeerSettings {
  /** What we may send on a stream that begins. */
  window = defaultWindow;
  /** How many streams we may have open. */
  streams = maxWindow;
  /** It takes CONNECT with a protocol. */
  connects = false;
  /** Bytes of its decoder's table. */
  tableSize = 4096;
  readonly #isServer: boolean;

  /** `isServer`: the peer is one. */
  constructor(isServer: boolean) {
    this.#isServer = isServer;
  }

  /** Takes a frame's content over, as far as it is right. Returns what is wrong with it, for the connection's end. */
  read(bytes: Buffer, start: number, end: number): { readonly code: number; readonly what: string } | undefined {
    for (let at = start; at < end; at += 6) {
      const name = bytes.readUInt16BE(at);
      const value = bytes.readUInt32BE(at + 2);
      if (!this.#take(name, value)) {
        const code = name === Setting.initialWindowSize ? ErrorCode.flowControlError : ErrorCode.protocolError;
        return { code, what: `setting ${name} is out of range` };
      }
    }
    return undefined;
  }

  #take(name: number, value: number): boolean {
    switch (name) {
      case Setting.headerTableSize:
        this.tableSize = value;
        return true;
      case Setting.enablePush:
        return value <= (this.#isServer ? 0 : 1);
      case Setting.maxConcurrentStreams:
        this.streams = value;
        return true;
      case Setting.initialWindowSize:
        this.window = value;
        return value <= maxWindow;
      case Setting.maxFrameSize:
        return value >= 16_384 && value <= 16_777_215;
      case Setting.enableConnectProtocol:
        this.connects = value === 1;
        return value <= 1;
      default:
        return true;
    }
  }
}

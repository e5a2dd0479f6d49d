// What the peer may still send on all streams of a connection together, and when it is told of more (RFC 9113 §5.2). The windows of
// streams are theirs.

/** Bytes that it may send before we say more. */
export const connectionWindow = 4 * 1024 * 1024;

export class ReceiveWindow {
  #left = connectionWindow;
  #consumed = 0;

  /** So much came. False: more than the window. */
  take(bytes: number): boolean {
    this.#left -= bytes;
    return this.#left >= 0;
  }

  /** So much was passed on. Returns the increment that the peer is to be told now; 0: not yet, so that a quarter is one frame. */
  credit(bytes: number): number {
    this.#consumed += bytes;
    if (this.#consumed < connectionWindow / 4) return 0;
    const more = this.#consumed;
    this.#left += more;
    this.#consumed = 0;
    return more;
  }
}

// One stream of an HTTP/2 connection, whichever side began it (RFC 9113 §5.1, §5.2): its two windows, what waits to be sent
// because they are closed, and what was received and cannot be passed on yet. What its heads mean is for the two kinds of stream.

import type { HeaderBlock } from "../headers.ts";
import { turn } from "../wire.ts";
import type { Http2Connection } from "./connection.ts";
import { defaultFrameSize, ErrorCode, Flag, FrameType } from "./frame.ts";

/** Bytes of one stream that the peer may send before we say more: what one stream may cost us in memory. */
export const streamWindow = 256 * 1024;
/** The same of an answer of which less than `streamWindow` has been passed on: its client may never read it. */
export const firstWindow = 64 * 1024;

interface Piece {
  bytes: Buffer;
  start: number;
  end: number;
}

/** Content that waits is copied when it keeps a buffer of more than this many times its size alive. */
const wasteful = 2;
const nothing = Buffer.alloc(0);
const noPieces: Piece[] = [];

export abstract class Http2Stream {
  id: number;
  readonly connection: Http2Connection;
  /** What may be sent, and what the peer may send. */
  sendWindow: number;
  receiveWindow: number;
  /** END_STREAM has come; END_STREAM has been sent. */
  remoteDone = false;
  localDone = false;
  /** All that was received has been passed on. */
  completed = false;
  /** No more frames of it are sent or taken. */
  gone = false;
  /** Bytes of content that must still come when a content-length said how many; -1: not known. */
  expected = -1;
  /** When something of it last went forward, by `turn.now`. */
  active = turn.now;
  #held = false;
  #received: Piece[] = noPieces;
  #receivedEnd: { trailers: HeaderBlock | undefined } | undefined = undefined;
  /** Content that was passed on and not taken yet; consumed with what we have not told the peer. */
  #lent = 0;
  #consumed = 0;
  #window: number;
  #passed = 0;
  #pending: Piece[] = noPieces;
  #pendingEnd: { trailers: HeaderBlock | undefined } | undefined = undefined;
  /** The last frame, to make it the last of the stream. */
  #lastFrame = -1;
  #lastGeneration = -1;

  /** `window`: what the peer may send at first, as our settings say. */
  constructor(connection: Http2Connection, id: number, window = streamWindow) {
    this.receiveWindow = window;
    this.#window = window;
    this.connection = connection;
    this.id = id;
    this.sendWindow = connection.peer.window;
  }

  /** Content. False: no more until `resumeBody`. */
  protected abstract content(bytes: Buffer, start: number, end: number): boolean;
  /** All content has been passed on. */
  protected abstract complete(trailers: HeaderBlock | undefined): void;
  /** The stream ended by a reset or with its connection. `byPeer`: it was not our decision. */
  abstract broken(code: number, byPeer: boolean): void;
  /** Everything that was refused has been sent. */
  protected abstract drained(): void;
  /** A field section of the stream after its first. */
  protected abstract writeTrailers(trailers: HeaderBlock): void;

  // --------------------------------------------------------------------------------------------------------- receiving

  /** Content of DATA; the windows have been counted. */
  receive(bytes: Buffer, start: number, end: number, last: boolean): void {
    this.active = turn.now;
    if (this.expected >= 0) {
      this.expected -= end - start;
      if (this.expected < 0 || (last && this.expected > 0)) {
        this.connection.consumed(end - start);
        this.connection.streamError(this.id, ErrorCode.protocolError);
        return;
      }
    }
    if (end > start) {
      if (this.#held) {
        if (this.#received === noPieces) this.#received = [];
        this.#received.push({ bytes, start, end });
      } else this.#passOn(bytes, start, end);
    }
    if (last && !this.gone) this.receiveEnd(undefined);
  }

  /** END_STREAM, with the trailers that carried it. */
  receiveEnd(trailers: HeaderBlock | undefined): void {
    this.remoteDone = true;
    if (this.#held) {
      this.#receivedEnd = { trailers };
      return;
    }
    this.#finish(trailers);
  }

  #finish(trailers: HeaderBlock | undefined): void {
    this.completed = true;
    this.complete(trailers);
    this.closeIfDone();
  }

  #passOn(bytes: Buffer, start: number, end: number): void {
    const goOn = this.content(bytes, start, end);
    if (goOn || this.gone) this.consumed(end - start);
    else {
      this.#held = true;
      this.#lent = end - start;
    }
  }

  resumeBody(): void {
    if (!this.#held || this.gone) return;
    this.#held = false;
    this.active = turn.now;
    this.consumed(this.#lent);
    this.#lent = 0;
    while (this.#received.length > 0 && !this.#held && !this.gone) {
      const { bytes, start, end } = this.#received.shift()!;
      this.#passOn(bytes, start, end);
    }
    if (this.#held || this.gone || this.#receivedEnd === undefined) return;
    const { trailers } = this.#receivedEnd;
    this.#receivedEnd = undefined;
    this.#finish(trailers);
  }

  pauseBody(): void {
    this.#held = true;
  }

  /** Whether the middle holds the body, so that its sender is not the one who is slow. */
  get held(): boolean {
    return this.#held;
  }

  /** The peer may send as much again: told when half of the window is used up. */
  consumed(bytes: number): void {
    this.connection.consumed(bytes);
    if (this.remoteDone || this.gone) return;
    this.#consumed += bytes;
    if (this.#consumed < this.#window / 2) return;
    this.#passed += this.#consumed;
    if (this.#window < streamWindow && this.#passed >= streamWindow) {
      this.#consumed += streamWindow - this.#window;
      this.#window = streamWindow;
    }
    this.receiveWindow += this.#consumed;
    this.connection.output.numbers(FrameType.windowUpdate, 0, this.id, this.#consumed);
    this.#consumed = 0;
  }

  // ----------------------------------------------------------------------------------------------------------- sending

  /** Content to the peer. False: wait for `drained`. */
  protected sendContent(bytes: Buffer, start: number, end: number): boolean {
    if (this.gone || this.localDone) return true;
    const at = this.#pending.length > 0 ? start : this.#emit(bytes, start, end, false);
    if (at === end && !this.connection.output.blocked) return true;
    if (at < end) {
      if (this.#pending === noPieces) this.#pending = [];
      this.#pending.push(compact({ bytes, start: at, end }));
      this.connection.holds(end - at);
    }
    this.active = turn.now;
    this.connection.stalled.add(this);
    return false;
  }

  /** Sends as much as the windows permit, or one frame; returns where it stopped. */
  #emit(bytes: Buffer, from: number, end: number, one: boolean): number {
    const { connection } = this;
    let start = from;
    while (start < end && !connection.output.blocked) {
      const length = Math.min(end - start, this.sendWindow, connection.sendWindow, defaultFrameSize);
      if (length <= 0) break;
      this.sendWindow -= length;
      connection.sendWindow -= length;
      this.#frame(FrameType.data, 0, bytes, start, start + length);
      connection.sentData();
      start += length;
      if (one) break;
    }
    return start;
  }

  #frame(type: number, flags: number, bytes: Buffer, start: number, end: number): void {
    const { output } = this.connection;
    this.#lastFrame = output.frame(type, flags, this.id, bytes, start, end);
    this.#lastGeneration = output.generation;
  }

  /** The encoder's block as HEADERS and, where it is long, CONTINUATION. */
  protected sendBlock(endStream: boolean): void {
    const { output, encoder } = this.connection;
    const { block, length } = encoder;
    const last = endStream ? Flag.endStream : 0;
    if (length <= defaultFrameSize) this.#frame(FrameType.headers, Flag.endHeaders | last, block, 0, length);
    else {
      this.#frame(FrameType.headers, last, block, 0, defaultFrameSize);
      for (let start = defaultFrameSize; start < length; start += defaultFrameSize) {
        const end = Math.min(length, start + defaultFrameSize);
        output.frame(FrameType.continuation, end === length ? Flag.endHeaders : 0, this.id, block, start, end);
      }
    }
    if (endStream) this.localDone = true;
  }

  /** Ends our side, behind what waits. */
  protected sendEnd(trailers: HeaderBlock | undefined): void {
    if (this.gone || this.localDone) return;
    if (this.#pending.length > 0) {
      this.#pendingEnd = { trailers };
      return;
    }
    this.localDone = true;
    if (trailers !== undefined) this.writeTrailers(trailers);
    else if (this.#lastFrame >= 0 && this.#lastGeneration === this.connection.output.generation) {
      this.connection.output.endStreamAt(this.#lastFrame);
    } else this.#frame(FrameType.data, Flag.endStream, nothing, 0, 0);
    this.closeIfDone();
  }

  /** Sends one frame of what waits. Returns whether something happened. */
  pump(): boolean {
    if (this.gone) {
      this.connection.stalled.delete(this);
      return false;
    }
    const piece = this.#pending[0];
    if (piece !== undefined) {
      const at = this.#emit(piece.bytes, piece.start, piece.end, true);
      if (at === piece.start) {
        compact(piece);
        return false;
      }
      this.active = turn.now;
      this.connection.holds(piece.start - at);
      piece.start = at;
      if (at === piece.end) this.#pending.shift();
    }
    if (this.#pending.length > 0 || this.connection.output.blocked) return piece !== undefined;
    this.connection.stalled.delete(this);
    if (this.#pendingEnd !== undefined) {
      const { trailers } = this.#pendingEnd;
      this.#pendingEnd = undefined;
      this.sendEnd(trailers);
    } else if (!this.localDone) this.drained();
    return true;
  }

  /** Whether content waits for the peer. */
  get stalled(): boolean {
    return this.#pending.length > 0;
  }

  // ----------------------------------------------------------------------------------------------------------- the end

  /** Leaves when both sides have ended. */
  protected abstract closeIfDone(): void;

  /** RST_STREAM has come. */
  resetByPeer(code: number): void {
    this.leave();
    this.broken(code, true);
  }

  /** Nothing more is sent, though not all has been. */
  protected stopSending(): void {
    this.localDone = true;
    this.#dropPending();
    this.#pendingEnd = undefined;
    this.connection.stalled.delete(this);
  }

  #dropPending(): void {
    for (const { start, end } of this.#pending) this.connection.holds(start - end);
    this.#pending = noPieces;
  }

  /** The stream is over: no frames any more, and nothing waits. */
  leave(): void {
    if (this.gone) return;
    this.gone = true;
    // What was received and will not be passed on: the connection's window must not shrink by it.
    let left = this.#lent;
    for (const { start, end } of this.#received) left += end - start;
    this.#received = noPieces;
    this.#dropPending();
    this.#lent = 0;
    this.connection.left(this, left);
  }
}

/** What little is left of a large read does not keep all of it. */
function compact(piece: Piece): Piece {
  const { bytes, start, end } = piece;
  if ((end - start) * wasteful < bytes.buffer.byteLength) {
    piece.bytes = Buffer.from(new Uint8Array(bytes.subarray(start, end)).buffer);
    piece.start = 0;
    piece.end = end - start;
  }
  return piece;
}

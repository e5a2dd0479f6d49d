// What both ends of an HTTP/2 connection have in common (RFC 9113): settings, the connection's windows, the registry of streams,
// errors of streams and of the connection, PING, GOAWAY, and the limits against floods. Who begins streams, and what their heads
// mean, is for `downstream.ts` and `upstream.ts`.

import type { Http2Keepalive } from "../../model/upstream-policies.ts";
import { Deadline, type Deadlines } from "../deadlines.ts";
import { turn, type Wire } from "../wire.ts";
import { giveBlock, takeBlock } from "./blocks.ts";
import { FloodGuard } from "./flood-guard.ts";
import { defaultWindow, ErrorCode, Flag, FrameType, maxWindow, preface } from "./frame.ts";
import { HpackDecoder } from "./hpack/decoder.ts";
import { HpackEncoder } from "./hpack/encoder.ts";
import { FieldSection } from "./hpack/section.ts";
import { Liveness } from "./liveness.ts";
import { FrameOutput } from "./output.ts";
import { PeerSettings } from "./peer-settings.ts";
import { FrameReader, type FrameSink } from "./reader.ts";
import { connectionWindow, ReceiveWindow } from "./receive-window.ts";
import { RecentResets } from "./recent-resets.ts";
import { StalledStreams } from "./stalled-streams.ts";
import type { Http2Stream } from "./stream.ts";
import { Streams } from "./streams.ts";

/** How long a connection that ended with an error may take to close, and one without streams to say goodbye. */
export const lingerMilliseconds = 1_000;
/** Longest time until the connection looks after its streams again. */
const sweepMilliseconds = 10_000;

export abstract class Http2Connection extends Deadline implements FrameSink {
  readonly output: FrameOutput;
  readonly encoder = new HpackEncoder();
  readonly streams = new Streams();
  /** Those whose content waits. */
  readonly stalled: StalledStreams;
  /** No frames are taken any more. */
  closed = false;
  /** What we may send on all streams together. */
  sendWindow = defaultWindow;
  readonly peer: PeerSettings;
  /** Content of all streams that waits for the peer's windows. */
  protected held = 0;
  /** The highest stream that the peer began, and that we began. */
  protected lastPeer = 0;
  protected lastOwn = 0;
  protected readonly deadlines: Deadlines;
  protected readonly section = new FieldSection();
  readonly #guard = new FloodGuard();
  readonly #liveness = new Liveness();
  readonly #decoder = new HpackDecoder();
  readonly #reader: FrameReader;
  /** The connection's window follows what is consumed, or else opens again as soon as bytes arrive. */
  readonly #windowFollows: boolean;
  readonly #receiveWindow = new ReceiveWindow();
  #begun = false;
  readonly #resets = new RecentResets();
  /** When a frame last began. */
  #progress = turn.now;
  #left = false;

  /** `toServer`: we are the client. */
  constructor(wire: Wire, deadlines: Deadlines, toServer: boolean) {
    super();
    this.output = new FrameOutput(wire);
    this.stalled = new StalledStreams(this.output);
    this.deadlines = deadlines;
    this.peer = new PeerSettings(toServer);
    // Streams of many clients share a connection to a backend: one that is slow may not hold up the others' window.
    this.#windowFollows = !toServer;
    this.#reader = new FrameReader(this, toServer ? undefined : preface);
  }

  /** Sends our settings and opens the connection's window. */
  protected greet(settings: readonly (readonly [number, number])[]): void {
    this.output.settings(settings);
    this.output.numbers(FrameType.windowUpdate, 0, 0, connectionWindow - defaultWindow);
    this.deadlines.arm(this, Math.min(this.keepalive?.interval ?? sweepMilliseconds, sweepMilliseconds));
  }

  /** A field section of a stream, decoded into `section`; its block is the callee's. */
  protected abstract fields(id: number, endStream: boolean): void;
  /** Whether the peer may begin streams with this number. */
  protected abstract isPeers(id: number): boolean;
  /** The peer's first SETTINGS have come. */
  protected abstract greeted(): void;
  protected abstract wentAway(last: number, code: number): void;
  protected abstract pingAnswered(): void;
  /** A stream is over. */
  protected abstract streamOver(stream: Http2Stream): void;
  /** The connection is over; called once. */
  protected abstract over(): void;
  /** Ends what took too long; returns the milliseconds until it must look again. */
  protected abstract sweep(): number;

  // ---------------------------------------------------------------------------------------------------- from the socket

  onData(bytes: Buffer): void {
    if (this.closed) return;
    this.#liveness.heard();
    this.#reader.push(bytes);
    if (this.output.overflows) this.terminate();
  }

  onDrain(): void {
    if (this.output.drain()) this.stalled.pump(this);
  }

  /** The peer sends no more: what it has not finished, it never will. */
  onEnd(): void {
    this.terminate();
  }

  onClose(): void {
    this.closed = true;
    this.output.discard();
    const streams = this.streams.clear();
    this.stalled.clear();
    breakAll(streams);
    if (this.#left) return;
    this.#left = true;
    this.deadlines.disarm(this);
    this.over();
  }

  terminate(): void {
    if (!this.output.closed) this.output.wire.terminate();
    this.onClose();
  }

  expired(): void {
    if (this.#left) return;
    if (this.closed) {
      this.terminate();
      return;
    }
    const next = Math.min(this.sweep(), sweepMilliseconds);
    if (this.closed) return;
    const policy = this.keepalive;
    switch (this.#liveness.check(this.streams.size > 0, policy)) {
      case "gone":
        this.terminate();
        return;
      case "unsettled":
        this.connectionError(ErrorCode.settingsTimeout, "our SETTINGS are not acknowledged");
        return;
      case "ask":
        this.sendPing();
        break;
    }
    this.deadlines.arm(this, Math.max(10, policy ? Math.min(next, this.#liveness.left(policy)) : next));
  }

  /** How the peer is asked whether it is there; undefined: as any. */
  protected get keepalive(): Http2Keepalive | undefined {
    return undefined;
  }

  /** For how long the peer has not finished a frame or field block that it began; 0 when it has. */
  protected get insideFor(): number {
    return this.#reader.inside ? turn.now - this.#progress : 0;
  }

  protected sendPing(): void {
    this.output.numbers(FrameType.ping, 0, 0, 0, 0);
  }

  // ------------------------------------------------------------------------------------------------------------ errors

  frameError(code: number, what: string, id?: number): void {
    if (id === undefined || this.isIdle(id)) this.connectionError(code, what);
    else this.streamError(id, code);
  }

  /** GOAWAY with an error, and the end. */
  connectionError(code: number, what: string): void {
    if (this.closed) return;
    this.output.goaway(this.lastPeer, code, what);
    this.finish();
  }

  /** Closes once everything is sent; streams that are left are broken. */
  protected finish(): void {
    if (this.closed) return;
    this.closed = true;
    breakAll(this.streams.all());
    this.output.endAfterFlush();
    this.deadlines.arm(this, lingerMilliseconds);
  }

  /** An error that the peer made on a stream: RST_STREAM, and the exchange is told. */
  streamError(id: number, code: number): void {
    if (!this.#guard.broken()) {
      this.connectionError(ErrorCode.enhanceYourCalm, "too many streams are broken");
      return;
    }
    const stream = this.streams.get(id);
    this.sendReset(id, code);
    if (stream === undefined) return;
    stream.leave();
    stream.broken(code, false);
  }

  sendReset(id: number, code: number): void {
    this.output.numbers(FrameType.rstStream, 0, id, code);
    this.#resets.add(id);
  }

  protected isIdle(id: number): boolean {
    return id > (this.isPeers(id) ? this.lastPeer : this.lastOwn);
  }

  protected wasReset(id: number): boolean {
    return this.#resets.has(id);
  }

  // ------------------------------------------------------------------------------------------------------------ frames

  frameBegins(type: number, flags: number): boolean {
    this.#progress = turn.now;
    if (!this.#begun) {
      if (type !== FrameType.settings || (flags & Flag.ack) !== 0) {
        this.connectionError(ErrorCode.protocolError, "the first frame is not SETTINGS");
        return false;
      }
      this.#begun = true;
    } else if (type > FrameType.continuation || type === FrameType.priority || type === FrameType.continuation) {
      return this.#within(this.#guard.empty());
    }
    return true;
  }

  #within(limit: boolean): boolean {
    if (limit) return true;
    this.connectionError(ErrorCode.enhanceYourCalm, "too many frames that ask for work and bring none");
    return false;
  }

  dataBegins(id: number, length: number, content: number, last: boolean): boolean {
    if (!this.#receiveWindow.take(length)) {
      this.connectionError(ErrorCode.flowControlError, "more DATA than the connection's window");
      return false;
    }
    if (!this.#windowFollows) this.#credit(length);
    if (content === 0 && !last && !this.#within(this.#guard.empty())) return false;
    const stream = this.streams.get(id);
    if (stream === undefined || stream.remoteDone) {
      this.consumed(length);
      if (this.isIdle(id)) this.connectionError(ErrorCode.protocolError, "DATA on an idle stream");
      else if (stream !== undefined || !this.wasReset(id)) this.streamError(id, ErrorCode.streamClosed);
      return false;
    }
    stream.receiveWindow -= length;
    if (stream.receiveWindow < 0) {
      this.consumed(length);
      this.streamError(id, ErrorCode.flowControlError);
      return false;
    }
    if (length > content) stream.consumed(length - content);
    return true;
  }

  data(id: number, bytes: Buffer, start: number, end: number, last: boolean): void {
    const stream = this.streams.get(id);
    // It may have ended within the frame.
    if (stream !== undefined) stream.receive(bytes, start, end, last);
    else this.consumed(end - start);
  }

  headers(id: number, bytes: Buffer, start: number, end: number, endStream: boolean, dependsOnItself: boolean): void {
    if (start === end && !endStream && !this.#within(this.#guard.empty())) return;
    const block = takeBlock();
    this.section.begin(block);
    const problem = this.#decoder.decode(bytes, start, end, this.section);
    this.section.finish();
    if (problem !== undefined) this.connectionError(ErrorCode.compressionError, problem);
    else if (this.section.bomb)
      this.connectionError(ErrorCode.enhanceYourCalm, "a field section that is far too large");
    else {
      // RFC 7540 §5.3.1; RFC 9113 has no opinion any more.
      if (dependsOnItself) this.section.malformed = true;
      this.fields(id, endStream);
      return;
    }
    giveBlock(block);
  }

  priority(id: number, dependsOnItself: boolean): void {
    if (dependsOnItself) this.frameError(ErrorCode.protocolError, "a stream depends on itself", id);
  }

  reset(id: number, code: number): void {
    const stream = this.streams.get(id);
    if (stream === undefined) {
      if (this.isIdle(id)) this.connectionError(ErrorCode.protocolError, "RST_STREAM on an idle stream");
      else this.#within(this.#guard.empty());
      return;
    }
    const allowed = !this.isPeers(id) || this.#guard.broken();
    stream.resetByPeer(code);
    if (!allowed) this.connectionError(ErrorCode.enhanceYourCalm, "too many streams are broken");
  }

  settings(bytes: Buffer, start: number, end: number): void {
    if (!this.#within(this.#guard.answered())) return;
    const { peer } = this;
    const before = peer.window;
    const problem = peer.read(bytes, start, end);
    if (problem !== undefined) {
      this.connectionError(problem.code, problem.what);
      return;
    }
    this.encoder.setLimit(peer.tableSize);
    for (const stream of this.streams.all()) {
      stream.sendWindow += peer.window - before;
      if (stream.sendWindow > maxWindow) {
        this.connectionError(ErrorCode.flowControlError, "a window above 2^31-1");
        return;
      }
    }
    this.output.frame(FrameType.settings, Flag.ack, 0, bytes, 0, 0);
    this.greeted();
    this.stalled.pump(this);
  }

  settingsAcknowledged(): void {
    this.#liveness.settled();
    this.#within(this.#guard.empty());
  }

  ping(bytes: Buffer, start: number, acknowledges: boolean): void {
    if (acknowledges) this.pingAnswered();
    else if (this.#within(this.#guard.answered()))
      this.output.frame(FrameType.ping, Flag.ack, 0, bytes, start, start + 8);
  }

  goaway(last: number, code: number): void {
    this.wentAway(last, code);
  }

  windowUpdate(id: number, increment: number): void {
    if (!this.#within(this.#guard.windowUpdate())) return;
    if (id === 0) {
      this.sendWindow += increment;
      if (this.sendWindow > maxWindow) this.connectionError(ErrorCode.flowControlError, "a window above 2^31-1");
      else this.stalled.pump(this);
      return;
    }
    const stream = this.streams.get(id);
    if (stream === undefined) {
      if (this.isIdle(id)) this.connectionError(ErrorCode.protocolError, "WINDOW_UPDATE on an idle stream");
      return;
    }
    stream.sendWindow += increment;
    if (stream.sendWindow > maxWindow) this.streamError(id, ErrorCode.flowControlError);
    else if (this.stalled.has(stream)) this.stalled.pump(this);
  }

  // ----------------------------------------------------------------------------------------------------------- windows

  /** Content that was passed on, or thrown away. */
  consumed(bytes: number): void {
    if (this.#windowFollows) this.#credit(bytes);
  }

  #credit(bytes: number): void {
    const more = this.closed ? 0 : this.#receiveWindow.credit(bytes);
    if (more > 0) this.output.numbers(FrameType.windowUpdate, 0, 0, more);
  }

  /** So many bytes more (or less) wait for the peer's windows. */
  holds(bytes: number): void {
    this.held += bytes;
  }

  sentData(): void {
    this.#guard.sentData();
  }

  /** Of streams: this one is over. `unread` bytes of it will not be passed on. */
  left(stream: Http2Stream, unread: number): void {
    this.streams.delete(stream.id);
    this.stalled.delete(stream);
    if (unread > 0) this.consumed(unread);
    this.streamOver(stream);
  }
}

/** The connection goes, and they with it. */
function breakAll(streams: readonly Http2Stream[]): void {
  for (const stream of streams) {
    stream.leave();
    stream.broken(ErrorCode.noError, true);
  }
}

// A request that could not be read, as counters and access logs have it: who sent it, and why it was refused. Nothing of what it said:
// that is malformed, and whoever sent it may have meant it for who reads the log. A connection has one of them, or as many streams as
// the limits of HTTP/2 let it break. Envoy's lines are the same (`- - HTTP/1.1` 400 DPE).

import { type Reason, reasons } from "../reason.ts";
import type { Unread } from "../server.ts";
import { turn } from "../wire.ts";
import { type AccessRecord, headless } from "./access-record.ts";
import { type ListenerTelemetry, writeLines } from "./watched.ts";

/** What is counted of it. */
export interface UnreadEnd {
  /** 0: its stream or connection was ended without an answer. */
  readonly status: number;
  readonly milliseconds: number;
  /** Bytes of the answer's body. */
  readonly sent: number;
}

export function unreadEnd(reason: Reason, { began }: Unread, answered: boolean): UnreadEnd {
  const { status, text } = reasons[reason];
  return { milliseconds: turn.now - began, status: answered ? status : 0, sent: answered ? text.length + 1 : 0 };
}

/** It is over now. */
export function tellUnread(telemetry: ListenerTelemetry, reason: Reason, request: Unread, end: UnreadEnd): void {
  const { addresses, serverName, tlsVersion, client } = request.forwardingLines;
  const record: AccessRecord = {
    ...headless,
    startTime: telemetry.epoch + request.began,
    duration: end.milliseconds,
    protocol: request.protocol,
    status: end.status,
    flags: reasons[reason].flag,
    details: reason,
    bytesReceived: 0,
    bytesSent: end.sent,
    attempts: 0,
    backend: undefined,
    endpoint: undefined,
    local: telemetry.local,
    addresses,
    source: addresses?.source ?? "",
    serverName,
    tlsVersion,
    peerUri: client?.uris[0],
    peerSubject: client?.subject,
    peer: client,
  };
  writeLines(telemetry, record);
}

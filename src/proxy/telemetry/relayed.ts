// A connection or session that was passed through, as its access log has it when it is over. It has no head, route or status.

import type { ClientIdentity } from "../listener/client-identity.ts";
import type { ProxyAddresses } from "../listener/proxy-protocol.ts";
import { type Reason, reasons } from "../reason.ts";
import { type AccessRecord, headless, type Place } from "./access-record.ts";
import { type ListenerTelemetry, writeLines } from "./watched.ts";

export interface Relay {
  readonly protocol: "TCP" | "UDP";
  readonly addresses: ProxyAddresses;
  readonly serverName?: string | undefined;
  readonly tlsVersion?: string | undefined;
  /** By its certificate. */
  readonly client?: ClientIdentity | undefined;
  readonly reason: Reason | undefined;
  /** Empty: none. */
  readonly backend: string;
  readonly endpoint: Place | undefined;
  /** Bytes from the client, and to it. */
  readonly received: number;
  readonly sent: number;
  readonly milliseconds: number;
  readonly attempts: number;
}

/** It is over now. */
export function tellRelayed(telemetry: ListenerTelemetry, now: number, relay: Relay): void {
  const { reason, addresses, milliseconds } = relay;
  const record: AccessRecord = {
    ...headless,
    startTime: now - milliseconds,
    duration: milliseconds,
    protocol: relay.protocol,
    status: 0,
    flags: reason ? reasons[reason].flag : "-",
    details: reason,
    bytesReceived: relay.received,
    bytesSent: relay.sent,
    attempts: relay.attempts,
    backend: relay.backend,
    endpoint: relay.endpoint,
    local: telemetry.local,
    addresses,
    source: addresses.source,
    serverName: relay.serverName,
    tlsVersion: relay.tlsVersion,
    peerUri: relay.client?.uris[0],
    peerSubject: relay.client?.subject,
    peer: relay.client,
  };
  writeLines(telemetry, record);
}

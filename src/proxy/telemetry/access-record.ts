// What a line of an access log can be made of: a request, or a connection or session that was passed through (which has no head,
// route or status). Asked only for what the line's template has in it, at the end, before anything is let go of.

import type { HeaderBlock } from "../headers.ts";
import type { ClientIdentity } from "../listener/client-identity.ts";
import type { ProxyAddresses } from "../listener/proxy-protocol.ts";
import type { KeptValues } from "./kept-values.ts";
import type { TraceContext } from "./trace-context.ts";

export interface Place {
  readonly address: string;
  readonly port: number;
}

export interface AccessRecord {
  /** Milliseconds since 1970. */
  readonly startTime: number;
  /** Milliseconds, from the request's head to the end of the answer; of a connection, how long it was there. */
  readonly duration: number;
  /** `HTTP/1.0`, `HTTP/1.1`, `HTTP/2`, `TCP`, `UDP`. */
  readonly protocol: string;
  readonly method: string | undefined;
  readonly scheme: string | undefined;
  /** As they came. */
  readonly authority: string | undefined;
  readonly path: string | undefined;
  readonly query: string | undefined;
  /** The request's fields, with what the proxy has put to them. */
  readonly headers: HeaderBlock | undefined;
  /** 0: no answer. */
  readonly status: number;
  /** Response flags as Envoy's, separated by commas; `-`: none. */
  readonly flags: string;
  /** Why, in one word. */
  readonly details: string | undefined;
  /** Of bodies, or of what was passed through. */
  readonly bytesReceived: number;
  readonly bytesSent: number;
  /** Milliseconds until the head of the backend's answer was there; below 0: it never was. */
  readonly upstreamTime: number;
  readonly attempts: number;
  readonly route: string | undefined;
  readonly backend: string | undefined;
  readonly endpoint: Place | undefined;
  readonly upstreamLocal: Place | undefined;
  /** The listener's address. */
  readonly local: Place;
  /** Of who connected, and where to. */
  readonly addresses: ProxyAddresses | undefined;
  /** The client: who connected, or for whom a trusted hop says that it forwards. */
  readonly source: string;
  readonly serverName: string | undefined;
  readonly tlsVersion: string | undefined;
  /** By the client's certificate: its first URI, and its subject. */
  readonly peerUri: string | undefined;
  readonly peerSubject: string | undefined;
  readonly peer: ClientIdentity | undefined;
  readonly trace: TraceContext | undefined;
  /** Fields of the answer, in the order of the listener's list of them. */
  readonly answerFields: readonly (string | undefined)[] | undefined;
  /** Trailers of the answer, likewise. */
  readonly trailers: readonly (string | undefined)[] | undefined;
  /** Milliseconds until the request was there to its end; below 0: it never was. */
  readonly requestTime: number;
  /** `HTTP/1.1`, `HTTP/2`. */
  readonly upstreamProtocol: string | undefined;
  /** What lines keep of the client's connection, and of that to the backend; undefined: nothing. */
  readonly clientValues?: KeptValues | undefined;
  readonly upstreamValues?: KeptValues | undefined;
}

/** Of what no head was read there is none of this. */
export const headless = {
  method: undefined,
  scheme: undefined,
  authority: undefined,
  path: undefined,
  query: undefined,
  headers: undefined,
  upstreamTime: -1,
  route: undefined,
  upstreamLocal: undefined,
  trace: undefined,
  answerFields: undefined,
  trailers: undefined,
  requestTime: -1,
  upstreamProtocol: undefined,
} satisfies Partial<AccessRecord>;

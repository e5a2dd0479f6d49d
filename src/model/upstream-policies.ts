// How a proxy deals with the endpoints behind a rule, as data: balancing, health, limits, retries, persistence. Parts of Backend
// (shared by all routes) and of Rule. Names and defaults are Envoy's or Linkerd's where those have the policy
// (research: Istio DestinationRule and VirtualService, Linkerd's failure accrual). Milliseconds, bytes, per cent.

import type { HeaderValue, SecretName, StringMatch, ValueMatch } from "./model.ts";
import type { PeerDemands } from "./peer-demands.ts";

// ------------------------------------------------------------------------------------------------------ Of a Backend

export type Balance =
  /** Smooth weighted round robin. */
  | { readonly kind: "roundRobin"; readonly slowStart?: SlowStart }
  | { readonly kind: "random" }
  /** The less loaded of `choices` drawn at random (2); with unequal weights weight / (active + 1). */
  | { readonly kind: "leastRequest"; readonly choices?: number; readonly slowStart?: SlowStart }
  /** Power of two choices over an exponentially weighted moving average of the peaks of response times (Linkerd). */
  | { readonly kind: "peakEwma"; readonly decay?: number; readonly startAt?: number }
  /** Consistent: the rule's `hash` says of what; without one, random. */
  | { readonly kind: "ringHash"; readonly minSize?: number; readonly maxSize?: number }
  | { readonly kind: "maglev"; readonly tableSize?: number };

/** A new endpoint's weight grows from `minPercent` (10) over `window`: × max(min, (t / window) ^ (1 / aggression)). */
export interface SlowStart {
  readonly window: number;
  readonly minPercent?: number;
  readonly aggression?: number;
}

/** Which endpoints are taken before others. */
export interface Locality {
  /** Endpoints of the proxy's own zone first, as far as its share of the capacity goes; `minimum` (6) endpoints in all. */
  readonly zonePreference?: { readonly minimum?: number };
  /** Of endpoint priorities (0 first): a level is full as long as its healthy share × this is at least 100 (140). */
  readonly overprovisioningPercent?: number;
}

/** Passive health: Envoy's outlier detection. A number of 0 switches that detector off. */
export interface OutlierDetection {
  readonly consecutive5xx: number;
  readonly consecutiveGatewayErrors: number;
  /** Counted apart from answers (`splitExternalLocalOriginErrors`); absent: failures to connect count as 503, timeouts as 504. */
  readonly consecutiveLocalFailures?: number;
  readonly interval: number;
  readonly baseEjection: number;
  readonly maxEjection: number;
  /** Each ejection is longer by up to so much, drawn for it (Envoy: `max_ejection_time_jitter`); absent: 0. */
  readonly ejectionJitter?: number;
  readonly maxEjectionPercent: number;
  readonly alwaysEjectOne: boolean;
  readonly successRate?: {
    readonly minimumHosts: number;
    readonly requestVolume: number;
    readonly deviationFactor: number;
  };
  readonly failurePercentage?: {
    readonly threshold: number;
    readonly minimumHosts: number;
    readonly requestVolume: number;
  };
}

/** From `first` to `last`, both included; 100 to 599. */
export interface StatusRange {
  readonly first: number;
  readonly last: number;
}

/** Linkerd's failure accrual: shut after so many failures, then one probe after a pause that doubles. */
export interface FailureAccrual {
  readonly maxFailures: number;
  readonly minPenalty: number;
  readonly maxPenalty: number;
  /** 0 to 100. */
  readonly jitterRatio: number;
  /** Also shut when fewer than so many per cent of the answers of the last `window` were good, of at least `minimumRequests` (Linkerd: `unified`). */
  readonly successRate?: {
    readonly percent: number;
    readonly window: number;
    readonly minimumRequests: number;
  };
}

export interface HealthCheck {
  readonly check:
    | {
        readonly kind: "http";
        readonly path: string;
        readonly host?: string;
        readonly method?: string;
        readonly headers?: readonly HeaderValue[];
        /** Absent: 200. */
        readonly expected?: readonly StatusRange[];
      }
    /** grpc.health.v1.Health/Check. */
    | { readonly kind: "grpc"; readonly service: string }
    | { readonly kind: "tcp" };
  readonly interval: number;
  readonly timeout: number;
  readonly unhealthyThreshold: number;
  readonly healthyThreshold: number;
  /** Per cent of the interval. */
  readonly jitter?: number;
}

/** Absent is no limit. */
export interface Limits {
  readonly connections?: number;
  /** Requests that wait for a connection. */
  readonly pending?: number;
  /** Requests under way. */
  readonly requests?: number;
  /** Retries under way; a `retryBudget` stands instead. */
  readonly retries?: number;
  readonly requestsPerConnection?: number;
  /** Of HTTP/2: requests under way on one connection (100). */
  readonly streamsPerConnection?: number;
  readonly connectionDuration?: number;
  /** How long an unused connection is kept. */
  readonly idleTimeout?: number;
  /** Unused connections that are kept to each endpoint (512). */
  readonly idleConnections?: number;
}

/** TCP keep-alive, by the kernel; times in whole seconds, given in milliseconds. What is absent is the machine's own. */
export interface TcpKeepalive {
  /** Without a byte, before the first probe. */
  readonly time?: number;
  /** Between probes. */
  readonly interval?: number;
  /** Without an answer, until the connection is broken. */
  readonly probes?: number;
}

/** PINGs on connections of HTTP/2, used or not, of which nothing was heard for `interval`; after `timeout` more they are closed. */
export interface Http2Keepalive {
  readonly interval: number;
  readonly timeout: number;
}

/**
 * Connections that are made before a request needs them, to endpoints that take requests: to each so many, and so many times those
 * that its requests use (Envoy: `per_upstream_preconnect_ratio`). Only while something refers to the backend.
 */
export interface Warm {
  readonly connections?: number;
  /** 1 to 3. */
  readonly ratio?: number;
}

export type RetryBudget =
  /** Envoy: retries under way are at most `percent` of requests under way, and `minimum` always may be. */
  | { readonly kind: "concurrent"; readonly percent: number; readonly minimum: number }
  /** Linkerd: requests of the last `ttl` deposit `ratio`, plus `minPerSecond`. */
  | { readonly kind: "ratio"; readonly ratio: number; readonly minPerSecond: number; readonly ttl: number };

/** TLS to endpoints. Verified always, unless told. */
export interface UpstreamTls extends PeerDemands {
  /** Server name of the handshake; absent: the endpoint's address, and then no name is sent. */
  readonly serverName?: string;
  /** Who signs: a Secret of authorities, or what the machine trusts. */
  readonly authorities: SecretName | "system" | "insecure";
  /** One of them must be in the certificate; none: the server name. `uri` for SPIFFE ids. */
  readonly names?: readonly { readonly kind: "dns" | "uri"; readonly match: StringMatch }[];
  /** Our own certificate. */
  readonly certificate?: SecretName;
  readonly minVersion?: "1.2" | "1.3";
  readonly maxVersion?: "1.2" | "1.3";
  /** OpenSSL names of TLS 1.2's; absent: the library's. */
  readonly ciphers?: readonly string[];
}

// --------------------------------------------------------------------------------------------------------- Of a Rule

/** Envoy's words (`x-envoy-retry-on`, `x-envoy-retry-grpc-on`); `statuses` for `retriable-status-codes`, `headers` for `retriable-headers`. */
export type RetryCondition =
  | "5xx"
  | "gateway-error"
  | "reset"
  | "reset-before-request"
  | "connect-failure"
  | "retriable-4xx"
  /** An answer with `x-envoy-ratelimited`, which no other condition takes. */
  | "envoy-ratelimited"
  | "refused-stream"
  | "cancelled"
  | "deadline-exceeded"
  | "internal"
  | "resource-exhausted"
  | "unavailable";

export interface Retry {
  /** Tries beside the first. */
  readonly attempts: number;
  readonly on: readonly RetryCondition[];
  readonly statuses: readonly number[];
  /** Answers with one of these headers. */
  readonly headers?: readonly ValueMatch[];
  /** Uniform in 0 … (2^n − 1) × base, at most `max` (Envoy: 25, 250). */
  readonly backoff: { readonly base: number; readonly max: number };
  /** An answer's Retry-After, up to so long, stands instead of the back-off; absent: it is not looked at. */
  readonly retryAfter?: number;
  /** Another endpoint than those tried. */
  readonly elsewhere: boolean;
  /** No try begins later than so many milliseconds after the first (NGINX: `proxy_next_upstream_timeout`); absent or 0: whenever. */
  readonly within?: number;
  /**
   * After each so many tries, priorities of endpoints that were tried are left out while another can take the request (Envoy:
   * `update_frequency` of previous_priorities; Istio's `retryRemoteLocalities` is 2). Absent: priorities as for a first try.
   */
  readonly otherPriorities?: number;
  /** Absent: any method whose body is still at hand. */
  readonly methods?: readonly string[];
  /** A try whose time (`timeouts.perTry`) is over goes on beside the next one, and the first good answer of them counts. */
  readonly hedge?: boolean;
}

/** A part of a request that a consistent balancer may hash, as the request came. */
export type HashPart =
  | { readonly kind: "header" | "query"; readonly name: string }
  | { readonly kind: "cookie"; readonly name: string }
  /** `uri` is the path with its query (NGINX: `$request_uri`). */
  | { readonly kind: "source" | "host" | "method" | "path" | "uri" };

/** What a consistent balancer hashes: the first that the request has. */
export type HashKey =
  | Exclude<HashPart, { kind: "cookie" }>
  /** Made and set when the request has none and `ttl` (seconds; 0 session) is given. */
  | ({ readonly kind: "cookie" } & SessionCookie)
  /** All of these together (NGINX: `$host$request_uri`); what the request does not have is empty, but one part it must have. */
  | { readonly kind: "joined"; readonly parts: readonly HashPart[] };

/** What a client is told with a cookie (RFC 6265 §4.1); scripts do not see it, and other sites do not send it along, unless told. */
export interface SessionCookie {
  readonly name: string;
  /** Absent: `/`. */
  readonly path?: string;
  /** Seconds; absent or 0: as long as the browser. */
  readonly ttl?: number;
  /** It and all names below it; absent: the host that was asked, alone. */
  readonly domain?: string;
  /** Absent: where the request came over TLS, and with `sameSite` None. */
  readonly secure?: boolean;
  /** Absent: true. */
  readonly httpOnly?: boolean;
  /** Absent: Lax. */
  readonly sameSite?: "Strict" | "Lax" | "None";
}

/** Keeps a client with what it got first. A cookie's value is opaque and says nothing of addresses. */
export interface Persistence {
  readonly carrier: ({ readonly kind: "cookie" } & SessionCookie) | { readonly kind: "header"; readonly name: string };
  /** With its backend among the weighted ones, and there with its endpoint too. */
  readonly keeps: "backend" | "endpoint";
  /** When what it had is gone: another (absent: true), or 503. */
  readonly fallback?: boolean;
}

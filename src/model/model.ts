// The routing model: the one language that every dialect is translated into, and the only thing a proxy understands.
// Five resource types, shown to operators under Envoy's names (LDS, RDS, CDS, EDS, SDS). Plain readonly data, serialisable
// as JSON and compared by value. `validate.ts` says what is well formed, `decide.ts` what it means.

import type { Filter } from "./filters.ts";
import type { AccessLogSettings, TracingSettings } from "./listener-telemetry.ts";
import type { PathNormalization } from "./path-normalization.ts";
import type { PeerDemands } from "./peer-demands.ts";
import type { Provenance } from "./provenance.ts";
import type { Redacted } from "./redacted.ts";
import type {
  Balance,
  FailureAccrual,
  HashKey,
  HealthCheck,
  Http2Keepalive,
  Limits,
  Locality,
  OutlierDetection,
  Persistence,
  Retry,
  RetryBudget,
  StatusRange,
  TcpKeepalive,
  UpstreamTls,
  Warm,
} from "./upstream-policies.ts";

export type { Filter } from "./filters.ts";

export type ListenerName = string;
export type RouteTableName = string;
export type BackendName = string;
export type SecretName = string;

// ---------------------------------------------------------------------------------------------------------- Listener

/** A socket that accepts, and who serves what it accepts. Names are stable while configuration changes. */
export interface Listener {
  readonly name: ListenerName;
  readonly from: Provenance;
  /** The proxies that open it (`distribution` resolves this): "gateway" for the node that load-balancer addresses reach. */
  readonly scope: string;
  readonly address: string;
  readonly port: number;
  readonly transport: "tcp" | "udp";
  /** Path of the network namespace that it listens in (`/run/netns/x`, `/proc/PID/ns/net`); absent: the proxy's own. */
  readonly namespace?: string;
  /** The kernel's rules send connections here (REDIRECT): each is asked where it wanted to go. */
  readonly originalDestination?: boolean;
  /**
   * Takes connections to addresses that are not the machine's (IP_TRANSPARENT), which TPROXY rules or local routes send here: where
   * one wanted to go is its own address here.
   */
  readonly transparent?: boolean;
  /** Connections begin with a PROXY header (version 1 or 2), and their source is what it says. */
  readonly proxyProtocol?: boolean;
  /** Addresses in front of us (CIDRs) whose `x-forwarded-*` and `Forwarded` are believed; none: nobody's. */
  readonly trusted?: readonly string[];
  /** What is made of a request's path before rules, filters and backends see it; absent: nothing, it is taken as it came. */
  readonly pathNormalization?: PathNormalization;
  /** One line a request. */
  readonly accessLog?: AccessLogSettings;
  /** Contexts of traces are passed on, and spans sent. Absent: contexts travel as any header does. */
  readonly tracing?: TracingSettings;
  /** Tried in order; the first whose `when` holds serves the connection. None: it is closed. */
  readonly chains: readonly FilterChain[];
}

export interface FilterChain {
  readonly from: Provenance;
  readonly when: ChainCondition;
  /** Terminates TLS when present. A chain without it on a TLS connection can only serve `tcp`. */
  readonly tls?: TlsContext;
  readonly serve:
    | { readonly routes: RouteTableName }
    /** Also what is passed through without termination, and on a udp listener its datagrams. */
    | {
        readonly tcp: readonly WeightedBackend[] /** Without a byte either way; absent: one hour, of UDP one minute. */;
        readonly idleTimeout?: number;
        /** To where the client wanted to go, from the listener's namespace; only with `originalDestination` or `transparent`, and `tcp` is empty. */
        readonly original?: boolean;
        /** With `original`: and with the client's address. */
        readonly originalSource?: OriginalSource;
      };
}

/** `sni` lists host patterns and implies TLS with a server name (even `*`); `tls` alone is TLS with any or no server name; `plain` is no TLS. */
export type ChainCondition = ConnectionCondition &
  (
    | { readonly kind: "sni"; readonly names: readonly HostPattern[] }
    | { readonly kind: "tls" }
    | { readonly kind: "plain" }
  );

/** What is there must hold, too. A list holds when one of it does. */
export interface ConnectionCondition {
  /** CIDRs of where the client wanted to go: what a PROXY header says, else the original destination, else the address that took it. */
  readonly destination?: readonly string[];
  /** Of the same. */
  readonly destinationPorts?: readonly number[];
  /** CIDRs of the client: what a PROXY header says, else who connected. */
  readonly source?: readonly string[];
  /** ALPN that the client offers; of TLS only. */
  readonly protocols?: readonly string[];
}

export interface TlsContext {
  /** Certificates, the default first; the one whose names fit the SNI is used. */
  readonly certificates: readonly SecretName[];
  readonly minVersion?: "1.2" | "1.3";
  readonly maxVersion?: "1.2" | "1.3";
  readonly alpn: readonly string[];
  /** OpenSSL names of TLS 1.2's; absent: forward secrecy and AEAD only. */
  readonly ciphers?: readonly string[];
  readonly clients?: ClientsTls;
}

/** Which certificates clients show. */
export interface ClientsTls extends PeerDemands {
  /**
   * `optional`: a client without a certificate passes, one with a bad certificate does not. `unverified`: all pass, and a certificate proves
   * nothing but that its client has the key (NGINX: `optional_no_ca`).
   */
  readonly mode: "require" | "optional" | "unverified";
  /** There for all but `unverified`, which has none. */
  readonly authorities?: SecretName;
  /** One must fit a name of the certificate (`cn`: the common name of its subject); none: any. */
  readonly names?: readonly { readonly kind: "dns" | "uri" | "cn"; readonly match: StringMatch }[];
  /**
   * What backends are told in `x-forwarded-client-cert`, and by `unverified` in `x-unverified-client-cert` (what clients sent in either
   * is dropped); absent: nothing.
   */
  readonly tell?: readonly ("hash" | "subject" | "uri" | "dns" | "cert")[];
}

// -------------------------------------------------------------------------------------------------------- RouteTable

/** `api.example.com`, `*.example.com` (one or more labels in place of the star), or `*`. Lower case, no port. */
export type HostPattern = string;

export interface RouteTable {
  readonly name: RouteTableName;
  readonly from: Provenance;
  /**
   * At most one entry serves a request: the one with the most specific pattern that fits (exact, then the longest
   * wildcard, then `*`). There is no falling through to a less specific one: dialects that want it repeat the rules.
   */
  readonly hosts: readonly VirtualHost[];
}

export interface VirtualHost {
  readonly names: readonly HostPattern[];
  /** In the order they are tried; the first that matches decides. Dialects sort, the proxy never does. */
  readonly rules: readonly Rule[];
}

export interface Rule {
  readonly from: Provenance;
  /** A name to show in metrics and logs; the route's, usually. */
  readonly name: string;
  /** All conditions must hold. An empty match takes every request. */
  readonly match: Match;
  /** Applied to every request of the rule, in the proxy's one filter order. */
  readonly filters: readonly Filter[];
  readonly action: Action;
  readonly timeouts?: Timeouts;
  /** Absent: only what cannot harm (a connection that could not be made, a stale one). */
  readonly retry?: Retry;
  readonly hash?: readonly HashKey[];
  readonly persistence?: Persistence;
  /** Who is told the number of tries, in `x-envoy-attempt-count`: the backend (its own included), the client. */
  readonly attemptCount?: { readonly request?: boolean; readonly response?: boolean };
}

export interface Match {
  readonly from?: Provenance;
  readonly path?: PathMatch;
  readonly method?: string;
  /** How the client's request came, to us or to a trusted hop in front. */
  readonly scheme?: "http" | "https";
  readonly headers?: readonly ValueMatch[];
  readonly query?: readonly ValueMatch[];
  readonly cookies?: readonly ValueMatch[];
  /** CIDR ranges of the client's address; any. */
  readonly source?: readonly string[];
  /** None of these may hold. */
  readonly not?: readonly Match[];
}

/**
 * Paths are compared as they came (or as the listener's `pathNormalization` makes them), before `?`, percent-encoding kept; `segments` is an element-wise prefix: `/foo` takes
 * `/foo` and `/foo/bar`, not `/foobar` (a trailing slash of the value is ignored). `regex` is RE2 and must match the whole path.
 */
export type PathMatch =
  | { readonly kind: "exact"; readonly value: string; readonly ignoreCase?: boolean }
  | { readonly kind: "segments"; readonly value: string; readonly ignoreCase?: boolean }
  | { readonly kind: "prefix"; readonly value: string; readonly ignoreCase?: boolean }
  | { readonly kind: "regex"; readonly value: string; readonly ignoreCase?: boolean };

/** A named value: of a header (name in lower case; several fields are joined with `,`), query parameter or cookie (the first). */
export interface ValueMatch {
  readonly name: string;
  readonly match: StringMatch;
  readonly from?: Provenance;
}

/** `regex` is RE2 and must match the whole value. `present` takes any value, an empty one too. An absent value matches nothing. */
export type StringMatch =
  | { readonly kind: "exact" | "prefix" | "suffix" | "contains"; readonly value: string; readonly ignoreCase?: boolean }
  | { readonly kind: "regex"; readonly value: string }
  | { readonly kind: "present" };

export type Action = Forward | Redirect | Respond;

export interface Forward {
  readonly kind: "forward";
  /** Chosen by weight; all weights zero answers 500 (Gateway API, BackendRef.weight). */
  readonly to: readonly WeightedBackend[];
  /**
   * What becomes of CONNECT, only with a match of that method. `terminate`: the backend is connected to, and its bytes are the
   * tunnel's, whatever protocol it speaks; `pass`: the backend is sent the CONNECT. Absent: CONNECT is not taken.
   */
  readonly connect?: "terminate" | "pass";
}

/** A share of the traffic, given to a backend, or to an answer where the reference does not resolve (`respond`). */
export interface WeightedBackend {
  readonly from: Provenance;
  /** 0 to 1,000,000. */
  readonly weight: number;
  readonly target: { readonly backend: BackendName } | { readonly respond: Respond };
  /** Applied only to requests that take this share, after the rule's own. */
  readonly filters: readonly Filter[];
}

/** Parts that are absent are the request's own. A port that is the scheme's default is left out of the Location. */
export interface Redirect {
  readonly kind: "redirect";
  readonly scheme?: "http" | "https";
  readonly host?: string;
  /** Absent: the scheme's default when `scheme` is given, else the listener's port. */
  readonly port?: number;
  readonly path?: PathRewrite;
  /** Without its `?`; empty: none. */
  readonly query?: string;
  readonly status: 300 | 301 | 302 | 303 | 307 | 308;
}

export interface Respond {
  readonly kind: "respond";
  readonly status: number;
  /** Why, in words: for logs, `explain` and the body where none is given. */
  readonly reason: string;
  readonly headers?: readonly HeaderValue[];
  readonly body?: string;
}

/**
 * `prefix` replaces what the rule's `segments` match took, and is only valid with one. `regex` replaces every match of an RE2
 * pattern in the path; `\\1` is a group. The query is kept.
 */
export type PathRewrite =
  | { readonly kind: "full"; readonly value: string }
  | { readonly kind: "prefix"; readonly value: string }
  | { readonly kind: "regex"; readonly pattern: string; readonly value: string };

export interface HeaderValue {
  readonly name: string;
  readonly value: string;
}

/** Header names are in lower case. Order inside one: set, add, remove. */
export interface HeaderChange {
  readonly set: readonly HeaderValue[];
  readonly add: readonly HeaderValue[];
  readonly remove: readonly string[];
}

/** Milliseconds; absent is the proxy's default, 0 is none. */
export interface Timeouts {
  /** From the last byte of the request's head to the end of the answer. */
  readonly request?: number;
  /** From the request's last byte to the end of the answer (Linkerd: `timeout/response`); ends with a tunnel's beginning. */
  readonly response?: number;
  /** One try against one endpoint. */
  readonly perTry?: number;
  /** Without a byte either way. */
  readonly idle?: number;
  /** The request and all that comes of it: as `request`, which ends with a tunnel's beginning, but tunnels too. */
  readonly stream?: number;
}

// ----------------------------------------------------------------------------------------------------------- Backend

/** One per Service port (and policy), shared by all routes, so that health, pools and limits are. */
export interface Backend {
  readonly name: BackendName;
  readonly from: Provenance;
  readonly protocol: "http1" | "h2c" | "tcp";
  /**
   * Requests go on in the version of HTTP that their client speaks (1 or 2); `protocol` is then for the proxy's own, which are checks,
   * copies, and questions of filters.
   */
  readonly useClientProtocol?: boolean;
  readonly balance: Balance;
  readonly tls?: UpstreamTls;
  /** Milliseconds. */
  readonly connectTimeout: number;
  readonly limits?: Limits;
  readonly tcpKeepalive?: TcpKeepalive;
  /** Absent: endpoints are asked after 30 s while requests are under way, and have 20 s. */
  readonly http2Keepalive?: Http2Keepalive;
  readonly warm?: Warm;
  readonly retryBudget?: RetryBudget;
  readonly locality?: Locality;
  readonly outlierDetection?: OutlierDetection;
  readonly failureAccrual?: FailureAccrual;
  /** Answers that passive health takes for failures; absent: 500 to 599. */
  readonly failureStatuses?: readonly StatusRange[];
  readonly healthCheck?: HealthCheck;
  /** Below so many per cent of healthy endpoints, all are used as if healthy (Envoy: 50; absent or 0: never). */
  readonly panicPercent?: number;
  /** Connections to endpoints begin with a PROXY header of this version, before TLS. */
  readonly proxyProtocol?: 1 | 2;
  /** Connections to endpoints have the client's address as theirs (the endpoint's family permitting). */
  readonly originalSource?: OriginalSource;
}

/** Answers to other machines' addresses come back by the operator's routing, which may go by this mark of packets (SO_MARK). */
export interface OriginalSource {
  /** 1 to 2^32 - 1; absent: none. */
  readonly mark?: number;
}

// --------------------------------------------------------------------------------------------------------- Endpoints

export interface Endpoints {
  readonly backend: BackendName;
  readonly from: Provenance;
  readonly endpoints: readonly Endpoint[];
}

export interface Endpoint {
  readonly address: string;
  readonly port: number;
  /** 1 unless told otherwise; 0 takes no new requests. */
  readonly weight: number;
  /** 0 first; see `Locality`. Absent: 0. */
  readonly priority?: number;
  readonly zone?: string;
  readonly node?: string;
  /** What stands behind it, for people: the pod. */
  readonly target?: { readonly kind: string; readonly namespace: string; readonly name: string };
}

// ------------------------------------------------------------------------------------------------------------ Secret

/** Key material, and what can be said of it aloud. Compared by `fingerprint`. */
export interface Secret {
  readonly name: SecretName;
  readonly from: Provenance;
  /** SHA-256 over all of the content, hexadecimal. */
  readonly fingerprint: string;
  readonly content:
    | { readonly kind: "certificate"; readonly certificate: string; readonly privateKey: Redacted }
    /** `revocationLists` in PEM: with them, each certificate of a chain must be of an authority that has one there. */
    | { readonly kind: "authorities"; readonly certificates: string; readonly revocationLists?: string }
    /** Lines of htpasswd. */
    | { readonly kind: "users"; readonly lines: Redacted };
}

// ------------------------------------------------------------------------------------------------------------- Model

/** In the order they must be known to a proxy: what is named comes before what names it. */
export const resourceTypes = ["secrets", "backends", "endpoints", "routeTables", "listeners"] as const;
export type ResourceType = (typeof resourceTypes)[number];

export interface ResourceOf {
  secrets: Secret;
  backends: Backend;
  endpoints: Endpoints;
  routeTables: RouteTable;
  listeners: Listener;
}

/** All that a proxy (or `decide`) knows, by name; `endpoints` by the name of their backend. */
export type Model = { readonly [T in ResourceType]: ReadonlyMap<string, ResourceOf[T]> };

export const emptyModel: Model = {
  secrets: new Map(),
  backends: new Map(),
  endpoints: new Map(),
  routeTables: new Map(),
  listeners: new Map(),
};

/** The name a resource is stored under. */
export function resourceName<T extends ResourceType>(type: T, resource: ResourceOf[T]): string {
  return type === "endpoints" ? (resource as Endpoints).backend : (resource as Exclude<ResourceOf[T], Endpoints>).name;
}

// What can be done to a request on its way and to its answer, as data: the filters of a rule. Each is one kind; the proxy runs
// them in its one order (`proxy/filters/order.ts`), whatever order a rule lists them in. Times are milliseconds, sizes bytes,
// shares parts of a million (as Envoy's FractionalPercent with denominator MILLION). docs/policies.md explains each to users.

import type {
  BackendName,
  HeaderChange,
  HeaderValue,
  PathRewrite,
  Respond,
  SecretName,
  StringMatch,
  ValueMatch,
} from "./model.ts";
import type { Provenance } from "./provenance.ts";

export type Filter =
  | RequestHeaders
  | ResponseHeaders
  | Rewrite
  | QueryChange
  | CookieChange
  | AddressList
  | BasicAuth
  | JwtAuth
  | ExternalAuthorization
  | LocalRateLimit
  | GlobalRateLimit
  | Cors
  | Fault
  | GrpcWeb
  | Mirror
  | BodyLimit
  | Buffering
  | Compression
  | ErrorPages;

export type FilterKind = Filter["kind"];

export interface RequestHeaders {
  readonly kind: "requestHeaders";
  readonly from: Provenance;
  readonly change: HeaderChange;
}

export interface ResponseHeaders {
  readonly kind: "responseHeaders";
  readonly from: Provenance;
  readonly change: HeaderChange;
}

export interface Rewrite {
  readonly kind: "rewrite";
  readonly from: Provenance;
  readonly host?: string;
  readonly path?: PathRewrite;
}

/** Changes parameters of the query; order inside: set, add, remove. Names and values are plain text and encoded when written. */
export interface QueryChange {
  readonly kind: "query";
  readonly from: Provenance;
  readonly change: HeaderChange;
}

/** Changes cookies that the backend sets: attributes of `set-cookie` of the names that fit (all when absent). */
export interface CookieChange {
  readonly kind: "cookies";
  readonly from: Provenance;
  readonly name?: StringMatch;
  /** A Domain or Path equal to `from` becomes `to`; an absent `from` fits every one, also none. */
  readonly domain?: { readonly from?: string; readonly to: string };
  readonly path?: { readonly from?: string; readonly to: string };
  readonly secure?: boolean;
  readonly httpOnly?: boolean;
  readonly sameSite?: "Strict" | "Lax" | "None";
}

/** Who may come, by address. `deny` stands above `allow`; an absent `allow` admits everybody else. */
export interface AddressList {
  readonly kind: "addresses";
  readonly from: Provenance;
  readonly allow?: readonly string[];
  readonly deny?: readonly string[];
  /** Of the answer to others; absent: 403. */
  readonly status?: number;
}

/** RFC 7617. The Secret holds lines of htpasswd (bcrypt, SHA-1, apr1 MD5 or crypt-less plain is refused). */
export interface BasicAuth {
  readonly kind: "basicAuth";
  readonly from: Provenance;
  readonly realm: string;
  readonly users: SecretName;
  /** Tells the backend who it is. */
  readonly userHeader?: string;
  /** The backend gets `authorization`, and the password in it. Absent: false. */
  readonly keepsAuthorization?: boolean;
}

/** RFC 7519 tokens, verified by keys of RFC 7517. A request without one is refused with 401 unless `optional`. */
export interface JwtAuth {
  readonly kind: "jwt";
  readonly from: Provenance;
  /** A token is taken by the provider whose issuer it names. */
  readonly providers: readonly JwtProvider[];
  /** Requests without any token pass; those with a bad one never do. */
  readonly optional: boolean;
}

export interface JwtProvider {
  readonly name: string;
  readonly issuer: string;
  /** One of them must be among the token's; none: any. */
  readonly audiences: readonly string[];
  /** Keys in place, or fetched from a backend and kept for so many milliseconds. */
  readonly keys:
    | { readonly inline: string }
    | { readonly backend: BackendName; readonly authority: string; readonly path: string; readonly keep: number };
  /** Where a token may be; none: `authorization: Bearer` and the query parameter `access_token`. */
  readonly places: readonly (
    | { readonly kind: "header"; readonly name: string; readonly prefix: string }
    | { readonly kind: "query" | "cookie"; readonly name: string }
  )[];
  /** Whether the backend sees the token. */
  readonly forward: boolean;
  /** Base64url of the verified payload. */
  readonly payloadHeader?: string;
  /** Claims (names, dots lead into objects) that become request headers; what a client sent under these names is removed. */
  readonly claimHeaders: readonly { readonly claim: string; readonly header: string }[];
}

/** Asks a service whether a request may pass: by HTTP, or by Envoy's `envoy.service.auth.v3.Authorization/Check`. */
export interface ExternalAuthorization {
  readonly kind: "externalAuth";
  readonly from: Provenance;
  readonly service: BackendName;
  readonly protocol:
    | {
        readonly kind: "http";
        /** The question's Host; without one, the request's own (Envoy, GEP-1494). */
        readonly authority?: string;
        /** The question's path; with `prefix` the request's own path follows it (Envoy), without it does not (NGINX). */
        readonly path: string;
        readonly prefix: boolean;
        /** The request's own method, or this. */
        readonly method?: string;
      }
    | { readonly kind: "grpc"; readonly authority: string };
  /** Request headers (lower case) that the service sees beside host, method, path, content-length and authorization; `*` all. */
  readonly sends: readonly string[];
  /** Added to the question. */
  readonly adds: readonly HeaderValue[];
  /** So much of the body goes along; 0 none. More is refused with 413 unless `partial`. */
  readonly body: { readonly bytes: number; readonly partial: boolean };
  /** Headers of a yes that the backend gets, and those of a no that the client gets beside status and body; `*` all. */
  readonly toBackend: readonly string[];
  readonly toClient: readonly string[];
  readonly timeout: number;
  /** What becomes of requests while the service fails: pass, or this status (Envoy: 403). */
  readonly whenFailing: "pass" | { readonly status: number };
  /** A no becomes a redirect to here (ingress-nginx auth-signin). */
  readonly signIn?: string;
}

/** What requests are counted by. `source` is the client's address. */
export type RequestKey =
  | { readonly kind: "source" }
  | { readonly kind: "header" | "cookie" | "query"; readonly name: string }
  | { readonly kind: "method" | "path" | "host" }
  | { readonly kind: "constant"; readonly value: string };

/** A token bucket for each key (all parts joined; none: one for the rule). 429, or as said. */
export interface LocalRateLimit {
  readonly kind: "localRateLimit";
  readonly from: Provenance;
  /** Buckets are shared by all rules that name the same. */
  readonly bucket: string;
  readonly key: readonly RequestKey[];
  /** Only requests that fit all of them are counted. */
  readonly when?: readonly ValueMatch[];
  /** `requests` in each `per`, filled evenly; up to `burst` at once. */
  readonly requests: number;
  readonly per: number;
  readonly burst: number;
  readonly status: number;
  /** RateLimit and RateLimit-Policy fields in answers (draft-ietf-httpapi-ratelimit-headers), and Retry-After in refusals. */
  readonly tell: boolean;
  /** All workers of a proxy count together. */
  readonly shared: boolean;
}

/** Asks `envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`. */
export interface GlobalRateLimit {
  readonly kind: "globalRateLimit";
  readonly from: Provenance;
  readonly service: BackendName;
  readonly authority: string;
  readonly domain: string;
  /** Descriptors; one with a part that the request does not have is left out. */
  readonly descriptors: readonly (readonly { readonly key: string; readonly value: RequestKey }[])[];
  readonly timeout: number;
  readonly whenFailing: "pass" | { readonly status: number };
  readonly status: number;
}

/** Fetch standard §3.2. `*` in the lists stands for all; with credentials the request's own value is answered. */
export interface Cors {
  readonly kind: "cors";
  readonly from: Provenance;
  readonly allowOrigins: readonly StringMatch[];
  readonly allowMethods: readonly string[];
  readonly allowHeaders: readonly string[];
  readonly exposeHeaders: readonly string[];
  /** Seconds; absent leaves the field out. */
  readonly maxAge?: number;
  readonly allowCredentials: boolean;
  /** Preflights that ask for a private network (Private Network Access) are told that it may be. Absent: false. */
  readonly allowPrivateNetwork?: boolean;
  /** A preflight of an origin that is not allowed: to the backend (Istio's FORWARD), or answered without allowing anything. */
  readonly otherPreflights: "forward" | "answer";
}

/** Delay and abort are drawn independently; both can hit one request. */
export interface Fault {
  readonly kind: "fault";
  readonly from: Provenance;
  readonly when?: readonly ValueMatch[];
  readonly delay?: { readonly perMillion: number; readonly time: number };
  readonly abort?: { readonly perMillion: number } & ({ readonly status: number } | { readonly grpcStatus: number });
}

/** Requests of gRPC-Web, binary and text, become gRPC for the backend, and its answers become gRPC-Web; all others pass. */
export interface GrpcWeb {
  readonly kind: "grpcWeb";
  readonly from: Provenance;
}

/** A copy that nobody waits for; its answer is thrown away. Several filters make several copies. */
export interface Mirror {
  readonly kind: "mirror";
  readonly from: Provenance;
  readonly backend: BackendName;
  readonly perMillion: number;
  /** Put behind the copy's host name (Envoy: `-shadow`); absent: as it is. */
  readonly hostSuffix?: string;
  /** The copy's host, perhaps with a port; absent: the request's. */
  readonly host?: string;
  /** The copy's path; the query is kept. Absent: the request's. */
  readonly path?: string;
  /** The copy is sent at once and without the request's body. Absent: false. */
  readonly withoutBody?: boolean;
}

/** 413 as soon as it is known that the body is longer. */
export interface BodyLimit {
  readonly kind: "bodyLimit";
  readonly from: Provenance;
  readonly bytes: number;
}

/** Holds a body back until it is whole. Longer requests get 413; longer answers are passed on from there as they come. */
export interface Buffering {
  readonly kind: "buffering";
  readonly from: Provenance;
  readonly request?: number;
  readonly response?: number;
}

/** The first of `codings` that the client takes. Never what is coded already, too short, or of another type. */
export interface Compression {
  readonly kind: "compression";
  readonly from: Provenance;
  readonly codings: readonly ("br" | "zstd" | "gzip")[];
  readonly minBytes: number;
  /** Media types without parameters; `text/*` is allowed. */
  readonly types: readonly string[];
  readonly level?: number;
}

/** Answers of these statuses, the backend's and the proxy's own, get another body; the status stays unless told. */
export interface ErrorPages {
  readonly kind: "errorPages";
  readonly from: Provenance;
  readonly pages: readonly {
    readonly statuses: readonly { readonly first: number; readonly last: number }[];
    readonly answer:
      | { readonly respond: Respond }
      /** Asked as ingress-nginx asks its default backend: `x-code`, `x-format`, `x-original-uri`, `x-request-id`, and `headers`. */
      | {
          readonly backend: BackendName;
          readonly path: string;
          readonly keepStatus: boolean;
          /** What else the question says, the same of every request: `x-namespace`, `x-service-name`, ... */
          readonly headers?: readonly HeaderValue[];
        };
  }[];
}

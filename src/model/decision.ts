// What `decide` says about one request, and how it got there. The types only; see `decide.ts`.

import type {
  Action,
  Backend,
  Endpoint,
  Filter,
  FilterChain,
  HostPattern,
  Listener,
  Match,
  Rule,
  VirtualHost,
  WeightedBackend,
} from "./model.ts";
import type { Provenance } from "./provenance.ts";

/** A request as it reaches a listener. */
export interface DecideRequest {
  readonly address: string;
  readonly port: number;
  /** Present when the connection is TLS. */
  readonly tls?: { readonly serverName?: string; readonly protocols?: readonly string[] };
  readonly method: string;
  /** The Host header or `:authority`, with its port if it had one. */
  readonly authority: string;
  /** The request target: path and query, or in absolute form, whose authority then stands above `authority`. */
  readonly target: string;
  /** In the order they came; names in any case. */
  readonly headers: readonly (readonly [string, string])[];
  /** The client's address. */
  readonly source?: string;
  /** Where the client wanted to go before the kernel sent it here; absent: here. */
  readonly destination?: { readonly address: string; readonly port: number };
}

/** One thing that was looked at on the way, taken or passed over, with the reason in words. */
export interface TrailStep {
  readonly what: "listener" | "chain" | "host" | "rule" | "filter" | "backend";
  readonly taken: boolean;
  readonly from: Provenance;
  /** The rule or backend by its name in the model; the host pattern; the listener; the kind of filter. */
  readonly name: string;
  /** `path /users is not under /orders`; `header x-api-version is absent, wanted "v2"`. */
  readonly reason: string;
}

/** A backend of the decision with its share of the traffic, 0 to 1, and the endpoints it can go to. */
export interface BackendShare {
  readonly to: WeightedBackend;
  readonly share: number;
  readonly backend: Backend | undefined;
  /** Those that take new requests (weight above 0). */
  readonly endpoints: readonly Endpoint[];
  /** Why requests of this share are answered by the proxy itself: its filters or its target say so, or nobody can be reached. */
  readonly answer?: { readonly status: number; readonly reason: string };
  /** What the backend is sent, after the filters of the rule and of the share. */
  readonly sends: SentRequest;
}

/** A request as it leaves the proxy, but for what the proxy itself adds (forwarding headers, framing). */
export interface SentRequest {
  readonly authority: string;
  readonly target: string;
  readonly headers: readonly (readonly [string, string])[];
}

export interface Decision {
  readonly outcome:
    | { readonly kind: "closed"; readonly reason: string }
    | { readonly kind: "forward"; readonly shares: readonly BackendShare[] }
    /** Passed on to where the client wanted to go. */
    | { readonly kind: "original"; readonly address: string; readonly port: number }
    | { readonly kind: "redirect"; readonly status: number; readonly location: string }
    | { readonly kind: "respond"; readonly status: number; readonly reason: string };
  readonly listener?: Listener;
  readonly chain?: FilterChain;
  readonly host?: VirtualHost;
  /** The pattern of `host` that took the request. */
  readonly pattern?: HostPattern;
  readonly rule?: Rule;
  readonly match?: Match;
  readonly action?: Action;
  readonly filters: readonly Filter[];
  readonly trail: readonly TrailStep[];
}

// What `decide` says about one request, and how it got there. The types only; see `decide.ts`.

import type {
  Action,
  Backend,
  Endpoint,
  Filter,
  FilterChain,
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
  readonly tls?: { readonly serverName?: string };
  readonly method: string;
  /** The Host header or `:authority`, with its port if it had one. */
  readonly authority: string;
  /** The request target in origin form: path and query. */
  readonly target: string;
  /** In the order they came; names in any case. */
  readonly headers: readonly (readonly [string, string])[];
  /** The client's address. */
  readonly source?: string;
}

/** One thing that was looked at on the way, taken or passed over, with the reason in words. */
export interface TrailStep {
  readonly what: "listener" | "chain" | "host" | "rule" | "backend";
  readonly taken: boolean;
  readonly from: Provenance;
  /** `path /users is not under /orders`; `header x-api-version is absent, wanted "v2"`. */
  readonly reason: string;
}

/** A backend of the decision with its share of the traffic, 0 to 1, and the endpoints it can go to. */
export interface BackendShare {
  readonly to: WeightedBackend;
  readonly share: number;
  readonly backend: Backend | undefined;
  readonly endpoints: readonly Endpoint[];
}

export interface Decision {
  readonly outcome:
    | { readonly kind: "closed"; readonly reason: string }
    | { readonly kind: "forward"; readonly shares: readonly BackendShare[] }
    | { readonly kind: "redirect"; readonly status: number; readonly location: string }
    | { readonly kind: "respond"; readonly status: number; readonly reason: string };
  readonly listener?: Listener;
  readonly chain?: FilterChain;
  readonly host?: VirtualHost;
  readonly rule?: Rule;
  readonly match?: Match;
  readonly action?: Action;
  readonly filters: readonly Filter[];
  readonly trail: readonly TrailStep[];
}

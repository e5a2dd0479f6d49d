// What the control process and a proxy say to each other over their local socket: frames of a 4-byte big-endian length and a
// JSON text. Delta semantics as xDS's: the proxy says what it has, the control process sends what differs, the proxy answers
// each update with what it could not take. Every update is applied as one step, in the order of `resourceTypes`.

import type { ResourceType, Rule } from "./model.ts";
import type { Provenance } from "./provenance.ts";
import type { RouteTablePatch } from "./route-table-patch.ts";

/** The largest frame either side takes, in bytes. */
export const maxFrameBytes = 64 * 1024 * 1024;

/** Resources as they travel: as in the model, but a Secret's private key in clear (the socket is the user's own). */
export type WireResource = Readonly<Record<string, unknown>>;

type Upserts = { readonly [T in ResourceType]?: readonly WireResource[] };

/** About how many characters the control process writes into a frame: parsing it takes less than a millisecond. */
export const usualFrameLength = 64 * 1024;

export type Update = Extract<ToProxy, { type: "update" }>;
export type Ahead = Extract<ToProxy, { type: "ahead" }>;

export type ToProxy =
  | {
      readonly type: "update";
      /** Grows by one an update; answered by `applied`. */
      readonly version: number;
      readonly upsert: Upserts;
      /** Route tables that are told by what they share with the one in force and by `rules`; they count as upserted. */
      readonly patch?: readonly RouteTablePatch[];
      readonly rules?: readonly Rule[];
      readonly remove: { readonly [T in ResourceType]?: readonly string[] };
    }
  /**
   * What stands here stands before what is in the update that follows, as a part of it: a large update comes in frames that are
   * parsed in little time each.
   */
  | { readonly type: "ahead"; readonly upsert?: Upserts; readonly rules?: readonly Rule[] }
  /**
   * Stop accepting, finish what is in flight within `deadline` milliseconds, exit. `successors`: by how many sockets others
   * listen on each of the same ports and go on.
   */
  | { readonly type: "drain"; readonly deadline: number; readonly successors?: number };

export type FromProxy =
  | {
      readonly type: "hello";
      readonly proxy: string;
      /** The listener scopes it serves. */
      readonly scopes: readonly string[];
      readonly pid: number;
      /** Which program it is; a text that differs when another version runs. */
      readonly program?: string;
      /** Its admin socket. */
      readonly admin?: string;
      /** What it is a worker of. */
      readonly composition?: Composition;
      /** By how many it listens on each port of TCP; absent: 1. */
      readonly sockets?: number;
      /** Fingerprints (see `fingerprint.ts`) of the resources in force, by type and name: what a restart must not send again. */
      readonly have: { readonly [T in ResourceType]?: Readonly<Record<string, string>> };
    }
  | {
      readonly type: "applied";
      readonly version: number;
      /** What was refused; the resource in force before stays. Everything else of the update is in force. */
      readonly rejected: readonly Rejection[];
    };

/** Several processes on the same ports that are one proxy to look at. */
export interface Composition {
  readonly name: string;
  /** Of the first process, which started the workers. */
  readonly pid: number;
  readonly workers: number;
  readonly admin: string;
}

export interface Rejection {
  readonly resource: ResourceType;
  readonly name: string;
  readonly reason: string;
  readonly from?: Provenance;
}

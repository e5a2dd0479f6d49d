// The protocol between a cluster's control process and its DNS server's: frames of JSON (`model/frame.ts`) on a Unix socket that
// only its owner can open. The server's process says who it is; then it is sent the configuration, the whole state, and each
// change after it.

import type { DnsConfig } from "./config.ts";
import type { ZoneChanges } from "./zone-changes.ts";

export type ToServer =
  | { readonly type: "config"; readonly config: DnsConfig }
  /** The whole state follows: what is not in it is gone at its end. */
  | { readonly type: "begin" }
  | { readonly type: "end"; readonly version: number }
  | { readonly type: "changes"; readonly version: number; readonly changes: ZoneChanges };

export type FromServer =
  | {
      readonly type: "hello";
      readonly pid: number;
      readonly address: string;
      readonly port: number;
      /** Which program it is, as whoever started it said; missing from those of before there was a name for it. */
      readonly program?: string;
    }
  /** All changes up to this version are answered from now on. */
  | { readonly type: "applied"; readonly version: number };

// What dialects hand to the status sink and to everyone who shows problems: the status an object should have, and findings.

import type { ListenerName, ResourceType } from "./model.ts";

/** metav1.Condition without its times: the sink keeps `lastTransitionTime` when `status` did not change. */
export interface Condition {
  readonly type: string;
  readonly status: "True" | "False" | "Unknown";
  readonly reason: string;
  readonly message: string;
  readonly observedGeneration: number;
}

/** The wanted status of one object. The sink writes it when it differs from what is stored, as one `status` update. */
export interface StatusUpdate {
  /** `httproutes.gateway.networking.k8s.io`. */
  readonly resource: string;
  readonly namespace: string | undefined;
  readonly name: string;
  /** `metadata.uid` of the object, so that one deleted and made again under its name is another one. */
  readonly uid?: string;
  /** The generation it was made from: an older one is not written over a newer object. */
  readonly generation: number;
  /** Without `lastTransitionTime`s. */
  readonly status: Readonly<Record<string, unknown>>;
  /** Written only after the proxies have taken (or refused) these as they are wanted now. */
  readonly after: readonly { readonly type: ResourceType; readonly name: string }[];
}

/** Whether the proxies have opened a listener: the feedback that Programmed conditions are made from. */
export interface ListenerState {
  readonly listener: ListenerName;
  readonly state: "applied" | "rejected";
  readonly message: string;
}

/** Something a user should know about an object; shown as conditions, Events, in `lint` and in the dashboard. */
export interface Finding {
  readonly code: string;
  readonly severity: "error" | "warning" | "info";
  readonly object: { readonly kind: string; readonly namespace?: string; readonly name: string };
  readonly field: string;
  readonly message: string;
  readonly remedy: string;
}

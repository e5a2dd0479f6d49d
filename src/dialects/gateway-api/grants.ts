// ReferenceGrant: whether a reference into another namespace is permitted by the namespace it points into (GEP-709).

import type { ReferenceGrant } from "../../api/kinds.ts";
import { gatewayGroup } from "./names.ts";

export interface Referrer {
  readonly kind: "Gateway" | "HTTPRoute";
  readonly namespace: string;
}

export interface Referent {
  readonly group: string;
  readonly kind: string;
  readonly name: string;
}

/** `grants` are those of the referent's namespace. Both halves of one grant must fit; a `to` without a name takes all names. */
export function isGranted(grants: readonly ReferenceGrant[], referrer: Referrer, referent: Referent): boolean {
  return grants.some(
    ({ spec }) =>
      (spec?.from ?? []).some(
        (from) => from.group === gatewayGroup && from.kind === referrer.kind && from.namespace === referrer.namespace,
      ) &&
      (spec?.to ?? []).some(
        (to) =>
          to.group === referent.group &&
          to.kind === referent.kind &&
          (to.name === undefined || to.name === "" || to.name === referent.name),
      ),
  );
}

/** What to do about a reference that is not permitted. */
export function grantRemedy(referrer: Referrer, referent: Referent, namespace: string): string {
  return `create a ReferenceGrant in namespace ${namespace} from ${referrer.kind} of ${referrer.namespace} to ${referent.kind} ${referent.name}`;
}

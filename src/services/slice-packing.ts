// How endpoints are put into slices of bounded size with few writes (the four steps of KEP-0752's reconcileByPortMapping):
// what is in a slice stays there; new endpoints go to slices that change anyway, then to one that has room for all of them,
// then to new ones. Slices are never evened out.

import type { Endpoint, EndpointPort, EndpointSlice } from "../api/kinds.ts";

export interface ExistingSlice<S> {
  readonly slice: S;
  /** Its labels or owner have to be written in any case. */
  readonly stale: boolean;
}

/** What a slice should hold. `slice` undefined is a new one. */
export interface SliceContent<S> {
  readonly slice: S | undefined;
  readonly changed: boolean;
  readonly endpoints: readonly Endpoint[];
  readonly ports?: readonly EndpointPort[];
}

/** `spare` are the slices that nothing is left for. */
export function fillSlices<S extends Pick<EndpointSlice, "endpoints">>(
  existing: readonly ExistingSlice<S>[],
  desired: readonly Endpoint[],
  max: number,
): { slices: readonly SliceContent<S>[]; spare: readonly S[] } {
  const left = new Map(desired.map((endpoint) => [identity(endpoint), endpoint]));
  const slices: { slice: S | undefined; changed: boolean; endpoints: Endpoint[] }[] = [];
  const spare: S[] = [];
  for (const { slice, stale } of existing) {
    let changed = stale;
    const endpoints: Endpoint[] = [];
    for (const before of slice.endpoints ?? []) {
      const key = identity(before);
      const wanted = left.get(key);
      if (!wanted) {
        changed = true;
        continue;
      }
      left.delete(key);
      const same = sameEndpoint(before, wanted);
      endpoints.push(same ? before : wanted);
      if (!same) changed = true;
    }
    if (endpoints.length > 0) slices.push({ slice, changed, endpoints });
    else spare.push(slice);
  }

  const rest = [...left.values()];
  const changing = slices.filter((one) => one.changed).sort((a, b) => b.endpoints.length - a.endpoints.length);
  for (const one of changing) one.endpoints.push(...rest.splice(0, Math.max(0, max - one.endpoints.length)));
  if (rest.length > 0) {
    const roomy = slices.filter((one) => !one.changed && one.endpoints.length + rest.length <= max);
    const best = roomy.sort((a, b) => b.endpoints.length - a.endpoints.length)[0];
    if (best) {
      best.changed = true;
      best.endpoints.push(...rest.splice(0));
    }
  }
  while (rest.length > 0) slices.push({ slice: undefined, changed: true, endpoints: rest.splice(0, max) });
  return { slices, spare };
}

/** What makes an endpoint the same one when its conditions change. */
function identity(endpoint: Endpoint): string {
  const target = endpoint.targetRef;
  return `${endpoint.addresses.join(",")} ${endpoint.hostname ?? ""} ${target?.namespace ?? ""}/${target?.name ?? ""}`;
}

function sameEndpoint(a: Endpoint, b: Endpoint): boolean {
  return (
    (a.conditions?.ready ?? true) === (b.conditions?.ready ?? true) &&
    a.conditions?.serving === b.conditions?.serving &&
    a.conditions?.terminating === b.conditions?.terminating &&
    a.nodeName === b.nodeName &&
    a.zone === b.zone &&
    a.targetRef?.uid === b.targetRef?.uid &&
    names(a.hints?.forZones) === names(b.hints?.forZones) &&
    names(a.hints?.forNodes) === names(b.hints?.forNodes)
  );
}

function names(list: readonly { readonly name: string }[] | undefined): string {
  return (list ?? []).map((one) => one.name).join(",");
}

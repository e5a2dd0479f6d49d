// What a DNS server is told of a cluster: names of Services, namespaces, and which namespace the pod at an address is in. It is
// plain data, as it travels to the server's process; the feed makes it from collections, the table takes it up.

import type { EndpointSlice, Pod } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { type Disposable, disposeAll } from "../base/disposal.ts";
import { canonicalAddress } from "../base/ip.ts";
import type { Batch, Collection, Index } from "../collections/collection.ts";
import { derive } from "../collections/derive.ts";
import type { ServiceNames } from "./names.ts";

export interface ZoneChanges {
  readonly services?: readonly ServiceNames[];
  /** Keys, `shop/cart`. */
  readonly servicesGone?: readonly string[];
  readonly namespaces?: readonly string[];
  readonly namespacesGone?: readonly string[];
  readonly pods?: readonly PodAddress[];
  /** Keys, `shop/cart-0`. */
  readonly podsGone?: readonly string[];
  /** When the endpoints behind these changes changed, milliseconds since the epoch: what programming latency counts from. */
  readonly triggered?: readonly number[];
}

export interface PodAddress {
  readonly key: string;
  readonly namespace: string;
  readonly addresses: readonly string[];
}

export interface ZoneFeedInputs {
  readonly names: Collection<ServiceNames>;
  readonly namespaces: Collection<KubeObject>;
  readonly pods: Collection<KubeObject>;
  /** Without it no latencies are told. */
  readonly slices?: Index<EndpointSlice>;
}

export interface ZoneFeed extends Disposable {
  /** Everything there is, in pieces of a bounded number of entries. */
  snapshot(): Iterable<ZoneChanges>;
  /** Every change from now on. */
  subscribe(on: (changes: ZoneChanges) => void): Disposable;
}

/** Entries in one piece of a snapshot: a millisecond or so of work for who takes it. */
const pieceSize = 50;

export function zoneFeed(inputs: ZoneFeedInputs): ZoneFeed {
  const { names, namespaces, slices } = inputs;
  const pods = derive(inputs.pods as Collection<Pod>, podAddress, {
    name: "dns pod addresses",
    key: (pod: PodAddress) => pod.key,
  });
  return {
    *snapshot() {
      for (const some of pieces(namespaces.keys())) yield { namespaces: some };
      for (const some of pieces(names.values())) yield { services: some };
      for (const some of pieces(pods.values())) yield { pods: some };
    },
    subscribe(on) {
      return disposeAll([
        names.subscribe((batch) => {
          const services = present(batch);
          const triggered = services
            .filter((service) => service.kind === "headless")
            .flatMap((service) => (slices && triggeredAt(slices.where(service.key))) ?? []);
          on({ services, servicesGone: absent(batch), ...(triggered.length > 0 ? { triggered } : {}) });
        }),
        namespaces.subscribe((batch) => {
          const there = batch.filter(({ after }) => after !== undefined).map(({ key }) => key);
          on({ namespaces: there, namespacesGone: absent(batch) });
        }),
        pods.subscribe((batch) => on({ pods: present(batch), podsGone: absent(batch) })),
      ]);
    },
    dispose: () => pods.dispose(),
  };
}

/** When the endpoints behind these slices changed last, milliseconds since the epoch, if their writer said so. */
function triggeredAt(slices: readonly EndpointSlice[]): number | undefined {
  const times = slices.flatMap(({ metadata }) => {
    const time = Date.parse(metadata.annotations?.["endpoints.kubernetes.io/last-change-trigger-time"] ?? "");
    return Number.isNaN(time) ? [] : [time];
  });
  return times.length > 0 ? Math.max(...times) : undefined;
}

/** Undefined for a pod that has no address of its own: not started, ended, or on its node's network. */
function podAddress({ metadata, spec, status }: Pod): PodAddress | undefined {
  if (spec?.hostNetwork || status?.phase === "Failed" || status?.phase === "Succeeded") return undefined;
  const given = status?.podIPs?.map((one) => one.ip) ?? (status?.podIP ? [status.podIP] : []);
  const addresses = given.flatMap((ip) => (ip ? [canonicalAddress(ip)] : []));
  if (addresses.length === 0) return undefined;
  const namespace = metadata.namespace ?? "default";
  return { key: `${namespace}/${metadata.name}`, namespace, addresses };
}

function present<V>(batch: Batch<V>): V[] {
  return batch.flatMap(({ after }) => (after === undefined ? [] : [after]));
}

function absent(batch: Batch<unknown>): string[] {
  return batch.filter(({ after }) => after === undefined).map(({ key }) => key);
}

/** Values in lists of a bounded number. */
export function* pieces<V>(values: Iterable<V>): Generator<V[]> {
  let piece: V[] = [];
  for (const value of values) {
    piece.push(value);
    if (piece.length < pieceSize) continue;
    yield piece;
    piece = [];
  }
  if (piece.length > 0) yield piece;
}

// Lets ServiceCIDRs go when none of their addresses is in use any more (pkg/controller/servicecidrs). New ones are made ready by
// the write itself (`service-cidrs.ts`).

import { type IPAddress, IPAddresses, type ServiceCIDR, ServiceCIDRs } from "../api/kinds.ts";
import { isStatusReason } from "../api/status-error.ts";
import { formatTime } from "../api/strategy.ts";
import type { Clock } from "../base/clock.ts";
import { type Disposable, disposeAll } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Collection } from "../collections/collection.ts";
import { fromStore } from "../collections/from-store.ts";
import type { Store } from "../store/store.ts";
import { nextState } from "./service-cidrs.ts";

export interface ServiceCidrControllerOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
}

/** How long changes are gathered, and what failed is left alone, in milliseconds. */
const gatherFor = 100;

export function startServiceCidrController({ store, clock, log }: ServiceCidrControllerOptions): Disposable {
  const followedCidrs = fromStore(store, ServiceCIDRs);
  const followedAddresses = fromStore(store, IPAddresses);
  const cidrs = followedCidrs as Collection<ServiceCIDR>;
  const addresses = followedAddresses as Collection<IPAddress>;
  let timer: Disposable | undefined;
  let writing = false;
  let disposed = false;

  /** Addresses only matter while a range waits for them. */
  const someLeave = () => [...cidrs.values()].some(({ metadata }) => metadata.deletionTimestamp !== undefined);

  function changed(): void {
    if (timer || disposed || !someLeave()) return;
    timer = clock.after(gatherFor, () => {
      timer = undefined;
      void look();
    });
  }

  async function look(): Promise<void> {
    if (writing) return changed();
    writing = true;
    // Until all addresses have been read once none may be thought unused.
    await followedAddresses.ready;
    for (const cidr of [...cidrs.values()]) {
      const next = nextState(cidr, [...cidrs.values()], addresses.values(), formatTime(clock.now()));
      if (!next || disposed) continue;
      try {
        await store.update(ServiceCIDRs, next.object, next.subresource ? { subresource: next.subresource } : {});
      } catch (error) {
        if (isStatusReason(error, "NotFound")) continue;
        if (!isStatusReason(error, "Conflict"))
          log.warn("a ServiceCIDR was not written; trying again", {
            name: cidr.metadata.name,
            error: messageOf(error),
          });
        changed();
      }
    }
    writing = false;
  }

  return disposeAll([
    followedCidrs,
    followedAddresses,
    cidrs.subscribe(changed, { replay: true }),
    addresses.subscribe(changed),
    {
      dispose() {
        disposed = true;
        timer?.dispose();
      },
    },
  ]);
}

// The ranges that Service addresses come from, as they are now: those that the stack was made with and those of ServiceCIDR
// objects, which come and go. Leads the machine to them, and tells the nodes' rules (kube-proxy's OnServiceCIDRsChanged).

import type { ServiceCIDR } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import type { Disposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Collection } from "../collections/collection.ts";
import type { PodNetwork } from "../node/network.ts";

export interface ServiceRangesOptions {
  readonly serviceCidrs: Collection<KubeObject>;
  /** Those that the stack was made with. */
  readonly own: readonly string[];
  readonly network: Pick<PodNetwork, "routeServices">;
  /** Called with all of them at the start and after each change. */
  readonly changed: (ranges: readonly string[]) => void;
  readonly log: Logger;
}

export interface ServiceRanges extends Disposable {
  now(): readonly string[];
  /** Resolves when the machine is led to all that are there now. */
  settled(): Promise<void>;
}

export function followServiceRanges(options: ServiceRangesOptions): ServiceRanges {
  const { serviceCidrs, own, network, changed, log } = options;
  const now = () => [
    ...new Set([...own, ...([...serviceCidrs.values()] as ServiceCIDR[]).flatMap(({ spec }) => spec?.cidrs ?? [])]),
  ];
  let routing: Promise<void> = Promise.resolve();
  let told = "";

  async function route(): Promise<void> {
    try {
      const problems = await network.routeServices(now());
      const text = problems.join("; ");
      if (text !== "" && text !== told) log.warn("this machine does not reach all Service addresses", { problems });
      told = text;
    } catch (error) {
      log.warn("this machine was not led to all Service addresses", { error: messageOf(error) });
    }
  }

  const update = () => {
    changed(now());
    routing = routing.then(route);
  };
  const subscription = serviceCidrs.subscribe(update);
  update();
  return {
    now,
    settled: () => routing,
    dispose: () => subscription.dispose(),
  };
}

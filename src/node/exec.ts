// How `fairlead exec` runs a host command in a pod's or a node's network.

import type { NetworkTarget, PodNetwork } from "./network.ts";

export interface ExecPrefix {
  /** Put before the command's own words. With namespaces, `ip netns exec`, which brings the pod's resolv.conf and hosts. */
  readonly argv: readonly string[];
  /** One line for stderr: what is not as one would expect. */
  readonly note: string | undefined;
}

/** Throws a UserError when there is no such target. */
export function commandIn(network: PodNetwork, target: NetworkTarget): ExecPrefix {
  const argv = network.command(target, []);
  if (network.kind === "netns") return { argv, note: undefined };
  const address = network.place(target)?.address;
  return {
    argv,
    note: `the loopback network has no namespaces: this runs as any process of this machine (the target's address is ${address})`,
  };
}

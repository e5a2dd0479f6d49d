// What the worker of a pod needs of its node's agent.

import type { Pod } from "../api/kinds.ts";
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import type { Store } from "../store/store.ts";
import type { HostPorts } from "./host-ports/host-ports.ts";
import type { ImageCommand } from "./image-commands.ts";
import type { NodePlace, PodNetwork, PodSandbox } from "./network.ts";
import type { PodSources } from "./pod-sources.ts";
import type { WantedPort } from "./service-ports.ts";
import type { StandIns } from "./standin/stand-ins.ts";

export interface PodResolvConf {
  /** Of the pod's `/etc/resolv.conf`. */
  readonly text: string;
  /** What of the pod's wishes could not be had, for an Event. */
  readonly problems: readonly string[];
}

export interface WorkerHost {
  readonly place: NodePlace;
  readonly store: Store;
  readonly network: PodNetwork;
  readonly standIns: StandIns;
  readonly hostPorts?: HostPorts;
  readonly sources: PodSources;
  readonly commands: readonly ImageCommand[];
  readonly stateDir: string;
  /** Where commands run that name no folder of their own. */
  readonly workingDir: string;
  readonly clock: Clock;
  readonly log: Logger;
  resolvConf(pod: Pod): PodResolvConf;
  endpointsGone(pod: Pod): Promise<void>;
  /** Ports beside those that a pod declares, which its Services send to. */
  extraPorts(pod: Pod): readonly WantedPort[];
  /** One of each of the node's pod ranges; undefined when one has none left. */
  takeAddresses(pod: Pod): readonly string[] | undefined;
  releaseAddresses(pod: Pod): void;
  addSandbox(sandbox: PodSandbox): Promise<void>;
  removeSandbox(uid: string): Promise<void>;
  event(pod: Pod, type: "Normal" | "Warning", reason: string, message: string): void;
}

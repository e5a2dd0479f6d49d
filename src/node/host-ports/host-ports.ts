// Host ports: what of a pod is reached at a port of its node, as a CNI plugin does it (containernetworking portmap) between the
// making of the sandbox and the first container. This file says which ports those are; `iptables.ts` and `nftables.ts` say it
// to the kernel, `userspace.ts` serves the network without privileges.

import type { Pod } from "../../api/kinds.ts";
import { ipFamily } from "../../base/ip.ts";

export interface HostPort {
  readonly family: 4 | 6;
  readonly protocol: "TCP" | "UDP" | "SCTP";
  /** The address of the node that the port is on; undefined for all of them. */
  readonly hostIP: string | undefined;
  readonly hostPort: number;
  readonly podIP: string;
  readonly podPort: number;
}

export interface PodHostPorts {
  readonly uid: string;
  /** `namespace/name`. */
  readonly pod: string;
  readonly ports: readonly HostPort[];
}

/** What a node's agent asks of whatever serves host ports. */
export interface HostPorts {
  /** After a start: these are served, and nothing else of ours. */
  load(pods: readonly PodHostPorts[]): Promise<void>;
  /** Resolves with what cannot be served and why. Throws when a port is another pod's or the node refuses. Idempotent. */
  add(pod: PodHostPorts): Promise<readonly string[]>;
  remove(uid: string): Promise<void>;
}

/** The host ports of a pod with these addresses; none of a pod on its node's network, which listens there itself. */
export function podHostPorts(pod: Pod, podIPs: readonly string[]): PodHostPorts {
  const { uid = "", namespace = "default", name } = pod.metadata;
  const sidecars = (pod.spec?.initContainers ?? []).filter(({ restartPolicy }) => restartPolicy === "Always");
  const containers = pod.spec?.hostNetwork ? [] : [...(pod.spec?.containers ?? []), ...sidecars];
  const ports = containers.flatMap((container) =>
    (container.ports ?? []).flatMap(({ protocol = "TCP", hostIP = "", hostPort = 0, containerPort }): HostPort[] => {
      if (hostPort === 0) return [];
      return podIPs.flatMap((podIP): HostPort[] => {
        const family = ipFamily(podIP);
        if (family === undefined || (hostIP !== "" && ipFamily(hostIP) !== family)) return [];
        const any = hostIP === "" || hostIP === "0.0.0.0" || hostIP === "::";
        return [{ family, protocol, hostIP: any ? undefined : hostIP, hostPort, podIP, podPort: containerPort }];
      });
    }),
  );
  return { uid, pod: `${namespace}/${name}`, ports };
}

/** Names a host port among all of a node: `TCP 0.0.0.0:8080`. */
export function hostPortText({ family, protocol, hostIP, hostPort }: HostPort): string {
  const address = hostIP ?? (family === 4 ? "0.0.0.0" : "::");
  return `${protocol} ${family === 6 ? `[${address}]` : address}:${hostPort}`;
}

/** Who has which host port, so that none is given twice. */
export class HostPortTable {
  readonly #pods = new Map<string, PodHostPorts>();
  readonly #owners = new Map<string, string>();

  get(uid: string): PodHostPorts | undefined {
    return this.#pods.get(uid);
  }

  /** Throws when one of them is another pod's. */
  add(pod: PodHostPorts): void {
    for (const port of pod.ports) {
      const owner = this.#pods.get(this.#owners.get(hostPortText(port)) ?? "");
      if (owner && owner.uid !== pod.uid)
        throw new Error(`host port ${hostPortText(port)} is taken by pod ${owner.pod}`);
    }
    this.remove(pod.uid);
    this.#pods.set(pod.uid, pod);
    for (const port of pod.ports) this.#owners.set(hostPortText(port), pod.uid);
  }

  remove(uid: string): void {
    for (const port of this.#pods.get(uid)?.ports ?? []) this.#owners.delete(hostPortText(port));
    this.#pods.delete(uid);
  }
}

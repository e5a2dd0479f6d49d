// The Node object of an embedded node, as a kubelet would register it. Heartbeats are not kept: an agent lives and dies with
// the control process that serves the object.

import { arch, cpus, release, totalmem } from "node:os";
import type { Node } from "../api/kinds.ts";
import { Nodes } from "../api/kinds.ts";
import { isStatusReason } from "../api/status-error.ts";
import { formatTime } from "../api/strategy.ts";
import type { Store } from "../store/store.ts";
import type { NodePlace } from "./network.ts";

export interface NodeIdentity {
  readonly place: NodePlace;
  readonly zone?: string;
  readonly region?: string;
  /** Added to the node's labels. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Shown as its kubelet version, `v1.36.0`. */
  readonly version: string;
}

/** The object as it should be; `before` keeps what users added (labels, taints, conditions of others). */
export function nodeObject(identity: NodeIdentity, before: Node | undefined, now: number): Node {
  const { place, zone, region, labels, version } = identity;
  const time = formatTime(now);
  const machine = arch() === "x64" ? "amd64" : arch();
  const resources = {
    cpu: String(cpus().length || 1),
    memory: `${Math.floor(totalmem() / 1024)}Ki`,
    pods: "250",
  };
  const condition = (type: string, status: "True" | "False", reason: string, message: string) => {
    const old = before?.status?.conditions?.find((one) => one.type === type);
    const since = old?.status === status ? old.lastTransitionTime : undefined;
    return { type, status, lastHeartbeatTime: time, lastTransitionTime: since ?? time, reason, message };
  };
  return {
    ...before,
    apiVersion: "v1",
    kind: "Node",
    metadata: {
      ...before?.metadata,
      name: place.name,
      labels: {
        "beta.kubernetes.io/arch": machine,
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine,
        "kubernetes.io/hostname": place.name,
        "kubernetes.io/os": "linux",
        ...(zone ? { "topology.kubernetes.io/zone": zone } : {}),
        ...(region ? { "topology.kubernetes.io/region": region } : {}),
        ...labels,
        ...before?.metadata.labels,
      },
    },
    spec: { ...before?.spec, podCIDR: place.podRanges[0], podCIDRs: place.podRanges },
    status: {
      ...before?.status,
      capacity: resources,
      allocatable: resources,
      conditions: [
        condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
      ],
      addresses: [
        ...place.addresses.map((address) => ({ type: "InternalIP", address })),
        { type: "Hostname", address: place.name },
      ],
      daemonEndpoints: { kubeletEndpoint: { Port: 0 } },
      nodeInfo: {
        architecture: machine,
        bootID: "",
        containerRuntimeVersion: "fairlead://1",
        kernelVersion: release(),
        kubeProxyVersion: "",
        kubeletVersion: version,
        machineID: "",
        operatingSystem: "linux",
        osImage: "Fairlead embedded node",
        systemUUID: "",
      },
    },
  };
}

/** Creates the Node, or makes an old one current. */
export async function registerNode(store: Store, identity: NodeIdentity, now: number): Promise<Node> {
  const key = { resource: Nodes, name: identity.place.name };
  for (;;) {
    const before = (await store.get(key)) as Node | undefined;
    const wanted = nodeObject(identity, before, now);
    try {
      const written = before ? await store.update(Nodes, wanted) : await store.create(Nodes, wanted);
      const withStatus = { ...written, status: wanted.status };
      return (await store.update(Nodes, withStatus, { subresource: "status" })) as Node;
    } catch (error) {
      // Somebody else wrote meanwhile: look again.
      if (!isStatusReason(error, "Conflict") && !isStatusReason(error, "AlreadyExists")) throw error;
    }
  }
}

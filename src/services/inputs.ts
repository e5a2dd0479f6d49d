// The collections that everything in this room is derived from, made once for a store: Services joined with their slices,
// Pods reduced to what an endpoint says of them, and where Nodes are. Reducing first is what keeps a Node's heartbeat or a
// Pod's restart count from recomputing anything.

import type { EndpointSlice, Node, Pod, Service } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import type { Collection, Index } from "../collections/collection.ts";
import { derive } from "../collections/derive.ts";
import { index } from "../collections/index.ts";
import { type EndpointPod, endpointPodOf, podLabelKeys } from "./endpoint-pod.ts";
import { claimIndex } from "./external-claims.ts";
import { serviceOfSlice, zoneLabel } from "./objects.ts";
import { type ResolvedService, resolveService } from "./resolved-service.ts";
import type { NodePlace } from "./service-table.ts";
import { milliCpu, type TopologyNode } from "./topology-hints.ts";

export interface ServiceObjects {
  readonly services: Collection<KubeObject>;
  readonly endpointSlices: Collection<KubeObject>;
  readonly pods: Collection<KubeObject>;
  readonly nodes: Collection<KubeObject>;
}

export interface ServiceInputs {
  readonly services: Collection<Service>;
  readonly slicesByService: Index<EndpointSlice>;
  readonly pods: Collection<EndpointPod>;
  /** Pods by `namespace/label=value`. */
  readonly podsByLabel: Index<EndpointPod>;
  readonly nodes: Collection<NodePlace>;
  /** The nodes that are ready for pods, control planes left out: what zones' shares of topology hints are made from. */
  readonly topologyNodes: Collection<TopologyNode>;
  readonly resolved: Collection<ResolvedService>;
  /** Services by the addresses and ports that they claim (`external-claims.ts`). */
  readonly claims: Index<ResolvedService>;
}

export function serviceInputs(objects: ServiceObjects): ServiceInputs {
  const services = objects.services as Collection<Service>;
  const slices = objects.endpointSlices as Collection<EndpointSlice>;
  const slicesByService = index(slices, "endpointslices by service", (slice) => {
    const service = serviceOfSlice(slice);
    return service === undefined ? [] : [service];
  });
  const pods = derive(objects.pods as Collection<Pod>, endpointPodOf, { name: "endpoint pods", key: (pod) => pod.key });
  const resolved = derive(
    services,
    (service, fetch) =>
      resolveService(service, fetch.where(slicesByService, `${service.metadata.namespace}/${service.metadata.name}`)),
    { name: "resolved services", key: (service) => service.key },
  );
  return {
    services,
    slicesByService,
    pods,
    podsByLabel: index(pods, "pods by label", podLabelKeys),
    nodes: derive(
      objects.nodes as Collection<Node>,
      (node): NodePlace => {
        const zone = node.metadata.labels?.[zoneLabel];
        return { name: node.metadata.name, ...(zone ? { zone } : {}) };
      },
      { name: "node places", key: (node) => node.name },
    ),
    topologyNodes: derive(objects.nodes as Collection<Node>, topologyNode, {
      name: "topology nodes",
      key: (node) => node.name,
    }),
    resolved,
    claims: claimIndex(resolved),
  };
}

const controlPlaneLabels = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

function topologyNode(node: Node): TopologyNode | undefined {
  const labels = node.metadata.labels ?? {};
  if (controlPlaneLabels.some((label) => label in labels)) return undefined;
  const ready = node.status?.conditions?.find((one) => one.type === "Ready");
  if (ready?.status !== "True") return undefined;
  return { name: node.metadata.name, zone: labels[zoneLabel], cpu: milliCpu(node.status?.allocatable?.["cpu"]) };
}

// `explain --packet --files`: the same question to objects in files, of any cluster, with nothing running. What an API server or
// controllers would have added (addresses, EndpointSlices) is not made up; the answer says what is missing.

import { decode } from "../api/decode.ts";
import { applyDefaults } from "../api/defaults.ts";
import type { EndpointSlice, Node, Service } from "../api/kinds.ts";
import { type KubeObject, objectName } from "../api/object.ts";
import { builtinScheme } from "../api/scheme.ts";
import { parseCidr } from "../base/cidr.ts";
import { UserError } from "../base/errors.ts";
import { ipFamily } from "../base/ip.ts";
import { isHeadless, serviceOfSlice, zoneLabel } from "../services/objects.ts";
import type { PacketDecision } from "../services/packet.ts";
import type { PacketMode } from "../services/packet-modes.ts";
import { resolveService } from "../services/resolved-service.ts";
import { explainPacketOn, type PacketContextNode, type PacketRequest } from "./explain-packet.ts";
import { readManifests } from "./manifests.ts";

export interface PacketFileOptions {
  readonly mode?: string;
  readonly podRanges?: readonly string[];
}

const modes: readonly string[] = ["iptables", "nftables", "ipvs"] satisfies PacketMode[];

/** Throws a UserError for files that cannot be read and for a packet that names what is not in them. */
export async function explainPacketFiles(
  files: readonly string[],
  request: PacketRequest,
  options: PacketFileOptions = {},
): Promise<PacketDecision> {
  const mode = options.mode ?? "iptables";
  if (!modes.includes(mode)) {
    throw new UserError(`--mode ${mode}: there is no such mode`, {
      remedy: `There are ${modes.join(", ")}.`,
      exitCode: 2,
    });
  }
  for (const range of options.podRanges ?? []) {
    if (!parseCidr(range))
      throw new UserError(`--cluster-cidr ${range}: not an address range in CIDR notation`, { exitCode: 2 });
  }
  const objects = await readObjects(files);
  const services = objects.Service as readonly Service[];
  const slices = Map.groupBy(objects.EndpointSlice as readonly EndpointSlice[], serviceOfSlice);
  const notes: string[] = [];
  const resolved = new Map(
    services.map((service) => {
      const name = objectName(service);
      const own = slices.get(name);
      const { spec = {} } = service;
      if (spec.type !== "ExternalName" && !isHeadless(spec)) {
        if (!spec.clusterIP) {
          notes.push(
            `Service ${name} has no address in the files: an API server gives it one, and no packet is taken here.`,
          );
        } else if (!own) {
          notes.push(`Service ${name} has no EndpointSlice in the files: it is explained as one without endpoints.`);
        }
      }
      return [name, resolveService(service, own ?? [])] as const;
    }),
  );
  const nodes = (objects.Node as readonly Node[]).flatMap(nodeOf);
  const podRanges = options.podRanges ?? (objects.Node as readonly Node[]).flatMap(podRangesOf);
  if (podRanges.length === 0) {
    notes.push("The pods' range is not known (--cluster-cidr): no packet to a cluster IP is told from a pod's.");
  }
  if (nodes.length === 0) {
    const name = request.node ?? "a node";
    notes.push(`No Node with an address is in the files: ${name} has none, and what asks for one is not known.`);
    nodes.push({ name, addresses: [] });
  }
  return explainPacketOn(
    {
      mode: mode as PacketMode,
      ...(podRanges.length > 0 ? { podRanges } : {}),
      nodes,
      firstNodeRanges: [],
      pods: new Map(objects.Pod.map((pod) => [objectName(pod), pod])),
      resolved,
      ...(notes.length > 0 ? { notes } : {}),
    },
    request,
  );
}

const kinds = ["Service", "EndpointSlice", "Node", "Pod"] as const;
type Objects = Record<(typeof kinds)[number], KubeObject[]>;

/** With the defaults that an API server gives; of several objects of one name, the last. */
async function readObjects(files: readonly string[]): Promise<Objects> {
  const scheme = builtinScheme();
  const latest: Record<keyof Objects, Map<string, KubeObject>> = {
    Service: new Map(),
    EndpointSlice: new Map(),
    Node: new Map(),
    Pod: new Map(),
  };
  for (const { object } of await readManifests(files, { lists: true })) {
    const kind = kinds.find((one) => one === object.kind);
    const resource = kind && scheme.byKind(object.apiVersion, kind);
    if (!resource) continue;
    const namespace = resource.scope === "Namespaced" ? (object.metadata.namespace ?? "default") : undefined;
    const placed = { ...object, metadata: { ...object.metadata, ...(namespace ? { namespace } : {}) } };
    const full = applyDefaults(
      scheme,
      resource,
      decode(scheme, resource, placed, { fieldValidation: "Ignore" }).object,
    );
    latest[kind].set(objectName(full), full);
  }
  return Object.fromEntries(kinds.map((kind) => [kind, [...latest[kind].values()]])) as Objects;
}

function nodeOf(node: Node): PacketContextNode[] {
  const { name, labels } = node.metadata;
  const addresses = (node.status?.addresses ?? []).flatMap(({ type, address }) =>
    type === "InternalIP" && ipFamily(address) !== undefined ? [address] : [],
  );
  const zone = labels?.[zoneLabel];
  const podRanges = podRangesOf(node);
  return addresses.length === 0
    ? []
    : [{ name, addresses, ...(zone ? { zone } : {}), ...(podRanges.length > 0 ? { podRanges } : {}) }];
}

function podRangesOf({ spec }: Node): readonly string[] {
  const { podCIDR, podCIDRs = podCIDR ? [podCIDR] : [] } = (spec ?? {}) as {
    podCIDR?: string;
    podCIDRs?: readonly string[];
  };
  return podCIDRs;
}

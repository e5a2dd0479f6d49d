// Gives Services their addresses and ports inside the transaction that writes them: ClusterIPs, NodePorts and health check
// node ports, with an IPAddress object for each ClusterIP and the ServiceCIDR `kubernetes` (pkg/registry/core/service/storage
// alloc.go, storage.go; KEP-1880). What is taken is read from the transaction itself, so that a write that is refused later
// leaves nothing behind.

import { type Service, type ServicePort as ServicePortSpec, type ServiceSpec, Services } from "../api/kinds.ts";
import { type KubeObject, objectName } from "../api/object.ts";
import { StatusError } from "../api/status-error.ts";
import { invalid, invalidValue } from "../api/validation/field-error.ts";
import type { Admission, AdmissionRequest, TransactionView } from "../store/admission.ts";
import { ClusterIpRange, releaseAddress, type ServiceCidrs } from "./cluster-ip-range.ts";
import { chooseFamilies, needsClusterIP } from "./ip-families.ts";
import { NodePortRange, type PortRange } from "./node-port-range.ts";
import type { FamilyName } from "./objects.ts";
import { additionalRanges } from "./service-cidrs.ts";

export interface ServiceAllocationOptions extends ServiceCidrs {
  /** `30000-32767` unless given. */
  readonly nodePortRange?: string | PortRange;
  /** A number in [0, 1); replaced in tests. */
  readonly random?: () => number;
}

/** The admission of one store. It keeps hints of what is taken, so it must see every write of a Service there. */
export function serviceAdmission(options: ServiceAllocationOptions): Admission {
  const addresses = new Map<FamilyName, ClusterIpRange>();
  for (const cidr of [options.serviceCidr, options.secondaryServiceCidr]) {
    if (cidr === undefined) continue;
    const range = new ClusterIpRange(cidr, options.random);
    if (addresses.has(range.family)) throw new RangeError(`two Service ranges of family ${range.family}`);
    addresses.set(range.family, range);
  }
  /** Ranges of ServiceCIDR objects, by their text: what was learned of one stays while others come and go. */
  const added = new Map<string, ClusterIpRange>();
  const ports = new NodePortRange(options.nodePortRange ?? "30000-32767", options.random);

  function mutate(request: AdmissionRequest): KubeObject | undefined {
    if (request.subresource !== undefined) return undefined;
    if (request.operation === "delete") return undefined;
    const before = request.old as Service | undefined;
    const after = request.object as Service;
    if (after.metadata.deletionTimestamp !== undefined) {
      // The last finalizer goes: this write is the end of the object.
      if (leaves(after) && before) releaseAddresses(before, [], request.view);
      return undefined;
    }
    const spec = allocate(after, before, request.view);
    return { ...after, spec };
  }

  /** A deletion is asked about after all else, because nothing refuses it then. */
  function validate(request: AdmissionRequest): void {
    if (request.operation !== "delete") return;
    const before = request.old as Service | undefined;
    if (before && leaves(before)) releaseAddresses(before, [], request.view);
  }

  function allocate(after: Service, before: Service | undefined, view: TransactionView): ServiceSpec {
    for (const range of addresses.values()) range.announce(view);
    ports.start(view);
    // What an update leaves out of what was allocated was put back before this (api/service-strategy.ts).
    let spec = chooseFamilies(after.metadata.name, after.spec ?? {}, before?.spec, [...addresses.keys()]);
    const owner = objectName(after);
    spec = allocateAddresses(after, spec, before, view);
    if (needsNodePorts(spec)) spec = { ...spec, ports: allocateNodePorts(after, spec, owner, view) };
    if (needsHealthCheckPort(spec)) {
      spec = { ...spec, healthCheckNodePort: allocateHealthCheckPort(after, spec, owner, view) };
    }
    return spec;
  }

  /** The ranges of a family, the cluster's own first. */
  function rangesOf(family: FamilyName, view: TransactionView): readonly ClusterIpRange[] {
    const ranges = [...addresses.values()];
    for (const text of additionalRanges(view)) {
      const range = added.get(text) ?? new ClusterIpRange(text, options.random);
      added.set(text, range);
      ranges.push(range);
    }
    const found = ranges.filter((range) => range.family === family);
    for (const range of found) range.start(view);
    return found;
  }

  function allocateAddresses(
    service: Service,
    spec: ServiceSpec,
    before: Service | undefined,
    view: TransactionView,
  ): ServiceSpec {
    if (!needsClusterIP(spec) || spec.clusterIPs?.[0] === "None") {
      if (before) releaseAddresses(before, [], view);
      return spec;
    }
    const requested = spec.clusterIPs ?? [];
    const held = before?.spec?.clusterIPs ?? [];
    // An address may not change once set: validation says so, and nothing is to be allocated for it.
    if (held.some((address, at) => requested[at] !== undefined && requested[at] !== address)) return spec;
    const given = (spec.ipFamilies ?? []).map((family, at) => {
      const ranges = rangesOf(family as FamilyName, view);
      const first = ranges[0]!;
      const wanted = requested[at];
      if (wanted !== undefined && held.includes(wanted)) return wanted;
      if (wanted !== undefined) {
        const range = ranges.find((one) => one.contains(wanted)) ?? first;
        const refusal = range.refuse(wanted, view);
        if (refusal !== undefined) {
          const detail = `failed to allocate IP ${wanted}: ${refusal}`;
          throw invalid(Services, service.metadata.name, [invalidValue("spec.clusterIPs", requested, detail)]);
        }
        range.take(wanted, service, view);
        return wanted;
      }
      for (const range of ranges) {
        const address = range.pick(view);
        if (address === undefined) continue;
        range.take(address, service, view);
        return address;
      }
      const full =
        ranges.length === 1 ? `range ${first.cidr} is` : `ranges ${ranges.map((one) => one.cidr).join(", ")} are`;
      throw new StatusError(
        500,
        "InternalError",
        `Internal error occurred: failed to allocate a serviceIP: ${full} full`,
      );
    });
    if (before) releaseAddresses(before, given, view);
    return { ...spec, clusterIP: given[0], clusterIPs: given };
  }

  /** Takes away the IPAddress objects of what a Service held and no longer holds. */
  function releaseAddresses(service: Service, kept: readonly string[], view: TransactionView): void {
    for (const address of service.spec?.clusterIPs ?? []) {
      if (address === "None" || kept.includes(address)) continue;
      releaseAddress(address, service, view);
    }
  }

  function allocateNodePorts(
    service: Service,
    spec: ServiceSpec,
    owner: string,
    view: TransactionView,
  ): readonly ServicePortSpec[] {
    const wanted = spec.ports ?? [];
    const taken = new Set<number>();
    // One port of TCP and UDP alike gets one node port for both.
    const byPort = new Map<number, number>();
    for (const port of wanted) if (port.nodePort) byPort.set(port.port, byPort.get(port.port) ?? port.nodePort);
    return wanted.map((port, at) => {
      if (port.nodePort) {
        if (!taken.has(port.nodePort)) {
          const refusal = ports.refuse(port.nodePort, owner, view);
          if (refusal !== undefined) {
            throw invalid(Services, service.metadata.name, [
              invalidValue(`spec.ports[${at}].nodePort`, port.nodePort, refusal),
            ]);
          }
        }
        ports.take(port.nodePort, owner);
        taken.add(port.nodePort);
        return port;
      }
      if (spec.type === "LoadBalancer" && spec.allocateLoadBalancerNodePorts === false) return port;
      const nodePort = byPort.get(port.port) ?? pickPort(owner, taken, view);
      byPort.set(port.port, nodePort);
      taken.add(nodePort);
      return { ...port, nodePort };
    });
  }

  function allocateHealthCheckPort(service: Service, spec: ServiceSpec, owner: string, view: TransactionView): number {
    const wanted = spec.healthCheckNodePort;
    const taken = new Set((spec.ports ?? []).flatMap((port) => (port.nodePort ? [port.nodePort] : [])));
    if (!wanted) return pickPort(owner, taken, view);
    const refusal = taken.has(wanted) ? "provided port is already allocated" : ports.refuse(wanted, owner, view);
    if (refusal !== undefined) {
      throw invalid(Services, service.metadata.name, [invalidValue("spec.healthCheckNodePort", wanted, refusal)]);
    }
    ports.take(wanted, owner);
    return wanted;
  }

  function pickPort(owner: string, taken: ReadonlySet<number>, view: TransactionView): number {
    const port = ports.pick(owner, taken, view);
    if (port !== undefined) return port;
    throw new StatusError(
      500,
      "InternalError",
      `Internal error occurred: failed to allocate a nodePort: range ${ports.text} is full`,
    );
  }

  return { name: "service-allocation", resources: ["services"], mutate, validate };
}

function needsNodePorts(spec: ServiceSpec): boolean {
  return spec.type === "NodePort" || spec.type === "LoadBalancer";
}

function needsHealthCheckPort(spec: ServiceSpec): boolean {
  return spec.type === "LoadBalancer" && spec.externalTrafficPolicy === "Local";
}

/** Whether a deletion of the object is its end: nothing holds it back. */
function leaves(service: Service): boolean {
  return (service.metadata.finalizers ?? []).length === 0;
}

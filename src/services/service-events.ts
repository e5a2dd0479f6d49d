// Tells people, by Events on their Services, what could not be done as they wrote it: an address that the load-balancer pool
// cannot give, an external address that another Service has, endpoints whose address is none, and what came of topology hints.

import type { EndpointSlice } from "../api/kinds.ts";
import { splitName } from "../api/object.ts";
import { type Disposable, disposeAll } from "../base/disposal.ts";
import { ipFamily } from "../base/ip.ts";
import type { Collection } from "../collections/collection.ts";
import { type Derived, derive } from "../collections/derive.ts";
import { hintReports } from "./endpoint-slice-controller.ts";
import type { EventRecorder, Occurrence } from "./events.ts";
import { lostClaims } from "./external-claims.ts";
import type { ServiceInputs } from "./inputs.ts";
import type { AddressFailure } from "./load-balancer.ts";
import { serviceOfSlice } from "./objects.ts";

interface Problem {
  readonly key: string;
  /** `namespace/name` of the Service. */
  readonly service: string;
  readonly message: string;
}

/** Endpoints of a slice whose address is not of the slice's family: nobody sends to them. */
export function malformedEndpoints(slice: EndpointSlice): Problem | undefined {
  const service = serviceOfSlice(slice);
  if (service === undefined || slice.addressType === "FQDN") return undefined;
  const family = slice.addressType === "IPv6" ? 6 : 4;
  const bad = (slice.endpoints ?? [])
    .map((endpoint) => endpoint.addresses[0])
    .filter((address) => address === undefined || ipFamily(address) !== family);
  if (bad.length === 0) return undefined;
  const named = bad.slice(0, 5).map((address) => JSON.stringify(address ?? ""));
  const key = `${slice.metadata.namespace}/${slice.metadata.name}`;
  return {
    key,
    service,
    message: `EndpointSlice ${key}: ${bad.length} endpoints are left out, their address is no ${slice.addressType} address: ${named.join(", ")}`,
  };
}

/** External addresses that Services claim in vain. */
function conflicts({ resolved, claims }: ServiceInputs): Derived<Problem> {
  return derive(
    resolved,
    (service, fetch) =>
      [...lostClaims(service, claims, fetch)].map(([claim, other]) => ({
        key: `${service.key} ${claim}`,
        service: service.key,
        message: `${claim} is served for Service ${other}, which claimed it first`,
      })),
    { name: "external address conflicts", key: (problem) => problem.key },
  );
}

export interface ServiceEventsOptions {
  readonly inputs: ServiceInputs;
  readonly addressFailures: Collection<AddressFailure>;
  /** One recorder for each component that says something. */
  readonly recorder: (component: string) => EventRecorder;
}

export function startServiceEvents({ inputs, addressFailures, recorder }: ServiceEventsOptions): Disposable {
  const proxy = recorder("kube-proxy");
  const loadBalancer = recorder("service-controller");
  const slices = recorder("endpoint-slice-controller");
  const tell = (record: EventRecorder, service: string, occurrence: Occurrence) => {
    const { namespace, name } = splitName(service);
    const object = inputs.services.get(service);
    record(
      object ?? { apiVersion: "v1", kind: "Service", metadata: { name, ...(namespace ? { namespace } : {}) } },
      occurrence,
    );
  };
  const malformed = derive(inputs.slicesByService.of, malformedEndpoints, {
    name: "malformed endpoints",
    key: (problem) => problem.key,
  });
  const lost = conflicts(inputs);
  const hints = hintReports(inputs);
  const warn = (problems: Collection<Problem>, reason: string) =>
    problems.subscribe(
      (batch) => {
        for (const { after } of batch) {
          if (after) tell(proxy, after.service, { type: "Warning", reason, message: after.message });
        }
      },
      { replay: true },
    );
  return disposeAll([
    malformed,
    lost,
    hints,
    warn(malformed, "InvalidEndpointAddress"),
    warn(lost, "ExternalAddressConflict"),
    addressFailures.subscribe(
      (batch) => {
        for (const { after } of batch) {
          if (!after?.owner.startsWith("service/")) continue;
          const message = `Error syncing load balancer: ${after.message}`;
          tell(loadBalancer, after.owner.slice("service/".length), {
            ...{ type: "Warning", reason: "SyncLoadBalancerFailed" },
            message,
          } as Occurrence);
        }
      },
      { replay: true },
    ),
    hints.subscribe(
      (batch) => {
        for (const { before, after } of batch) {
          if (!after || (before?.enabled === after.enabled && before.message === after.message)) continue;
          const { service, message } = after;
          const occurrence: Occurrence = after.enabled
            ? { type: "Normal", reason: "TopologyAwareHintsEnabled", message }
            : { type: "Warning", reason: "TopologyAwareHintsDisabled", message };
          tell(slices, service, occurrence);
        }
      },
      { replay: true },
    ),
  ]);
}

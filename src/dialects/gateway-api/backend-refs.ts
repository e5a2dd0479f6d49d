// HTTPBackendRef to a weighted backend: a Service port in reach, or the 500 that stands for a reference that does not
// resolve (Gateway API, HTTPRouteRule.backendRefs and BackendObjectReference). The Backend itself is made from the Service.

import type { HTTPRouteRuleBackendRef, ReferenceGrant } from "../../api/kinds.ts";
import type { WeightedBackend } from "../../model/model.ts";
import { serviceBackendName } from "../../model/names.ts";
import type { Provenance } from "../../model/provenance.ts";
import { grantRemedy, isGranted } from "./grants.ts";
import { answer } from "./names.ts";
import { type FilterProblem, translateFilters } from "./route-filters.ts";
import type { RouteView, ServiceView } from "./views.ts";

export interface RefProblem {
  readonly field: string;
  readonly reason: "InvalidKind" | "BackendNotFound" | "RefNotPermitted" | "UnsupportedProtocol";
  readonly message: string;
  readonly remedy: string;
}

export interface RefContext {
  service(key: string): ServiceView | undefined;
  grants(namespace: string): readonly ReferenceGrant[];
}

export interface TranslatedRef {
  readonly backend: WeightedBackend;
  readonly refProblem: RefProblem | undefined;
  readonly filterProblems: readonly FilterProblem[];
}

export function translateBackendRef(
  ref: HTTPRouteRuleBackendRef,
  route: RouteView,
  from: Provenance,
  context: RefContext,
): TranslatedRef {
  const filters = translateFilters(ref.filters ?? [], { ...from, field: `${from.field}.filters` }, true);
  const refProblem = problemOf(ref, route, from.field, context);
  const broken = refProblem ?? filters.problems[0];
  const weight = ref.weight ?? 1;
  return {
    backend: broken
      ? {
          from,
          weight,
          target: {
            respond: answer(
              500,
              `HTTPRoute ${route.key}: ${broken.field}: ${broken.message}`,
              "the backend cannot be reached",
            ),
          },
          filters: [],
        }
      : {
          from,
          weight,
          target: { backend: serviceBackendName(ref.namespace ?? route.namespace, ref.name, ref.port ?? 0) },
          filters: filters.filters,
        },
    refProblem,
    filterProblems: filters.problems,
  };
}

/** Protocols that a Service port can ask for (appProtocol, KEP-3726) and that the proxy does not speak to backends yet. */
const unspoken = new Set(["https", "tls", "kubernetes.io/wss", "kubernetes.io/tls"]);

function problemOf(
  ref: HTTPRouteRuleBackendRef,
  route: RouteView,
  field: string,
  context: RefContext,
): RefProblem | undefined {
  const { group = "", kind = "Service", namespace = route.namespace, name, port } = ref;
  if (group !== "" || kind !== "Service") {
    const what = group === "" ? kind : `${kind} (${group})`;
    return { field, reason: "InvalidKind", message: `${what} is no kind of backend`, remedy: "refer to a Service" };
  }
  const referrer = { kind: "HTTPRoute", namespace: route.namespace } as const;
  const referent = { group, kind, name };
  if (namespace !== route.namespace && !isGranted(context.grants(namespace), referrer, referent)) {
    return {
      field,
      reason: "RefNotPermitted",
      message: `Service "${name}" is in namespace ${namespace}, which does not permit the reference`,
      remedy: grantRemedy(referrer, referent, namespace),
    };
  }
  const shown = namespace === route.namespace ? `Service "${name}"` : `Service "${name}" of namespace ${namespace}`;
  const missing = (message: string, remedy: string): RefProblem => ({
    field,
    reason: "BackendNotFound",
    message,
    remedy,
  });
  const service = context.service(`${namespace}/${name}`);
  if (!service) return missing(`${shown} does not exist`, `create it in namespace ${namespace}`);
  if (service.external) {
    return missing(`${shown} is an ExternalName, which cannot be a backend`, "refer to a Service with endpoints");
  }
  const ports = [...new Set(service.ports.map((one) => one.port))].join(", ") || "none";
  if (port === undefined) return missing("a Service needs a port", `name one of: ${ports}`);
  const tcp = service.ports.find((one) => one.port === port && one.protocol === "TCP");
  if (tcp?.appProtocol && unspoken.has(tcp.appProtocol.toLowerCase())) {
    return {
      field,
      reason: "UnsupportedProtocol",
      message: `port ${port} of ${shown} wants ${tcp.appProtocol}, which the proxy does not speak to backends yet`,
      remedy: "offer plain HTTP on a port of the Service",
    };
  }
  if (tcp) return undefined;
  const other = service.ports.find((one) => one.port === port);
  if (other) return missing(`port ${port} of ${shown} is ${other.protocol}, not TCP`, "name a TCP port");
  return missing(`${shown} has no port ${port} (it has ${ports})`, `name one of: ${ports}`);
}

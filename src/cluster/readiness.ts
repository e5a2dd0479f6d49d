// When an object counts as working: Ready, Accepted, Programmed, available, whatever its kind calls it. Pure; `up` waits
// until every object of its files says yes, and prints what this says about the first that does not.

import { describeObject, type KubeObject } from "../api/object.ts";

export interface Readiness {
  readonly ready: boolean;
  /** Whether the object says no, rather than nothing yet: nothing will change without somebody's doing. */
  readonly refused?: boolean;
  /** `Gateway infra/production-gateway: listener https: ResolvedRefs=False InvalidCertificateRef: Secret … not found`. */
  readonly why?: string;
}

const ready: Readiness = { ready: true };

interface ConditionLike {
  readonly type: string;
  readonly status: string;
  readonly reason?: string;
  readonly message?: string;
  readonly observedGeneration?: number;
}

/** Whether `object`, as the API server has it now, works. */
export function readiness(object: KubeObject): Readiness {
  const check = Object.hasOwn(checks, object.kind) ? checks[object.kind] : undefined;
  return check ? check(object) : ready;
}

const checks: Readonly<Record<string, (object: KubeObject) => Readiness>> = {
  Deployment: (object) => {
    const wanted: number = object.spec?.replicas ?? 1;
    const { updatedReplicas = 0, availableReplicas = 0, replicas = 0 } = object.status ?? {};
    if (observed(object) && updatedReplicas >= wanted && availableReplicas >= wanted && replicas <= wanted)
      return ready;
    return waiting(object, `${availableReplicas} of ${wanted} replicas are available`);
  },
  ReplicaSet: (object) => replicasReady(object),
  StatefulSet: (object) => replicasReady(object),
  DaemonSet: (object) => {
    const { desiredNumberScheduled = 0, numberReady = 0 } = object.status ?? {};
    if (observed(object) && numberReady >= desiredNumberScheduled) return ready;
    return waiting(object, `${numberReady} of ${desiredNumberScheduled} pods are ready`);
  },
  Pod: (object) => {
    if (object.status?.phase === "Succeeded") return ready;
    if (condition(object.status?.conditions, "Ready")?.status === "True") return ready;
    const bad = (object.status?.conditions ?? []).find((one: ConditionLike) => one.status === "False" && one.message);
    return waiting(object, bad ? bad.message : `phase ${object.status?.phase ?? "Pending"}`);
  },
  Service: (object) => {
    if (object.spec?.type !== "LoadBalancer" || object.spec.loadBalancerClass) return ready;
    return object.status?.loadBalancer?.ingress?.length
      ? ready
      : waiting(object, "it has no load-balancer address yet");
  },
  CustomResourceDefinition: (object) =>
    conditionsHold(object, describeObject(object), object.status?.conditions, ["Established"]),
  GatewayClass: (object) => conditionsHold(object, describeObject(object), object.status?.conditions, ["Accepted"]),
  Gateway: (object) => {
    const listeners: readonly { name: string; conditions?: readonly ConditionLike[] }[] =
      object.status?.listeners ?? [];
    for (const listener of listeners) {
      const where = `${describeObject(object)}: listener ${listener.name}`;
      const state = conditionsHold(object, where, listener.conditions, ["Accepted", "ResolvedRefs", "Programmed"]);
      if (!state.ready && state.refused) return state;
    }
    const own = conditionsHold(object, describeObject(object), object.status?.conditions, ["Accepted", "Programmed"]);
    if (!own.ready) return own;
    if (!object.status?.addresses?.length) return waiting(object, "it has no address yet");
    for (const listener of listeners) {
      const where = `${describeObject(object)}: listener ${listener.name}`;
      const state = conditionsHold(object, where, listener.conditions, ["Accepted", "ResolvedRefs", "Programmed"]);
      if (!state.ready) return state;
    }
    return listeners.length >= (object.spec?.listeners ?? []).length
      ? ready
      : waiting(object, "listeners without a status");
  },
  HTTPRoute: routeReady,
  GRPCRoute: (object) => notServed(object, "GRPCRoute"),
  TLSRoute: (object) => notServed(object, "TLSRoute"),
  TCPRoute: (object) => notServed(object, "TCPRoute"),
  UDPRoute: (object) => notServed(object, "UDPRoute"),
  Ingress: (object) => notServed(object, "Ingress"),
};

function routeReady(object: KubeObject): Readiness {
  const parents: readonly { parentRef: ParentRef; conditions?: readonly ConditionLike[] }[] =
    object.status?.parents ?? [];
  for (const [at, ref] of ((object.spec?.parentRefs ?? []) as ParentRef[]).entries()) {
    const namespace = ref.namespace ?? object.metadata.namespace;
    const parent = `${ref.kind ?? "Gateway"} ${namespace}/${ref.name}`;
    const status = parents.find(({ parentRef }) => sameParent(parentRef, ref, object.metadata.namespace));
    if (!status)
      return waiting(object, `spec.parentRefs[${at}]: ${parent} has not taken it (is there such a Gateway?)`);
    const state = conditionsHold(object, `${describeObject(object)} on ${parent}`, status.conditions, [
      "Accepted",
      "ResolvedRefs",
    ]);
    if (!state.ready) return state;
  }
  return ready;
}

interface ParentRef {
  readonly kind?: string;
  readonly namespace?: string;
  readonly name: string;
  readonly sectionName?: string;
  readonly port?: number;
}

function sameParent(a: ParentRef, b: ParentRef, namespace: string | undefined): boolean {
  return (
    a.name === b.name &&
    (a.namespace ?? namespace) === (b.namespace ?? namespace) &&
    a.sectionName === b.sectionName &&
    a.port === b.port
  );
}

function replicasReady(object: KubeObject): Readiness {
  const wanted: number = object.spec?.replicas ?? 1;
  const { readyReplicas = 0 } = object.status ?? {};
  return observed(object) && readyReplicas >= wanted
    ? ready
    : waiting(object, `${readyReplicas} of ${wanted} pods are ready`);
}

function observed(object: KubeObject): boolean {
  return (object.status?.observedGeneration ?? 0) >= (object.metadata.generation ?? 0);
}

function condition(conditions: readonly ConditionLike[] | undefined, type: string): ConditionLike | undefined {
  return conditions?.find((one) => one.type === type);
}

/** All of `types` are True and speak of the present generation. */
function conditionsHold(
  object: KubeObject,
  where: string,
  conditions: readonly ConditionLike[] | undefined,
  types: readonly string[],
): Readiness {
  const generation = object.metadata.generation ?? 0;
  for (const type of types) {
    const found = condition(conditions, type);
    const fresh = found && (found.observedGeneration ?? generation) >= generation;
    if (!fresh) return { ready: false, why: `${where}: ${type} is not known yet` };
    if (found.status === "True") continue;
    const why = `${where}: ${type}=${found.status} ${found.reason ?? ""}${found.message ? `: ${found.message}` : ""}`;
    return { ready: false, refused: found.status === "False" && found.reason !== "Pending", why };
  }
  return ready;
}

function waiting(object: KubeObject, what: string): Readiness {
  return { ready: false, why: `${describeObject(object)}: ${what}` };
}

function notServed(object: KubeObject, kind: string): Readiness {
  const why = `${describeObject(object)}: stored, but this version of Fairlead does not serve ${kind} yet`;
  return { ready: false, refused: true, why };
}

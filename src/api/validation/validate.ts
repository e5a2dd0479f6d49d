// The one door to validation: what is wrong with an object that shall be created, or that shall take the place of another.
// The rules of a kind are in the files beside; custom resources and the Gateway API follow their schemas and CEL rules.

import { equal, isRecord } from "../data.ts";
import type { EndpointSlice, Ingress, NetworkPolicy, Pod, Service } from "../kinds.ts";
import type { KubeObject } from "../object.ts";
import { type Resource, resourceKey } from "../resource.ts";
import type { Schema } from "../schema.ts";
import type { Scheme } from "../scheme.ts";
import { hasRules } from "./cel.ts";
import {
  validateBinding,
  validateConfigMap,
  validateImmutableData,
  validateRole,
  validateSecret,
  validateSecretUpdate,
} from "./config.ts";
import { validateCustomResourceDefinition, validateCustomResourceDefinitionUpdate } from "./crd.ts";
import { type FieldError, invalidValue } from "./field-error.ts";
import { validateGatewayKinds } from "./gateway.ts";
import { immutableField, validateMetadata, validateMetadataUpdate } from "./metadata.ts";
import {
  validateEndpointSlice,
  validateEndpointSliceUpdate,
  validateEndpoints,
  validateIngress,
  validateIngressClass,
  validateIngressClassUpdate,
  validateIngressStatus,
  validateNetworkPolicy,
} from "./network.ts";
import { validatePodSpec, validatePodUpdate } from "./pod.ts";
import { validateHorizontalPodAutoscaler, validatePodDisruptionBudget } from "./policy.ts";
import { validateBySchema, validateStatusBySchema } from "./schema-rules.ts";
import { validateLoadBalancerStatus, validateService, validateServiceUpdate } from "./service.ts";
import {
  validateCronJob,
  validateDaemonSet,
  validateDeployment,
  validateJob,
  validateJobUpdate,
  validateReplicaSet,
  validateSelectorUpdate,
  validateStatefulSet,
  validateStatefulSetUpdate,
} from "./workloads.ts";

export { type FieldError, invalid } from "./field-error.ts";

type Rule = (object: KubeObject) => FieldError[];
type UpdateRule = (object: KubeObject, old: KubeObject, subresource: string | undefined) => FieldError[];

const createRules: Readonly<Record<string, Rule>> = {
  pods: (object) => validatePodSpec((object as Pod).spec ?? ({} as never), "spec"),
  services: (object) => validateService(object as Service),
  endpoints: validateEndpoints,
  configmaps: validateConfigMap,
  secrets: validateSecret,
  "deployments.apps": validateDeployment,
  "replicasets.apps": validateReplicaSet,
  "statefulsets.apps": validateStatefulSet,
  "daemonsets.apps": validateDaemonSet,
  "jobs.batch": (object) => validateJob(object),
  "cronjobs.batch": validateCronJob,
  "poddisruptionbudgets.policy": validatePodDisruptionBudget,
  "horizontalpodautoscalers.autoscaling": validateHorizontalPodAutoscaler,
  "ingresses.networking.k8s.io": (object) => validateIngress(object as Ingress),
  "ingressclasses.networking.k8s.io": validateIngressClass,
  "networkpolicies.networking.k8s.io": (object) => validateNetworkPolicy(object as NetworkPolicy),
  "endpointslices.discovery.k8s.io": (object) => validateEndpointSlice(object as EndpointSlice),
  "customresourcedefinitions.apiextensions.k8s.io": validateCustomResourceDefinition,
  "roles.rbac.authorization.k8s.io": validateRole,
  "clusterroles.rbac.authorization.k8s.io": validateRole,
  "rolebindings.rbac.authorization.k8s.io": validateBinding,
  "clusterrolebindings.rbac.authorization.k8s.io": validateBinding,
};

const updateRules: Readonly<Record<string, UpdateRule>> = {
  pods: (object, old, subresource) => validatePodUpdate(object as Pod, old as Pod, subresource),
  services: (object, old) => validateServiceUpdate(object as Service, old as Service),
  configmaps: (object, old) => [...validateImmutableData(object, old), ...validateConfigMap(object)],
  secrets: validateSecretUpdate,
  "deployments.apps": (object, old) => [...validateDeployment(object), ...validateSelectorUpdate(object, old)],
  "replicasets.apps": (object, old) => [...validateReplicaSet(object), ...validateSelectorUpdate(object, old)],
  "daemonsets.apps": (object, old) => [...validateDaemonSet(object), ...validateSelectorUpdate(object, old)],
  "statefulsets.apps": (object, old) => [...validateStatefulSetUpdate(object, old), ...validateStatefulSet(object)],
  "jobs.batch": (object, old) => [...validateJob(object), ...validateJobUpdate(object, old)],
  "ingressclasses.networking.k8s.io": validateIngressClassUpdate,
  "endpointslices.discovery.k8s.io": (object, old) =>
    validateEndpointSliceUpdate(object as EndpointSlice, old as EndpointSlice),
  "customresourcedefinitions.apiextensions.k8s.io": validateCustomResourceDefinitionUpdate,
  "rolebindings.rbac.authorization.k8s.io": bindingUpdate,
  "clusterrolebindings.rbac.authorization.k8s.io": bindingUpdate,
  namespaces: () => [],
};

function bindingUpdate(object: KubeObject, old: KubeObject): FieldError[] {
  const changed = immutableField("roleRef", object["roleRef"], old["roleRef"]);
  return [
    ...changed.map((error) => invalidValue(error.field, object["roleRef"], "cannot change roleRef")),
    ...validateBinding(object),
  ];
}

const statusRules: Readonly<Record<string, UpdateRule>> = {
  services: (object, old) => validateLoadBalancerStatus(object.status, old.status, object.spec),
  "ingresses.networking.k8s.io": (object, old) => validateIngressStatus(object, old),
};

/** What is wrong with a new object (decoded, defaulted, prepared). */
export function validateCreate(scheme: Scheme, resource: Resource, object: KubeObject): FieldError[] {
  const entry = scheme.entry(resource);
  const errors = validateMetadata(resource, object);
  if (entry.custom) return [...errors, ...validateCustom(resource, object, entry.schema)];
  return [...errors, ...(createRules[resourceKey(resource)]?.(object) ?? [])];
}

/** What is wrong with an object that shall replace `old`. A deletion that only waits for finalizers is not held up by rules. */
export function validateUpdate(
  scheme: Scheme,
  resource: Resource,
  object: KubeObject,
  old: KubeObject,
  subresource?: string,
): FieldError[] {
  const entry = scheme.entry(resource);
  const errors = validateMetadataUpdate(object, old);
  const key = resourceKey(resource);
  if (entry.custom) {
    const found =
      subresource === "status" && !hasRules(entry.schema)
        ? validateStatusBySchema(object, entry.schema)
        : validateCustom(resource, object, entry.schema, old);
    return [...errors, ...ratchet(found, object, old)];
  }
  if (subresource === "status") return [...errors, ...(statusRules[key]?.(object, old, subresource) ?? [])];
  const rule = updateRules[key];
  return [...errors, ...(rule ? rule(object, old, subresource) : (createRules[key]?.(object) ?? []))];
}

function validateCustom(resource: Resource, object: KubeObject, schema: Schema, old?: KubeObject): FieldError[] {
  const errors = validateBySchema(object, schema, old);
  if (errors.length > 0 || resource.group !== "gateway.networking.k8s.io") return errors;
  return validateGatewayKinds(object, old);
}

/**
 * Errors of values that an update left as they were are forgiven (CRDValidationRatcheting): an object stored before a schema
 * became stricter can still be changed elsewhere.
 */
function ratchet(errors: readonly FieldError[], object: KubeObject, old: KubeObject): FieldError[] {
  return errors.filter(({ field, type }) => {
    if (field === "<nil>" || field === "") return true;
    const path = pathOf(field);
    const at = type === "FieldValueRequired" ? path.slice(0, -1) : path;
    const [now, was] = [valueAtPath(object, at), valueAtPath(old, at)];
    return was === undefined || !equal(now, was);
  });
}

const pathOf = (field: string): string[] =>
  [...field.matchAll(/[^.[\]]+|\[([^\]]*)\]/g)].map((match) => match[1] ?? match[0]);

function valueAtPath(value: unknown, path: readonly string[]): unknown {
  let at = value;
  for (const key of path) {
    if (Array.isArray(at)) at = at[Number(key)];
    else if (isRecord(at)) at = at[key];
    else return undefined;
  }
  return at;
}

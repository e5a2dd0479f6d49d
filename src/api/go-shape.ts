// What the OpenAPI facts do not say about the built-in Go types and clients can see: which scalars are pointers (so that a
// given zero is kept), which structs are values (so that they appear even when empty), and the Go names that decoding
// errors mention. Read from the struct definitions of k8s.io/api (types.go files), 1.36.

import type { Schema } from "./schema.ts";

/** Numbers and booleans that are plain values with `omitempty`: a zero is left out. Named `Struct.field` or by field alone. */
const valueScalars = new Set(
  (
    "minReadySeconds observedGeneration generation numberAvailable numberUnavailable updatedNumberScheduled availableReplicas " +
    "readyReplicas unavailableReplicas updatedReplicas currentReplicas fullyLabeledReplicas DeploymentStatus.replicas ScaleSpec.replicas " +
    "JobStatus.active JobStatus.failed JobStatus.succeeded ContainerPort.hostPort Probe.initialDelaySeconds Probe.timeoutSeconds " +
    "Probe.periodSeconds Probe.successThreshold Probe.failureThreshold ServicePort.nodePort ServiceSpec.healthCheckNodePort " +
    "StatefulSetOrdinals.start ServiceBackendPort.number Event.count EventSeries.count ContainerImage.sizeBytes " +
    "ContainerStateTerminated.signal AWSElasticBlockStoreVolumeSource.partition GCEPersistentDiskVolumeSource.partition " +
    "CustomResourceColumnDefinition.priority Status.code StatusDetails.retryAfterSeconds paused stdin stdinOnce tty hostIPC hostNetwork " +
    "hostPID readOnly unschedulable publishNotReadyAddresses globalDefault denied authenticated deprecated preserveUnknownFields " +
    "exclusiveMaximum exclusiveMinimum nullable uniqueItems x-kubernetes-embedded-resource x-kubernetes-int-or-string " +
    "chapAuthDiscovery chapAuthSession sslEnabled insecureSkipTLSVerify"
  ).split(" "),
);
const pointerExceptions = new Set(["AzureDiskVolumeSource.readOnly", "CSIVolumeSource.readOnly"]);

/** Strings that are pointers: a given empty string is kept. */
const pointerStrings = new Set(
  (
    "ingressClassName storageClassName appProtocol loadBalancerClass pathType runtimeClassName preemptionPolicy mountPropagation " +
    "volumeMode internalTrafficPolicy trafficDistribution ipFamilyPolicy apiGroup holderIdentity EndpointPort.name EndpointPort.protocol " +
    "Endpoint.hostname Endpoint.nodeName Endpoint.zone GRPCAction.service scope NetworkPolicyPort.protocol ServiceReference.path " +
    "volumeAttributesClassName procMount localhostProfile podReplacementPolicy completionMode managedBy bindingMode"
  ).split(" "),
);

const structName = (schema: Schema) => (schema.name ?? "").split(".").at(-1)!;

/** True when a zero given for this scalar is written again. */
export function isPointerScalar(parent: Schema, field: string): boolean {
  const schema = parent.fields?.[field];
  const own = `${structName(parent)}.${field}`;
  if (schema?.type === "string") return pointerStrings.has(own) || pointerStrings.has(field);
  if (pointerExceptions.has(own)) return true;
  return !(valueScalars.has(own) || valueScalars.has(field));
}

const valueStructs = new Set(
  (
    "Container.resources EphemeralContainer.resources PodTemplateSpec.metadata PodTemplateSpec.spec JobTemplateSpec.metadata " +
    "JobTemplateSpec.spec PersistentVolumeClaimSpec.resources PersistentVolumeClaimTemplate.spec DeploymentSpec.template " +
    "DeploymentSpec.strategy DaemonSetSpec.template DaemonSetSpec.updateStrategy StatefulSetSpec.template StatefulSetSpec.updateStrategy " +
    "ReplicaSetSpec.template JobSpec.template CronJobSpec.jobTemplate IngressStatus.loadBalancer ServiceStatus.loadBalancer " +
    "NetworkPolicySpec.podSelector Endpoint.conditions NodeStatus.daemonEndpoints ContainerStatus.state ContainerStatus.lastState"
  ).split(" "),
);
/** Kinds whose spec (and status) are values. */
const valueSpecs = new Set(
  (
    "Pod Node Namespace Service ReplicationController PersistentVolume PersistentVolumeClaim ResourceQuota LimitRange Deployment " +
    "ReplicaSet StatefulSet DaemonSet Job CronJob Ingress IngressClass NetworkPolicy HorizontalPodAutoscaler PodDisruptionBudget Lease " +
    "IPAddress ServiceCIDR CertificateSigningRequest VolumeAttachment CSIDriver CSINode APIService Scale"
  ).split(" "),
);

/** True when a struct field is written even if nothing is in it. */
export function isValueStruct(parent: Schema, field: string): boolean {
  const struct = structName(parent);
  if (valueStructs.has(`${struct}.${field}`)) return true;
  return (field === "spec" || field === "status") && valueSpecs.has(struct);
}

/** Times of pods' statuses that are values: an absent one is written as null. Other kinds' are left out here. */
const valueTimes = new Set([
  "PodCondition.lastProbeTime",
  "PodCondition.lastTransitionTime",
  "ContainerStateRunning.startedAt",
  "ContainerStateTerminated.startedAt",
  "ContainerStateTerminated.finishedAt",
]);

/** True when an absent field is written as null. */
export function isValueTime(parent: Schema, field: string): boolean {
  return valueTimes.has(`${structName(parent)}.${field}`);
}

const namedStrings: Readonly<Record<string, string>> = {
  ClientIP: "v1.ServiceAffinity",
  LoadBalancer: "v1.ServiceType",
  IfNotPresent: "v1.PullPolicy",
  OnFailure: "v1.RestartPolicy",
  ClusterFirst: "v1.DNSPolicy",
  SCTP: "v1.Protocol",
  Prefix: "v1.PathType",
  RequireDualStack: "v1.IPFamilyPolicy",
};

/** The Go type that an `UnmarshalTypeError` names. */
export function goTypeOf(schema: Schema): string {
  switch (schema.type) {
    case "object": {
      const parts = (schema.name ?? "object").split(".");
      return parts.length > 1 ? parts.slice(-2).join(".") : "map[string]interface {}";
    }
    case "map":
      return `map[string]${schema.values ? goTypeOf(schema.values) : "interface {}"}`;
    case "list":
      return `[]${schema.items ? goTypeOf(schema.items) : "interface {}"}`;
    case "integer":
      return schema.format ?? "int64";
    case "number":
      return "float64";
    case "boolean":
      return "bool";
    case "string":
      if (schema.format === "byte") return "[]uint8";
      for (const value of schema.enum ?? []) {
        const named = namedStrings[String(value)];
        if (named) return named;
      }
      return "string";
    default:
      return schema.type === "int-or-string" ? "intstr.IntOrString" : "interface {}";
  }
}

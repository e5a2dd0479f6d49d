// Rules of pods and pod templates (pkg/apis/core/validation ValidatePodSpec): containers, ports, environment, probes, volumes,
// resources, and what of a running pod may change. Security profiles and affinity terms are not checked yet.

import { equal, isRecord } from "../data.ts";
import type {
  Container,
  ContainerPort,
  EnvVar,
  Pod,
  PodSpec,
  PodTemplateSpec,
  Probe,
  Volume,
} from "../generated/core.ts";
import { parseQuantity } from "../quantity.ts";
import {
  child,
  duplicate,
  type FieldError,
  forbidden,
  invalidValue,
  notFound,
  notSupported,
  required,
} from "./field-error.ts";
import { validateAnnotations, validateLabels } from "./metadata.ts";
import {
  dnsLabelProblems,
  dnsSubdomainProblems,
  envVarNameProblems,
  labelValueProblems,
  portNameProblems,
  portProblems,
} from "./names.ts";

/** A pod template as a workload has it: metadata and spec. */
export function validatePodTemplate(template: PodTemplateSpec | undefined, path: string): FieldError[] {
  return [
    ...validateLabels(template?.metadata?.labels, `${path}.metadata.labels`),
    ...validateAnnotations(template?.metadata?.annotations, `${path}.metadata.annotations`),
    ...validatePodSpec(template?.spec ?? ({} as PodSpec), `${path}.spec`),
  ];
}

export function validatePodSpec(spec: PodSpec, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const volumes = new Set<string>();
  for (const [index, volume] of (spec.volumes ?? []).entries())
    errors.push(...validateVolume(volume, `${path}.volumes[${index}]`, volumes));
  const names = new Set<string>();
  const hostPorts = new Set<string>();
  const containers = spec.containers ?? [];
  if (containers.length === 0) errors.push(required(`${path}.containers`));
  for (const [index, container] of containers.entries()) {
    errors.push(...validateContainer(container, `${path}.containers[${index}]`, names, volumes, hostPorts, spec));
  }
  for (const [index, container] of (spec.initContainers ?? []).entries()) {
    const at = `${path}.initContainers[${index}]`;
    errors.push(...validateContainer(container, at, names, volumes, new Set(), spec));
    if (container.restartPolicy !== "Always") {
      for (const field of ["livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] as const) {
        if (container[field] !== undefined)
          errors.push(forbidden(child(at, field), "may not be set for init containers without restartPolicy=Always"));
      }
    }
  }
  if (!spec.restartPolicy) errors.push(required(`${path}.restartPolicy`));
  else if (!["Always", "OnFailure", "Never"].includes(spec.restartPolicy)) {
    errors.push(notSupported(`${path}.restartPolicy`, spec.restartPolicy, ["Always", "OnFailure", "Never"]));
  }
  const dns = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
  if (!spec.dnsPolicy) errors.push(required(`${path}.dnsPolicy`));
  else if (!dns.includes(spec.dnsPolicy)) errors.push(notSupported(`${path}.dnsPolicy`, spec.dnsPolicy, dns));
  if (spec.dnsPolicy === "None" && !spec.dnsConfig?.nameservers?.length) {
    errors.push(
      required(`${path}.dnsConfig.nameservers`, "must provide at least one DNS nameserver when `dnsPolicy` is None"),
    );
  }
  const grace = spec.terminationGracePeriodSeconds;
  if (grace !== undefined && grace < 0)
    errors.push(invalidValue(`${path}.terminationGracePeriodSeconds`, grace, "must be greater than or equal to 0"));
  const deadline = spec.activeDeadlineSeconds;
  if (deadline !== undefined && (deadline < 1 || deadline > 2147483647)) {
    errors.push(invalidValue(`${path}.activeDeadlineSeconds`, deadline, "must be between 1 and 2147483647, inclusive"));
  }
  if (spec.serviceAccountName) {
    for (const problem of dnsSubdomainProblems(spec.serviceAccountName))
      errors.push(invalidValue(`${path}.serviceAccountName`, spec.serviceAccountName, problem));
  }
  if (spec.nodeName) {
    for (const problem of dnsSubdomainProblems(spec.nodeName))
      errors.push(invalidValue(`${path}.nodeName`, spec.nodeName, problem));
  }
  if (spec.hostname)
    for (const problem of dnsLabelProblems(spec.hostname))
      errors.push(invalidValue(`${path}.hostname`, spec.hostname, problem));
  if (spec.subdomain)
    for (const problem of dnsLabelProblems(spec.subdomain))
      errors.push(invalidValue(`${path}.subdomain`, spec.subdomain, problem));
  errors.push(...validateLabels(spec.nodeSelector, `${path}.nodeSelector`));
  for (const [index, toleration] of (spec.tolerations ?? []).entries()) {
    const at = `${path}.tolerations[${index}]`;
    const operator = toleration.operator ?? "Equal";
    if (!["Equal", "Exists", "Lt", "Gt"].includes(operator))
      errors.push(notSupported(`${at}.operator`, operator, ["Equal", "Exists"]));
    if (!toleration.key && operator !== "Exists") {
      errors.push(
        invalidValue(
          `${at}.operator`,
          toleration.operator ?? "",
          'operator must be Exists when `key` is empty, which means "match all values and all keys"',
        ),
      );
    }
    if (operator === "Exists" && toleration.value)
      errors.push(invalidValue(`${at}.operator`, toleration, "value must be empty when `operator` is 'Exists'"));
    if (operator === "Equal")
      for (const problem of labelValueProblems(toleration.value ?? ""))
        errors.push(invalidValue(`${at}.operator`, toleration.value, problem));
    if (toleration.effect && !["NoSchedule", "PreferNoSchedule", "NoExecute"].includes(toleration.effect)) {
      errors.push(notSupported(`${at}.effect`, toleration.effect, ["NoSchedule", "PreferNoSchedule", "NoExecute"]));
    }
  }
  return errors;
}

function validateContainer(
  container: Container,
  path: string,
  names: Set<string>,
  volumes: ReadonlySet<string>,
  hostPorts: Set<string>,
  spec: PodSpec,
): FieldError[] {
  const errors: FieldError[] = [];
  if (!container.name) errors.push(required(child(path, "name")));
  else {
    for (const problem of dnsLabelProblems(container.name))
      errors.push(invalidValue(child(path, "name"), container.name, problem));
    if (names.has(container.name)) errors.push(duplicate(child(path, "name"), container.name));
    names.add(container.name);
  }
  if (!container.image) errors.push(required(child(path, "image")));
  else if (container.image !== container.image.trim()) {
    errors.push(invalidValue(child(path, "image"), container.image, "must not have leading or trailing whitespace"));
  }
  const portNames = new Set<string>();
  for (const [index, port] of (container.ports ?? []).entries()) {
    errors.push(
      ...validateContainerPort(port, `${path}.ports[${index}]`, portNames, hostPorts, spec.hostNetwork === true),
    );
  }
  for (const [index, variable] of (container.env ?? []).entries())
    errors.push(...validateEnv(variable, `${path}.env[${index}]`));
  for (const [index, source] of (container.envFrom ?? []).entries()) {
    const at = `${path}.envFrom[${index}]`;
    const count = Number(source.configMapRef !== undefined) + Number(source.secretRef !== undefined);
    if (count === 0) errors.push(invalidValue(at, "", "must specify one of: `configMapRef` or `secretRef`"));
    if (count > 1) errors.push(invalidValue(at, "", "may not have more than one field specified at a time"));
    if (source.configMapRef && !source.configMapRef.name) errors.push(required(`${at}.configMapRef.name`));
    if (source.secretRef && !source.secretRef.name) errors.push(required(`${at}.secretRef.name`));
  }
  const mounts = new Set<string>();
  for (const [index, mount] of (container.volumeMounts ?? []).entries()) {
    const at = `${path}.volumeMounts[${index}]`;
    if (!mount.name) errors.push(required(`${at}.name`));
    else if (!volumes.has(mount.name)) errors.push(notFound(`${at}.name`, mount.name));
    if (!mount.mountPath) errors.push(required(`${at}.mountPath`));
    if (mount.mountPath && mounts.has(mount.mountPath))
      errors.push(invalidValue(`${at}.mountPath`, mount.mountPath, "must be unique"));
    mounts.add(mount.mountPath);
  }
  for (const field of ["livenessProbe", "readinessProbe", "startupProbe"] as const) {
    const probe = container[field];
    if (!probe) continue;
    errors.push(...validateProbe(probe, child(path, field)));
    if (field !== "readinessProbe" && probe.successThreshold !== undefined && probe.successThreshold !== 1) {
      errors.push(invalidValue(`${path}.${field}.successThreshold`, probe.successThreshold, "must be 1"));
    }
  }
  errors.push(...validateResources(container.resources, child(path, "resources")));
  const policies = ["Always", "IfNotPresent", "Never"];
  if (!container.imagePullPolicy) errors.push(required(child(path, "imagePullPolicy")));
  else if (!policies.includes(container.imagePullPolicy))
    errors.push(notSupported(child(path, "imagePullPolicy"), container.imagePullPolicy, policies));
  const terminations = ["File", "FallbackToLogsOnError"];
  if (!container.terminationMessagePolicy) errors.push(required(child(path, "terminationMessagePolicy")));
  else if (!terminations.includes(container.terminationMessagePolicy)) {
    errors.push(
      notSupported(child(path, "terminationMessagePolicy"), container.terminationMessagePolicy, terminations),
    );
  }
  return errors;
}

function validateResources(resources: Container["resources"], path: string): FieldError[] {
  const errors: FieldError[] = [];
  for (const list of ["limits", "requests"] as const) {
    for (const [name, text] of Object.entries(resources?.[list] ?? {})) {
      const quantity = parseQuantity(text);
      if (quantity && quantity.nano < 0n) {
        errors.push(invalidValue(`${path}.${list}[${name}]`, text, "must be greater than or equal to 0"));
      }
      const limit = resources?.limits?.[name];
      const most = limit === undefined ? undefined : parseQuantity(limit);
      if (list === "requests" && quantity && most && quantity.nano > most.nano) {
        errors.push(invalidValue(`${path}.requests`, text, `must be less than or equal to ${name} limit of ${limit}`));
      }
    }
  }
  return errors;
}

function validateContainerPort(
  port: ContainerPort,
  path: string,
  names: Set<string>,
  hostPorts: Set<string>,
  hostNetwork: boolean,
): FieldError[] {
  const errors: FieldError[] = [];
  if (port.name) {
    const problems = portNameProblems(port.name);
    for (const problem of problems) errors.push(invalidValue(`${path}.name`, port.name, problem));
    if (problems.length === 0 && names.has(port.name)) errors.push(duplicate(`${path}.name`, port.name));
    names.add(port.name);
  }
  if (!port.containerPort) errors.push(required(`${path}.containerPort`));
  else
    for (const problem of portProblems(port.containerPort))
      errors.push(invalidValue(`${path}.containerPort`, port.containerPort, problem));
  if (port.hostPort) {
    for (const problem of portProblems(port.hostPort))
      errors.push(invalidValue(`${path}.hostPort`, port.hostPort, problem));
    if (hostNetwork && port.hostPort !== port.containerPort) {
      errors.push(
        invalidValue(`${path}.containerPort`, port.containerPort, "must match `hostPort` when `hostNetwork` is true"),
      );
    }
    const id = `${port.protocol}/${port.hostIP ?? ""}/${port.hostPort}`;
    if (hostPorts.has(id)) errors.push(duplicate(`${path}.hostPort`, id));
    hostPorts.add(id);
  }
  if (!port.protocol) errors.push(required(`${path}.protocol`));
  else if (!["SCTP", "TCP", "UDP"].includes(port.protocol))
    errors.push(notSupported(`${path}.protocol`, port.protocol, ["SCTP", "TCP", "UDP"]));
  return errors;
}

function validateEnv(variable: EnvVar, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (!variable.name) errors.push(required(`${path}.name`));
  else
    for (const problem of envVarNameProblems(variable.name))
      errors.push(invalidValue(`${path}.name`, variable.name, problem));
  const from = variable.valueFrom;
  if (!from) return errors;
  const at = `${path}.valueFrom`;
  const given = Object.entries(from).filter(([, value]) => value !== undefined);
  if (given.length === 0) {
    errors.push(
      invalidValue(
        at,
        "",
        "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
      ),
    );
  } else if (variable.value) errors.push(invalidValue(at, "", "may not be specified when `value` is not empty"));
  else if (given.length > 1) errors.push(invalidValue(at, "", "may not have more than one field specified at a time"));
  for (const source of ["configMapKeyRef", "secretKeyRef"] as const) {
    const ref = from[source];
    if (!ref) continue;
    if (!ref.name) errors.push(required(`${at}.${source}.name`));
    if (!ref.key) errors.push(required(`${at}.${source}.key`));
  }
  if (from.fieldRef && !from.fieldRef.fieldPath) errors.push(required(`${at}.fieldRef.fieldPath`));
  return errors;
}

const handlers = ["exec", "httpGet", "tcpSocket", "grpc"] as const;

function validateProbe(probe: Probe, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const given = handlers.filter((one) => probe[one] !== undefined);
  if (given.length === 0) errors.push(required(path, "must specify a handler type"));
  for (const extra of given.slice(1))
    errors.push(forbidden(`${path}.${extra}`, "may not specify more than 1 handler type"));
  if (given[0] === "exec" && !probe.exec?.command?.length) errors.push(required(`${path}.exec.command`));
  const port = probe.httpGet?.port ?? probe.tcpSocket?.port;
  if ((given[0] === "httpGet" || given[0] === "tcpSocket") && port !== undefined) {
    const at = `${path}.${given[0]}.port`;
    if (typeof port === "number")
      for (const problem of portProblems(port)) errors.push(invalidValue(at, port, problem));
    else for (const problem of portNameProblems(port)) errors.push(invalidValue(at, port, problem));
  }
  for (const field of [
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
  ] as const) {
    const value = probe[field];
    if (value !== undefined && value < 0)
      errors.push(invalidValue(`${path}.${field}`, value, "must be greater than or equal to 0"));
  }
  return errors;
}

function validateVolume(volume: Volume, path: string, names: Set<string>): FieldError[] {
  const errors: FieldError[] = [];
  if (!volume.name) errors.push(required(`${path}.name`));
  else {
    for (const problem of dnsLabelProblems(volume.name))
      errors.push(invalidValue(`${path}.name`, volume.name, problem));
    if (names.has(volume.name)) errors.push(duplicate(`${path}.name`, volume.name));
    names.add(volume.name);
  }
  const sources = Object.keys(volume).filter(
    (field) => field !== "name" && volume[field as keyof Volume] !== undefined,
  );
  for (const extra of sources.slice(1))
    errors.push(forbidden(`${path}.${extra}`, "may not specify more than 1 volume type"));
  if (volume.configMap && !volume.configMap.name) errors.push(required(`${path}.configMap.name`));
  if (volume.secret && !volume.secret.secretName) errors.push(required(`${path}.secret.secretName`));
  if (volume.persistentVolumeClaim && !volume.persistentVolumeClaim.claimName)
    errors.push(required(`${path}.persistentVolumeClaim.claimName`));
  if (volume.hostPath && !volume.hostPath.path) errors.push(required(`${path}.hostPath.path`));
  return errors;
}

const updatable =
  "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/** A running pod changes in few places only. */
export function validatePodUpdate(pod: Pod, old: Pod, subresource?: string): FieldError[] {
  const errors: FieldError[] = [];
  if (subresource === "resize" || subresource === "ephemeralcontainers") return errors;
  const [now, was] = [pod.spec, old.spec];
  if (!now || !was) return errors;
  if ((now.containers?.length ?? 0) !== (was.containers?.length ?? 0)) {
    return [forbidden("spec.containers", "pod updates may not add or remove containers")];
  }
  if ((now.initContainers?.length ?? 0) !== (was.initContainers?.length ?? 0)) {
    return [forbidden("spec.initContainers", "pod updates may not add or remove containers")];
  }
  const removed = (was.tolerations ?? []).filter(
    (one) =>
      !(now.tolerations ?? []).some((other) =>
        equal({ ...one, tolerationSeconds: 0 }, { ...other, tolerationSeconds: 0 }),
      ),
  );
  if (removed.length > 0) {
    errors.push(forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds"));
  }
  const images = (list: readonly Container[] | undefined, from: readonly Container[] | undefined) =>
    list?.map((one, index) => ({ ...one, image: from?.[index]?.image }));
  const munged = {
    ...now,
    containers: images(now.containers, was.containers),
    ...(now.initContainers ? { initContainers: images(now.initContainers, was.initContainers) } : {}),
    activeDeadlineSeconds: was.activeDeadlineSeconds,
    tolerations: was.tolerations,
    terminationGracePeriodSeconds: was.terminationGracePeriodSeconds,
  };
  const clean = (value: unknown) =>
    isRecord(value) ? Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined)) : value;
  if (!equal(clean(munged), clean(was))) errors.push(forbidden("spec", updatable));
  return errors;
}

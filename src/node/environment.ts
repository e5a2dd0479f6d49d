// The environment of a container (pkg/kubelet makeEnvironmentVariables): envFrom, then env in order, with `$(NAME)` expanded from
// what was set before. Names that are no shell names are kept, as kubelets do since 1.34.

import type { Container, Pod } from "../api/kinds.ts";
import { podHostname } from "./hosts-file.ts";
import { type PodFacts, podField, resourceField } from "./pod-fields.ts";
import { configMapData, MissingSource, type PodSources, secretData } from "./pod-sources.ts";

/** Throws a {@link MissingSource} when something that is not optional is not there. */
export function environmentOf(
  pod: Pod,
  container: Container,
  facts: PodFacts,
  sources: PodSources,
): Readonly<Record<string, string>> {
  const namespace = pod.metadata.namespace ?? "default";
  const result: Record<string, string> = { HOSTNAME: podHostname(pod) };
  for (const from of container.envFrom ?? []) {
    const { configMapRef, secretRef } = from;
    const data = configMapRef
      ? configMapData(sources, namespace, configMapRef.name ?? "", configMapRef.optional)
      : secretRef
        ? secretData(sources, namespace, secretRef.name ?? "", secretRef.optional)
        : undefined;
    for (const [key, value] of data ?? []) result[`${from.prefix ?? ""}${key}`] = text(value);
  }
  for (const { name, value, valueFrom } of container.env ?? []) {
    if (!valueFrom) {
      result[name] = expand(value ?? "", result);
      continue;
    }
    const { fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef } = valueFrom;
    let found: string | undefined;
    if (fieldRef) {
      found = podField(pod, facts, fieldRef.fieldPath);
      if (found === undefined) throw new MissingSource(`env ${name}: unsupported fieldPath: ${fieldRef.fieldPath}`);
    } else if (resourceFieldRef) {
      found = resourceField(container, resourceFieldRef.resource, resourceFieldRef.divisor);
    } else if (configMapKeyRef) {
      const { name: of = "", key, optional } = configMapKeyRef;
      found = keyOf(configMapData(sources, namespace, of, optional), key, optional, `ConfigMap ${namespace}/${of}`);
    } else if (secretKeyRef) {
      const { name: of = "", key, optional } = secretKeyRef;
      found = keyOf(secretData(sources, namespace, of, optional), key, optional, `Secret ${namespace}/${of}`);
    }
    if (found !== undefined) result[name] = found;
  }
  return result;
}

/** `$(NAME)` by its value; `$$` is `$`; what is not known stays as it is (third_party/forked/golang/expansion). */
export function expand(text: string, values: Readonly<Record<string, string>>): string {
  return text.replace(/\$(\$|\(([^)]*)\))/g, (whole, sign: string, name: string | undefined) => {
    if (sign === "$") return "$";
    return name !== undefined && Object.hasOwn(values, name) ? values[name]! : whole;
  });
}

function keyOf(
  data: ReadonlyMap<string, Uint8Array> | undefined,
  key: string,
  optional: boolean | undefined,
  where: string,
): string | undefined {
  const value = data?.get(key);
  if (value !== undefined) return text(value);
  if (optional) return undefined;
  throw new MissingSource(`couldn't find key ${key} in ${where}`);
}

function text(value: Uint8Array): string {
  return Buffer.from(value).toString("utf8");
}

// What environment and volumes are made from beside the pod itself: ConfigMaps and Secrets as they are now, looked up without
// waiting. What is not there yet is reported as missing, in the kubelet's words, and looked for again when something comes.

import type { KubeObject } from "../api/object.ts";
import { nameOf } from "../api/object.ts";
import type { Collection } from "../collections/collection.ts";

export interface PodSources {
  readonly configMaps: Collection<KubeObject>;
  readonly secrets: Collection<KubeObject>;
  /** With it, stand-ins also serve the ports that Services send to and pods do not declare. */
  readonly services?: Collection<KubeObject>;
  /** A bound token for a service account (`projected` volumes); without it such files are left out. */
  readonly serviceAccountToken?: (namespace: string, serviceAccount: string, audience: string | undefined) => string;
}

/** Something that a pod refers to and that is not there (yet). */
export class MissingSource extends Error {
  override readonly name = "MissingSource";
}

/** The data of a ConfigMap by key; undefined when there is none and it is optional. Throws a {@link MissingSource}. */
export function configMapData(
  sources: PodSources,
  namespace: string,
  name: string,
  optional: boolean | undefined,
): ReadonlyMap<string, Uint8Array> | undefined {
  const object = sources.configMaps.get(nameOf(namespace, name));
  if (!object) {
    if (optional) return undefined;
    throw new MissingSource(`configmap "${name}" not found`);
  }
  const data = new Map<string, Uint8Array>();
  for (const [key, value] of Object.entries((object["data"] ?? {}) as Record<string, string>)) {
    data.set(key, Buffer.from(value, "utf8"));
  }
  for (const [key, value] of Object.entries((object["binaryData"] ?? {}) as Record<string, string>)) {
    data.set(key, Buffer.from(value, "base64"));
  }
  return data;
}

/** The same for a Secret. */
export function secretData(
  sources: PodSources,
  namespace: string,
  name: string,
  optional: boolean | undefined,
): ReadonlyMap<string, Uint8Array> | undefined {
  const object = sources.secrets.get(nameOf(namespace, name));
  if (!object) {
    if (optional) return undefined;
    throw new MissingSource(`secret "${name}" not found`);
  }
  const data = (object["data"] ?? {}) as Record<string, string>;
  return new Map(Object.entries(data).map(([key, value]) => [key, Buffer.from(value, "base64")]));
}

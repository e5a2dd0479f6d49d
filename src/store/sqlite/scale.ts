// The `scale` subresource: an autoscaling/v1 Scale as a view of the replica count of an object, built-in or custom
// (pkg/registry/apps/*/storage ScaleREST, apiextensions-apiserver customresource scale).

import { valueAt, withValueAt } from "../../api/data.ts";
import type { KubeObject } from "../../api/object.ts";
import { resourceKey } from "../../api/resource.ts";
import type { ScalePaths } from "../../api/scheme.ts";
import { formatLabelSelector } from "../../api/selectors.ts";
import { StatusError } from "../../api/status-error.ts";
import type { ObjectKey } from "../store.ts";
import { begin, type Engine, notFound } from "./engine.ts";

/** Built-in kinds keep replicas where most custom resources do. */
const builtin: ScalePaths = { specReplicasPath: ".spec.replicas", statusReplicasPath: ".status.replicas" };

export function readScale(engine: Engine, key: ObjectKey): KubeObject {
  const object = begin(engine).get(resourceKey(key.resource), key.namespace, key.name);
  if (!object) throw notFound(key.resource, key.name);
  return scaleOf(engine, key, object);
}

export function scaleOf(engine: Engine, key: ObjectKey, object: KubeObject): KubeObject {
  const entry = engine.scheme.entry(key.resource);
  const paths = entry.scale ?? builtin;
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const replicas = valueAt(object, pathOf(paths.specReplicasPath));
  const selector = entry.scale
    ? paths.labelSelectorPath && valueAt(object, pathOf(paths.labelSelectorPath))
    : selectorText(object);
  return {
    kind: "Scale",
    apiVersion: "autoscaling/v1",
    metadata: {
      name,
      ...(namespace ? { namespace } : {}),
      ...(uid ? { uid } : {}),
      ...(resourceVersion ? { resourceVersion } : {}),
      ...(creationTimestamp ? { creationTimestamp } : {}),
    },
    spec: typeof replicas === "number" && replicas !== 0 ? { replicas } : {},
    status: {
      replicas: Number(valueAt(object, pathOf(paths.statusReplicasPath)) ?? 0),
      ...(selector ? { selector } : {}),
    },
  };
}

/** The object with the replica count of a Scale. Throws Invalid for a count below zero. */
export function withScale(engine: Engine, key: ObjectKey, object: KubeObject, scale: KubeObject): KubeObject {
  const replicas: unknown = scale.spec?.replicas ?? 0;
  if (typeof replicas !== "number" || !Number.isInteger(replicas) || replicas < 0) {
    const why = `Invalid value: ${JSON.stringify(replicas)}: must be greater than or equal to 0`;
    throw new StatusError(
      422,
      "Invalid",
      `Scale.autoscaling ${JSON.stringify(key.name)} is invalid: spec.replicas: ${why}`,
      {
        name: key.name,
        group: "autoscaling",
        kind: "Scale",
        causes: [{ reason: "FieldValueInvalid", message: why, field: "spec.replicas" }],
      },
    );
  }
  const paths = engine.scheme.entry(key.resource).scale ?? builtin;
  const next = withValueAt(object, pathOf(paths.specReplicasPath), replicas);
  const { resourceVersion } = scale.metadata ?? {};
  return { ...next, metadata: { ...next.metadata, ...(resourceVersion ? { resourceVersion } : {}) } };
}

function selectorText(object: KubeObject): string | undefined {
  const selector = object.spec?.selector;
  if (!selector) return undefined;
  return formatLabelSelector(selector.matchLabels || selector.matchExpressions ? selector : { matchLabels: selector });
}

/** `.spec.replicas` as a list of names (CRD scale paths have no array notation). */
function pathOf(path: string): string[] {
  return path.replace(/^\./, "").split(".");
}

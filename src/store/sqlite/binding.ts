// `pods/binding`: the scheduler's decision, written once (pkg/registry/core/pod/storage BindingREST).

import type { KubeObject } from "../../api/object.ts";
import { StatusError } from "../../api/status-error.ts";
import type { ObjectKey } from "../store.ts";
import { begin, conflict, type Engine, type EngineWriteOptions, notFound } from "./engine.ts";
import { writeUpdate } from "./write.ts";

export function bindPod(engine: Engine, key: ObjectKey, nodeName: string, options: EngineWriteOptions): KubeObject {
  const { resource, namespace, name } = key;
  const pod = begin(engine).get("pods", namespace, name);
  if (!pod) throw notFound(resource, name);
  if (!nodeName) throw new StatusError(400, "BadRequest", "a Binding needs the name of a node in target.name");
  if (pod.metadata.deletionTimestamp !== undefined) {
    throw conflict(resource, name, `pod ${name} is being deleted, cannot be assigned to a host`);
  }
  if (pod.spec?.nodeName) {
    throw conflict(resource, name, `pod ${name} is already assigned to node ${JSON.stringify(pod.spec.nodeName)}`);
  }
  const conditions = ((pod.status?.conditions ?? []) as readonly { type: string }[]).filter(
    (one) => one.type !== "PodScheduled",
  );
  const bound = {
    ...pod,
    spec: { ...pod.spec, nodeName },
    status: {
      ...pod.status,
      conditions: [
        ...conditions,
        {
          type: "PodScheduled",
          status: "True",
          lastProbeTime: null,
          lastTransitionTime: new Date(engine.clock.now()).toISOString().replace(/\.\d+Z$/, "Z"),
        },
      ],
    },
  };
  return writeUpdate(engine, key, pod, bound, options, "binding");
}

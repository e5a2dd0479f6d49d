// The model at the ports that the network really gives: without privileges, the loopback network serves port p < 1024 at
// p + 8000, for listeners as for pods.

import type { Collection } from "../collections/collection.ts";
import { derive } from "../collections/derive.ts";
import type { ModelCollections } from "../distribution/resource-sets.ts";

/** The same model, with every port that is listened on or connected to replaced by `effectivePort(port)`. */
export function withEffectivePorts(model: ModelCollections, effectivePort: (port: number) => number): ModelCollections {
  const moved = <V extends { readonly port: number }>(value: V): V => {
    const port = effectivePort(value.port);
    return port === value.port ? value : { ...value, port };
  };
  return {
    ...model,
    listeners: derive(model.listeners, moved, { name: "listeners at effective ports", key: (one) => one.name }),
    endpoints: derive(model.endpoints, (one) => ({ ...one, endpoints: one.endpoints.map(moved) }), {
      name: "endpoints at effective ports",
      key: (one) => one.backend,
    }),
  };
}

/** The ports of the model that had to move. */
export function movedPorts(
  listeners: Collection<{ readonly port: number }>,
  effectivePort: (port: number) => number,
): { readonly port: number; readonly effective: number }[] {
  const ports = [...new Set([...listeners.values()].map(({ port }) => port))].sort((a, b) => a - b);
  return ports
    .map((port) => ({ port, effective: effectivePort(port) }))
    .filter(({ port, effective }) => port !== effective);
}

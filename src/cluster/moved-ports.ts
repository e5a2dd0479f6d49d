// Listeners at the ports that the network really gives: without privileges, the loopback network serves port p at p + 8000.

import type { Collection } from "../collections/collection.ts";
import { derive } from "../collections/derive.ts";
import type { Listener } from "../model/model.ts";

/** The same listeners, on `effectivePort(port)`. */
export function withEffectivePorts(
  listeners: Collection<Listener>,
  effectivePort: (port: number) => number,
): Collection<Listener> {
  return derive(
    listeners,
    (listener) => {
      const port = effectivePort(listener.port);
      return port === listener.port ? listener : { ...listener, port };
    },
    { name: "listeners at effective ports", key: (listener) => listener.name },
  );
}

// Tells of node ports that a program on the node listens on, too. kube-proxy reserved node ports by listening on them until 1.23
// and logged what it could not have (kubernetes#108496 ended that); since then, here as there, rules take the connections before
// any program sees them. Nobody would notice but the one who waits in vain, so the Service gets an Event.

import type { Clock } from "../base/clock.ts";
import { type Disposable, disposeAll } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Collection } from "../collections/collection.ts";
import type { ListeningPort } from "../node/netns/listeners.ts";
import type { ServicePort } from "../services/service-table.ts";

/** Milliseconds between looks for programs that came after the Service. */
const lookEvery = 60_000;

export interface NodePortUseOptions {
  readonly table: Collection<ServicePort>;
  readonly node: string;
  /** The ports that programs listen on at the node. */
  readonly listening: () => ReadonlySet<ListeningPort>;
  readonly tell: (service: Pick<ServicePort, "namespace" | "service">, message: string) => void;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Looks when a node port appears and each minute; tells once for as long as it stays so. */
export function watchNodePortUse(options: NodePortUseOptions): Disposable {
  const { table, node, listening, tell, clock, log } = options;
  let told = new Set<string>();
  let asked = false;

  function look(): void {
    asked = false;
    const rows = [...table.values()].filter(({ nodePort }) => nodePort !== undefined);
    if (rows.length === 0) return;
    let ports: ReadonlySet<ListeningPort>;
    try {
      ports = listening();
    } catch (error) {
      log.debug("what listens on the node cannot be read", { error: messageOf(error) });
      return;
    }
    const taken = new Set<string>();
    for (const { protocol, nodePort, namespace, service } of rows) {
      if (!ports.has(`${protocol} ${nodePort}` as ListeningPort)) continue;
      const key = `${namespace}/${service} ${protocol} ${nodePort}`;
      // A row of each family has the same port.
      if (!taken.has(key) && !told.has(key)) {
        tell(
          { namespace, service },
          `node ${node}: a program listens on node port ${nodePort} (${protocol}), too; connections to it go to this Service. ` +
            "Stop the program, or give the Service another nodePort",
        );
      }
      taken.add(key);
    }
    told = taken;
  }

  const following = table.subscribe(
    (batch) => {
      if (
        asked ||
        !batch.some(({ before, after }) => after?.nodePort !== undefined && after.nodePort !== before?.nodePort)
      )
        return;
      asked = true;
      queueMicrotask(look);
    },
    { replay: true },
  );
  return disposeAll([following, clock.every(lookEvery, look)]);
}

// Events are kept for an hour after they last happened, as kube-apiserver does (--event-ttl), so that they do not fill the
// store of a stack that runs for weeks.

import type { KubeObject } from "../../api/object.ts";
import { messageOf } from "../../base/errors.ts";
import { begin, type Engine } from "./engine.ts";

const eventKinds = ["events", "events.events.k8s.io"];
const hour = 3_600_000;

/** Milliseconds between two looks. */
export const expireEvery = 300_000;

/** Removes the events that are over. */
export function expireEvents(engine: Engine): void {
  const before = engine.clock.now() - hour;
  const transaction = begin(engine);
  for (const kind of eventKinds) {
    for (const event of engine.objects.of(kind).list()) {
      if (lastSeen(event) < before) transaction.remove(kind, event.metadata.namespace, event.metadata.name);
    }
  }
  try {
    engine.objects.commit(transaction.changes());
  } catch (error) {
    engine.log.warn("old events could not be removed", { error: messageOf(error) });
  }
}

function lastSeen(event: KubeObject): number {
  const times = [
    event["series"]?.lastObservedTime,
    event["lastTimestamp"],
    event["deprecatedLastTimestamp"],
    event["eventTime"],
    event.metadata.creationTimestamp,
  ];
  return Math.max(0, ...times.filter((time) => typeof time === "string").map((time) => Date.parse(time) || 0));
}

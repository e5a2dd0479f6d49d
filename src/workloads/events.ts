// Events that people read in `kubectl describe`: what a controller did to an object, and why it could not. They are written
// and forgotten: nothing waits for them, nothing reads them back, and one that cannot be written is a log line.

import { Events } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { isStatusReason } from "../api/status-error.ts";
import { formatTime } from "../api/strategy.ts";
import type { Disposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Objects } from "./objects.ts";

export interface Occurrence {
  readonly type: "Normal" | "Warning";
  /** CamelCase, upstream's: `SuccessfulCreate`, `FailedScheduling`. */
  readonly reason: string;
  readonly message: string;
}

export type Recorder = (about: KubeObject, occurrence: Occurrence) => void;

/** The longest message the API takes, in characters (pkg/apis/core/validation/events.go). */
const longestMessage = 1024;

/** A recorder for `component`. */
export function recorder(objects: Pick<Objects, "store" | "clock" | "log">, component: string): Recorder {
  return (about, { type, reason, message }) => {
    const now = objects.clock.now();
    const time = formatTime(now);
    const { namespace = "default", name, uid, resourceVersion } = about.metadata;
    const event: KubeObject = {
      apiVersion: "v1",
      kind: "Event",
      // client-go names events by the object and the time in nanoseconds; uniqueness is all that matters.
      metadata: { name: `${name}.${uniqueSuffix(now)}`, namespace },
      involvedObject: {
        apiVersion: about.apiVersion,
        kind: about.kind,
        namespace: about.metadata.namespace,
        name,
        uid,
        resourceVersion,
      },
      type,
      reason,
      message: message.slice(0, longestMessage),
      source: { component },
      reportingComponent: component,
      reportingInstance: "",
      firstTimestamp: time,
      lastTimestamp: time,
      count: 1,
    };
    objects.store.create(Events, event).catch((error) => {
      objects.log.debug("could not write an event", { about: name, reason, error: messageOf(error) });
    });
  };
}

/** How long Events are kept, in milliseconds (kube-apiserver --event-ttl), how many, and how often this is looked after. */
const eventLife = 60 * 60 * 1000;
const mostEvents = 5_000;
const sweepEvery = 60 * 1000;

/** The Events that are too old or too many, oldest first. */
export function expiredEvents(events: readonly KubeObject[], now: number): readonly KubeObject[] {
  const time = (event: KubeObject) =>
    Date.parse(event["lastTimestamp"] ?? event["eventTime"] ?? event.metadata.creationTimestamp ?? "") || 0;
  const sorted = [...events].sort((a, b) => time(a) - time(b));
  const surplus = Math.max(0, sorted.length - mostEvents);
  return sorted.filter((event, at) => at < surplus || time(event) + eventLife <= now);
}

/** Deletes Events that nobody needs any more; in a real cluster they expire in etcd. */
export function startEventExpiry(objects: Objects): Disposable {
  return objects.clock.every(sweepEvery, () => {
    sweep().catch((error) => objects.log.warn("could not remove old events", { error: messageOf(error) }));
  });

  async function sweep(): Promise<void> {
    const { items } = await objects.store.list(Events);
    for (const event of expiredEvents(items, objects.clock.now())) {
      const { namespace, name } = event.metadata;
      try {
        await objects.store.delete({ resource: Events, namespace, name });
      } catch (error) {
        if (!isStatusReason(error, "NotFound")) throw error;
      }
    }
  }
}

let counter = 0;
function uniqueSuffix(now: number): string {
  counter = (counter + 1) % 0x100000;
  return (BigInt(now) * 0x100000n + BigInt(counter)).toString(16);
}

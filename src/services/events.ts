// Events about Services and what belongs to them: what a controller or a node could not do, for `kubectl describe`. The same
// occurrence again raises the count of the Event that is there (client-go tools/record event aggregation). Nothing waits for
// an Event, and one that cannot be written is a log line.

import { Events } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { isStatusReason } from "../api/status-error.ts";
import { formatTime } from "../api/strategy.ts";
import type { Clock } from "../base/clock.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Store } from "../store/store.ts";

export interface Occurrence {
  readonly type: "Normal" | "Warning";
  /** CamelCase, upstream's where it has one. */
  readonly reason: string;
  readonly message: string;
}

/** What an Event is about. */
export type EventSubject = Pick<KubeObject, "apiVersion" | "kind" | "metadata">;

export type EventRecorder = (about: EventSubject, occurrence: Occurrence) => void;

export interface EventRecorderOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  /** `kube-proxy`, `service-controller`, …: who says it. */
  readonly component: string;
  /** The node it is said from. */
  readonly host?: string;
}

/** The longest message the API takes, in characters (pkg/apis/core/validation/events.go). */
const longestMessage = 1024;
/** Events that may be counted up; client-go's maxLruCacheEntries. */
const mostRemembered = 4096;

interface Remembered {
  readonly namespace: string;
  readonly name: string;
  count: number;
  written: number;
  writing: boolean;
}

export function eventRecorder(options: EventRecorderOptions): EventRecorder {
  const { store, clock, log, component, host } = options;
  const remembered = new Map<string, Remembered>();

  async function write(about: EventSubject, occurrence: Occurrence, event: Remembered): Promise<void> {
    if (event.writing) return;
    event.writing = true;
    try {
      while (event.written < event.count) {
        const count = event.count;
        await writeCount(about, occurrence, event, count);
        event.written = count;
      }
    } catch (error) {
      event.written = event.count;
      log.debug("an event could not be written", { about: event.name, ...occurrence, error: messageOf(error) });
    } finally {
      event.writing = false;
    }
  }

  async function writeCount(about: EventSubject, occurrence: Occurrence, event: Remembered, count: number) {
    const time = formatTime(clock.now());
    if (event.written > 0) {
      try {
        const key = { resource: Events, namespace: event.namespace, name: event.name };
        await store.patch(key, { type: "merge", body: { count, lastTimestamp: time } });
        return;
      } catch (error) {
        if (!isStatusReason(error, "NotFound")) throw error;
        // It expired: what happens now begins a new one.
        event.count = 1;
      }
    }
    const { name, namespace, uid, resourceVersion } = about.metadata;
    await store.create(Events, {
      apiVersion: "v1",
      kind: "Event",
      metadata: { name: event.name, namespace: event.namespace },
      involvedObject: { apiVersion: about.apiVersion, kind: about.kind, namespace, name, uid, resourceVersion },
      type: occurrence.type,
      reason: occurrence.reason,
      message: occurrence.message.slice(0, longestMessage),
      source: { component, ...(host ? { host } : {}) },
      reportingComponent: component,
      reportingInstance: host ?? "",
      firstTimestamp: time,
      lastTimestamp: time,
      count: event.count,
    });
  }

  return (about, occurrence) => {
    const { namespace = "default", name, uid } = about.metadata;
    const key = JSON.stringify([
      about.kind,
      namespace,
      name,
      uid,
      occurrence.type,
      occurrence.reason,
      occurrence.message,
    ]);
    let event = remembered.get(key);
    if (event) {
      event.count++;
      remembered.delete(key);
    } else {
      event = { namespace, name: `${name}.${uniqueSuffix(clock.now())}`, count: 1, written: 0, writing: false };
    }
    remembered.set(key, event);
    if (remembered.size > mostRemembered) remembered.delete(remembered.keys().next().value!);
    void write(about, occurrence, event);
  };
}

let counter = 0;
/** client-go names events by the object and the time in nanoseconds; uniqueness is all that matters. */
function uniqueSuffix(now: number): string {
  counter = (counter + 1) % 0x100000;
  return (BigInt(now) * 0x100000n + BigInt(counter)).toString(16);
}

// Events that people read in `kubectl describe`: what a controller did to an object, and why it could not. They are written
// and forgotten: nothing waits for them, nothing reads them back, and one that cannot be written is a log line.

import { Events } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { formatTime } from "../api/strategy.ts";
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
export function recorder(objects: Objects, component: string): Recorder {
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

let counter = 0;
function uniqueSuffix(now: number): string {
  counter = (counter + 1) % 0x100000;
  return (BigInt(now) * 0x100000n + BigInt(counter)).toString(16);
}

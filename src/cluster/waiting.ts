// Waiting for objects to work: asked by `up`, answered when the last of them is ready, when one of them says no for good, or
// when the time is up. Driven by the collections' batches; nothing is polled.

import type { KubeObject } from "../api/object.ts";
import { nameOf } from "../api/object.ts";
import type { Clock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import type { Collection } from "../collections/collection.ts";
import type { ObjectReference, WaitReport, WaitRequest } from "./control-api.ts";
import { readiness } from "./readiness.ts";

/** A refusal that stands this long, in milliseconds, while nothing changes, will not go away by itself. */
const refusalStands = 1_500;

/** `collectionOf` gives the collection of a kind; kinds that nobody follows count as working. */
export function waitForObjects(
  request: WaitRequest,
  collectionOf: (reference: ObjectReference) => Collection<KubeObject> | undefined,
  clock: Clock,
): Promise<WaitReport> {
  const followed = request.objects.flatMap((reference) => {
    const collection = collectionOf(reference);
    return collection ? [{ reference, collection, key: nameOf(reference.namespace, reference.name) }] : [];
  });
  return new Promise((resolve) => {
    const timers: Disposable[] = [];
    const subscriptions: Disposable[] = [];
    let standing: Disposable | undefined;
    const finish = (problems: readonly string[]) => {
      for (const one of [...timers, ...subscriptions]) one.dispose();
      standing?.dispose();
      resolve({ ready: problems.length === 0, problems });
    };
    const states = () =>
      followed.map(({ reference, collection, key }) => {
        const object = collection.get(key);
        return object ? readiness(object) : { ready: false, why: `${reference.kind} ${key}: it is gone` };
      });
    const problems = () => states().flatMap((state) => (state.ready ? [] : [state.why ?? "not ready"]));
    const look = () => {
      const now = states();
      standing?.dispose();
      standing = undefined;
      if (now.every((state) => state.ready)) return finish([]);
      if (now.some((state) => "refused" in state && state.refused))
        standing = clock.after(refusalStands, () => finish(problems()));
    };
    for (const collection of new Set(followed.map((one) => one.collection))) {
      const keys = new Set(followed.filter((one) => one.collection === collection).map((one) => one.key));
      subscriptions.push(
        collection.subscribe((batch) => {
          if (batch.some((change) => keys.has(change.key))) look();
        }),
      );
    }
    timers.push(clock.after(request.timeoutMilliseconds, () => finish(problems())));
    look();
  });
}

// Writes the status of one pod: one write at a time, all changes of a turn in one, and again on top of what somebody else wrote
// meanwhile. It also keeps the newest version of the object that is known.

import { type Pod, type PodStatus, Pods } from "../api/kinds.ts";
import { describeObject } from "../api/object.ts";
import { isStatusReason } from "../api/status-error.ts";
import { backoff } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { deepEqual } from "../collections/equal.ts";
import type { Store } from "../store/store.ts";

export interface StatusWriterOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  /** The status as it should be, on top of this version of the object. */
  readonly statusOf: (pod: Pod) => PodStatus;
}

/** Attempts for one write; what changes later is written later anyway. */
const mostAttempts = 10;

export class PodStatusWriter {
  pod: Pod;
  readonly #options: StatusWriterOptions;
  #dirty = false;
  #writing: Promise<void> | undefined;
  #stopped = false;

  constructor(pod: Pod, options: StatusWriterOptions) {
    this.pod = pod;
    this.#options = options;
  }

  /** Something that the status says has changed. */
  changed(): void {
    this.#dirty = true;
    if (!this.#stopped) this.#writing ??= this.#writeAll();
  }

  /** No more writes but `last`'s. */
  stop(): void {
    this.#stopped = true;
  }

  /** Writes once more, after `stop`. */
  async last(): Promise<void> {
    await this.#writing;
    await this.#write();
  }

  async #writeAll(): Promise<void> {
    // All that this turn changes is one write.
    await Promise.resolve();
    while (this.#dirty && !this.#stopped) {
      this.#dirty = false;
      await this.#write();
    }
    this.#writing = undefined;
  }

  async #write(): Promise<void> {
    const { store, clock, log, statusOf } = this.#options;
    const { uid, namespace = "default", name } = this.pod.metadata;
    for (let attempt = 0; attempt < mostAttempts; attempt++) {
      const status = statusOf(this.pod);
      if (deepEqual(status, this.pod.status)) return;
      try {
        const wanted = { ...this.pod, status };
        this.pod = (await store.update(Pods, wanted, { subresource: "status", fieldManager: "kubelet" })) as Pod;
        return;
      } catch (error) {
        if (isStatusReason(error, "NotFound")) return;
        if (isStatusReason(error, "Conflict")) {
          const current = await store.get({ resource: Pods, namespace, name });
          if (!current || current.metadata.uid !== uid) return;
          this.pod = current as Pod;
          continue;
        }
        log.error("a pod's status could not be written", { pod: describeObject(this.pod), error: messageOf(error) });
        await new Promise<void>((resolve) => clock.after(backoff(attempt), resolve));
      }
    }
  }
}

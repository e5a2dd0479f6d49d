// Where the logs of pods come from: the node implements this, the API server only passes it on (`pods/log`).

import type { Disposable } from "../base/disposal.ts";

export interface PodLogOptions {
  /** The pod's only container, or its first, when not given; the API server has checked that it exists. */
  readonly container: string;
  readonly follow: boolean;
  readonly previous: boolean;
  readonly timestamps: boolean;
  /** Only lines written at or after this time, milliseconds since the Unix epoch. */
  readonly since?: number;
  /** Only the last so many lines. */
  readonly tailLines?: number;
  /** Stop after so many bytes. */
  readonly limitBytes?: number;
}

export interface PodLogSink {
  /** False: wait for `onDrain` before more. */
  write(chunk: string | Uint8Array): boolean;
  end(): void;
  onDrain(then: () => void): void;
}

export interface PodLogs {
  /**
   * Writes the log into `sink` and ends it (with `follow`, when the container has ended). Disposing stops early. Throws a
   * StatusError when there is nothing to read (the container has not started).
   */
  open(
    pod: { readonly namespace: string; readonly name: string; readonly uid: string },
    options: PodLogOptions,
    sink: PodLogSink,
  ): Disposable;
}

// A watch on an API server that goes on: when the connection ends, as it does now and then, it resumes from the last
// resourceVersion that it saw. It gives up only when it must list again (Expired) or may not or cannot watch at all.

import type { KubeObject } from "../../api/object.ts";
import { StatusError, type StatusReason } from "../../api/status-error.ts";
import { backoff } from "../../base/backoff.ts";
import type { Clock } from "../../base/clock.ts";
import { type Disposable, disposable } from "../../base/disposal.ts";
import { messageOf } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { deepFreeze } from "../freeze.ts";
import type { StoreEvent } from "../store.ts";
import type { ApiClient, RequestOptions } from "./api-client.ts";

export interface RemoteWatchOptions {
  readonly client: ApiClient;
  readonly path: string;
  readonly query: RequestOptions["query"];
  readonly from: string;
  readonly clock: Clock;
  readonly log: Logger;
  readonly on: (event: StoreEvent) => void;
  readonly onError: ((error: Error) => void) | undefined;
}

interface WireEvent {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: KubeObject & { readonly code?: number; readonly reason?: StatusReason; readonly message?: string };
}

/** Milliseconds before a watch that ended in peace is resumed, so that a server that ends each at once is not stormed. */
const pause = 50;

/** Errors after which another try cannot help. */
const final = new Set([400, 401, 403, 404, 405, 410, 422]);

export function remoteWatch(options: RemoteWatchOptions): Disposable {
  const { client, path, clock, log, on } = options;
  const abort = new AbortController();
  let resourceVersion = options.from;
  let failures = 0;
  let retry: Disposable | undefined;

  async function run(): Promise<void> {
    try {
      const query = { ...options.query, watch: true, allowWatchBookmarks: true, resourceVersion };
      const response = await client.send("GET", path, { query, signal: abort.signal });
      for await (const line of lines(response)) {
        if (abort.signal.aborted) return;
        receive(JSON.parse(line) as WireEvent);
      }
      failures = 0;
    } catch (error) {
      if (abort.signal.aborted) return;
      if (error instanceof StatusError && final.has(error.code)) {
        abort.abort();
        options.onError?.(error);
        return;
      }
      failures++;
      log.debug("a watch was interrupted", { path, error: messageOf(error) });
    }
    if (!abort.signal.aborted) retry = clock.after(failures === 0 ? pause : backoff(failures), () => void run());
  }

  function receive({ type, object }: WireEvent): void {
    if (type === "ERROR") {
      throw new StatusError(object.code ?? 500, object.reason ?? "Unknown", object.message ?? "the watch failed");
    }
    failures = 0;
    resourceVersion = object.metadata.resourceVersion ?? resourceVersion;
    if (type === "BOOKMARK") on({ type, resourceVersion });
    else on({ type, object: deepFreeze(object), resourceVersion });
  }

  void run();
  return disposable(() => {
    abort.abort();
    retry?.dispose();
  });
}

/** The lines of a streamed body. */
async function* lines(response: Response): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of response.body ?? []) {
    rest += decoder.decode(chunk as Uint8Array, { stream: true });
    let end = rest.indexOf("\n");
    while (end >= 0) {
      if (end > 0) yield rest.slice(0, end);
      rest = rest.slice(end + 1);
      end = rest.indexOf("\n");
    }
  }
}

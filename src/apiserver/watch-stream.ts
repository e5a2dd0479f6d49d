// Watches over HTTP: one JSON event a line, from a resourceVersion on or with the present state first, bookmarks for those
// who ask, an end after a time, and a bound on what a slow client may leave unread (apiserver endpoints/handlers/watch.go,
// KEP-3157 for sendInitialEvents).

import type { KubeObject } from "../api/object.ts";
import { apiVersionOf } from "../api/resource.ts";
import { StatusError } from "../api/status-error.ts";
import type { StoreEvent } from "../store/store.ts";
import { encodeObject, partialMetadata } from "./answer.ts";
import type { Context, Target } from "./context.ts";
import type { BodyStream, Exchange } from "./exchange.ts";
import { type Accepted, negotiate } from "./negotiate.ts";
import { listOptions, watchRequest } from "./request-options.ts";
import { tableOf } from "./tables.ts";

/** Characters that wait for a client that does not read; after that its watch ends, and it resumes where it was. */
const maxWaiting = 16 * 1024 * 1024;

/** Seconds; kube-apiserver ends watches after 30 to 60 minutes (--min-request-timeout). */
const minTimeout = 1800;

type Type = "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";

export async function serveWatch(context: Context, exchange: Exchange, target: Target): Promise<void> {
  const accepted = negotiate(exchange.header("accept"), exchange.query, {
    transforms: ["Table", "PartialObjectMetadata"],
    formats: ["json"],
  });
  const wanted = watchRequest(exchange);
  const { store, clock } = context;
  const { resource } = target;
  const named = target.name === undefined ? undefined : `metadata.name=${target.name}`;
  const asked = listOptions(exchange, target.namespace);
  const fields = [asked.fieldSelector, named].filter((text) => text !== undefined).join(",");
  const selection = { ...asked, fieldSelector: fields || undefined, limit: undefined, continue: undefined };
  const fromNow = asked.resourceVersion === undefined || asked.resourceVersion === "0";
  const initial = exchange.query.has("sendInitialEvents") ? wanted.sendInitialEvents : fromNow;

  const encode = encoder(context, exchange, target, accepted);
  const lines = new Lines();
  let from = asked.resourceVersion ?? "0";
  let expired: StatusError | undefined;
  if (initial || fromNow) {
    const snapshot = await store.list(resource, {
      ...selection,
      resourceVersion: undefined,
      resourceVersionMatch: undefined,
    });
    from = snapshot.resourceVersion;
    if (initial) for (const object of snapshot.items) lines.add(encode("ADDED", object));
    if (wanted.sendInitialEvents && wanted.allowBookmarks) lines.add(encode("BOOKMARK", bookmark(target, from, true)));
  }

  const on = (event: StoreEvent) => {
    if (event.type !== "BOOKMARK") lines.add(encode(event.type, event.object));
    else if (wanted.allowBookmarks) lines.add(encode("BOOKMARK", bookmark(target, event.resourceVersion, false)));
  };
  const onError = (error: Error) => {
    lines.add(encodeStatus(error));
    lines.end();
  };
  let subscription: { dispose(): void } = { dispose() {} };
  try {
    subscription = store.watch(resource, from, on, { ...selection, onError });
  } catch (error) {
    if (!(error instanceof StatusError) || error.reason !== "Expired") throw error;
    expired = error;
  }
  const stream = exchange.stream(200, "application/json");
  lines.to(stream);
  if (expired) {
    lines.add(encodeStatus(expired));
    lines.end();
    return;
  }
  const seconds = wanted.timeoutSeconds || minTimeout * (1 + Math.random());
  const timeout = clock.after(seconds * 1000, () => lines.end());
  await new Promise<void>((resolve) => exchange.onClose(resolve));
  timeout.dispose();
  subscription.dispose();
}

type Encode = (type: Type, object: KubeObject) => string;

function encoder(context: Context, exchange: Exchange, target: Target, accepted: Accepted): Encode {
  const line = (type: Type, json: string) => `{"type":"${type}","object":${json}}\n`;
  if (accepted.as === "Table") {
    let columnsSent = false;
    return (type, object) => {
      const metadata = { resourceVersion: object.metadata.resourceVersion };
      const items = type === "BOOKMARK" ? [] : [object];
      const table = tableOf(context, exchange, target.resource, items, metadata, !columnsSent);
      columnsSent = true;
      return line(type, JSON.stringify(table));
    };
  }
  if (accepted.as) return (type, object) => line(type, JSON.stringify(partialMetadata(object)));
  return (type, object) => line(type, encodeObject(object));
}

function encodeStatus(error: Error): string {
  const status = error instanceof StatusError ? error : new StatusError(500, "InternalError", error.message);
  return `{"type":"ERROR","object":${JSON.stringify(status.toStatus())}}\n`;
}

function bookmark(target: Target, resourceVersion: string, endOfInitial: boolean): KubeObject {
  const metadata = {
    resourceVersion,
    creationTimestamp: null,
    ...(endOfInitial ? { annotations: { "k8s.io/initial-events-end": "true" } } : {}),
  } as unknown as KubeObject["metadata"];
  return { kind: target.resource.kind, apiVersion: apiVersionOf(target.resource), metadata };
}

/** Lines on their way to a client: those of one turn are sent together; more than a bound are not kept. */
class Lines {
  #waiting: string[] = [];
  #size = 0;
  #stream: BodyStream | undefined;
  #blocked = false;
  #planned = false;
  #ending = false;
  #ended = false;

  to(stream: BodyStream): void {
    this.#stream = stream;
    stream.onDrain(() => {
      this.#blocked = false;
      this.#flush();
    });
    this.#flush();
  }

  add(line: string): void {
    if (this.#ending) return;
    this.#waiting.push(line);
    this.#size += line.length;
    if (this.#stream && this.#blocked && this.#size > maxWaiting) {
      this.#ending = true;
      this.#ended = true;
      this.#waiting = [];
      this.#stream.reset();
      return;
    }
    if (this.#planned) return;
    this.#planned = true;
    queueMicrotask(() => {
      this.#planned = false;
      this.#flush();
    });
  }

  /** Ends after what is waiting. */
  end(): void {
    this.#ending = true;
    this.#flush();
  }

  #flush(): void {
    if (!this.#stream || this.#blocked || this.#ended) return;
    if (this.#waiting.length > 0) {
      const text = this.#waiting.join("");
      this.#waiting = [];
      this.#size = 0;
      this.#blocked = !this.#stream.write(text);
    }
    if (this.#ending && !this.#ended) {
      this.#ended = true;
      this.#stream.end();
    }
  }
}

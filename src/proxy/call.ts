// The proxy's own requests to its backends: questions of filters (authorization, rate limits), key sets, error pages, and
// mirrored copies. One try, on a connection of the backend's pools, with a timeout and a bounded answer; it can be given up.

import type { BackendName, HeaderValue } from "../model/model.ts";
import { Deadline, type Deadlines } from "./deadlines.ts";
import type { Repeat, RequestHead, ResponseHead, UpstreamEvents } from "./exchange.ts";
import { HeaderBlock, hopByHopNames } from "./headers.ts";
import type { Reason } from "./reason.ts";
import type { BackendRuntime } from "./upstream/backend.ts";
import type { Waiter } from "./upstream/pool.ts";
import { inTurn } from "./wire.ts";

/** Who has the connections, and the timers. */
export interface CallRuntime {
  readonly backends: { get(name: BackendName): Pick<BackendRuntime, "acquire" | "forget"> };
  readonly deadlines: Deadlines;
}

export interface CallRequest {
  readonly backend: BackendName;
  readonly method: string;
  readonly scheme: "http" | "https";
  readonly authority: string;
  /** With its query. */
  readonly path: string;
  /** Names in lower case. Framing is the call's own business. */
  readonly headers: readonly HeaderValue[];
  readonly body?: readonly Buffer[];
  /** Milliseconds from now to the end of the answer. */
  readonly timeout: number;
  /** Longer answers are a failure; "discard" reads any and keeps none. */
  readonly maxBytes: number | "discard";
}

export interface CallAnswer {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: readonly (readonly [string, string])[];
  readonly body: Buffer;
  readonly trailers: readonly (readonly [string, string])[];
}

/** An answer, or why there is none. Called once, maybe before `call` returns; not after `cancel`. */
export type CallEnd = (end: CallAnswer | Reason) => void;

export interface Call {
  cancel(): void;
}

export function call(runtime: CallRuntime, request: CallRequest, end: CallEnd): Call {
  const underWay = new CallUnderWay(runtime, request, end);
  inTurn(() => underWay.start());
  return underWay;
}

const framing = new Set([...hopByHopNames, "content-length", "host", "expect"]);

class CallUnderWay extends Deadline implements Call, Waiter, UpstreamEvents {
  readonly #runtime: CallRuntime;
  readonly #request: CallRequest;
  #end: CallEnd | undefined;
  #connection: Parameters<Waiter["connected"]>[0] | undefined = undefined;
  #again = true;
  #head: Pick<CallAnswer, "status" | "headers"> | undefined = undefined;
  #body: Buffer[] = [];
  #bytes = 0;

  constructor(runtime: CallRuntime, request: CallRequest, end: CallEnd) {
    super();
    this.#runtime = runtime;
    this.#request = request;
    this.#end = end;
  }

  start(): void {
    this.#runtime.deadlines.arm(this, this.#request.timeout);
    this.#acquire();
  }

  #acquire(): void {
    const problem = this.#runtime.backends.get(this.#request.backend).acquire(this, undefined);
    if (problem) this.#finish(problem);
  }

  connected(connection: Parameters<Waiter["connected"]>[0]): void {
    this.#connection = connection;
    const { body = [], headers } = this.#request;
    const block = new HeaderBlock();
    for (const { name, value } of headers) {
      if (!framing.has(name) || (name === "te" && value === "trailers")) block.add(name, value);
    }
    const length = body.reduce((sum, chunk) => sum + chunk.length, 0);
    if (length > 0 || this.#request.method === "POST") block.add("content-length", String(length));
    const head: RequestHead = {
      method: this.#request.method,
      scheme: this.#request.scheme,
      authority: this.#request.authority,
      path: this.#request.path,
      query: undefined,
      headers: block,
      hostKept: false,
      length,
      upgrade: undefined,
      source: "",
    };
    connection.begin(this);
    connection.send(head);
    // Bodies of calls are bounded by their makers, so what the connection does not take at once may wait in it.
    for (const chunk of body) connection.write(chunk, 0, chunk.length);
    connection.end();
  }

  notConnected(reason: Reason): void {
    this.#finish(reason);
  }

  informed(): void {}

  responded(head: ResponseHead): void {
    this.#head = { status: head.status, headers: head.headers.entries() };
  }

  responseData(chunk: Buffer, start: number, end: number): boolean {
    const { maxBytes } = this.#request;
    if (maxBytes === "discard") return true;
    this.#bytes += end - start;
    if (this.#bytes > maxBytes) this.#giveUp("upstream_malformed");
    else this.#body.push(chunk.subarray(start, end));
    return true;
  }

  responseEnd(trailers: HeaderBlock | undefined): void {
    this.#connection = undefined;
    const head = this.#head!;
    this.#finish({ ...head, body: Buffer.concat(this.#body), trailers: trailers?.entries() ?? [] });
  }

  upstreamFailed(reason: Reason, repeat: Repeat): void {
    this.#connection = undefined;
    // A kept connection that the backend had closed: nothing was asked yet.
    if (repeat !== "never" && this.#again) {
      this.#again = false;
      this.#acquire();
    } else this.#finish(reason);
  }

  upstreamDrained(): void {}

  expired(): void {
    this.#giveUp("request_timeout");
  }

  cancel(): void {
    this.#end = undefined;
    this.#giveUp("client_closed");
  }

  #giveUp(reason: Reason): void {
    this.#runtime.backends.get(this.#request.backend).forget(this);
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.cancel();
    this.#finish(reason);
  }

  #finish(result: CallAnswer | Reason): void {
    if (this.wheel) this.#runtime.deadlines.disarm(this);
    const end = this.#end;
    this.#end = undefined;
    end?.(result);
  }
}

// Copies of requests that nobody waits for: sent when the request has been read whole, answered into nothing. Bounded, so that a
// slow mirror costs the client and the proxy nothing: long bodies and too many copies at a time are left out and counted.

import { BodyStage } from "../body-stage.ts";
import { type CallRequest, call } from "../call.ts";
import type { Filter } from "../filter.ts";
import type { HeaderBlock } from "../headers.ts";

/** Bytes of one body that are kept for its copy, and copies under way of one filter. */
const maxBody = 1024 * 1024;
const maxUnderWay = 256;
const timeout = 15_000;

export const mirror: Filter<"mirror"> = {
  kind: "mirror",
  compile({ backend, perMillion, hostSuffix }, runtime) {
    let underWay = 0;
    const send = (request: CallRequest) => {
      // From here the copy lives on its own, whatever becomes of its request.
      runtime.clock.after(0, () => {
        call(runtime, request, () => {
          underWay--;
        });
      });
    };
    return {
      request(head, exchange) {
        if (head.upgrade !== undefined || head.length > maxBody) return undefined;
        if (perMillion < 1_000_000 && runtime.random() * 1_000_000 >= perMillion) return undefined;
        if (underWay >= maxUnderWay) return undefined;
        underWay++;
        const copy: CallRequest = {
          backend,
          method: head.method,
          scheme: head.scheme,
          authority: hostSuffix === undefined ? head.authority : withSuffix(head.authority, hostSuffix),
          path: head.query === undefined ? head.path : `${head.path}?${head.query}`,
          headers: head.headers.entries().map(([name, value]) => ({ name, value })),
          timeout,
          maxBytes: "discard",
        };
        if (head.length === 0) send(copy);
        else
          exchange.putRequestStage(
            new Copying((body) => {
              if (body) send({ ...copy, body });
              else underWay--;
            }),
          );
        return undefined;
      },
    };
  },
};

/** `shop.example.com:8080` with `-shadow`: `shop.example.com-shadow:8080`. */
export function withSuffix(authority: string, suffix: string): string {
  const port = /:\d+$/.exec(authority)?.[0] ?? "";
  return `${authority.slice(0, authority.length - port.length)}${suffix}${port}`;
}

class Copying extends BodyStage {
  #then: ((body: readonly Buffer[] | undefined) => void) | undefined;
  #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(then: (body: readonly Buffer[] | undefined) => void) {
    super();
    this.#then = then;
  }

  override write(chunk: Buffer, start: number, end: number): boolean {
    if (this.#then) {
      this.#bytes += end - start;
      // A copy of its own: who writes on may reuse what it has sent.
      if (this.#bytes <= maxBody) this.#chunks.push(Buffer.from(chunk.subarray(start, end)));
      else this.#finish(undefined);
    }
    return this.next.write(chunk, start, end);
  }

  override end(trailers?: HeaderBlock): void {
    this.#finish(this.#chunks);
    this.next.end(trailers);
  }

  override cancel(): void {
    this.#finish(undefined);
  }

  #finish(body: readonly Buffer[] | undefined): void {
    const then = this.#then;
    this.#then = undefined;
    this.#chunks = [];
    then?.(body);
  }
}

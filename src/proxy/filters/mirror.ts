// Copies of requests that nobody waits for: sent when the request has been read whole, answered into nothing. Bounded, so that a
// slow mirror costs the client and the proxy nothing: of long bodies and of too many at a time no copies are made. Nor of requests that
// go round in circles: each round would double them, until there are more than the proxy can have, long before they are refused.

import { joinTarget } from "../../model/path.ts";
import { BodyStage } from "../body-stage.ts";
import { type CallRequest, call } from "../call.ts";
import type { Filter } from "../filter.ts";
import type { HeaderBlock } from "../headers.ts";

/** Bytes of one body that are kept for its copy; of all bodies and copies under way of one filter. */
const maxBody = 1024 * 1024;
const maxBytes = 32 * 1024 * 1024;
const maxUnderWay = 256;
const timeout = 15_000;
/**
 * Addresses in x-forwarded-for at which no copy is made: of all hops, and of the one that was the last. Where rounds are not refused
 * before the 32nd (`forwarded.ts`), that is at most 8 and 256 requests at once for each that came.
 */
const maxSameHops = 3;
const maxHops = 8;

export const mirror: Filter<"mirror"> = {
  kind: "mirror",
  compile({ backend, perMillion, hostSuffix, host, path, withoutBody }, runtime) {
    let underWay = 0;
    let bytes = 0;
    const counts = () => runtime.backends.get(backend).copies;
    const send = (request: CallRequest, length: number) => {
      // From here the copy lives on its own, whatever becomes of its request.
      runtime.clock.after(0, () => {
        call(runtime, request, (end) => {
          counts()[typeof end === "string" ? "failed" : "answered"]++;
          underWay--;
          bytes -= length;
        });
      });
    };
    return {
      request(head, exchange) {
        if (head.upgrade !== undefined) return undefined;
        if (perMillion < 1_000_000 && runtime.random() * 1_000_000 >= perMillion) return undefined;
        if (
          (!withoutBody && head.length > maxBody) ||
          underWay >= maxUnderWay ||
          goesRound(head.headers.get("x-forwarded-for"))
        ) {
          counts().left_out++;
          return undefined;
        }
        underWay++;
        const copy: CallRequest = {
          backend,
          method: head.method,
          scheme: head.scheme,
          authority: host ?? (hostSuffix === undefined ? head.authority : withSuffix(head.authority, hostSuffix)),
          path: joinTarget(path ?? head.path, head.query),
          headers: head.headers.entries().map(([name, value]) => ({ name, value })),
          timeout,
          maxBytes: "discard",
        };
        if (withoutBody || head.length === 0) {
          send(copy, 0);
          return undefined;
        }
        const takes = (length: number) => {
          if (bytes + length > maxBytes) return false;
          bytes += length;
          return true;
        };
        const whole = (body: readonly Buffer[], length: number) => send({ ...copy, body }, length);
        const left = (length: number) => {
          counts().left_out++;
          underWay--;
          bytes -= length;
        };
        exchange.putRequestStage(new Copying(takes, whole, left));
        return undefined;
      },
    };
  },
};

/** Whether a request that has passed these hops may have been here before, and more than once. */
export function goesRound(hops: string | undefined): boolean {
  if (hops === undefined) return false;
  const addresses = hops.split(",", maxHops).map((address) => address.trim());
  const last = addresses.at(-1);
  return addresses.length >= maxHops || addresses.filter((address) => address === last).length >= maxSameHops;
}

/** `shop.example.com:8080` with `-shadow`: `shop.example.com-shadow:8080`. */
export function withSuffix(authority: string, suffix: string): string {
  const port = /:\d+$/.exec(authority)?.[0] ?? "";
  return `${authority.slice(0, authority.length - port.length)}${suffix}${port}`;
}

class Copying extends BodyStage {
  readonly #takes: (length: number) => boolean;
  readonly #whole: (body: readonly Buffer[], length: number) => void;
  readonly #left: (length: number) => void;
  #chunks: Buffer[] | undefined = [];
  #bytes = 0;

  /** One of `whole` and `left` is called once; both are told how much `takes` has let in. */
  constructor(
    takes: (length: number) => boolean,
    whole: (body: readonly Buffer[], length: number) => void,
    left: (length: number) => void,
  ) {
    super();
    this.#takes = takes;
    this.#whole = whole;
    this.#left = left;
  }

  override write(chunk: Buffer, start: number, end: number): boolean {
    const length = end - start;
    if (this.#chunks) {
      if (this.#bytes + length <= maxBody && this.#takes(length)) {
        this.#bytes += length;
        // A copy: a piece may lie in a much larger buffer, which would live as long.
        this.#chunks.push(Buffer.from(chunk.subarray(start, end)));
      } else this.cancel();
    }
    return this.next.write(chunk, start, end);
  }

  override end(trailers?: HeaderBlock): void {
    const chunks = this.#chunks;
    this.#chunks = undefined;
    if (chunks) this.#whole(chunks, this.#bytes);
    this.next.end(trailers);
  }

  override cancel(): void {
    if (this.#chunks) this.#left(this.#bytes);
    this.#chunks = undefined;
  }
}

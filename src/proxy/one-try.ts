// One try of a request whose answer may not be wanted: its events go to the exchange, or to who keeps it while it is late, until it
// is dismissed. Then the rest of the answer goes nowhere, so that a short one leaves its connection usable.

import type { Repeat, ResponseHead, UpstreamEvents } from "./exchange.ts";
import type { HeaderBlock } from "./headers.ts";
import type { Reason } from "./reason.ts";

export class OneTry implements UpstreamEvents {
  #to: UpstreamEvents | undefined;

  constructor(to: UpstreamEvents) {
    this.#to = to;
  }

  goTo(events: UpstreamEvents): void {
    this.#to = events;
  }

  dismiss(): void {
    this.#to = undefined;
  }

  informed(head: ResponseHead): void {
    this.#to?.informed(head);
  }

  responded(head: ResponseHead): void {
    this.#to?.responded(head);
  }

  responseData(chunk: Buffer, start: number, end: number): boolean {
    return this.#to?.responseData(chunk, start, end) ?? true;
  }

  responseEnd(trailers: HeaderBlock | undefined): void {
    this.#to?.responseEnd(trailers);
  }

  responseHalfEnd(): void {
    this.#to?.responseHalfEnd?.();
  }

  upstreamFailed(reason: Reason, repeat: Repeat): void {
    this.#to?.upstreamFailed(reason, repeat);
  }

  upstreamDrained(): void {
    this.#to?.upstreamDrained();
  }
}

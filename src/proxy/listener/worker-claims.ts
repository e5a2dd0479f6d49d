// Claims of a worker: it asks the process that started it, over Bun's channel between the two, which answers for all workers.

import { type AddressClaims, type Claims, inUse, type Place } from "./claims.ts";

/** From a worker. */
export type ClaimMessage = { readonly claim: number; readonly place: Place } | { readonly release: Place };

/** To a worker, which asked by that number. */
export interface ClaimAnswer {
  readonly claim: number;
  readonly granted: boolean;
}

/** Undefined for what is no message about claims, and where there is nothing to say. */
export function answerClaim(claims: AddressClaims, worker: number, message: unknown): ClaimAnswer | undefined {
  if (typeof message !== "object" || message === null) return undefined;
  const asked = message as ClaimMessage;
  if ("release" in asked) claims.release(asked.release, worker);
  return "claim" in asked ? { claim: asked.claim, granted: claims.take(asked.place, worker) } : undefined;
}

export class WorkerClaims implements Claims {
  readonly #send: (message: ClaimMessage) => boolean;
  readonly #waiting = new Map<number, (granted: boolean) => void>();
  #count = 0;

  /** `send` returns false when who answers is gone: a worker that is left alone claims nothing. */
  constructor(send: (message: ClaimMessage) => boolean) {
    this.#send = send;
  }

  async take({ address, port, transport, namespace }: Place): Promise<void> {
    const claim = ++this.#count;
    const place = { address, port, transport, ...(namespace === undefined ? {} : { namespace }) };
    const granted = await new Promise<boolean>((resolve) => {
      this.#waiting.set(claim, resolve);
      if (!this.#send({ claim, place })) this.answered({ claim, granted: true });
    });
    if (!granted) throw inUse();
  }

  release({ address, port, transport, namespace }: Place): void {
    this.#send({ release: { address, port, transport, ...(namespace === undefined ? {} : { namespace }) } });
  }

  answered({ claim, granted }: ClaimAnswer): void {
    this.#waiting.get(claim)?.(granted);
    this.#waiting.delete(claim);
  }

  /** Nobody answers any more. */
  leftAlone(): void {
    for (const claim of [...this.#waiting.keys()]) this.answered({ claim, granted: true });
  }
}

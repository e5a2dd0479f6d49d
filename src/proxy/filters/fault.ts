// Faults on purpose: a delay, an abort, or both, drawn independently for each request that fits.

import type { Fault } from "../../model/filters.ts";
import { Deadline } from "../deadlines.ts";
import { type Filter, type FilterAnswer, waits } from "../filter.ts";
import { compileMatch } from "../router/predicate.ts";

const million = 1_000_000;

export const fault: Filter<"fault"> = {
  kind: "fault",
  compile({ when, delay, abort }, runtime) {
    const conditions = compileMatch({ headers: when ?? [] }, false);
    const answer = abort && abortAnswer(abort);
    const drawn = (perMillion: number) => perMillion > 0 && runtime.random() * million < perMillion;
    return {
      request(head, exchange) {
        if (!conditions.every((holds) => holds(head))) return undefined;
        const late = delay !== undefined && drawn(delay.perMillion);
        const aborted = abort !== undefined && drawn(abort.perMillion) ? answer : undefined;
        if (!late) return aborted;
        const then = () => (aborted ? exchange.answer(aborted) : exchange.goOn());
        const pause = new Pause(then);
        runtime.deadlines.arm(pause, delay.time);
        exchange.delayed = true;
        exchange.wait(() => runtime.deadlines.disarm(pause));
        return waits;
      },
    };
  },
};

function abortAnswer(abort: NonNullable<Fault["abort"]>): FilterAnswer {
  if ("status" in abort) return { reason: "fault_injected", status: abort.status };
  const headers = [
    { name: "content-type", value: "application/grpc" },
    { name: "grpc-status", value: String(abort.grpcStatus) },
    { name: "grpc-message", value: "a fault was injected" },
  ];
  return { reason: "fault_injected", status: 200, headers, body: "" };
}

class Pause extends Deadline {
  readonly #then: () => void;

  constructor(then: () => void) {
    super();
    this.#then = then;
  }

  expired(): void {
    this.#then();
  }
}

// A place in the way of a body that counts, holds or changes what passes. Stages form a list from where the body comes to where
// it goes: bytes are pushed down it, "wait" is returned up, "go on" is called up. No promises, no copies.

import type { BodySink } from "./exchange.ts";
import type { HeaderBlock } from "./headers.ts";

export abstract class BodyStage implements BodySink {
  /** Where it writes to, and who writes into it; set when it is put in its place. */
  next!: BodySink;
  /** Tells the writer that it may go on after a refused `write`. */
  writerResume!: () => void;

  write(chunk: Buffer, start: number, end: number): boolean {
    return this.next.write(chunk, start, end);
  }

  end(trailers?: HeaderBlock): void {
    this.next.end(trailers);
  }

  /** `next` takes again after it had refused. */
  drained(): void {
    this.writerResume();
  }

  /** The exchange is over, maybe before `end`. */
  cancel(): void {}
}

/** Links stages; `first` is told to go on by `resume`, the last one writes to `sink`. Returns what to write into. */
export function linkStages(stages: readonly BodyStage[], sink: BodySink, resume: () => void): BodySink {
  stages.forEach((stage, index) => {
    stage.next = stages[index + 1] ?? sink;
    const before = stages[index - 1];
    stage.writerResume = before ? () => before.drained() : resume;
  });
  return stages[0] ?? sink;
}

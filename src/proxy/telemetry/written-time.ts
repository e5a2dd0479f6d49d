// A time in a log line by a format of its own. Many lines share a second: its text is kept, and only digits of its fraction are new.

import type { TimeFormat } from "../../model/time-format.ts";
import { put, type Style, text, textStyle } from "./line-values.ts";

export class WrittenTime {
  readonly #format: TimeFormat;
  #second = Number.NaN;
  #pieces: readonly string[] = [];

  constructor(format: TimeFormat) {
    this.#format = format;
  }

  /** Milliseconds since 1970, with what there is of microseconds. */
  write(to: Buffer, start: number, milliseconds: number, style: Style): number {
    const second = Math.floor(milliseconds / 1000) * 1000;
    if (second !== this.#second) {
      this.#pieces = this.#format.pieces(second);
      this.#second = second;
    }
    const { fractions } = this.#format;
    const microseconds = Math.floor((milliseconds - second) * 1000);
    let at = start;
    for (let index = 0; index < this.#pieces.length; index++) {
      const piece = this.#pieces[index]!;
      // What a text's format says is written as the rest of the template is.
      if (style === textStyle) at = put(to, at, Buffer.from(piece));
      else at = text(to, at, at + piece.length * 6, piece, style);
      if (index < fractions.length) at = fraction(to, at, microseconds, fractions[index]!);
    }
    return at;
  }
}

/** So many digits; those behind the sixth are 0. */
function fraction(to: Buffer, at: number, microseconds: number, digits: number): number {
  let power = 100_000;
  for (let index = 0; index < digits; index++, power /= 10)
    to[at++] = power >= 1 ? 48 + (Math.floor(microseconds / power) % 10) : 48;
  return at;
}

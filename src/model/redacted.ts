// A string that does not print: private keys and tokens travel in one, and only `reveal` gives them back.

const shown = "[redacted]";

export class Redacted {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The secret itself. Call it only where the bytes are used. */
  reveal(): string {
    return this.#value;
  }

  /** By content; what the engine's comparison of values asks. */
  equals(other: unknown): boolean {
    return other instanceof Redacted && other.#value === this.#value;
  }

  toString(): string {
    return shown;
  }

  toJSON(): string {
    return shown;
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return shown;
  }
}

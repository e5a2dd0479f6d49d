// Checks of the numbers that an object of the model has: each is named with its range when it is out of it.

import type { Problems } from "./problems.ts";

/** The longest time of a policy, in milliseconds: what timers can wait for. */
const maxTime = 2 ** 31 - 1;

/** The fields that an object must have. */
type Needed<T> = { [K in keyof T]-?: undefined extends T[K] ? never : K }[keyof T] & string;

/** Checks numbers of one object; absent ones are well, but for those that are asked for. */
export class Numbers<T extends object> {
  readonly #problems: Problems;
  readonly #field: string;
  readonly #of: T;

  constructor(problems: Problems, field: string, of: T) {
    this.#problems = problems;
    this.#field = field;
    this.#of = of;
  }

  needed(...names: readonly Needed<T>[]): void {
    for (const name of names)
      if (this.#of[name] === undefined) this.#problems.add(`${this.#field}${name}`, "is absent");
  }

  whole(names: readonly (keyof T & string)[], least: number, most = Number.MAX_SAFE_INTEGER): void {
    this.#check(names, least, most, Number.isInteger, "whole number");
  }

  number(names: readonly (keyof T & string)[], least: number, most = Number.MAX_SAFE_INTEGER): void {
    this.#check(names, least, most, Number.isFinite, "number");
  }

  /** Milliseconds. */
  time(names: readonly (keyof T & string)[], least = 1): void {
    this.#check(names, least, maxTime, Number.isFinite, "number of milliseconds");
  }

  #check(
    names: readonly (keyof T & string)[],
    least: number,
    most: number,
    is: (value: unknown) => boolean,
    what: string,
  ): void {
    for (const name of names) {
      const value: unknown = this.#of[name];
      if (value === undefined || (is(value) && (value as number) >= least && (value as number) <= most)) continue;
      const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `of ${least} to ${most}`;
      this.#problems.add(`${this.#field}${name}`, `${String(value)} is no ${what} ${range}`);
    }
  }
}

// The C library through bun:ffi: opened under whichever name this machine has it. Only for the few calls that Bun does not offer.
//
// Two rules for memory that a call is told of, because what breaks them writes into somebody else's bytes:
// - An address (`ptr`) is taken for one call, never kept. A small typed array lies among the engine's objects, and is moved when code
//   that uses it is compiled, or when its `buffer` is asked for. What is made of an ArrayBuffer of its own (`fixed`) stays.
// - What only an address within other memory leads to (an iovec, a program) is `lent`, or it could be collected before the call.

import { dlopen, type FFIFunction, type Library } from "bun:ffi";
import { UserError } from "./errors.ts";

const names = ["libc.so.6", `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`];

/** So many bytes, all 0, that stay where they are. */
export function fixed(bytes: number): ArrayBuffer {
  return new ArrayBuffer(bytes);
}

const lending: { things: readonly unknown[] } = { things: [] };

/** These stay at least until the next call of this. */
export function lent(...things: readonly unknown[]): void {
  lending.things = things;
}

/** The named functions. Throws a UserError that says what could not be opened; `purpose` is the subject of its sentence. */
export function openLibc<Fns extends Record<string, FFIFunction>>(
  symbols: Fns,
  purpose: string,
): Library<Fns>["symbols"] {
  const problems: string[] = [];
  for (const name of names) {
    try {
      return dlopen(name, symbols).symbols;
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error));
    }
  }
  throw new UserError(`${purpose}: ${problems.join("; ")}`, { remedy: "use --network loopback" });
}

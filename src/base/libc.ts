// The C library through bun:ffi: opened under whichever name this machine has it. Only for the few calls that Bun does not offer.

import { dlopen, type FFIFunction, type Library } from "bun:ffi";
import { UserError } from "./errors.ts";

const names = ["libc.so.6", `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`];

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

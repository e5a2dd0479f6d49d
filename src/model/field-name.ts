// Which names of fields are one to a backend. Those that make variables of names (CGI, RFC 3875 §4.1.18, and what came of it: WSGI,
// FastCGI, Rack) take `x_user` for `x-user`, so that who is told something under one name must not hear of the other.

import { lowerAscii } from "./ascii.ts";

/** Whether a backend may take one name for the other, in any case. */
export function isTakenFor(name: string, other: string): boolean {
  return asVariable(name) === asVariable(other);
}

function asVariable(name: string): string {
  return lowerAscii(name).replaceAll("-", "_");
}

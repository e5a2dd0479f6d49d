// Phrases of status lines (RFC 9110 §15), and the Date field, made once a second at most.

import { STATUS_CODES } from "node:http";

export function phraseOf(status: number): string {
  return STATUS_CODES[status] ?? "";
}

let second = 0;
let text = "";

/** The Date field of an answer that we make ourselves (RFC 9110 §6.6.1). */
export function httpDate(now: number): string {
  const current = Math.floor(now / 1000);
  if (current !== second) {
    second = current;
    text = new Date(now).toUTCString();
  }
  return text;
}

// Phrases of status lines (RFC 9110 §15), and the Date field, made once a second at most.

import { STATUS_CODES } from "node:http";
import { turn } from "../wire.ts";

export function phraseOf(status: number): string {
  return STATUS_CODES[status] ?? "";
}

const lines: string[] = [];

/** `HTTP/1.1 200 OK` and a line end. An empty phrase is the usual one. */
export function statusLine(status: number, phrase: string): string {
  const usual = phraseOf(status);
  if (phrase !== "" && phrase !== usual) return `HTTP/1.1 ${status} ${phrase}\r\n`;
  let line = lines[status];
  if (line === undefined) {
    line = `HTTP/1.1 ${status} ${usual}\r\n`;
    lines[status] = line;
  }
  return line;
}

let madeAt = Number.NEGATIVE_INFINITY;
let line = "";
let field = Buffer.alloc(0);

/** The Date field for an answer that has none (RFC 9110 §6.6.1), with its line end. Made anew once a second of `turn.now`. */
export function dateLine(): string {
  if (turn.now - madeAt >= 1000 || turn.now < madeAt) {
    const now = Date.now();
    madeAt = turn.now - (now % 1000);
    const text = new Date(now).toUTCString();
    line = `date: ${text}\r\n`;
    field = Buffer.from(`date${text}`, "latin1");
  }
  return line;
}

/** The same as bytes: four of the name, then the value. */
export function dateField(): Buffer {
  dateLine();
  return field;
}

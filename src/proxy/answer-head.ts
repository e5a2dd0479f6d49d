// Heads of answers when another body takes the place of the one that came: what is kept of them, and what goes with the old body.

import type { ResponseHead } from "./exchange.ts";
import type { Replacement } from "./filter.ts";
import { HeaderBlock, hopByHopNames } from "./headers.ts";

/** Fields that speak of the body that goes (RFC 9110 §8). */
const representation = [
  "content-type",
  "content-length",
  "content-encoding",
  "content-language",
  "content-location",
  "content-range",
  "content-disposition",
  "accept-ranges",
  "etag",
  "last-modified",
  "digest",
  "content-digest",
  "repr-digest",
  "content-md5",
];

/** Makes a head speak of another body. `bodiless`: it only says how long the body would be, or not even that. */
export function replaceRepresentation(
  answer: ResponseHead,
  { status, headers, body }: Replacement,
  bodiless: boolean,
): void {
  for (const name of representation) answer.headers.remove(name);
  for (const { name, value } of headers) answer.headers.set(name, value);
  if (answer.status !== status) {
    answer.status = status;
    answer.phrase = "";
  }
  if (status !== 204 && status !== 304) answer.headers.add("content-length", String(body.length));
  answer.length = bodiless ? 0 : body.length;
}

/** A head that outlives the bytes it was parsed from. Framing stays with the codecs. */
export function copyHead({ status, phrase, headers, length }: ResponseHead): ResponseHead {
  const block = new HeaderBlock();
  for (const [name, value] of headers.entries()) if (!hopByHopNames.has(name)) block.add(name, value);
  return { status, phrase, headers: block, length };
}

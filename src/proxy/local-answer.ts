// Answers that the proxy gives itself: of the error table, of `respond` actions, of redirects.

import type { HeaderValue } from "../model/model.ts";
import type { ResponseHead } from "./exchange.ts";
import { HeaderBlock } from "./headers.ts";

/** A content-type of text/plain is put where `headers` has none. */
export function localAnswer(
  status: number,
  text: string | Buffer,
  headers: readonly HeaderValue[],
): { head: ResponseHead; body: Buffer } {
  const body = typeof text === "string" ? Buffer.from(text, "utf8") : text;
  const block = new HeaderBlock();
  if (body.length > 0 && !headers.some(({ name }) => name === "content-type")) block.add("content-type", "text/plain");
  if (status !== 204 && status !== 304) block.add("content-length", String(body.length));
  for (const { name, value } of headers) if (name !== "content-length") block.add(name, value);
  return { head: { status, phrase: "", headers: block, length: body.length }, body };
}

// Header blocks of HTTP/2's streams: taken for a head, given back when nobody asks for it any more.

import { HeaderBlock } from "../headers.ts";

const spare: HeaderBlock[] = [];
const maxSpare = 512;

/** A block for a head, taken from those that were given back. */
export function takeBlock(): HeaderBlock {
  return spare.pop() ?? new HeaderBlock();
}

export function giveBlock(block: HeaderBlock): void {
  block.release();
  if (spare.length < maxSpare) spare.push(block);
}

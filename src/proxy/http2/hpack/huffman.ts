// The static Huffman code of HPACK (RFC 7541 §5.2 and Appendix B), both ways. The code is canonical, so the lengths of its words
// say everything; the decoder is a state machine over four bits at a time (16 KiB of table), the encoder shifts words together.

/** Bits of the word of each byte, and of EOS as the last. */
const lengths: readonly number[] = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
  28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6,
  5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23,
  22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22,
  23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26,
  20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27,
  27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27,
  27, 27, 27, 26, 30,
];
const eos = 256;

const words = new Uint32Array(257);
const bits = Uint8Array.from(lengths);
/** By state and four bits: the next state, `emits` with a byte above it, or `fails`. */
const steps = new Uint32Array(256 * 16);
const emits = 1 << 8;
const fails = 1 << 9;
/** States in which the input may end: at a word's end, or within fewer than eight bits of EOS. */
const mayEnd = new Uint8Array(256);

{
  const order = lengths.map((_, symbol) => symbol).sort((a, b) => lengths[a]! - lengths[b]! || a - b);
  let word = 0;
  let before = lengths[order[0]!]!;
  order.forEach((symbol, index) => {
    if (index > 0) word = (word + 1) << (lengths[symbol]! - before);
    before = lengths[symbol]!;
    words[symbol] = word;
  });

  // The tree: two places a node, holding a node's number or ~symbol.
  const tree: number[][] = [[]];
  for (const symbol of order) {
    let node = 0;
    for (let bit = lengths[symbol]! - 1; bit >= 0; bit--) {
      const side = (words[symbol]! >>> bit) & 1;
      if (bit === 0) tree[node]![side] = ~symbol;
      else {
        tree[node]![side] ??= tree.push([]) - 1;
        node = tree[node]![side]!;
      }
    }
  }
  for (let state = 0; state < tree.length; state++) {
    for (let nibble = 0; nibble < 16; nibble++) {
      let node = state;
      let result = 0;
      for (let bit = 3; bit >= 0 && (result & fails) === 0; bit--) {
        const next = tree[node]![(nibble >>> bit) & 1]!;
        if (next >= 0) node = next;
        else if (~next === eos) result = fails;
        else {
          result = emits | (~next << 16);
          node = 0;
        }
      }
      steps[state * 16 + nibble] = result | node;
    }
  }
  for (let node = 0, ones = 0; ones < 8; ones++) {
    mayEnd[node] = 1;
    node = tree[node]![1]!;
  }
}

/** Most bytes that `length` encoded ones decode to: the shortest words have five bits. */
export function decodedBound(length: number): number {
  return ((length * 8) / 5) | 0;
}

/**
 * Decodes the bytes from `start` to `end` into `target` from `at` on, which must have room ({@link decodedBound}). Returns where
 * it ends there, or -1: EOS in the text, or padding that is not the beginning of EOS or longer than seven bits.
 */
export function huffmanDecode(source: Uint8Array, start: number, end: number, target: Uint8Array, at: number): number {
  let state = 0;
  let out = at;
  for (let position = start; position < end; position++) {
    const byte = source[position]!;
    let step = steps[(state << 4) | (byte >>> 4)]!;
    if ((step & (emits | fails)) !== 0) {
      if ((step & fails) !== 0) return -1;
      target[out++] = step >>> 16;
    }
    step = steps[((step & 255) << 4) | (byte & 15)]!;
    if ((step & (emits | fails)) !== 0) {
      if ((step & fails) !== 0) return -1;
      target[out++] = step >>> 16;
    }
    state = step & 255;
  }
  return mayEnd[state] === 1 ? out : -1;
}

/** Bytes that the encoded text takes. */
export function huffmanLength(source: Uint8Array, start: number, end: number): number {
  let sum = 0;
  for (let position = start; position < end; position++) sum += bits[source[position]!]!;
  return (sum + 7) >>> 3;
}

/** Encodes into `target` from `at` on; returns where it ends there. */
export function huffmanEncode(source: Uint8Array, start: number, end: number, target: Uint8Array, at: number): number {
  let out = at;
  // Up to 7 bits are left over from byte to byte; words have up to 30, so those that do not fit 32 together go in two steps.
  let held = 0;
  let count = 0;
  for (let position = start; position < end; position++) {
    const symbol = source[position]!;
    let length = bits[symbol]!;
    let word = words[symbol]!;
    if (length > 24) {
      const high = length - 16;
      held = (held << high) | (word >>> 16);
      count += high;
      while (count >= 8) {
        count -= 8;
        target[out++] = held >>> count;
      }
      held &= (1 << count) - 1;
      word &= 0xffff;
      length = 16;
    }
    held = (held << length) | word;
    count += length;
    while (count >= 8) {
      count -= 8;
      target[out++] = held >>> count;
    }
    held &= (1 << count) - 1;
  }
  if (count > 0) target[out++] = (held << (8 - count)) | (255 >>> count);
  return out;
}

// Hexadecimal digits written as bytes where they are wanted, so that no text is made of them first. Each function returns where it ended.

const digits = new Uint8Array(Buffer.from("0123456789abcdef"));

/** A byte as two digits. */
export function hexByte(to: Uint8Array, at: number, byte: number): number {
  to[at] = digits[byte >> 4]!;
  to[at + 1] = digits[byte & 15]!;
  return at + 2;
}

/** 32 bits as eight digits. */
export function hexWord(to: Uint8Array, at: number, bits: number): number {
  for (let shift = 28; shift >= 0; shift -= 4) to[at++] = digits[(bits >>> shift) & 15]!;
  return at;
}

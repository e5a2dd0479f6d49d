import { expect, test } from "bun:test";
import { destinationIn, readAddress } from "./taken.ts";

/** struct cmsghdr with its body, padded to a multiple of 8. */
function message(level: number, type: number, body: readonly number[]): Buffer {
  const bytes = Buffer.alloc(16 + ((body.length + 7) & ~7));
  bytes.writeBigUInt64LE(BigInt(16 + body.length));
  bytes.writeInt32LE(level, 8);
  bytes.writeInt32LE(type, 12);
  bytes.set(body, 16);
  return bytes;
}

const four = [2, 0, 0x14, 0xe9, 203, 0, 113, 7, 0, 0, 0, 0, 0, 0, 0, 0];

test("a destination is found behind other messages", () => {
  const other = message(1, 29, [1, 2, 3]);
  expect(destinationIn(Buffer.concat([other, message(0, 20, four)]))).toEqual({ address: "203.0.113.7", port: 5353 });
  const six = [10, 0, 0, 53, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0];
  expect(destinationIn(message(41, 74, six))).toEqual({ address: "2001:db8::7", port: 53 });
});

test("no destination, or half of one, is none", () => {
  expect(destinationIn(Buffer.alloc(0))).toBeUndefined();
  expect(destinationIn(Buffer.alloc(64))).toBeUndefined();
  expect(destinationIn(message(0, 20, four.slice(0, 4)))).toBeUndefined();
});

test("a client of IPv4 is one at a socket for both families", () => {
  const mapped = [10, 0, 0xe7, 0xba, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 255, 81, 2, 0, 0, 0, 0];
  expect(readAddress(Buffer.from(mapped))).toEqual({ address: "10.255.81.2", port: 0xe7ba });
  mapped[18] = 0;
  expect(readAddress(Buffer.from(mapped)).address).toBe("::ff:aff:5102");
});

import { expect, test } from "bun:test";
import { concerns } from "./nft-events.ts";

/** A netlink message as the kernel sends it: its header, and the family of what it is about. */
function message(family: number, length: number): number[] {
  const bytes = new Uint8Array((length + 3) & ~3);
  new DataView(bytes.buffer).setUint32(0, length, true);
  bytes[16] = family;
  return [...bytes];
}
const datagram = (...messages: number[][]) => new DataView(new Uint8Array(messages.flat()).buffer);

test("a change of rules concerns the family of one of its messages, and both when the table is of both", () => {
  const [ipv4, ipv6, inet, none] = [2, 10, 1, 0];
  expect(concerns(datagram(message(ipv4, 36)), 4)).toBe(true);
  expect(concerns(datagram(message(ipv4, 36)), 6)).toBe(false);
  expect(concerns(datagram(message(ipv4, 41), message(ipv6, 20)), 6)).toBe(true);
  expect(concerns(datagram(message(inet, 20)), 4) && concerns(datagram(message(inet, 20)), 6)).toBe(true);
  // The mark at the end of a transaction is of no family, and a datagram that was cut short ends.
  expect(concerns(datagram(message(none, 44)), 4)).toBe(false);
  expect(concerns(datagram([20, 0, 0, 0]), 4)).toBe(false);
  expect(concerns(datagram(Array(40).fill(0)), 4)).toBe(false);
});

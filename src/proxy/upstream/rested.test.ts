import { expect, test } from "bun:test";
import { hasEnded } from "./rested.ts";

const socket = { data() {}, error() {}, close() {} };

test("a connection whose end waits in the kernel has ended, and one that only rests has not", async () => {
  const accepted = Promise.withResolvers<Bun.Socket>();
  const listener = Bun.listen({
    ...{ hostname: "127.0.0.1", port: 0 },
    socket: { open: (socket) => accepted.resolve(socket), data() {} },
  });
  const mine = await Bun.connect({ hostname: "127.0.0.1", port: listener.port, socket });
  const { fd } = mine as unknown as { fd: number };
  const theirs = await accepted.promise;
  expect(hasEnded(fd)).toBe(false);
  theirs.terminate();
  // In this turn the event loop has not seen it.
  expect(hasEnded(fd)).toBe(true);
  mine.terminate();
  listener.stop(true);
});

test("asking often writes into nobody else's memory", async () => {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket });
  const mine = await Bun.connect({ hostname: "127.0.0.1", port: listener.port, socket });
  const { fd } = mine as unknown as { fd: number };
  // Until the function is compiled, with small arrays and collections of them in between.
  for (let round = 0; round < 60; round++) {
    const arrays = Array.from({ length: 10_000 }, () => new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]));
    for (let times = 0; times < 300; times++) expect(hasEnded(fd)).toBe(false);
    if (round % 10 === 0) Bun.gc(true);
    expect(arrays.find((bytes) => bytes[6] !== 7 || bytes[7] !== 8)).toBeUndefined();
  }
  mine.terminate();
  listener.stop(true);
});

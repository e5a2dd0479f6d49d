import { expect, test } from "bun:test";
import { hasEnded } from "./rested.ts";

test("a connection whose end waits in the kernel has ended, and one that only rests has not", async () => {
  const accepted = Promise.withResolvers<Bun.Socket>();
  const listener = Bun.listen({
    ...{ hostname: "127.0.0.1", port: 0 },
    socket: { open: (socket) => accepted.resolve(socket), data() {} },
  });
  const socket = { data() {}, error() {}, close() {} };
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

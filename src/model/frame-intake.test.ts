import { expect, test } from "bun:test";
import { encodeFrame } from "./frame.ts";
import { FrameIntake } from "./frame-intake.ts";

const frames = (...messages: readonly unknown[]) => Buffer.concat(messages.map((one) => encodeFrame(one)));
const socket = () => {
  const calls: string[] = [];
  return { calls, pause: () => void calls.push("pause"), resume: () => void calls.push("resume") };
};

test("a large delivery is taken in order over several turns, and the peer waits while too much lies", async () => {
  const peer = socket();
  const seen: number[] = [];
  let turns = 0;
  const done = Promise.withResolvers<void>();
  const intake = new FrameIntake(peer, {
    take: (message) => {
      const end = performance.now() + 0.2;
      while (performance.now() < end);
      seen.push((message as { at: number }).at);
    },
    failed: done.reject,
    after: () => {
      turns++;
      if (seen.length === 100) done.resolve();
    },
  });
  const text = "x".repeat(60_000);
  intake.push(frames(...Array.from({ length: 100 }, (_, at) => ({ at, text }))));
  expect(seen.length).toBeLessThan(100);
  await done.promise;
  expect(seen).toEqual(Array.from({ length: 100 }, (_, at) => at));
  expect(turns).toBeGreaterThan(5);
  expect(peer.calls).toEqual(["pause", "resume"]);
});

test("what is small is taken at once", () => {
  const seen: unknown[] = [];
  const intake = new FrameIntake(socket(), { take: (message) => seen.push(message), failed: () => {} });
  intake.push(frames(1, 2));
  expect(seen).toEqual([1, 2]);
});

test("after an error, and after its end, nothing is taken", () => {
  const seen: unknown[] = [];
  const errors: unknown[] = [];
  const events = { take: (message: unknown) => seen.push(message), failed: (error: unknown) => errors.push(error) };
  const wrong = new FrameIntake(socket(), events);
  wrong.push(Buffer.concat([frames(1), Buffer.from([0, 0, 0, 1, 0x7b]), frames(2)]));
  wrong.push(frames(3));
  const ended = new FrameIntake(socket(), events);
  ended.end();
  ended.push(frames(4));
  expect(seen.length).toBeLessThanOrEqual(1);
  expect(errors.length).toBe(1);
});

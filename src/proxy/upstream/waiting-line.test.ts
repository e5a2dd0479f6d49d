import { expect, test } from "bun:test";
import type { Waiter } from "./pool.ts";
import type { Selection } from "./selection.ts";
import { WaitingLine } from "./waiting-line.ts";

const told: string[] = [];
const waiter = (name: string) =>
  ({ name, notConnected: (reason: string) => void told.push(`${name} ${reason}`) }) as unknown as Waiter;
const bound = (name: string, hash: number) => ({
  waiter: waiter(name),
  selection: { hash } as Selection,
  particular: true,
});
const free = (name: string) => ({ waiter: waiter(name), selection: undefined, particular: false });
const nameOf = (one: { readonly waiter: Waiter } | undefined) => (one?.waiter as unknown as { name: string })?.name;

test("the longest waiting comes first, but for those whom only another endpoint may serve", () => {
  const line = new WaitingLine();
  line.push(bound("a", 1));
  line.push(bound("b", 2));
  line.push(free("c"));
  line.push(bound("d", 2));
  const of = (hash: number) => nameOf(line.takeFor(({ selection }) => selection?.hash === hash));
  expect([of(2), of(2), of(2), of(2)]).toEqual(["b", "c", "d", undefined!]);
  expect([line.length, nameOf(line.first), of(1), line.length]).toEqual([1, "a", "a", 0]);
});

test("nobody is asked which endpoint may serve where any may", () => {
  const line = new WaitingLine();
  line.push(bound("gone", 1));
  line.forget(line.first!.waiter);
  line.push(free("a"));
  line.push(free("b"));
  const never = () => {
    throw new Error("asked");
  };
  expect([nameOf(line.takeFor(never)), nameOf(line.shift()), line.takeFor(never)]).toEqual(["a", "b", undefined]);
});

test("when nobody can be served all are told, once", () => {
  const line = new WaitingLine();
  line.push(free("a"));
  line.push(bound("b", 1));
  line.fail("no_endpoints");
  line.fail("no_backend");
  expect(told).toEqual(["a no_endpoints", "b no_endpoints"]);
  expect(line.length).toBe(0);
});

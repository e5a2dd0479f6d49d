import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { socketsEach } from "../../model/hand-over.ts";
import { amongStaying, type Places, toOneStaying } from "./divert.ts";

/** The kernel's group of a port (net/core/sock_reuseport.c): who goes gives its place to the last. */
class Group {
  readonly places: string[] = [];
  add(...names: readonly string[]): void {
    this.places.push(...names);
  }
  remove(name: string): void {
    const last = this.places.pop()!;
    if (last !== name) this.places[this.places.indexOf(name)] = last;
  }
}

const named = (what: string, count: number) => Array.from({ length: count }, (_, index) => `${what}${index}`);
const places = fc
  .record({ leaving: fc.integer({ min: 1, max: 12 }), workers: fc.integer({ min: 1, max: 8 }) })
  .map(({ leaving, workers }): Places => ({ leaving, staying: workers * socketsEach(leaving, workers) }));
/** The one place that a program answers. */
const constant = (of: Places): number => toOneStaying(of)[0]![3];

describe("where connections go while processes leave a port", () => {
  test("to any that stays, as long as all are there", () => {
    fc.assert(
      fc.property(places, fc.nat(), (of, random) => {
        const group = new Group();
        group.add(...named("old", of.leaving), ...named("new", of.staying));
        const [, [, , , modulus], [, , , offset]] = amongStaying(of) as [unknown, number[], number[], unknown];
        expect(modulus).toBe(of.staying);
        expect(group.places[(random % modulus!) + offset!]).toStartWith("new");
      }),
    );
  });

  test("to one that stays until the last has left in whichever order, and to all by hash from then on", () => {
    fc.assert(
      fc.property(places, fc.infiniteStream(fc.nat()), (of, order) => {
        const group = new Group();
        const old = named("old", of.leaving);
        group.add(...old, ...named("new", of.staying));
        while (old.length > 0) {
          expect(group.places[constant(of)]).toStartWith("new");
          group.remove(old.splice(order.next().value! % old.length, 1)[0]!);
        }
        expect(group.places.every((name) => name.startsWith("new"))).toBeTrue();
        expect(group.places[constant(of)]).toBe(undefined);
      }),
    );
  });
});

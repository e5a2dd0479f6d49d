// The time of tests of HTTP/2 connections, downstream and upstream: a clock that stands until it is moved, and turns of the event loop
// that are taken by hand.

import { afterEach, beforeEach } from "bun:test";
import { FakeClock } from "../../base/clock.ts";
import { Deadlines } from "../deadlines.ts";
import { beginTurn, endTurn, turn } from "../wire.ts";
import { flushFrames } from "./output.ts";

export let clock: FakeClock;
export let deadlines: Deadlines;
const systemSource = turn.source;

/** To be called once by a file: each of its tests gets a clock of its own. */
export function eachTest(): void {
  beforeEach(() => {
    clock = new FakeClock();
    turn.source = () => clock.now();
    turn.now = clock.now();
    deadlines = new Deadlines(clock);
    deadlines.beforehand = beginTurn;
    deadlines.afterwards = () => {
      endTurn();
      flushFrames();
    };
  });

  afterEach(() => {
    turn.source = systemSource;
    turn.now = systemSource();
  });
}

/** In a turn of its own, with what it sends. */
export function during(what: () => void): void {
  beginTurn();
  what();
  endTurn();
  flushFrames();
}

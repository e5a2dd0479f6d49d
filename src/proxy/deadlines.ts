// Timeouts of many connections for the price of one timer: a hashed wheel of intrusive lists (Varghese and Lauck, 1987).
// Arming and disarming allocate nothing. Precise to one tick, never early. Idle timeouts are armed once and checked when due
// (`expired` may arm again), so that traffic itself costs nothing here.

import type { Clock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";

/** Something that can be armed in a wheel: at most once at a time. */
export abstract class Deadline {
  due = 0;
  /** Set while armed. */
  wheel: Deadlines | undefined = undefined;
  previous: Deadline | undefined = undefined;
  next: Deadline | undefined = undefined;
  slot = 0;
  abstract expired(): void;
}

const slots = 1024;

export class Deadlines {
  readonly #clock: Clock;
  /** Milliseconds a slot. */
  readonly #tick: number;
  readonly #heads: (Deadline | undefined)[] = new Array(slots).fill(undefined);
  #armed = 0;
  /** The tick that was looked at last. */
  #cursor: number;
  #timer: Disposable | undefined;
  #timerTick = 0;
  /** Called before and after deadlines run: they are a turn of the event loop like a socket's event. */
  beforehand: () => void = () => {};
  afterwards: () => void = () => {};

  constructor(clock: Clock, tick = 10) {
    this.#clock = clock;
    this.#tick = tick;
    this.#cursor = Math.floor(clock.now() / tick);
  }

  /** Milliseconds, by the wheel's clock. */
  now(): number {
    return this.#clock.now();
  }

  get size(): number {
    return this.#armed;
  }

  /** Calls `deadline.expired()` in `milliseconds` or up to a tick later. Arming again moves it. */
  arm(deadline: Deadline, milliseconds: number): void {
    if (deadline.wheel) this.disarm(deadline);
    const now = this.#clock.now();
    if (this.#armed === 0) this.#cursor = Math.floor(now / this.#tick);
    deadline.due = now + milliseconds;
    const tick = Math.max(this.#cursor + 1, Math.ceil(deadline.due / this.#tick));
    deadline.slot = tick % slots;
    const head = this.#heads[deadline.slot];
    deadline.next = head;
    deadline.previous = undefined;
    if (head) head.previous = deadline;
    this.#heads[deadline.slot] = deadline;
    deadline.wheel = this;
    this.#armed++;
    if (!this.#timer || tick < this.#timerTick) this.#schedule(tick);
  }

  disarm(deadline: Deadline): void {
    if (deadline.wheel !== this) return;
    if (deadline.previous) deadline.previous.next = deadline.next;
    else this.#heads[deadline.slot] = deadline.next;
    if (deadline.next) deadline.next.previous = deadline.previous;
    deadline.previous = undefined;
    deadline.next = undefined;
    deadline.wheel = undefined;
    this.#armed--;
  }

  #schedule(tick: number): void {
    this.#timer?.dispose();
    this.#timerTick = tick;
    this.#timer = this.#clock.after(Math.max(1, tick * this.#tick - this.#clock.now()), () => this.#run());
  }

  #run(): void {
    this.#timer = undefined;
    this.beforehand();
    const now = this.#clock.now();
    const current = Math.floor(now / this.#tick);
    // More than a turn of the wheel late (the machine slept): every slot once is enough.
    const from = Math.max(this.#cursor + 1, current - slots + 1);
    this.#cursor = current;
    try {
      for (let tick = from; tick <= current && this.#armed > 0; tick++) this.#expire(tick % slots, now);
    } finally {
      this.afterwards();
      if (this.#armed > 0 && !this.#timer) this.#schedule(this.#nextTick());
    }
  }

  #expire(slot: number, now: number): void {
    for (;;) {
      let deadline = this.#heads[slot];
      while (deadline && deadline.due > now) deadline = deadline.next;
      if (!deadline) return;
      this.disarm(deadline);
      deadline.expired();
    }
  }

  /** The first tick after the cursor whose slot is not empty. */
  #nextTick(): number {
    for (let offset = 1; offset <= slots; offset++) {
      if (this.#heads[(this.#cursor + offset) % slots]) return this.#cursor + offset;
    }
    return this.#cursor + slots;
  }
}

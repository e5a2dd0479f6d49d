// What filters share in one process: time, timers, backends to ask, and the state that outlives a change of configuration
// (lists of users, token buckets, key sets), each by name and bounded.

import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { Deadlines } from "../deadlines.ts";
import type { Backends } from "../upstream/backends.ts";
import { KeySets } from "./key-sets.ts";
import type { BucketSets } from "./token-bucket.ts";
import { UserLists } from "./users.ts";

export class FilterRuntime {
  readonly clock: Clock;
  readonly deadlines: Deadlines;
  readonly backends: Backends;
  readonly log: Logger;
  /** 0 up to 1, exclusive. */
  readonly random: () => number;
  readonly users = new UserLists();
  readonly buckets: BucketSets;
  readonly keySets: KeySets;

  constructor(
    clock: Clock,
    deadlines: Deadlines,
    backends: Backends,
    log: Logger,
    buckets: BucketSets,
    random = Math.random,
  ) {
    this.clock = clock;
    this.deadlines = deadlines;
    this.backends = backends;
    this.log = log;
    this.random = random;
    this.buckets = buckets;
    this.keySets = new KeySets(this);
  }
}

// The groups of sockets that share this process's ports (SO_REUSEPORT): with those of its fellow workers, and of the process that takes
// over from it. Says in which order a group is told what (`divert.ts`) when this process leaves it.

import type { Clock } from "../../base/clock.ts";
import { messageOf } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { amongStaying, listening, toOneStaying } from "./divert.ts";

export class PortGroups {
  readonly #ports: () => ReadonlySet<number>;
  readonly #clock: Clock;
  readonly #log: Logger;

  /** `ports`: those that this process listens on at the moment. */
  constructor(ports: () => ReadonlySet<number>, clock: Clock, log: Logger) {
    this.#ports = ports;
    this.#clock = clock;
    this.#log = log;
  }

  /** Undoes what a hand-over left to ports that go on. */
  joined(): void {
    this.#try(({ chooseByHash }, ports) => chooseByHash(ports));
  }

  /**
   * Lets others have what connects from now on; resolves when nothing is on its way to this process any more, after `milliseconds`, and
   * its sockets can be closed. `leaving`: how many of each port do this now. `successors`: how many others began to listen after them; 0
   * when none did, but others stay; undefined when it is not known whether anybody is there.
   */
  async leave(milliseconds: number, leaving: number, successors: number | undefined): Promise<void> {
    const places = { leaving, staying: successors ?? leaving };
    const diverted = this.#try(({ choose, hearNoSyn }, ports) => {
      if (places.staying > 0) choose(ports, amongStaying(places));
      if (successors !== undefined) hearNoSyn(ports);
    });
    if (!diverted) return;
    await new Promise<void>((resolve) => void this.#clock.after(milliseconds, resolve));
    if (places.staying > 0) this.#try(({ choose }, ports) => choose(ports, toOneStaying(places)));
  }

  #try(run: (of: typeof listening, ports: ReadonlySet<number>) => unknown): boolean {
    try {
      run(listening, this.#ports());
      return true;
    } catch (error) {
      this.#log.warn("connections that are being made while a process hands over may be reset", {
        reason: messageOf(error),
      });
      return false;
    }
  }
}

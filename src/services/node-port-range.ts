// The range of node ports (pkg/registry/core/service/portallocator). A port is taken when the Service that is remembered for it
// holds it in the transaction's state; there is no object of its own for a port.

import type { Service } from "../api/kinds.ts";
import { objectName, splitName } from "../api/object.ts";
import type { TransactionView } from "../store/admission.ts";
import { RandomRange, staticBand } from "./random-range.ts";

export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** Parses `30000-32767`. Throws a RangeError. */
export function parsePortRange(text: string): PortRange {
  const match = /^([0-9]{1,5})-([0-9]{1,5})$/.exec(text);
  const first = Number(match?.[1]);
  const last = Number(match?.[2]);
  if (!match || first < 1 || last > 65_535 || first > last) {
    throw new RangeError(`node port range ${text}: not a range of ports such as 30000-32767`);
  }
  return { first, last };
}

export class NodePortRange {
  readonly text: string;
  readonly #first: number;
  readonly #last: number;
  readonly #range: RandomRange;
  readonly #owners = new Map<number, string>();
  #started = false;

  constructor(range: string | PortRange, random?: () => number) {
    const { first, last } = typeof range === "string" ? parsePortRange(range) : range;
    this.#first = first;
    this.#last = last;
    this.text = `${first}-${last}`;
    const size = last - first + 1;
    this.#range = new RandomRange(size, staticBand(size, 32, 128), random);
  }

  /** Learns, once, what is taken. */
  start(view: TransactionView): void {
    if (this.#started) return;
    for (const service of view.list("services") as readonly Service[]) {
      const owner = objectName(service);
      for (const port of service.spec?.ports ?? []) if (port.nodePort) this.take(port.nodePort, owner);
      if (service.spec?.healthCheckNodePort) this.take(service.spec.healthCheckNodePort, owner);
    }
    this.#started = true;
  }

  /** Why a port that was asked for cannot be had; undefined when it can, or when `owner` has it already. */
  refuse(port: number, owner: string, view: TransactionView): string | undefined {
    if (port < this.#first || port > this.#last) {
      return `provided port is not in the valid range. The range of valid ports is ${this.text}`;
    }
    const holder = this.#holder(port, view);
    return holder === undefined || holder === owner ? undefined : "provided port is already allocated";
  }

  /** A free port for `owner`, picked at random; undefined when there is none. */
  pick(owner: string, except: ReadonlySet<number>, view: TransactionView): number | undefined {
    const offset = this.#range.pick((at) => {
      const port = this.#first + at;
      return !except.has(port) && this.#holder(port, view) === undefined;
    });
    if (offset === undefined) return undefined;
    this.take(this.#first + offset, owner);
    return this.#first + offset;
  }

  take(port: number, owner: string): void {
    this.#owners.set(port, owner);
    if (port >= this.#first && port <= this.#last) this.#range.hint(port - this.#first);
  }

  #holder(port: number, view: TransactionView): string | undefined {
    const owner = this.#owners.get(port);
    if (owner === undefined) return undefined;
    const { namespace, name } = splitName(owner);
    const spec = (view.get("services", namespace, name) as Service | undefined)?.spec;
    const holds = spec?.healthCheckNodePort === port || (spec?.ports ?? []).some((one) => one.nodePort === port);
    if (holds) return owner;
    this.#owners.delete(port);
    return undefined;
  }
}

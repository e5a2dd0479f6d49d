// Which of a backend's endpoints takes a request: first the group (priority, zone, panic: `priorities.ts`), then one of it
// (`balance.ts`). Made anew when endpoints, their health or their warmth change; choosing allocates nothing.

import type { Backend } from "../../model/model.ts";
import { type Pick as Balancer, balance, type Candidate } from "./balance.ts";
import { WeightedChoice } from "./choice.ts";
import type { EndpointHealth } from "./endpoint-health.ts";
import { trafficGroups } from "./priorities.ts";

/** An endpoint among those to choose from. */
export interface Choosable extends Candidate {
  readonly priority: number;
  readonly zone: string | undefined;
  readonly health: EndpointHealth;
}

/** Draws for one that was not tried yet (Envoy: host_selection_retry_max_attempts), before the next in line is taken. */
const maxDraws = 5;
/** Choices without some priorities that are kept: there are seldom more than a few priorities. */
const maxBeside = 16;

interface Group<E> {
  readonly members: readonly E[];
  readonly pick: Balancer;
}

export class EndpointChoice<E extends Choosable> {
  readonly #groups: readonly Group<E>[];
  readonly #shares: WeightedChoice | undefined;
  /** The same without endpoints of some priorities, made when first asked for. */
  readonly #beside = new Map<string, EndpointChoice<E>>();
  readonly #without: (priorities: readonly number[]) => EndpointChoice<E>;

  /** Endpoints of weight 0 take nothing. `zone` is the proxy's own. */
  constructor(
    endpoints: readonly E[],
    config: Pick<Backend, "balance" | "locality" | "panicPercent">,
    zone: string | undefined,
    now: number,
    random: () => number = Math.random,
  ) {
    this.#without = (priorities) => {
      const others = endpoints.filter(({ priority }) => !priorities.includes(priority));
      return new EndpointChoice(others, config, zone, now, random);
    };
    const usable = endpoints.filter(({ weight }) => weight > 0);
    const placed = usable.map(({ priority, zone, health }) => ({ priority, zone, healthy: health.healthy(now) }));
    const { locality, panicPercent } = config;
    const groups = trafficGroups(placed, {
      ...(locality?.overprovisioningPercent === undefined
        ? {}
        : { overprovisioning: locality.overprovisioningPercent }),
      ...(panicPercent === undefined ? {} : { panic: panicPercent }),
      ...(locality?.zonePreference && zone !== undefined
        ? { zone, zoneMinimum: locality.zonePreference.minimum ?? 6 }
        : {}),
    });
    this.#groups = groups.map(({ members }) => {
      const list = members.map((index) => usable[index]!);
      return {
        members: list,
        pick: balance(
          config.balance,
          list.map((one) => warmed(one, config.balance, now)),
          random,
        ),
      };
    });
    this.#shares =
      groups.length > 1
        ? new WeightedChoice(
            groups.map(({ share }) => share),
            random,
          )
        : undefined;
  }

  /** How many endpoints can be chosen. */
  get size(): number {
    let size = 0;
    for (const { members } of this.#groups) size += members.length;
    return size;
  }

  /** Among endpoints of other priorities than these. */
  beside(priorities: readonly number[]): EndpointChoice<E> {
    const key = [...priorities].sort((a, b) => a - b).join(" ");
    let others = this.#beside.get(key);
    if (others) return others;
    if (this.#beside.size >= maxBeside) this.#beside.clear();
    others = this.#without(priorities);
    this.#beside.set(key, others);
    return others;
  }

  /** The next endpoint, another than those of `avoid` if there is one; undefined when nobody takes requests. */
  next(now: number, hash: number | undefined, avoid: readonly E[]): E | undefined {
    const { length } = this.#groups;
    if (length === 0) return undefined;
    let { members, pick } = this.#groups[this.#shares?.next() ?? 0]!;
    let chosen = members[pick(now, hash)]!;
    if (avoid.length === 0 || !avoid.includes(chosen)) return chosen;
    for (let draw = 1; draw < maxDraws && hash === undefined; draw++) {
      ({ members, pick } = this.#groups[this.#shares?.next() ?? 0]!);
      chosen = members[pick(now, hash)]!;
      if (!avoid.includes(chosen)) return chosen;
    }
    for (let at = 1; at < members.length; at++) {
      const other = members[(members.indexOf(chosen) + at) % members.length]!;
      if (!avoid.includes(other)) return other;
    }
    return chosen;
  }
}

/** The endpoint with the weight that its warmth leaves it; the endpoint itself when it is warm. */
function warmed(endpoint: Choosable, config: Backend["balance"], now: number): Candidate {
  const warmth = endpoint.health.warmth(config, now);
  if (warmth === 1) return endpoint;
  return {
    key: endpoint.key,
    weight: endpoint.weight * warmth,
    get active() {
      return endpoint.active;
    },
    load: (time) => endpoint.load(time),
  };
}

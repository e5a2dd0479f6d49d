// Which endpoints take traffic, and how much: priorities with spill-over, panic, and preference of the proxy's own zone. Pure: from
// endpoints with their health to groups with a share each. Envoy's arithmetic (intro/arch_overview/upstream/load_balancing:
// priority levels, degraded and panic mode, zone aware routing).

/** An endpoint as this decision sees it. */
export interface Placed {
  readonly priority: number;
  readonly zone: string | undefined;
  readonly healthy: boolean;
}

/** Endpoints that share a part of the traffic; indexes into the list that was given. */
export interface Group {
  readonly members: readonly number[];
  /** 0 to 1; all groups together make 1. */
  readonly share: number;
}

export interface PriorityOptions {
  /** Per cent; 140. */
  readonly overprovisioning?: number;
  /** Below so many per cent of healthy endpoints, all are used; 0 never. */
  readonly panic?: number;
  /** The proxy's own zone, when it prefers that. */
  readonly zone?: string;
  /** Endpoints below which zones are not looked at. */
  readonly zoneMinimum?: number;
}

/** Groups of endpoints with their shares of the traffic; none when nobody can take any. */
export function trafficGroups(endpoints: readonly Placed[], options: PriorityOptions = {}): readonly Group[] {
  return priorityLevels(endpoints, options.overprovisioning ?? 140, options.panic ?? 0).flatMap((level) =>
    inZones(level, endpoints, options),
  );
}

function priorityLevels(endpoints: readonly Placed[], overprovisioning: number, panic: number): Group[] {
  const levels = new Map<number, { all: number[]; healthy: number[] }>();
  endpoints.forEach(({ priority, healthy }, index) => {
    const level = levels.get(priority) ?? { all: [], healthy: [] };
    levels.set(priority, level);
    level.all.push(index);
    if (healthy) level.healthy.push(index);
  });
  const sorted = [...levels].sort(([a], [b]) => a - b).map(([, level]) => level);
  // A level's health in per cent, with room to spare: it is full down to 100 / 1.4 per cent of healthy endpoints.
  const health = sorted.map(({ all, healthy }) =>
    Math.min(100, Math.floor((healthy.length * overprovisioning) / all.length)),
  );
  const sum = Math.min(
    100,
    health.reduce((total, one) => total + one, 0),
  );
  const groups: Group[] = [];
  if (sum > 0) {
    let left = 100;
    sorted.forEach((level, index) => {
      // Where all levels together are not healthy enough for everything, each gets more than its health.
      const share = Math.min(left, Math.round((health[index]! * 100) / sum));
      left -= share;
      if (share > 0) groups.push({ members: members(level, panic), share: share / 100 });
    });
    const given = groups.reduce((total, { share }) => total + share, 0);
    return groups.map(({ members, share }) => ({ members, share: share / given }));
  }
  // Nobody is healthy: in panic the first level takes everything, else nobody does.
  const first = sorted[0];
  return first && panic > 0 ? [{ members: first.all, share: 1 }] : [];
}

function members({ all, healthy }: { all: number[]; healthy: number[] }, panic: number): number[] {
  return (100 * healthy.length) / all.length < panic ? all : healthy;
}

/** Splits a level by zones: the own zone takes what the proxy's fair share of the level is, others what is beyond. */
function inZones(level: Group, endpoints: readonly Placed[], { zone, zoneMinimum = 6 }: PriorityOptions): Group[] {
  if (zone === undefined || level.members.length < zoneMinimum) return [level];
  const own = level.members.filter((index) => endpoints[index]!.zone === zone);
  if (own.length === 0 || own.length === level.members.length) return [level];
  const zones = new Set(level.members.map((index) => endpoints[index]!.zone)).size;
  // Proxies are taken to be as many in each zone: a zone with at least 1/zones of the endpoints serves its proxies alone.
  const capacity = own.length / level.members.length;
  const local = Math.min(1, capacity * zones);
  if (local === 1) return [{ members: own, share: level.share }];
  const others = level.members.filter((index) => endpoints[index]!.zone !== zone);
  return [
    { members: own, share: level.share * local },
    { members: others, share: level.share * (1 - local) },
  ];
}

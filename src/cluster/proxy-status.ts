// What a stack's proxies are shown as: the workers of one composition are one proxy, as their admin interface is one. Pure.

import type { ProxyState } from "../distribution/distribution.ts";
import type { ProxyStatus } from "./control-api.ts";

type Types = ProxyStatus["types"];

/** Worse ones behind. */
const states = ["synced", "stale", "rejected"] as const;

/**
 * Sorted by name. Of a name that has connected processes, those alone: who is gone was followed by them. Two of a name are one that
 * hands over to the other.
 */
export function proxyStatuses(all: readonly ProxyState[]): ProxyStatus[] {
  const processes = new Map<string, ProxyState[]>();
  const connected = new Set<string>();
  for (const state of all) {
    const { name, pid } = state.composition ?? { name: state.proxy, pid: state.pid };
    if (state.connected) connected.add(name);
    const key = `${name} ${pid}`;
    processes.set(key, [...(processes.get(key) ?? []), state]);
  }
  return [...processes.values()]
    .map((members) => {
      const present = members.filter((one) => one.connected);
      const shown = (present.length > 0 ? present : members).map(statusOf);
      return members[0]!.composition ? combined(members[0]!.composition, shown) : shown[0]!;
    })
    .filter((one) => one.connected || !connected.has(one.proxy))
    .sort((a, b) => (a.proxy < b.proxy ? -1 : a.proxy > b.proxy ? 1 : a.since - b.since));
}

export function statusOf(state: ProxyState): ProxyStatus {
  return {
    ...{ proxy: state.proxy, connected: state.connected, since: state.since, pid: state.pid },
    ...{ program: state.program, admin: state.admin, scopes: state.scopes, types: state.types },
    sent: state.versionSent,
    applied: state.versionApplied,
    rejected: state.rejected.map(({ resource, name, reason }) => `${resource} ${name}: ${reason}`),
  };
}

/** As good as the one that is worst off. */
function combined(
  { name, pid, admin, workers: of }: NonNullable<ProxyState["composition"]>,
  workers: readonly ProxyStatus[],
): ProxyStatus {
  const [first] = workers as [ProxyStatus, ...ProxyStatus[]];
  const behind = workers.find(({ sent, applied }) => sent !== applied) ?? first;
  const types: Types = Object.fromEntries(
    Object.keys(first.types).map((type) => {
      const each = workers.map((one) => one.types[type]!);
      const state = states[Math.max(...each.map((one) => states.indexOf(one.state)))]!;
      return [type, { count: Math.min(...each.map(({ count }) => count)), state }];
    }),
  );
  return {
    ...first,
    ...{ proxy: name, pid, admin, types, sent: behind.sent, applied: behind.applied },
    connected: workers.every((one) => one.connected),
    since: Math.max(...workers.map(({ since }) => since)),
    rejected: [...new Set(workers.flatMap(({ rejected }) => rejected))],
    workers: { of, present: workers },
  };
}

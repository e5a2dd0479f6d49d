import { expect, test } from "bun:test";
import type { ProxyState } from "../distribution/distribution.ts";
import { proxyStatuses } from "./proxy-status.ts";

const composition = { name: "gateway.x", pid: 10, workers: 2, admin: "/run/x.sock" };

function state(proxy: string, pid: number, more: Partial<ProxyState> = {}): ProxyState {
  const type = { count: 2, state: "synced" } as const;
  return {
    ...{ proxy, pid, program: "1.0", admin: `/run/${pid}`, composition: undefined, sockets: 1, scopes: ["gateway"] },
    ...{ connected: true, since: pid, versionSent: 3, versionApplied: 3, rejected: [] },
    types: { secrets: type, backends: type, endpoints: type, routeTables: type, listeners: type },
    ...more,
  };
}

const worker = (number: number, more: Partial<ProxyState> = {}) =>
  state(`gateway.x/${number}`, 10 + number, { composition, ...more });

test("the workers of a composition are one proxy, as good as the one that is worst off", () => {
  const rejection = { resource: "listeners", name: "http", reason: "in use" } as const;
  const late = worker(2, {
    versionApplied: 2,
    rejected: [rejection],
    types: { ...worker(2).types, listeners: { count: 1, state: "rejected" }, backends: { count: 1, state: "stale" } },
  });
  const [shown, ...more] = proxyStatuses([worker(1, { rejected: [rejection] }), late]);
  expect(more).toEqual([]);
  expect(shown).toMatchObject({
    ...{ proxy: "gateway.x", pid: 10, admin: "/run/x.sock", connected: true, since: 12, sent: 3, applied: 2 },
    types: { listeners: { count: 1, state: "rejected" }, backends: { count: 1, state: "stale" } },
    rejected: ["listeners http: in use"],
  });
  expect(shown!.workers).toMatchObject({ of: 2, present: [{ proxy: "gateway.x/1" }, { proxy: "gateway.x/2" }] });
});

test("of a name that has connected processes, those that went are not shown; the last one is, where there is none", () => {
  const gone = { connected: false, since: 5 };
  expect(proxyStatuses([state("gateway.x", 7, gone), worker(1), worker(2)]).map(({ pid }) => pid)).toEqual([10]);
  expect(proxyStatuses([worker(1), worker(2, gone)])[0]!.workers!.present.map(({ pid }) => pid)).toEqual([11]);
  expect(proxyStatuses([worker(1, gone), worker(2, gone)])).toMatchObject([{ proxy: "gateway.x", connected: false }]);
});

test("one that hands over and the one that it hands over to are two, the later one behind; other names are sorted", () => {
  const shown = proxyStatuses([worker(1), worker(2), state("gateway.x", 40), state("a", 50)]);
  expect(shown.map(({ proxy, pid }) => [proxy, pid])).toEqual([
    ["a", 50],
    ["gateway.x", 10],
    ["gateway.x", 40],
  ]);
});

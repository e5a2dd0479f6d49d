import { expect, test } from "bun:test";
import { Events } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { builtinScheme } from "../api/scheme.ts";
import { FakeClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import { openSqliteStore } from "../store/sqlite/sqlite-store.ts";
import { eventRecorder } from "./events.ts";

const service = { apiVersion: "v1", kind: "Service", metadata: { name: "cart", namespace: "default", uid: "u1" } };

function world() {
  const clock = new FakeClock();
  const store = openSqliteStore({ path: ":memory:", scheme: builtinScheme(), clock });
  const record = eventRecorder({ store, clock, log: silentLogger, component: "kube-proxy", host: "node-1" });
  const events = async (count: number, holds = (list: readonly KubeObject[]) => list.length >= count) => {
    for (let turn = 0; ; turn++) {
      const { items } = await store.list(Events);
      if (holds(items)) return items;
      if (turn > 1_000) throw new Error(`no such events: ${JSON.stringify(items)}`);
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  return { clock, store, record, events };
}

test("an event names its object, who says it and from where", async () => {
  const { record, events } = world();
  record(service, { type: "Warning", reason: "NoAddress", message: "none is free" });
  expect((await events(1))[0]).toMatchObject({
    involvedObject: { kind: "Service", namespace: "default", name: "cart", uid: "u1" },
    type: "Warning",
    reason: "NoAddress",
    message: "none is free",
    source: { component: "kube-proxy", host: "node-1" },
    count: 1,
  });
});

test("the same again raises the count, another message is another event", async () => {
  const { clock, record, events } = world();
  const one = { type: "Warning", reason: "NoAddress", message: "none is free" } as const;
  record(service, one);
  const first = (await events(1))[0]!;
  clock.advance(60_000);
  record(service, one);
  record(service, one);
  record(service, { ...one, message: "taken by another" });
  const all = await events(2, (list) => list.length === 2 && list.some((event) => event["count"] === 3));
  expect(all.find((event) => event["count"] === 3)).toMatchObject({
    metadata: { name: first.metadata.name },
    firstTimestamp: first["firstTimestamp"],
    lastTimestamp: "2026-01-01T00:01:00Z",
  });
});

test("an event that expired begins anew", async () => {
  const { store, record, events } = world();
  const one = { type: "Normal", reason: "A", message: "b" } as const;
  record(service, one);
  const first = (await events(1))[0]!;
  await store.delete({ resource: Events, namespace: "default", name: first.metadata.name });
  record(service, one);
  expect((await events(1))[0]).toMatchObject({ count: 1 });
});

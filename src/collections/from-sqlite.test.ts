// The collections against the real embedded store: nothing lost between list and watch, also when history expires.

import { expect, test } from "bun:test";
import { ConfigMaps } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { builtinScheme } from "../api/scheme.ts";
import { FakeClock } from "../base/clock.ts";
import { openSqliteStore } from "../store/sqlite/sqlite-store.ts";
import { fromStore } from "./from-store.ts";
import { createGraph } from "./graph.ts";

const configMap = (name: string, value = "1"): KubeObject => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name, namespace: "default" },
  data: { value },
});

test("a collection that follows the store holds, after every write, what a list gives", async () => {
  const store = openSqliteStore({ path: ":memory:", scheme: builtinScheme(), clock: new FakeClock() });
  const graph = createGraph();
  const collection = fromStore(store, ConfigMaps, { graph, namespace: "default" });
  const writes = Array.from({ length: 30 }, (_, n) => store.create(ConfigMaps, configMap(`c${n}`)));
  await Promise.all([...writes, collection.ready]);
  for (let n = 0; n < 30; n += 2) {
    await store.delete({ resource: ConfigMaps, namespace: "default", name: `c${n}` });
    const key = { resource: ConfigMaps, namespace: "default", name: `c${n + 1}` };
    await store.patch(key, { type: "merge", body: { data: { value: "2" } } });
  }
  await new Promise((resolve) => setImmediate(resolve));
  await graph.settled();
  const { items } = await store.list(ConfigMaps, { namespace: "default" });
  expect(new Map(collection.entries())).toEqual(new Map(items.map((one) => [`default/${one.metadata.name}`, one])));
  expect(collection.size).toBe(15);
  collection.dispose();
});

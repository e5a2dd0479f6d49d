// A process that writes until it is killed: creates, updates and deletes in turn, and says on stdout what has been
// acknowledged, one `VERB NAME RESOURCEVERSION` a line. Started by durability.test.ts.

import { writeSync } from "node:fs";
import { builtinScheme } from "../../src/api/scheme.ts";
import { openSqliteStore } from "../../src/store/sqlite/sqlite-store.ts";

const [path, count] = process.argv.slice(2) as [string, string];
const store = openSqliteStore({ path, scheme: builtinScheme() });
const configMaps = store.scheme.byKey("configmaps")!;

for (let i = 0; i < Number(count); i++) {
  const name = `c${Math.floor(i / 3)}`;
  const key = { resource: configMaps, namespace: "default", name };
  let verb = "create";
  let version: string | undefined;
  if (i % 3 === 0) {
    const object = {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name, namespace: "default" },
      data: { i: `${i}` },
    };
    version = (await store.create(configMaps, object)).metadata.resourceVersion;
  } else if (i % 3 === 1 || i % 2 === 0) {
    verb = "update";
    const patch = { type: "merge" as const, body: { data: { i: `${i}` } } };
    version = (await store.patch(key, patch)).metadata.resourceVersion;
  } else {
    verb = "delete";
    await store.delete(key);
    version = store.revision;
  }
  writeSync(1, `${verb} ${name} ${version}\n`);
}

// A real kube-proxy in the network namespace that this program runs in, fed by an API server of ours: what the comparison with
// it and `bench/sync` have in common. `howToBuild` says where its binary comes from; nothing here downloads one.

import type { KubeObject } from "../../src/api/object.ts";
import type { SqliteStore } from "../../src/store/sqlite/sqlite-store.ts";
import { startApiStack } from "../e2e/api-stack.ts";
import { node } from "./objects.ts";

export const version = "1.36.3";

export const howToBuild = `kube-proxy ${version} is built with Go: bash test/kube-proxy/build.sh FOLDER; then
  FAIRLEAD_KUBE_PROXY=FOLDER/kube-proxy names it.`;

/** The binary that the environment names. */
export const binary = process.env["FAIRLEAD_KUBE_PROXY"];

const marker = "FAIRLEAD_IN_NAMESPACE";

/**
 * Runs this very program again in a new network namespace with a link that has the node's addresses, and resolves with its exit
 * code; in there, resolves with undefined at once.
 */
export async function inNewNamespace(prefix: string): Promise<number | undefined> {
  if (process.env[marker]) return undefined;
  const name = `${prefix}${process.pid}`;
  const ip = (...words: string[]) => {
    const done = Bun.spawnSync(["ip", ...words], { stderr: "pipe" });
    if (done.exitCode !== 0) throw new Error(`ip ${words.join(" ")}: ${done.stderr}`);
  };
  ip("netns", "add", name);
  try {
    ip("-n", name, "link", "set", "lo", "up");
    ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0p");
    for (const link of ["eth0", "eth0p"]) ip("-n", name, "link", "set", link, "up");
    ip("-n", name, "addr", "add", `${node.addresses[0]}/24`, "dev", "eth0");
    ip("-n", name, "addr", "add", `${node.addresses[1]}/64`, "dev", "eth0", "nodad");
    const child = Bun.spawn(["ip", "netns", "exec", name, process.execPath, ...process.argv.slice(1)], {
      env: { ...process.env, [marker]: name },
      stdio: ["inherit", "inherit", "inherit"],
    });
    return await child.exited;
  } finally {
    Bun.spawnSync(["ip", "netns", "del", name]);
  }
}

export type Metrics = ReadonlyMap<string, number>;

export interface KubeProxy {
  readonly pid: number;
  /** By name with labels, without the prefix `kubeproxy_`. */
  metrics(): Promise<Metrics>;
  /** Resolves when all changes that it was told of are in the kernel. */
  settled(): Promise<void>;
  /** What it wrote to its log. */
  log(): string;
  stop(): Promise<void>;
}

export interface Cluster {
  readonly store: SqliteStore;
  /** With its status. */
  add(object: KubeObject): Promise<KubeObject>;
  /** Writes an object of which this name is there. */
  replace(object: KubeObject): Promise<KubeObject>;
  start(path: string, mode: string, flags?: readonly string[]): Promise<KubeProxy>;
  stop(): Promise<void>;
}

/** An API server with these objects, taken as they are. */
export async function startCluster(objects: readonly KubeObject[]): Promise<Cluster> {
  const stack = await startApiStack({ admissions: [] });
  const { store } = stack;
  const add = async (object: KubeObject) => {
    const resource = store.scheme.byKind(object.apiVersion, object.kind)!;
    const made = await store.create(resource, object);
    if (object["status"] === undefined) return made;
    return store.update(resource, { ...made, status: object["status"] }, { subresource: "status" });
  };
  for (const namespace of new Set(objects.flatMap(({ metadata }) => metadata.namespace ?? []))) {
    if (namespace === "default") continue;
    await add({ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
  }
  for (const object of objects) await add(object);
  return {
    store,
    add,
    async replace(object) {
      const resource = store.scheme.byKind(object.apiVersion, object.kind)!;
      const { namespace, name } = object.metadata;
      const now = await store.get({ resource, ...(namespace ? { namespace } : {}), name });
      return store.update(resource, {
        ...object,
        metadata: { ...now!.metadata, labels: object.metadata.labels ?? {} },
      });
    },
    start: (path, mode, flags = []) => startKubeProxy(path, stack.kubeconfig, mode, flags),
    stop: () => stack.stop(),
  };
}

async function startKubeProxy(
  path: string,
  kubeconfig: string,
  mode: string,
  flags: readonly string[],
): Promise<KubeProxy> {
  let log = "";
  const child = Bun.spawn(
    [
      path,
      ...["--kubeconfig", kubeconfig, "--hostname-override", node.name, "--proxy-mode", mode],
      // What is the machine's, and not a namespace's, is left as it is.
      ...["--conntrack-max-per-core", "0", "--oom-score-adj", "0"],
      ...flags,
    ],
    { stdout: "ignore", stderr: "pipe" },
  );
  void (async () => {
    const decoder = new TextDecoder();
    for await (const part of child.stderr) log += decoder.decode(part, { stream: true });
  })();
  const metrics = async (): Promise<Metrics> => {
    const text = await (await fetch("http://127.0.0.1:10249/metrics")).text();
    return new Map(
      [...text.matchAll(/^kubeproxy_(\S+) (\S+)$/gm)].map(([, name, value]) => [name!, Number(value)] as const),
    );
  };
  const settled = async () => {
    for (const end = Date.now() + 1_200_000; Date.now() < end; await Bun.sleep(50)) {
      if (child.exitCode !== null) throw new Error(`kube-proxy ended: ${log.slice(-2000)}`);
      const now = await metrics().catch(() => new Map<string, number>());
      const of = (name: string) =>
        [...now].flatMap(([key, value]) => (key === name || key.startsWith(`${name}{`) ? [value] : []));
      const synced = of("sync_proxy_rules_last_timestamp_seconds");
      const queued = of("sync_proxy_rules_last_queued_timestamp_seconds");
      const pending = of("sync_proxy_rules_service_changes_pending").concat(
        of("sync_proxy_rules_endpoint_changes_pending"),
      );
      // One of each family.
      const done = synced.length === 2 && synced.every((one, at) => one > 0 && one >= (queued[at] ?? 0));
      if (done && pending.every((one) => one === 0)) return;
    }
    throw new Error(`kube-proxy is not ready after twenty minutes: ${log.slice(-2000)}`);
  };
  return {
    pid: child.pid,
    metrics,
    settled,
    log: () => log,
    async stop() {
      child.kill();
      await child.exited;
    },
  };
}

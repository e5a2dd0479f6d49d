// Nodes and pods as network namespaces, from the agent's point of view: real namespaces, the real stand-in program, a real
// store. Needs root; makes only what is named `fl-t-…` and checks that nothing of it stays.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ConfigMaps, type Pod, Pods, Secrets } from "../../src/api/kinds.ts";
import { builtinScheme } from "../../src/api/scheme.ts";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { fromStore, type StoreCollection } from "../../src/collections/from-store.ts";
import { type NodeAgent, startNodeAgent } from "../../src/node/agent.ts";
import { NetnsNetwork, netnsSupport, removeByName } from "../../src/node/netns/netns-network.ts";
import type { NetworkRanges, NodePlace } from "../../src/node/network.ts";
import { PodLogFiles } from "../../src/node/pod-logs.ts";
import { StandInProcess } from "../../src/node/standin/stand-ins.ts";
import { openSqliteStore } from "../../src/store/sqlite/sqlite-store.ts";
import { hostState } from "./host-state.ts";
import { takeSlot } from "./stack.ts";

const support = netnsSupport();
if (!support.ok) console.log(`node e2e skipped: ${support.reason}`);

const slot = takeSlot();
const byte = {
  ...{ pods: slot.second, services: slot.second + 1, balancers: slot.second + 2, nodes: slot.second + 3 },
  other: takeSlot().second,
};
const own: NetworkRanges = {
  pods: `10.${byte.pods}.0.0/16`,
  services: `10.${byte.services}.0.0/16`,
  loadBalancers: `10.${byte.balancers}.0.0/16`,
  nodes: `10.${byte.nodes}.0.0/24`,
};
const ranges = [own];

async function until<T>(what: string, look: () => Promise<T | undefined> | T | undefined): Promise<T> {
  const end = Date.now() + 10_000;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > end) throw new Error(`never happened: ${what}`);
    await Bun.sleep(10);
  }
}

/** The end of a pod's namespace name. */
function sha(uid: string): string {
  return createHash("sha256").update(uid).digest("hex").slice(0, 8);
}

interface Stack {
  readonly network: NetnsNetwork;
  readonly places: readonly NodePlace[];
  readonly store: ReturnType<typeof openSqliteStore>;
  readonly pods: StoreCollection;
  readonly agents: NodeAgent[];
  readonly standIns: StandInProcess[];
  /** With `keepRunning`, as when the control process ends and what it started lives on. */
  readonly end: (options?: { keepRunning: boolean }) => Promise<void>;
}

async function startStack(
  name: string,
  stateDir: string,
  nodes: readonly string[],
  opened?: Stack["store"],
): Promise<Stack> {
  const network = new NetnsNetwork({ stack: name, stateDir, ranges, log: silentLogger });
  const places = await network.ensureNodes(nodes);
  const store =
    opened ?? openSqliteStore({ path: join(stateDir, "objects.db"), scheme: builtinScheme(), clock: systemClock });
  const [pods, configMaps, secrets] = [Pods, ConfigMaps, Secrets].map((kind) => fromStore(store, kind));
  await Promise.all([pods!.ready, configMaps!.ready, secrets!.ready]);
  const agents: NodeAgent[] = [];
  const standIns: StandInProcess[] = [];
  for (const place of places) {
    const folder = join(stateDir, place.name);
    const process = new StandInProcess({ node: place.name, stateDir: folder, log: silentLogger });
    process.start();
    standIns.push(process);
    agents.push(
      await startNodeAgent({
        place,
        version: "v1.36.0",
        store,
        pods: pods!,
        sources: { configMaps: configMaps!, secrets: secrets! },
        network,
        standIns: process,
        commands: [
          { pattern: "server", command: "exec sleep 1000" },
          {
            pattern: "reader",
            command: 'cat /config/greeting; echo "$USER_NAME $0 $1"; echo written > /config-copy; exec sleep 1000',
          },
        ],
        stateDir: folder,
        workingDir: stateDir,
        clock: systemClock,
        log: silentLogger,
        resolvConf: (pod) => ({
          text: `nameserver 10.${byte.services}.0.10\nsearch ${pod.metadata.namespace}.svc.cluster.local\n`,
          problems: [],
        }),
        endpointsGone: async () => {},
      }),
    );
  }
  return {
    network,
    places,
    store,
    pods: pods!,
    agents,
    standIns,
    async end({ keepRunning } = { keepRunning: false }) {
      for (const agent of agents) await agent.dispose();
      for (const process of standIns) {
        if (keepRunning) process.release();
        else await process.stop();
      }
      for (const collection of [pods, configMaps, secrets]) collection!.dispose();
      if (!keepRunning) store.close();
    },
  };
}

function podOn(
  node: string,
  name: string,
  spec: Record<string, unknown> = {},
  metadata: Record<string, unknown> = {},
): Pod {
  const containers = [{ name: "app", image: "example.com/app:1", ports: [{ containerPort: 80 }] }];
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { namespace: "default", name, labels: { app: name, version: "v1" }, ...metadata },
    spec: { nodeName: node, containers, ...spec },
  } as unknown as Pod;
}

describe.skipIf(!support.ok)("a node of namespaces", () => {
  const name = `t-node-${slot.tag}`;
  const stateDir = mkdtempSync(join(tmpdir(), "fl-t-node-"));
  let before = "";
  let stack: Stack;

  const running = (pod: string) =>
    until(`pod ${pod} is ready`, async () => {
      const found = (await stack.store.get({ resource: Pods, namespace: "default", name: pod })) as Pod | undefined;
      return found?.status?.conditions?.some((one) => one.type === "Ready" && one.status === "True")
        ? found
        : undefined;
    });

  beforeAll(async () => {
    await removeByName(name);
    before = await hostState(name);
    stack = await startStack(name, stateDir, ["node-1", "node-2"]);
  });

  afterAll(async () => {
    await stack.end();
    await stack.network.remove();
    rmSync(stateDir, { recursive: true, force: true });
  });

  test("pods become ready with addresses of their node's range, and answer as themselves", async () => {
    await stack.store.create(Pods, podOn("node-1", "one"));
    await stack.store.create(Pods, podOn("node-2", "two"));
    const [one, two] = [await running("one"), await running("two")];
    expect(one.status?.podIP).toStartWith(`10.${byte.pods}.0.`);
    expect(two.status?.podIP).toStartWith(`10.${byte.pods}.1.`);
    expect(one.status?.phase).toBe("Running");
    expect(one.status?.hostIP).toBe(`10.${byte.nodes}.0.1`);

    const answer = (await (await fetch(`http://${two.status?.podIP}/orders?id=7`)).json()) as Record<string, unknown>;
    expect(answer).toMatchObject({ pod: "two", namespace: "default", node: "node-2", version: "v1", method: "GET" });
    expect(answer).toMatchObject({ path: "/orders?id=7", client: `10.${byte.nodes}.0.254`, ip: two.status?.podIP });
  });

  test("a pod sees another pod's own address, across nodes", async () => {
    const [one, two] = [await running("one"), await running("two")];
    const result = await stack.network.run({ pod: one.metadata.uid! }, ["curl", "-s", `http://${two.status?.podIP}/`]);
    expect(JSON.parse(result.stdout)).toMatchObject({ pod: "two", client: one.status?.podIP });
  });

  test("a load-balancer address and a Service address without a listener are refused at once", async () => {
    const one = await running("one");
    for (const address of [`10.${byte.balancers}.0.9`, `10.${byte.services}.0.9`]) {
      const started = performance.now();
      const result = await stack.network.run({ pod: one.metadata.uid! }, ["curl", "-s", "-m5", `http://${address}/`]);
      expect(result.exitCode).toBe(7);
      expect(performance.now() - started).toBeLessThan(1000);
    }
  });

  test("commands in a pod have the cluster's DNS", async () => {
    const one = await running("one");
    const result = await stack.network.run({ pod: one.metadata.uid! }, ["cat", "/etc/resolv.conf"]);
    expect(result.stdout).toBe(`nameserver 10.${byte.services}.0.10\nsearch default.svc.cluster.local\n`);
  });

  test("a deleted pod finishes what is under way, and is gone with its sandbox", async () => {
    await stack.store.create(Pods, podOn("node-1", "leaving"));
    const pod = await running("leaving");
    const slow = fetch(`http://${pod.status?.podIP}/?delay=300ms`);
    await Bun.sleep(50);
    await stack.store.delete({ resource: Pods, namespace: "default", name: "leaving" });
    expect((await slow).status).toBe(200);
    await until("the object is gone", async () => {
      const found = await stack.store.get({ resource: Pods, namespace: "default", name: "leaving" });
      return found ? undefined : true;
    });
    expect((await Bun.$`ip netns`.text()).includes(`fl-${name}.p-leaving`)).toBe(false);
  });

  test("a container whose image has a command runs it in the pod", async () => {
    const containers = [{ name: "app", image: "docker.io/library/server:2" }];
    await stack.store.create(Pods, podOn("node-1", "command", { containers }));
    const pod = await running("command");
    expect(pod.status?.containerStatuses?.[0]?.state?.running).toBeDefined();
    await stack.store.delete({ resource: Pods, namespace: "default", name: "command" });
    await until("the object is gone", async () => {
      const found = await stack.store.get({ resource: Pods, namespace: "default", name: "command" });
      return found ? undefined : true;
    });
  });

  test("a command has its environment, its volumes at their paths, and a log; the machine's files stay as they are", async () => {
    await stack.store.create(ConfigMaps, {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { namespace: "default", name: "texts" },
      data: { greeting: "hello from a volume\n", user: "ada" },
    });
    const containers = [
      {
        name: "app",
        image: "reader:1",
        command: ["serve"],
        env: [{ name: "USER_NAME", valueFrom: { configMapKeyRef: { name: "texts", key: "user" } } }],
        volumeMounts: [{ name: "texts", mountPath: "/config" }],
      },
    ];
    const volumes = [{ name: "texts", configMap: { name: "texts" } }];
    await stack.store.create(Pods, podOn("node-1", "reader", { containers, volumes }));
    const pod = await running("reader");
    const logs = new PodLogFiles({ pods: stack.pods, stateDir: (node) => join(stateDir, node) });
    const text = await until("the command has written", () => {
      let read = "";
      const sink = {
        write(chunk: string | Uint8Array) {
          read += Buffer.from(chunk).toString();
          return true;
        },
        end() {},
        onDrain() {},
      };
      const request = { container: "app", follow: false, previous: false, timestamps: false };
      logs.open({ namespace: "default", name: "reader", uid: pod.metadata.uid! }, request, sink);
      return read.includes("serve") ? read : undefined;
    });
    expect(text).toBe("hello from a volume\nada app serve\n");
    expect(existsSync("/config")).toBe(false);
    expect(existsSync("/config-copy")).toBe(false);
  });

  test("a command is ready when its probe says so, and is started again when it dies", async () => {
    const app = `exec ${process.execPath} -e 'setTimeout(() => Bun.serve({ port: 8080, fetch: () => new Response("ok") }), 300)'`;
    const readinessProbe = { httpGet: { port: 8080 }, periodSeconds: 1 };
    const containers = [{ name: "app", image: "example.com/app:1", readinessProbe }];
    const annotations = { "fairlead.dev/command": app };
    await stack.store.create(Pods, podOn("node-1", "probed", { containers }, { annotations }));
    const look = async () =>
      (await stack.store.get({ resource: Pods, namespace: "default", name: "probed" })) as Pod | undefined;
    const started = await until("it runs", async () => {
      const found = await look();
      return found?.status?.containerStatuses?.[0]?.state?.running ? found : undefined;
    });
    expect(started.status?.containerStatuses?.[0]?.ready).toBe(false);
    const ready = await running("probed");
    expect(await (await fetch(`http://${ready.status?.podIP}:8080/`)).text()).toBe("ok");
    const netns = `fl-${name}.p-probed-${sha(ready.metadata.uid!)}`;
    for (const pid of (await Bun.$`ip netns pids ${netns}`.text()).trim().split("\n"))
      process.kill(Number(pid), "SIGKILL");
    await until("it runs again", async () => {
      const status = (await look())?.status?.containerStatuses?.[0];
      return status?.restartCount === 1 && status.state?.running ? true : undefined;
    });
    const again = await running("probed");
    expect(again.status?.containerStatuses?.[0]?.lastState?.terminated).toMatchObject({ exitCode: 137, signal: 9 });
  });

  test("a link that somebody deleted is made again by the next start", async () => {
    await Bun.$`ip link del fl-${name}.h`;
    await stack.network.ensureNodes(["node-1", "node-2"]);
    const two = await running("two");
    expect((await fetch(`http://${two.status?.podIP}/`)).status).toBe(200);
  });

  test("pods, their connections and commands outlive the agent; the next one finds them", async () => {
    const before = await running("one");
    const command = await running("reader");
    const ports = await Bun.$`ip netns pids ${`fl-${name}.p-reader-${sha(command.metadata.uid!)}`}`.text();
    let answers = 0;
    const connection = await Bun.connect({
      hostname: before.status!.podIP!,
      port: 80,
      socket: {
        data() {
          answers++;
        },
      },
    });
    const request = "GET / HTTP/1.1\r\nHost: one\r\n\r\n";
    connection.write(request);
    await until("an answer", () => answers === 1 || undefined);
    await stack.end({ keepRunning: true });
    stack = await startStack(name, stateDir, ["node-1", "node-2"], stack.store);
    const after = await running("one");
    expect(after.status?.podIP).toBe(before.status?.podIP);
    expect(after.status?.containerStatuses).toEqual(before.status?.containerStatuses);
    connection.write(request);
    await until("an answer on the same connection", () => answers === 2 || undefined);
    connection.end();
    expect(await Bun.$`ip netns pids ${`fl-${name}.p-reader-${sha(command.metadata.uid!)}`}`.text()).toBe(ports);
    expect((await running("reader")).status?.containerStatuses?.[0]?.restartCount).toBe(0);
  });

  test("a stand-in process that is killed is back at once", async () => {
    const pod = await running("one");
    const pid = stack.standIns[0]!.process().pid!;
    process.kill(pid, "SIGKILL");
    await until("the process is dead", () => stack.standIns[0]!.process().pid !== pid || undefined);
    const killed = performance.now();
    await until("it answers", () =>
      fetch(`http://${pod.status?.podIP}/`).then(
        (response) => response.ok || undefined,
        () => undefined,
      ),
    );
    expect(performance.now() - killed).toBeLessThan(1000);
  });

  test("what is lost of the network is made again by the next start, and stand-ins serve in it", async () => {
    await stack.end({ keepRunning: true });
    await Bun.$`ip netns del fl-${name}.fabric`;
    stack = await startStack(name, stateDir, ["node-1", "node-2"], stack.store);
    const two = await running("two");
    await until("it answers", () =>
      fetch(`http://${two.status?.podIP}/`, { signal: AbortSignal.timeout(500) }).then(
        (response) => response.ok || undefined,
        () => undefined,
      ),
    );
  });

  test("removal leaves the machine as it was", async () => {
    await stack.end();
    await stack.network.remove();
    expect(await hostState(name)).toBe(before);
    expect(existsSync(`/etc/netns/fl-${name}.p-one`)).toBe(false);
  });
});

describe.skipIf(!support.ok)("a start that failed half-way", () => {
  test("is removed by name alone", async () => {
    const name = `t-half-${slot.tag}`;
    await removeByName(name);
    const before = await hostState(name);
    await Bun.$`ip netns add fl-${name}.fabric`;
    await Bun.$`ip netns add fl-${name}.n-node-1`;
    await Bun.$`ip link add fl-${name}.h type veth peer name host0 netns fl-${name}.fabric`;
    await removeByName(name);
    expect(await hostState(name)).toBe(before);
  });

  test("is finished by the next start", async () => {
    const name = `t-half-${slot.tag}`;
    const stateDir = mkdtempSync(join(tmpdir(), "fl-t-half-"));
    const before = await hostState(name);
    await Bun.$`ip netns add fl-${name}.n-node-1`;
    const network = new NetnsNetwork({ stack: name, stateDir, ranges, log: silentLogger });
    await network.ensureNodes(["node-1"]);
    const result = await network.run({ node: "node-1" }, ["ip", "route", "get", `10.${byte.nodes}.0.254`]);
    expect(result.stdout).toContain(`via 10.${byte.nodes}.0.253 dev eth0`);
    await network.remove();
    expect(await hostState(name)).toBe(before);
    rmSync(stateDir, { recursive: true, force: true });
  });

  test("a range that overlaps a route of the machine is refused before anything is made", async () => {
    const stateDir = mkdtempSync(join(tmpdir(), "fl-t-range-"));
    // On a link whose name says that it is a test's: others look at the machine's routes meanwhile.
    const link = `fl-t-r${slot.tag}`;
    await Bun.$`ip link add ${link} up type veth peer name ${link}2`;
    await Bun.$`ip route add 10.${byte.other}.3.0/24 dev ${link}`;
    try {
      const taken = [{ ...own, pods: `10.${byte.other}.0.0/16` }];
      const network = new NetnsNetwork({ stack: `t-range-${slot.tag}`, stateDir, ranges: taken, log: silentLogger });
      expect(network.ensureNodes(["node-1"])).rejects.toThrow(
        `the pod range 10.${byte.other}.0.0/16 overlaps the route 10.${byte.other}.3.0/24 dev ${link} of this machine`,
      );
      expect(await hostState(`t-range-${slot.tag}`)).not.toContain("fl-t-range");
    } finally {
      await Bun.$`ip link del ${link}`;
      rmSync(stateDir, { recursive: true, force: true });
    }
  });
});

// Cluster DNS at 10,000 Services, ours and CoreDNS side by side over the same API server: queries a CPU second of each server's
// process, latency, the time from a change to its answer, and p99 while 10,000 Services change. Runs take turns, a few
// seconds each. Usage: COREDNS=/path/to/coredns bun bench/dns/run.ts [SECONDS [ROUNDS]]; without CoreDNS only ours is measured.

import { createSocket } from "node:dgram";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { encode } from "dns-packet";
import { ConfigMaps, EndpointSlices, Namespaces, Nodes, Pods, Services } from "../../src/api/kinds.ts";
import type { KubeObject } from "../../src/api/object.ts";
import { createLogger } from "../../src/base/log.ts";
import { fromStore } from "../../src/collections/from-store.ts";
import { defaultConfig } from "../../src/dns/config.ts";
import { serviceNamesCollection } from "../../src/dns/names.ts";
import { dnsArgv } from "../../src/dns/process.ts";
import { zoneFeed } from "../../src/dns/zone-changes.ts";
import { serveZone } from "../../src/dns/zone-server.ts";
import { serviceInputs } from "../../src/services/inputs.ts";
import { startApiStack } from "../../test/e2e/api-stack.ts";
import { quantile } from "../statistics.ts";

const seconds = Number(process.argv[2] ?? 3);
const rounds = Number(process.argv[3] ?? 3);
const serviceCount = 10_000;
const coredns = process.env["COREDNS"] ?? Bun.which("coredns");
const folder = mkdtempSync(join(tmpdir(), "fl-t-bench-dns-"));
const root = join(import.meta.dir, "../..");
const ends: (() => unknown)[] = [() => rmSync(folder, { recursive: true, force: true })];

/** CPU time that a process has used, in seconds (proc(5), fields 14 and 15, in ticks of 10 ms). */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function residentMegabytes(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) / 1024;
}

async function freePort(): Promise<number> {
  const socket = createSocket("udp4");
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  const { port } = socket.address();
  socket.close();
  return port;
}

interface Server {
  readonly name: string;
  readonly pid: number;
  readonly port: number;
}

interface Load {
  readonly answered: number;
  readonly wrong: number;
  readonly lost: number;
  readonly perSecond: number;
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/**
 * What the client waits for a processor is not the server's time, and our server prefers itself (`src/dns/priority.ts`): its peer
 * may, too. Each is a session of its own, as sessions are what the scheduler compares.
 */
function preferred(nice: number): string[] {
  if (process.getuid?.() !== 0) return [];
  return ["nice", "-n", String(nice), "sh", "-c", `echo ${nice} >/proc/self/autogroup; exec "$@"`, "sh"];
}

const names = join(folder, "names");

async function load(server: Server, duration: number, underWay: number, perSecond = 0): Promise<Load> {
  const words = ["127.0.0.1", server.port, names, duration, underWay, perSecond].map(String);
  const client = [process.execPath, join(import.meta.dir, "client.ts"), ...words];
  const child = Bun.spawn([...preferred(-10), ...client], { stdout: "pipe", detached: true });
  return JSON.parse(await new Response(child.stdout).text());
}

/** Milliseconds until a name is answered with an address. */
async function untilAnswered(server: Server, name: string): Promise<number> {
  const message = encode({ type: "query", id: 1, flags: 0x0100, questions: [{ name, type: "A" }] });
  const began = performance.now();
  const done = Promise.withResolvers<void>();
  const socket = await Bun.udpSocket({
    connect: { hostname: "127.0.0.1", port: server.port },
    socket: {
      data(_socket, reply) {
        if (reply.readUInt16BE(6) > 0) done.resolve();
      },
      error() {}, // nobody listens yet
    },
  });
  const timer = setInterval(() => socket.send(message), 1);
  const limit = setTimeout(() => done.reject(new Error(`${server.name}: no answer for ${name}`)), 20_000);
  await done.promise.finally(() => {
    clearInterval(timer);
    clearTimeout(limit);
    socket.close();
  });
  return performance.now() - began;
}

const service = (n: number, port = 80): KubeObject => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: `service-${n}`, namespace: `team-${n % 20}` },
  spec: {
    clusterIP: `10.96.${Math.floor(n / 250) + 1}.${(n % 250) + 1}`,
    ports: [{ name: "http", port, targetPort: 8080 }],
  },
});
const slice = (n: number): KubeObject => ({
  apiVersion: "discovery.k8s.io/v1",
  kind: "EndpointSlice",
  metadata: {
    name: `service-${n}`,
    namespace: `team-${n % 20}`,
    labels: { "kubernetes.io/service-name": `service-${n}` },
  },
  addressType: "IPv4",
  ports: [{ name: "http", port: 8080, protocol: "TCP" }],
  endpoints: [1, 2].map((at) => ({
    addresses: [`10.${100 + at}.${n >> 8}.${n & 255}`],
    conditions: { ready: true, serving: true, terminating: false },
  })),
});

try {
  const api = await startApiStack();
  ends.push(() => api.stop());
  const { store } = api;
  for (let n = 0; n < 20; n++)
    await store.create(Namespaces, { apiVersion: "v1", kind: "Namespace", metadata: { name: `team-${n}` } });
  for (let n = 0; n < serviceCount; n++) {
    await store.create(Services, service(n));
    await store.create(EndpointSlices, slice(n));
  }
  const all = Array.from({ length: serviceCount }, (_, n) => `service-${n}.team-${n % 20}.svc.cluster.local`);
  // In an order without a pattern, the same in each run.
  const shuffledNames = all.map((name, n) => ({ name, at: (n * 7919) % serviceCount })).sort((a, b) => a.at - b.at);
  writeFileSync(names, shuffledNames.map(({ name }) => name).join("\n"));

  // Ours: the process of a stack, fed by this one in the control process's place.
  const objects = {
    services: fromStore(store, Services),
    endpointSlices: fromStore(store, EndpointSlices),
    pods: fromStore(store, Pods),
    nodes: fromStore(store, Nodes),
    namespaces: fromStore(store, Namespaces),
    configMaps: fromStore(store, ConfigMaps),
  };
  await Promise.all(Object.values(objects).map((one) => one.ready));
  const inputs = serviceInputs(objects);
  const serviceNames = serviceNamesCollection(inputs.resolved);
  while (![...serviceNames.keys()].some((key) => key.endsWith(`/service-${serviceCount - 1}`))) await Bun.sleep(10);
  const feed = zoneFeed({
    names: serviceNames,
    namespaces: objects.namespaces,
    pods: objects.pods,
    slices: inputs.slicesByService,
  });
  const control = join(folder, "dns.sock");
  const log = createLogger((line) => console.error(line), "warn");
  const config = { ...defaultConfig, forward: { to: "nobody" } } as const;
  const zone = serveZone({ path: control, feed, config, program: "bench", log });
  ends.push(() => zone.dispose());
  const port = await freePort();
  const began = performance.now();
  const child = Bun.spawn(
    [
      process.execPath,
      join(root, "src/cluster/dns-main.ts"),
      ...dnsArgv({
        ...{ control, snapshot: join(folder, "zone"), addresses: ["127.0.0.1"], port, metricsPort: await freePort() },
        ...{ program: "bench", clients: [], ownAddresses: [] },
        netns: undefined,
      }),
    ],
    // As its supervisor does: in a session of its own.
    { stderr: "ignore", detached: true },
  );
  ends.push(() => child.kill());
  await zone.connected();
  const startUp = performance.now() - began;
  await zone.settled();
  const servers: Server[] = [{ name: "fairlead", pid: child.pid, port }];

  let note = "";
  if (coredns) {
    const peerPort = await freePort();
    // kubeadm's, without what listens elsewhere or asks elsewhere.
    writeFileSync(
      join(folder, "Corefile"),
      `.:${peerPort} {
    bind 127.0.0.1
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       kubeconfig ${api.kubeconfig}
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus 127.0.0.1:${await freePort()}
    cache 30 {
       disable denial cluster.local
    }
    loadbalance
}
`,
    );
    const peer = Bun.spawn([...preferred(-10), coredns, "-conf", join(folder, "Corefile")], {
      stdout: "ignore",
      stderr: "ignore",
      detached: true,
    });
    ends.push(() => peer.kill());
    const peerServer = { name: "coredns", pid: peer.pid, port: peerPort };
    await untilAnswered(peerServer, all.at(-1)!);
    servers.push(peerServer);
  } else note = "CoreDNS is not there: set COREDNS to its path (go install github.com/coredns/coredns@latest)";

  const out: string[] = [];
  const say = (line: string) => {
    out.push(line);
    console.log(line);
  };
  say(`${serviceCount} Services, A questions for their names over UDP, 32 under way, ${rounds} x ${seconds} s each`);
  say(`${cpus().length} x ${cpus()[0]?.model}; shared with other work`);
  if (note) say(note);
  say(`start to listening: ${startUp.toFixed(0)} ms`);
  const perCpu = new Map<string, number[]>(servers.map(({ name }) => [name, []]));
  const runs = new Map<string, Load[]>(servers.map(({ name }) => [name, []]));
  for (const server of servers) await load(server, 1, 32); // what a server learns at first is not its pace
  for (let round = 0; round < rounds; round++) {
    for (const server of servers) {
      const before = cpuSeconds(server.pid);
      const one = await load(server, seconds, 32);
      if (one.wrong > 0) throw new Error(`${server.name}: ${one.wrong} of ${one.answered} answers are wrong`);
      perCpu.get(server.name)!.push(one.answered / (cpuSeconds(server.pid) - before));
      runs.get(server.name)!.push(one);
    }
  }
  const median = (values: readonly number[]) => quantile(values, 0.5);
  for (const { name, pid } of servers) {
    const ofRuns = (field: "perSecond" | "p50" | "p99") => median(runs.get(name)!.map((one) => one[field]));
    say(
      `${name}: ${median(perCpu.get(name)!).toFixed(0)} queries a CPU second, ${ofRuns("perSecond").toFixed(0)} a second, ` +
        `p50 ${ofRuns("p50").toFixed(2)} ms, p99 ${ofRuns("p99").toFixed(2)} ms, ` +
        `lost ${runs.get(name)!.reduce((sum, one) => sum + one.lost, 0)}, ${residentMegabytes(pid).toFixed(0)} MB resident`,
    );
  }
  if (servers.length > 1) {
    const ratio = median(perCpu.get("fairlead")!) / median(perCpu.get("coredns")!);
    say(`queries a CPU second, fairlead / coredns: ${ratio.toFixed(2)}x (aim: at least 1x)`);
  }

  for (const server of servers) {
    const times: number[] = [];
    for (let n = 0; n < 20; n++) {
      const name = `new-${server.name}-${n}`;
      const clusterIP = `10.96.200.${(server.name === "coredns" ? 100 : 1) + n}`;
      const made = {
        ...service(0),
        metadata: { name, namespace: "team-0" },
        spec: { clusterIP, ports: [{ port: 80 }] },
      };
      const written = store.create(Services, made);
      times.push(await untilAnswered(server, `${name}.team-0.svc.cluster.local`));
      await written;
    }
    say(
      `${server.name}: answered after a change: p50 ${median(times).toFixed(1)} ms, max ${Math.max(...times).toFixed(1)} ms` +
        `${server.name === "fairlead" ? " (aim: at most 50 ms)" : " (its cache keeps no denials here)"}`,
    );
  }

  for (const server of servers) {
    const loading = load(server, 6, 32, 2_000);
    await Bun.sleep(500);
    const changing = performance.now();
    for (let n = 0; n < serviceCount; n++) {
      const { metadata, ...rest } = service(n, server.name === "coredns" ? 82 : 81);
      const { namespace = "", name } = metadata;
      const patch = { type: "merge", body: { spec: { ports: rest["spec"].ports } } } as const;
      await store.patch({ resource: Services, namespace, name }, patch);
    }
    const took = performance.now() - changing;
    const one = await loading;
    say(
      `${server.name}: while ${serviceCount} Services change (in ${(took / 1000).toFixed(1)} s), 2,000 questions a second: ` +
        `p50 ${one.p50.toFixed(2)} ms, p99 ${one.p99.toFixed(2)} ms, max ${one.max.toFixed(1)} ms, lost ${one.lost}` +
        `${server.name === "fairlead" ? " (aim: p99 at most 10 ms)" : ""}`,
    );
  }
  writeFileSync(join(import.meta.dir, "last.txt"), `${out.join("\n")}\n`);
} finally {
  for (const end of ends.reverse()) await end();
}
process.exit(0);

// The proxies of a soak, fed by the real distribution: `steady`, one process that lives as long as the soak and whose memory is
// measured, and `restless`, two workers of which one after the other is asked to end, and which is handed over as a whole.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Subprocess } from "bun";
import { createGraph } from "../../src/collections/graph.ts";
import { Distribution, listenerStateSource, type ProxyState } from "../../src/distribution/distribution.ts";
import { serveProxies } from "../../src/distribution/proxy-server.ts";
import { type ModelSources, modelSources } from "../../src/distribution/testing/model-sources.ts";

const program = join(import.meta.dir, "../../src/proxy/main.ts");
export const names = ["steady", "restless"] as const;
export type ProxyName = (typeof names)[number];
const workers = { steady: 1, restless: 2 } as const;
const drain = 10_000;

export class Proxies {
  readonly model: ModelSources;
  /** Workers that ended and compositions that were handed over. */
  readonly restarts = { workers: 0, handOvers: 0 };
  readonly #folder: string;
  readonly #distribution: Distribution;
  readonly #control: ReturnType<typeof serveProxies>;
  readonly #running = new Map<ProxyName, Subprocess>();
  #turn = 0;

  constructor(folder: string) {
    this.#folder = folder;
    const graph = createGraph();
    this.model = modelSources(graph);
    this.#distribution = new Distribution(this.model, { listenerStates: listenerStateSource({ graph }) });
    this.#control = serveProxies({ path: join(folder, "control.sock"), distribution: this.#distribution });
  }

  /** The connected processes of a proxy, or of one composition of it. */
  states(name: ProxyName, pid?: number): readonly ProxyState[] {
    return this.#distribution
      .proxyStates()
      .filter(
        (state) =>
          state.connected &&
          (state.composition?.name ?? state.proxy) === name &&
          (pid === undefined || (state.composition?.pid ?? state.pid) === pid),
      );
  }

  /** What any of them refuses. */
  refused(): string[] {
    return names
      .flatMap((name) => this.states(name))
      .flatMap(({ rejected }) => rejected.map((one) => JSON.stringify(one)));
  }

  async start(name: ProxyName): Promise<void> {
    const path = (file: string) => join(this.#folder, `${name}-${file}`);
    const child = Bun.spawn(
      [
        ...[process.execPath, program, "--control", join(this.#folder, "control.sock"), "--name", name],
        ...["--scopes", name, "--admin", path("admin.sock"), "--state", path("state.json"), "--log-level", "error"],
        ...["--workers", String(workers[name]), "--drain", String(drain)],
      ],
      { stdin: "ignore", stdout: "ignore", stderr: "inherit" },
    );
    await eventually(`${name} ${child.pid} serves`, () => {
      const states = this.states(name, child.pid);
      return states.length === workers[name] && states.every(isServing);
    });
    this.#running.set(name, child);
  }

  /** Starts another process beside the one there is, then asks that to finish. */
  async handOver(name: ProxyName): Promise<void> {
    const before = this.#running.get(name)!;
    await this.start(name);
    this.#control.drain(drain, { proxy: name, pid: before.pid }, workers[name]);
    const code = await before.exited;
    if (code !== 0) throw new Error(`the process that was handed over ended with ${code}`);
    this.restarts.handOvers++;
  }

  /** One of the workers is asked to end; resolves when another serves in its place. */
  async restartWorker(name: ProxyName): Promise<void> {
    const first = this.#running.get(name)!.pid;
    const all = this.states(name, first);
    const one = all[this.#turn++ % all.length]!;
    process.kill(one.pid!, "SIGTERM");
    await eventually(`another worker serves in place of ${one.pid}`, () => {
      const states = this.states(name, first).filter(({ pid }) => pid !== one.pid);
      return states.length === workers[name] && states.every(isServing);
    });
    this.restarts.workers++;
  }

  /** Resident memory of each process that serves, in MiB. */
  memory(name: ProxyName): number[] {
    return this.states(name).flatMap(({ pid }) => {
      try {
        const status = readFileSync(`/proc/${pid}/status`, "utf8");
        return [Number(/VmRSS:\s+(\d+) kB/.exec(status)![1]) / 1024];
      } catch {
        return [];
      }
    });
  }

  /** Whether `steady` has ended, which it never should. */
  get died(): boolean {
    return this.#running.get("steady")?.exitCode !== null;
  }

  async stop(): Promise<void> {
    for (const child of this.#running.values()) {
      child.kill("SIGTERM");
      await child.exited;
    }
    this.#control.dispose();
    this.#distribution.dispose();
  }
}

function isServing({ versionApplied, types }: ProxyState): boolean {
  return versionApplied > 0 && types.listeners.count > 0 && types.listeners.state !== "rejected";
}

async function eventually(what: string, holds: () => boolean): Promise<void> {
  const end = Date.now() + 60_000;
  while (!holds()) {
    if (Date.now() > end) throw new Error(`not within a minute: ${what}`);
    await Bun.sleep(20);
  }
}

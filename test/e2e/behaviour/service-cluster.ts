// The stack that the Service cases run on: three nodes with a client pod each (`default/client-1` on node-1 …) and the host as
// the world outside. Every case uses names of its own, so that many share one stack.

import { expect, test } from "bun:test";
import { join } from "node:path";
import { ApiClient } from "../../../src/store/remote/api-client.ts";
import { readKubeconfig } from "../../../src/store/remote/kubeconfig.ts";
import { Cluster, podYaml } from "../cluster.ts";
import { eventually } from "../stack.ts";

/** This process's own network: the client outside of the cluster. */
export const host = "host";

/** Cases at a time, and how long a change may take until it is seen, in milliseconds; ipvs runs on a slow machine of one processor. */
const usual = { atOnce: 5, patience: 10_000, connect: 700 };
const slow = { atOnce: 2, patience: 40_000, connect: 2_500 };

export class ServiceCluster extends Cluster {
  readonly mode: string;
  /** Of all cases, those that run; all unless given. */
  readonly #chosen: ((title: string) => boolean) | undefined;
  readonly #pace: typeof usual;
  #running = 0;
  readonly #under = new Set<Promise<void>>();
  #api: ApiClient | undefined;

  constructor(mode: string, chosen?: (title: string) => boolean) {
    super(`svc-${mode.slice(0, 3)}`, "ipv4", mode === "userspace" ? "loopback" : "netns");
    this.mode = mode;
    this.#chosen = chosen;
    this.#pace = mode === "ipvs" ? slow : usual;
  }

  /** Registers a case. A few run at a time, for they mostly wait. */
  case(title: string, work: () => Promise<void>): void {
    if (this.#chosen?.(title) === false) return;
    const run = async () => {
      while (this.#running >= this.#pace.atOnce) await Promise.race(this.#under);
      this.#running++;
      const end = Promise.withResolvers<void>();
      this.#under.add(end.promise);
      try {
        await work();
      } finally {
        this.#running--;
        this.#under.delete(end.promise);
        end.resolve();
      }
    };
    test.concurrent(title, run, 120_000);
  }

  async begin(): Promise<void> {
    const clients = [1, 2, 3].map((n) => podYaml(`client-${n}`, { app: "client", node: `node-${n}`, ports: [] }));
    await this.start(
      clients.join(""),
      "--nodes",
      "3",
      ...(this.mode === "userspace" ? [] : ["--proxy-mode", this.mode]),
    );
  }

  override async place(target: string): Promise<string> {
    return target === host || this.mode === "userspace" ? "/proc/self/ns/net" : await super.place(target);
  }

  /** Waits until the control process is back. */
  async answersAgain(): Promise<void> {
    const back = async () => {
      await this.control.execPlan("node/node-1");
      return (await this.get("Service", "kubernetes")) !== undefined;
    };
    expect(
      await eventually(
        () => back().catch(() => false),
        (answers) => answers,
        20_000,
      ),
    ).toBe(true);
  }

  node(n: number): string {
    return this.nodes.get(`node-${n}`)!;
  }

  /** Makes or changes a Service; gives it as it is then. */
  async service(name: string, spec: Record<string, unknown>, metadata: Record<string, unknown> = {}): Promise<any> {
    const object = { apiVersion: "v1", kind: "Service", metadata: { name, ...metadata }, spec };
    return (await this.apply(JSON.stringify(object)))[0];
  }

  /** The address that the host's packets come from. */
  get hostAddress(): string {
    const options = this.stack.rangeOptions;
    return options[options.indexOf("--node-cidr") + 1]!.replace(/\.0\/24$/, ".254");
  }

  /** One call of the API server. Throws what it refuses. */
  raw(method: string, path: string, body?: unknown): Promise<any> {
    this.#api ??= new ApiClient(readKubeconfig(join(this.stack.home, this.stack.name, "kubeconfig")), "e2e");
    return this.#api.json(method, path, body === undefined ? {} : { body: JSON.stringify(body) });
  }

  /** A pod that goes on serving when it is told to end, and waits until it is ready. `more` goes into its container. */
  async lingering(name: string, app: string, node: string, more = ""): Promise<void> {
    const command = `exec ${process.execPath} ${join(import.meta.dir, "lingering-server.ts")} ${name} 8080`;
    const env = "env: [{ name: POD_IP, valueFrom: { fieldRef: { fieldPath: status.podIP } } }]";
    const probe = more || "readinessProbe: { httpGet: { path: /, port: 8080 } }";
    await this.apply(`
apiVersion: v1
kind: Pod
metadata: { name: ${name}, labels: { app: ${app} }, annotations: { fairlead.dev/command: ${JSON.stringify(command)} } }
spec:
  nodeName: ${node}
  terminationGracePeriodSeconds: 60
  containers: [{ name: main, image: example.org/lingering, ports: [{ containerPort: 8080 }], ${env}, ${probe} }]
`);
    await this.ready(name);
  }

  /** Ends a pod at once. */
  async end(name: string): Promise<void> {
    await this.delete("Pod", name, 0);
    await this.gone("Pod", name);
  }

  /** Waits until the only endpoint of a Service is said to be so. */
  async conditions(service: string, wanted: Record<string, boolean>): Promise<void> {
    const found = await this.#eventually(
      async () => {
        const slices = await this.list("EndpointSlice", `kubernetes.io/service-name=${service}`);
        return slices.flatMap((slice) => slice.endpoints ?? []).map((one: any) => one.conditions);
      },
      (list) => list.length === 1 && Bun.deepEquals(list[0], wanted),
    );
    expect(found).toEqual([wanted]);
  }

  /** The status code that an HTTP server answers with, or the error's. */
  async status(target: string, address: string, port: number): Promise<number | string> {
    return await this.inside(target, () =>
      fetch(`http://${address}:${port}/`, { keepalive: false, signal: AbortSignal.timeout(1_000) }).then(
        (answer) => answer.status,
        (error) => (error.code === "ConnectionRefused" ? "ECONNREFUSED" : String(error.code ?? error.message)),
      ),
    );
  }

  /** Makes stand-ins; `options` as `podYaml` takes them, by name. */
  async applyPods(pods: Record<string, Parameters<typeof podYaml>[1]>): Promise<void> {
    await this.apply(
      Object.entries(pods)
        .map(([name, options]) => podYaml(name, options))
        .join(""),
    );
  }

  /** Makes stand-ins and waits until they are ready. */
  async pods(pods: Record<string, Parameters<typeof podYaml>[1]>): Promise<void> {
    await this.applyPods(pods);
    for (const name of Object.keys(pods)) await this.ready(name);
  }

  /** The address that a LoadBalancer Service got. */
  async loadBalancer(name: string): Promise<string> {
    const service = await this.#eventually(
      () => this.get("Service", name),
      (one) => one.status.loadBalancer?.ingress?.[0]?.ip !== undefined,
    );
    return service.status.loadBalancer.ingress[0].ip;
  }

  /** Waits until exactly these pods answer from `target`, and fails with those that do otherwise. */
  async reaches(target: string, address: string, port: number, pods: readonly string[], times = 12): Promise<void> {
    const wanted = [...pods].sort();
    const answer = await this.#eventually(
      () => this.answering(target, address, port, times),
      (names) => names.join() === wanted.join(),
    );
    expect([`${target} to ${address}:${port}`, answer]).toEqual([`${target} to ${address}:${port}`, wanted]);
  }

  async reachesUdp(target: string, address: string, port: number, pods: readonly string[], times = 4): Promise<void> {
    const wanted = [...pods].sort();
    const answer = await this.#eventually(
      () => this.answeringUdp(target, address, port, times),
      (names) => names.join() === wanted.join(),
    );
    expect([`${target} to ${address}:${port}/UDP`, answer]).toEqual([`${target} to ${address}:${port}/UDP`, wanted]);
  }

  /** Waits until anything answers. */
  async reachable(target: string, address: string, port: number): Promise<void> {
    const answer = await this.#eventually(
      () => this.http(target, address, port),
      (one) => typeof one === "object",
    );
    expect(answer).toBeObject();
  }

  /** Waits until a pod sees this client behind a connection from `target`. */
  async sees(target: string, address: string, port: number, client: string): Promise<void> {
    const answer = await this.#eventually(
      () => this.http(target, address, port),
      (one) => one.client === client,
    );
    expect([`client of ${target}`, answer.client ?? answer]).toEqual([`client of ${target}`, client]);
  }

  #eventually<T>(ask: () => Promise<T>, holds: (answer: T) => boolean): Promise<T> {
    return eventually(ask, holds, this.#pace.patience);
  }

  /** Waits until a connection from `target` ends so: `ECONNREFUSED`, `timeout`. */
  async fails(target: string, address: string, port: number, ...how: readonly string[]): Promise<void> {
    const answer = await this.#eventually(
      () => this.http(target, address, port, { patience: this.#pace.connect }),
      (one) => how.includes(one),
    );
    expect(how).toContain(answer);
  }

  /** Waits until the ready endpoints of a Service are these. */
  async hasEndpoints(service: string, wanted: readonly string[]): Promise<void> {
    const found = await this.#eventually(
      () => this.endpoints(service),
      (list) => list.join() === [...wanted].sort().join(),
    );
    expect(found).toEqual([...wanted].sort());
  }

  async podIP(name: string): Promise<string> {
    return (await this.get("Pod", name)).status.podIP;
  }

  /** What the API server says of something that it refuses. */
  async refusal(work: Promise<unknown>): Promise<string> {
    try {
      await work;
    } catch (error) {
      return (error as Error).message;
    }
    return "nothing was refused";
  }
}

/** A Service's spec for one TCP port 80 to 8080 of pods with this `app` label. */
export function web(app: string, more: Record<string, unknown> = {}): Record<string, unknown> {
  return { selector: { app }, ports: [{ name: "http", port: 80, targetPort: 8080 }], ...more };
}

// A stack that a test changes and talks to without starting programs: objects through its API server, sockets that this process
// opens inside of the pods' and nodes' network namespaces. What takes a `fairlead` command half a second takes milliseconds here.

import { join } from "node:path";
import { parse } from "yaml";
import type { KubeObject } from "../../src/api/object.ts";
import type { Resource } from "../../src/api/resource.ts";
import { hostLiteral } from "../../src/base/ip.ts";
import { inNetns } from "../../src/base/setns.ts";
import { ControlClient } from "../../src/cluster/control-api.ts";
import { readKubeconfig } from "../../src/store/remote/kubeconfig.ts";
import { openRemoteStore, type RemoteStore } from "../../src/store/remote/remote-store.ts";
import { eventually, type Result, run, TestStack } from "./stack.ts";

export class Cluster {
  readonly stack: TestStack;
  readonly control: ControlClient;
  store!: RemoteStore;
  /** Internal addresses, by the node's name. */
  readonly nodes = new Map<string, string>();
  readonly #places = new Map<string, string>();

  constructor(name: string, families = "ipv4", network: "netns" | "loopback" = "netns") {
    this.stack = new TestStack(name, network, families);
    this.control = new ControlClient(this.stack.name);
  }

  /** `up` with these words; waits for the pods of `objects`. Services need not work. */
  async start(objects: string, ...words: string[]): Promise<void> {
    const { code, err } = await this.stack.upWith(objects, ...words);
    if (!(await this.control.answers())) throw new Error(`up: exit ${code}: ${err}`);
    await this.connect();
    for (const { metadata, status } of await this.list("Node"))
      this.nodes.set(metadata.name, status.addresses.find((one: any) => one.type === "InternalIP").address);
  }

  /** After another `up` of the stack, too: its API server may have another port then. */
  async connect(): Promise<void> {
    const connection = readKubeconfig(join(this.stack.home, this.stack.name, "kubeconfig"));
    this.store = await openRemoteStore({ connection, userAgent: "e2e" });
  }

  resource(kind: string, group?: string): Resource {
    const found = this.store
      .resources()
      .find((one) => one.kind === kind && (group === undefined || one.group === group));
    if (!found) throw new Error(`no kind ${kind}`);
    return found;
  }

  /** Applies a YAML text of objects (server-side apply), each in its namespace or `default`; gives them as they are then. */
  async apply(text: string): Promise<any[]> {
    const made: any[] = [];
    for (const part of text.split(/^---$/m)) {
      const object = parse(part) as KubeObject | null;
      if (!object) continue;
      const resource = this.resource(
        object.kind,
        object.apiVersion.includes("/") ? object.apiVersion.split("/")[0] : "",
      );
      const key = this.#key(resource, object.metadata.name, object.metadata.namespace);
      const body = {
        ...object,
        metadata: { ...object.metadata, ...(key.namespace ? { namespace: key.namespace } : {}) },
      };
      made.push(await this.store.patch(key, { type: "apply", body, fieldManager: "e2e", force: true }));
    }
    return made;
  }

  async get(kind: string, name: string, namespace?: string): Promise<any> {
    return await this.store.get(this.#key(this.resource(kind), name, namespace));
  }

  async list(kind: string, labelSelector?: string): Promise<any[]> {
    const { items } = await this.store.list(this.resource(kind), labelSelector === undefined ? {} : { labelSelector });
    return [...items];
  }

  /** A merge patch. */
  patch(kind: string, name: string, body: unknown, subresource?: "status"): Promise<any> {
    const options = subresource === undefined ? {} : { subresource };
    return this.store.patch(this.#key(this.resource(kind), name), { type: "merge", body }, options);
  }

  async delete(kind: string, name: string, gracePeriodSeconds?: number): Promise<void> {
    const options = gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds };
    await this.store.delete(this.#key(this.resource(kind), name), options);
  }

  /** Waits until the pod is Ready, and gives it. */
  async ready(name: string): Promise<any> {
    const pod = await eventually(
      () => this.get("Pod", name),
      (one) => one?.status?.conditions?.some((c: any) => c.type === "Ready" && c.status === "True"),
      20_000,
    );
    if (!pod) throw new Error(`pod ${name} is not there`);
    return pod;
  }

  async gone(kind: string, name: string): Promise<void> {
    const left = await eventually(
      () => this.get(kind, name),
      (one) => one === undefined,
      20_000,
    );
    if (left) throw new Error(`${kind} ${name} is still there`);
  }

  /** The addresses of ready endpoints of a Service, with their ports, as its slices say: `10.1.2.3:80`. */
  async endpoints(service: string): Promise<string[]> {
    const slices = await this.list("EndpointSlice", `kubernetes.io/service-name=${service}`);
    return slices
      .flatMap((slice) =>
        (slice.endpoints ?? []).flatMap((one: any) =>
          one.conditions?.ready === false
            ? []
            : (slice.ports ?? []).flatMap((port: any) => one.addresses.map((at: string) => `${at}:${port.port}`)),
        ),
      )
      .sort();
  }

  /** The network namespace of `default/POD` or `node/NAME`, as a path. */
  async place(target: string): Promise<string> {
    const known = this.#places.get(target);
    if (known !== undefined) return known;
    const { argv } = await this.control.execPlan(target);
    const path = `/run/netns/${argv[argv.indexOf("exec") + 1]}`;
    // A pod's namespace is its own: one of the same name made later has another.
    if (target.startsWith("node/")) this.#places.set(target, path);
    return path;
  }

  /** Opens something inside of `target`, in one synchronous stretch. */
  async inside<T>(target: string, open: () => T): Promise<T> {
    return inNetns(await this.place(target), open);
  }

  /** Runs a program in a node or pod. */
  async exec(target: string, ...argv: string[]): Promise<Result> {
    const plan = await this.control.execPlan(target);
    return await run([...plan.argv, ...argv]);
  }

  /**
   * One HTTP request from `target`; the answer of a stand-in as an object, its error's code, `closed`, or `timeout`.
   * `path` may ask for more (`/?size=1m`); what is no JSON is given as `{ text }`.
   */
  async http(
    target: string,
    host: string,
    port: number,
    { path = "/", body = "", patience = 2_000 }: { path?: string; body?: string; patience?: number } = {},
  ): Promise<any> {
    const place = await this.place(target);
    return await new Promise((resolve) => {
      const parts: Uint8Array[] = [];
      const timer = setTimeout(() => resolve("timeout"), patience);
      const end = (answer: unknown) => {
        clearTimeout(timer);
        resolve(answer);
      };
      const head = `${body ? "POST" : "GET"} ${path} HTTP/1.1\r\nHost: ${hostLiteral(host)}\r\nConnection: close\r\n`;
      let rest = Buffer.from(`${head}${body ? `Content-Length: ${body.length}\r\n` : ""}\r\n${body}`);
      const send = (socket: { write(data: Uint8Array): number }) => {
        rest = rest.subarray(Math.max(0, socket.write(rest)));
      };
      inNetns(place, () =>
        Bun.connect({
          hostname: host,
          port,
          socket: {
            open: send,
            drain: send,
            data: (_, data) => void parts.push(new Uint8Array(data)),
            close: () => end(answerOf(Buffer.concat(parts).toString())),
            error: (_, error) => end((error as NodeJS.ErrnoException).code),
            connectError: (_, error) => end((error as NodeJS.ErrnoException).code),
          },
        }),
      ).catch((error) => end(error.code));
    });
  }

  /** Which pods answer so many requests, one after the other, sorted, each once. What failed is among them. */
  async answering(target: string, host: string, port: number, times = 12, patience = 2_000): Promise<string[]> {
    const names = new Set<string>();
    for (let n = 0; n < times; n++) names.add(podOf(await this.http(target, host, port, { patience })));
    return [...names].sort();
  }

  /** As {@link answering}, over UDP: each datagram from a port of its own. */
  async answeringUdp(target: string, host: string, port: number, times = 12, patience = 2_000): Promise<string[]> {
    const names = new Set<string>();
    for (let n = 0; n < times; n++) {
      const client = await this.udpClient(target, host, port);
      names.add(await client.answerOfAnother(patience));
      client.close();
    }
    return [...names].sort();
  }

  /** A client that sends from one port for as long as it lives, every 20 ms. */
  async udpClient(target: string, host: string, port: number, text = "hello"): Promise<UdpClient> {
    const client = new UdpClient(host, port, text);
    await client.open(await this.place(target));
    return client;
  }

  remove(): Promise<void> {
    return this.stack.remove();
  }

  #key(resource: Resource, name: string, namespace = "default") {
    return { resource, name, ...(resource.scope === "Namespaced" ? { namespace } : {}) };
  }
}

function answerOf(text: string): unknown {
  if (text === "") return "closed";
  const body = text.slice(text.indexOf("\r\n\r\n") + 4);
  try {
    return JSON.parse(body);
  } catch {
    return { text: body };
  }
}

function podOf(answer: any): string {
  return typeof answer === "string" ? answer : (answer.pod ?? "?");
}

export class UdpClient {
  /** Names of the pods that answered, in the order in which they first did. */
  readonly seen: string[] = [];
  /** What answered last, and how often something answered. */
  last: any;
  answers = 0;
  readonly #host: string;
  readonly #port: number;
  readonly #text: string;
  readonly #listeners = new Set<() => void>();
  #socket: { close(): void } | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(host: string, port: number, text: string) {
    this.#host = host;
    this.#port = port;
    this.#text = text;
  }

  async open(place: string): Promise<void> {
    const socket = await inNetns(place, () =>
      Bun.udpSocket({
        hostname: this.#host.includes(":") ? "::" : "0.0.0.0",
        socket: {
          data: (_, data) => {
            this.last = JSON.parse(data.toString());
            this.answers++;
            if (!this.seen.includes(this.last.pod)) this.seen.push(this.last.pod);
            for (const listener of this.#listeners) listener();
          },
          error() {},
        },
      }),
    );
    this.#socket = socket;
    const send = () => {
      try {
        socket.send(this.#text, this.#port, this.#host);
      } catch {
        // Refused while there is no endpoint; the next one goes to whoever is there then.
      }
    };
    send();
    this.#timer = setInterval(send, 20);
  }

  /** Waits until this pod has answered. */
  async heard(pod: string): Promise<boolean> {
    return await this.#until(() => this.seen.includes(pod), 15_000);
  }

  /** Who answers next; `timeout` when nobody does for so many milliseconds. */
  async answerOfAnother(patience = 2_000): Promise<string> {
    const before = this.answers;
    return (await this.#until(() => this.answers > before, patience)) ? this.last.pod : "timeout";
  }

  #until(holds: () => boolean, patience: number): Promise<boolean> {
    if (holds()) return Promise.resolve(true);
    return new Promise((resolve) => {
      const end = (held: boolean) => {
        clearTimeout(timer);
        this.#listeners.delete(look);
        resolve(held);
      };
      const look = () => {
        if (holds()) end(true);
      };
      const timer = setTimeout(() => end(false), patience);
      this.#listeners.add(look);
    });
  }

  close(): void {
    clearInterval(this.#timer);
    this.#socket?.close();
  }
}

/** A stand-in on a node, serving these ports. */
export function podYaml(
  name: string,
  options: {
    readonly app?: string;
    readonly node?: string;
    readonly ports?: readonly string[];
    readonly spec?: string;
    readonly annotations?: string;
  } = {},
): string {
  const { app = name, node, ports = ["8080"], spec = "", annotations } = options;
  const list = ports.map((one) => {
    const [port, protocol = "TCP"] = one.split("/");
    return `{ containerPort: ${port}, protocol: ${protocol} }`;
  });
  return `
apiVersion: v1
kind: Pod
metadata: { name: ${name}, labels: { app: ${app} }${annotations ? `, annotations: ${annotations}` : ""} }
spec:
  ${node ? `nodeName: ${node}` : ""}
  terminationGracePeriodSeconds: 1
  containers: [{ name: main, image: example.org/${app}:1, ports: [${list.join(", ")}] }]
${spec}
---`;
}

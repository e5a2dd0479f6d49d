// A proxy process with a control process played by the test: what the tests `proxy-*` and benchmarks drive it with.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Socket, Subprocess } from "bun";
import { updateTexts } from "../../src/distribution/encoded.ts";
import type { Delta } from "../../src/distribution/subscription.ts";
import { encodeFrame, encodeFrameText, FrameDecoder } from "../../src/model/frame.ts";
import type { Backend, Endpoints, Listener, RouteTable, Rule } from "../../src/model/model.ts";
import type { FromProxy, Rejection, ToProxy, WireResource } from "../../src/model/wire.ts";

type Update = Extract<ToProxy, { type: "update" }>;
type Hello = Extract<FromProxy, { type: "hello" }>;

const program = join(import.meta.dir, "../../src/proxy/main.ts");

export const from = { kind: "Test", name: "test", field: "" };

/** The control process's end of the socket. */
export class FakeControl {
  readonly path: string;
  readonly hellos: Hello[] = [];
  #socket: Socket<FrameDecoder> | undefined;
  #listener: { stop(force: boolean): void } | undefined;
  #version = 0;
  readonly #waiting = new Map<number, (rejected: readonly Rejection[]) => void>();
  #onHello: (() => void)[] = [];

  constructor(path: string) {
    this.path = path;
    this.start();
  }

  start(): void {
    rmSync(this.path, { force: true });
    this.#listener = Bun.listen<FrameDecoder>({
      unix: this.path,
      socket: {
        open: (socket) => {
          socket.data = new FrameDecoder();
          this.#socket = socket;
        },
        data: (socket, bytes) => {
          for (const message of socket.data.push(bytes)) this.#take(message as FromProxy);
        },
        drain: (socket) => flush(socket),
        close: (socket) => {
          if (this.#socket === socket) this.#socket = undefined;
        },
      },
    });
  }

  #take(message: FromProxy): void {
    if (message.type === "hello") {
      this.hellos.push(message);
      for (const done of this.#onHello.splice(0)) done();
    } else {
      this.#waiting.get(message.version)?.(message.rejected);
      this.#waiting.delete(message.version);
    }
  }

  /** Resolves with the next hello. */
  async hello(): Promise<Hello> {
    await new Promise<void>((resolve) => this.#onHello.push(resolve));
    return this.hellos.at(-1)!;
  }

  /** Sends an update; resolves with what was rejected. */
  update(
    upsert: { [T in keyof Update["upsert"]]?: readonly object[] },
    remove: Update["remove"] = {},
  ): Promise<readonly Rejection[]> {
    const version = ++this.#version;
    return new Promise((resolve) => {
      this.#waiting.set(version, resolve);
      this.send({ type: "update", version, upsert: upsert as { [name: string]: WireResource[] }, remove });
    });
  }

  /** As {@link update}, written as the control process writes it: with what is large ahead. */
  deliver(upsert: Delta["upsert"], bases?: Delta["bases"]): Promise<readonly Rejection[]> {
    const version = ++this.#version;
    return new Promise((resolve) => {
      this.#waiting.set(version, resolve);
      const delta: Delta = { version, upsert, remove: {}, ...(bases ? { bases } : {}) };
      for (const text of updateTexts(delta)) this.#write(encodeFrameText(text));
    });
  }

  /** Of the update that was sent last. */
  get version(): number {
    return this.#version;
  }

  send(message: ToProxy): void {
    this.#write(encodeFrame(message));
  }

  #write(frame: Uint8Array): void {
    pending.get(this.#socket!)?.push(frame) ?? pending.set(this.#socket!, [frame]);
    flush(this.#socket!);
  }

  /** Bytes that need be no frames; `ends` closes the connection behind them. */
  sendBytes(bytes: Uint8Array, ends: boolean): void {
    const socket = this.#socket!;
    pending.get(socket)?.push(bytes) ?? pending.set(socket, [bytes]);
    flush(socket);
    if (ends) socket.end();
  }

  stop(): void {
    this.#listener?.stop(true);
    this.#socket?.terminate();
    this.#socket = undefined;
  }
}

const pending = new Map<Socket<FrameDecoder>, Uint8Array[]>();

function flush(socket: Socket<FrameDecoder>): void {
  const frames = pending.get(socket) ?? [];
  while (frames.length > 0) {
    const taken = Math.max(0, socket.write(frames[0]!));
    if (taken < frames[0]!.length) {
      frames[0] = frames[0]!.subarray(taken);
      return;
    }
    frames.shift();
  }
}

/** A spawned proxy with its fake control process and a folder for its files. */
export class ProxyUnderTest {
  readonly #prefix: readonly string[];
  readonly folder = mkdtempSync(join(tmpdir(), "fl-t-proxy-"));
  readonly control = new FakeControl(join(this.folder, "control.sock"));
  readonly admin = join(this.folder, "admin.sock");
  readonly state = join(this.folder, "state.json");
  process: Subprocess<"ignore", "ignore", "inherit"> | undefined;

  /** What the program is started by (`ip netns exec NAME`). */
  constructor(...prefix: readonly string[]) {
    this.#prefix = prefix;
  }

  /** Starts the program and waits for its hello. */
  async start(...more: readonly string[]): Promise<Hello> {
    const hello = this.control.hello();
    this.spawn(...more);
    return await hello;
  }

  spawn(...more: readonly string[]): void {
    this.process = Bun.spawn(
      [
        ...this.#prefix,
        process.execPath,
        program,
        "--control",
        this.control.path,
        "--name",
        "test",
        "--scopes",
        "gateway",
        "--admin",
        this.admin,
        "--state",
        this.state,
        "--log-level",
        "error",
        ...more,
      ],
      { stdin: "ignore", stdout: "ignore", stderr: "inherit" },
    );
  }

  async get(path: string): Promise<Response> {
    return await fetch(`http://proxy${path}`, { unix: this.admin });
  }

  async stop(): Promise<void> {
    this.process?.kill("SIGKILL");
    await this.process?.exited;
    this.control.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/**
 * A port that was free a moment ago on a loopback address, below those that the kernel gives to clients: one of them
 * could take it before it is listened on.
 */
export function freePort(address = "127.0.0.1"): number {
  for (let tries = 0; tries < 100; tries++) {
    const port = 21_000 + Math.floor(Math.random() * 9_000);
    try {
      Bun.listen({ hostname: address, port, socket: { data() {} } }).stop(true);
      return port;
    } catch {
      // Somebody listens there.
    }
  }
  throw new Error(`no free port found at ${address}`);
}

export function plainListener(
  port: number,
  options: { name?: string; address?: string; routes?: string } = {},
): Listener {
  const { name = "http", address = "127.0.0.1", routes = "main" } = options;
  return {
    name,
    from,
    scope: "gateway",
    address,
    port,
    transport: "tcp",
    chains: [{ from, when: { kind: "plain" }, serve: { routes } }],
  };
}

export function backend(name: string, more: Partial<Backend> = {}): Backend {
  return { name, from, protocol: "http1", balance: { kind: "roundRobin" }, connectTimeout: 1000, ...more };
}

export function endpoints(name: string, ...ports: readonly number[]): Endpoints {
  return { backend: name, from, endpoints: ports.map((port) => ({ address: "127.0.0.1", port, weight: 1 })) };
}

export function forwardTo(name: string, weight = 1) {
  return { from, weight, target: { backend: name }, filters: [] };
}

export function rule(name: string, more: Partial<Rule> = {}): Rule {
  return { from, name, match: {}, filters: [], action: { kind: "forward", to: [forwardTo("one")] }, ...more };
}

export function routeTable(rules: readonly Rule[], hosts: readonly string[] = ["*"]): RouteTable {
  return { name: "main", from, hosts: [{ names: hosts, rules }] };
}

/** The proxy serves one plain port there, and gives everything to what listens at `to`. Throws when it refuses. */
export async function forwardAll(
  proxy: ProxyUnderTest,
  port: number,
  to: number | readonly number[],
  more: Partial<Backend> = {},
): Promise<void> {
  const rejected = await proxy.control.update({
    backends: [backend("one", more)],
    endpoints: [endpoints("one", ...[to].flat())],
    routeTables: [routeTable([rule("all")])],
    listeners: [plainListener(port)],
  });
  if (rejected.length > 0) throw new Error(JSON.stringify(rejected));
}

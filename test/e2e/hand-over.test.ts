// A proxy's processes one after the other and beside each other, on the host's own network, where net.ipv4.tcp_migrate_req is the host's
// and off by default: hand-overs between one process and several workers while clients of every protocol ask, what the workers are
// together, and what is lost when one of them is killed. Needs openssl, no privileges.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import http2 from "node:http2";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import type { Subprocess } from "bun";
import { createGraph } from "../../src/collections/graph.ts";
import { Distribution, listenerStateSource } from "../../src/distribution/distribution.ts";
import { serveProxies } from "../../src/distribution/proxy-server.ts";
import { modelSources } from "../../src/distribution/testing/model-sources.ts";
import { socketsEach } from "../../src/model/hand-over.ts";
import type { Rule } from "../../src/model/model.ts";
import { Redacted } from "../../src/model/redacted.ts";
import { whileAsked } from "./asking.ts";
import { backend, endpoints, forwardTo, freePort, from, plainListener, routeTable, rule } from "./proxy-harness.ts";
import { makeSecret, tlsListener } from "./proxy-secrets.ts";
import { eventually, root } from "./stack.ts";

const echo: grpc.MethodDefinition<Buffer, Buffer> = {
  path: "/test.Echo/Unary",
  requestStream: false,
  responseStream: false,
  ...{ requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same },
};
function same(bytes: Buffer): Buffer {
  return bytes;
}

let folder: string;
let serving: Awaited<ReturnType<typeof serve>>;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "fl-t-hand-over-"));
  serving = await serve(folder);
});

afterEach(async () => {
  await serving.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Backends of every protocol, the model that leads to them, and proxies that are told it. */
async function serve(directory: string) {
  const origin = Bun.serve<undefined>({
    ...{ hostname: "127.0.0.1", port: 0 },
    fetch: (request, bun) =>
      request.url.endsWith("/socket") && bun.upgrade(request) ? undefined : new Response("hello"),
    websocket: { message: (socket, message) => void socket.send(message) },
  });
  const calls = new grpc.Server();
  calls.addService(
    { echo },
    {
      echo: (call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => done(null, call.request),
    },
  );
  const callPort = await new Promise<number>((resolve, reject) =>
    calls.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve(port),
    ),
  );
  const bytes = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: { data: (socket, data) => void socket.write(data) },
  });
  const ports = { http: freePort(), https: freePort(), tcp: freePort(), loop: freePort() };

  const graph = createGraph();
  const model = modelSources(graph);
  const distribution = new Distribution(model, { listenerStates: listenerStateSource({ graph }) });
  const control = serveProxies({ path: join(directory, "control.sock"), distribution });
  const secret = makeSecret(directory, "h2", "localhost");
  const { certificate, privateKey } = secret.content;
  const limited: Partial<Rule> = {
    match: { path: { kind: "prefix", value: "/limited" } },
    filters: [
      {
        ...{
          kind: "localRateLimit",
          from,
          bucket: "all",
          key: [],
          requests: 1,
          per: 3_600_000,
          burst: 20,
          status: 429,
        },
        ...{ tell: true, shared: true },
      },
    ],
  };
  model.secrets.set(secret.name, {
    ...secret,
    content: { kind: "certificate", certificate, privateKey: new Redacted(privateKey) },
  });
  model.backends.set("one", backend("one"));
  model.backends.set("calls", backend("calls", { protocol: "h2c" }));
  model.backends.set("bytes", backend("bytes"));
  model.endpoints.set("one", endpoints("one", origin.port!));
  model.endpoints.set("calls", endpoints("calls", callPort));
  model.endpoints.set("bytes", endpoints("bytes", bytes.port));
  const called = { match: { path: { kind: "prefix", value: "/test.Echo" } } } as const;
  model.routeTables.set(
    "main",
    routeTable([
      rule("calls", { ...called, action: { kind: "forward", to: [forwardTo("calls")] } }),
      rule("limited", limited),
      rule("all"),
    ]),
  );
  model.listeners.set("http", plainListener(ports.http));
  model.listeners.set("https", tlsListener(ports.https, [{ kind: "tls" }, secret]));
  const tcp = { from, when: { kind: "plain" }, serve: { tcp: [forwardTo("bytes")] } } as const;
  model.listeners.set("tcp", { ...plainListener(ports.tcp, { name: "tcp" }), chains: [tcp] });
  // Listeners that are their own backends.
  for (const transport of ["tcp", "udp"] as const) {
    const name = `loop-${transport}`;
    model.backends.set(name, backend(name, { protocol: "tcp" }));
    model.endpoints.set(name, endpoints(name, ports.loop));
    const chains = [{ from, when: { kind: "plain" }, serve: { tcp: [forwardTo(name)] } }] as const;
    model.listeners.set(name, { ...plainListener(ports.loop, { name }), transport, chains });
  }

  const admin = join(directory, "admin.sock");
  const running = new Set<Subprocess>();
  const start = (workers: number, sockets: number): Subprocess => {
    const words = ["--control", join(directory, "control.sock"), "--name", "test", "--scopes", "gateway"];
    const files = ["--admin", admin, "--state", join(directory, "state.json"), "--log-level", "error"];
    const started = Bun.spawn(
      [
        process.execPath,
        join(root, "src/proxy/main.ts"),
        ...words,
        ...files,
        "--workers",
        String(workers),
        "--sockets",
        String(sockets),
      ],
      { stdin: "ignore", stdout: "ignore", stderr: "inherit" },
    );
    running.add(started);
    void started.exited.then(() => running.delete(started));
    return started;
  };
  const processes = (pid: number) =>
    distribution
      .proxyStates()
      .filter((state) => state.connected && state.types.listeners.count === 5)
      .filter((state) => Object.values(state.types).every((type) => type.state === "synced"))
      .filter((state) => (state.composition?.pid ?? state.pid) === pid);
  const served = async (proxy: Subprocess, workers: number) => {
    const found = await eventually(
      async () => processes(proxy.pid),
      (all) => all.length === workers,
    );
    expect(found.map((state) => state.proxy)).toEqual(
      workers === 1 ? ["test"] : Array.from({ length: workers }, (_, index) => `test/${index + 1}`),
    );
  };
  return {
    ports,
    admin,
    certificate,
    control,
    processes,
    /** Resolves when it serves. */
    async start(workers: number, sockets = 1): Promise<Subprocess> {
      const proxy = start(workers, sockets);
      await served(proxy, workers);
      return proxy;
    },
    /** Resolves with the new process when the old one was asked to finish. */
    async handOver(old: Subprocess, workers: number, deadline = 30_000): Promise<Subprocess> {
      const leaving = processes(old.pid);
      const sockets = socketsEach(
        leaving.reduce((sum, state) => sum + state.sockets, 0),
        workers,
      );
      const next = await this.start(workers, sockets);
      expect(control.drain(deadline, { proxy: "test", pid: old.pid }, workers * sockets)).toBe(leaving.length);
      return next;
    },
    async stop() {
      for (const proxy of running) {
        const pids = processes(proxy.pid).map(({ pid }) => pid!);
        for (const pid of new Set([proxy.pid, ...pids])) process.kill(pid, "SIGKILL");
        await proxy.exited;
      }
      control.dispose();
      distribution.dispose();
      bytes.stop(true);
      calls.forceShutdown();
      await origin.stop(true);
    },
  };
}

interface Count {
  answered: number;
  connections: number;
  readonly failures: string[];
}

/** Eight requests at a time over one connection, and a new one when the proxy says that it will take no more; until `stop`. */
async function askOverHttp2(port: number, ca: string, stop: () => boolean): Promise<Count> {
  const count: Count = { answered: 0, connections: 0, failures: [] };
  const connect = () => {
    count.connections++;
    const session = http2.connect(`https://localhost:${port}`, { ca, family: 4 } as http2.SecureClientSessionOptions);
    session.on("error", (error) => count.failures.push(`session: ${error.message}`));
    session.on("goaway", () => {
      if (current === session) current = undefined;
    });
    session.on("close", () => {
      if (current === session) current = undefined;
    });
    return session;
  };
  let current: http2.ClientHttp2Session | undefined;
  const one = async () => {
    while (!stop()) {
      current ??= connect();
      const stream = current.request({ ":path": "/cart" });
      const status = await new Promise<unknown>((resolve) => {
        let head: unknown;
        stream.on("response", (fields) => {
          head = fields[":status"];
        });
        stream.on("error", (error) => resolve(error.message));
        stream.on("close", () => resolve(stream.rstCode === 0 ? head : `reset ${stream.rstCode}`));
        stream.resume();
        stream.end();
      });
      if (status === 200) count.answered++;
      else count.failures.push(String(status));
    }
  };
  await Promise.all(Array.from({ length: 8 }, one));
  current?.destroy();
  return count;
}

/** Calls one after the other, four at a time, until `stop`. */
async function call(port: number, stop: () => boolean): Promise<Count> {
  const count: Count = { answered: 0, connections: 1, failures: [] };
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  const one = async () => {
    while (!stop()) {
      const said = Buffer.from(`call ${count.answered}`);
      const heard = await new Promise<Buffer | string>((resolve) =>
        client.makeUnaryRequest(echo.path, same, same, said, (error, answer) => resolve(error?.message ?? answer!)),
      );
      if (Buffer.isBuffer(heard) && heard.equals(said)) count.answered++;
      else count.failures.push(String(heard));
    }
  };
  await Promise.all(Array.from({ length: 4 }, one));
  client.close();
  return count;
}

test("one process and several workers hand over to each other: no request over HTTP/1.1, HTTP/2, TLS or gRPC fails", async () => {
  let current = await serving.start(1);
  let over = false;
  const others = [
    askOverHttp2(serving.ports.https, serving.certificate, () => over),
    call(serving.ports.http, () => over),
  ];
  const tally = await whileAsked(["127.0.0.1", serving.ports.http], async () => {
    for (const workers of [3, 1, 2, 4, 1]) {
      const next = await serving.handOver(current, workers);
      expect(await current.exited).toBe(0);
      current = next;
      expect(await (await fetch("http://proxy/healthz", { unix: serving.admin })).text()).toBe("ok\n");
    }
  });
  over = true;
  const [secure, called] = await Promise.all(others);
  expect([tally.failures, secure!.failures, called!.failures]).toEqual([[], [], []]);
  // Nor has one to be said again, where fewer processes take over from more.
  expect(tally.slow).toEqual([]);
  expect(tally.answered).toBeGreaterThan(700);
  expect(secure!.answered).toBeGreaterThan(200);
  expect(called!.answered).toBeGreaterThan(200);
  // It went along with each of the five.
  expect(secure!.connections).toBeGreaterThanOrEqual(6);
}, 90_000);

test("a WebSocket and a TCP connection stay until the deadline of the process that they came to", async () => {
  const old = await serving.start(2);
  const deadline = 4_000;
  const socket = new WebSocket(`ws://127.0.0.1:${serving.ports.http}/socket`);
  const raw = net.connect(serving.ports.tcp, "127.0.0.1");
  const heard = { socket: 0, raw: 0 };
  const gone = { socket: 0, raw: 0 };
  socket.onmessage = () => heard.socket++;
  socket.onclose = () => {
    gone.socket = performance.now();
  };
  raw.on("data", () => heard.raw++);
  raw.on("error", () => {});
  raw.on("close", () => {
    gone.raw = performance.now();
  });
  await Promise.all([
    new Promise((resolve) => socket.addEventListener("open", resolve)),
    new Promise((resolve) => raw.once("connect", resolve)),
  ]);
  const next = await serving.handOver(old, 2, deadline);
  const asked = performance.now();
  // They are served while others are taken by the new one, and are cut when the time is over.
  await eventually(
    async () => {
      if (socket.readyState === WebSocket.OPEN) socket.send("x");
      if (!raw.destroyed) raw.write("x");
      return gone;
    },
    (one) => one.socket > 0 && one.raw > 0,
  );
  expect(heard.socket).toBeGreaterThan(5);
  expect(heard.raw).toBeGreaterThan(5);
  // One that is not kept is closed at once; the deadline is counted by the proxy, from when it was asked.
  for (const at of [gone.socket, gone.raw]) expect(at - asked).toBeGreaterThan(deadline * 0.9);
  expect(await old.exited).toBe(0);
  expect(serving.processes(next.pid)).toHaveLength(2);
  expect(await (await fetch(`http://127.0.0.1:${serving.ports.http}/`)).text()).toBe("hello");
}, 40_000);

describe("several workers of one proxy", () => {
  const asked = (path: string, admin = serving.admin) => fetch(`http://proxy${path}`, { unix: admin });
  const status = async () =>
    (await (await asked("/status")).json()) as { workers: { pid: number; connections: { accepted: number } }[] };
  const get = (path = "/") =>
    fetch(`http://127.0.0.1:${serving.ports.http}${path}`, { headers: { connection: "close" } });

  test("share the ports and are one to look at; when the first process is killed, they go on until the next one's serve", async () => {
    const composition = await serving.start(2);
    for (let turn = 0; turn < 64; turn++) expect((await get()).status).toBe(200);
    const { workers } = await status();
    // By the hash of 64 client ports: that one gets none has a chance of 1 in 10^19.
    expect(workers.every(({ connections }) => connections.accepted > 0)).toBe(true);
    expect(workers.reduce((sum, { connections }) => sum + connections.accepted, 0)).toBe(64);
    expect(await (await asked("/metrics")).text()).toContain(
      'fairlead_proxy_requests_total{route="all",backend="one",code="2xx"} 64',
    );
    // They serve until those of the one that is started in its place do.
    const tally = await whileAsked(["127.0.0.1", serving.ports.http], async () => {
      composition.kill("SIGKILL");
      await serving.start(2);
      const left = await eventually(
        async () => workers.filter(({ pid }) => existsSync(`/proc/${pid}`)),
        (running) => running.length === 0,
      );
      expect(left).toEqual([]);
    });
    expect(tally.failures).toEqual([]);
  }, 40_000);

  test("end what goes round in circles among them, a connection and a datagram", async () => {
    await serving.start(3);
    const series = async (name: string, labels: string) => {
      const text = await (await asked("/metrics")).text();
      return Number(new RegExp(`^${name}\\{${labels}\\} (\\d+)$`, "m").exec(text)?.[1] ?? 0);
    };
    const loops = () => series("fairlead_proxy_errors_total", 'reason="loop_detected"');
    const opened = (transport: string) =>
      series("fairlead_proxy_relayed_connections_total", `protocol="${transport}",backend="loop-${transport}"`);
    const socket = net.connect(serving.ports.loop, "127.0.0.1");
    socket.on("error", () => {});
    socket.write("round and round");
    await new Promise((resolve) => socket.once("close", resolve));
    expect(await eventually(loops, (count) => count > 0)).toBeGreaterThan(0);
    // Where one meets itself, which chance does not put off for long.
    expect(await opened("tcp")).toBeGreaterThan(0);
    expect(await opened("tcp")).toBeLessThan(300);
    const before = await loops();
    const one = await Bun.udpSocket({ connect: { hostname: "127.0.0.1", port: serving.ports.loop } });
    one.send("round and round");
    await eventually(loops, (count) => count > before);
    const sessions = await opened("udp");
    expect(sessions).toBeGreaterThan(0);
    expect(sessions).toBeLessThan(300);
    const bytes = () => series("fairlead_proxy_relayed_sent_bytes_total", 'protocol="udp",backend="loop-udp"');
    const sent = await bytes();
    await Bun.sleep(200);
    expect(await bytes()).toBe(sent);
    expect(await opened("udp")).toBe(sessions);
    one.close();
  }, 30_000);

  test("count a shared limit together, also after one was killed and after a hand-over", async () => {
    const ask = async (times: number) => {
      const answers: Response[] = [];
      while (answers.length < times)
        answers.push(...(await Promise.all(Array.from({ length: 10 }, () => get("/limited")))));
      return answers;
    };
    const before = await serving.start(3);
    const answers = await ask(60);
    const passed = answers.filter((answer) => answer.status === 200);
    // One an hour flows in: exactly the burst passes, whichever worker is asked.
    expect(passed).toHaveLength(20);
    const left = (answer: Response) => Number(/;r=(\d+);/.exec(answer.headers.get("ratelimit") ?? "")?.[1]);
    // One too low where a worker looked at the clock a millisecond before the one that was first.
    const told = passed.map(left).sort((a, b) => b - a);
    told.forEach((one, index) => {
      expect([19 - index, 18 - index]).toContain(one);
    });
    const refused = answers.filter((answer) => answer.status === 429);
    expect(refused).toHaveLength(40);
    for (const answer of refused) {
      expect(answer.headers.get("ratelimit-policy")).toBe('"all";q=20;w=72000');
      expect(answer.headers.get("ratelimit")).toMatch(/^"all";r=0;t=3[56]\d\d$/);
      expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(3_500);
    }
    const { workers } = await status();
    expect(workers.every(({ connections }) => connections.accepted > 0)).toBe(true);

    process.kill(workers[0]!.pid, "SIGKILL");
    await eventually(
      async () => serving.processes(before.pid),
      (all) => all.length === 3 && !all.some(({ pid }) => pid === workers[0]!.pid),
    );
    expect((await ask(20)).map((answer) => answer.status)).toEqual(Array.from({ length: 20 }, () => 429));

    const after = await serving.handOver(before, 1);
    expect(await before.exited).toBe(0);
    expect((await ask(10)).map((answer) => answer.status)).toEqual(Array.from({ length: 10 }, () => 429));
    expect(existsSync(`${serving.admin}.limits`)).toBe(true);
    after.kill("SIGTERM");
    expect(await after.exited).toBe(0);
    expect(existsSync(`${serving.admin}.limits`)).toBe(false);
  }, 60_000);

  test("lose only the connections of one that is killed; one that is drained by itself loses none; both are started anew", async () => {
    const composition = await serving.start(3);
    const clients = await Promise.all(
      Array.from({ length: 24 }, async () => {
        const socket = net.connect(serving.ports.http, "127.0.0.1");
        const client = { socket, answers: 0, closed: false };
        socket.on("data", () => client.answers++);
        socket.on("error", () => {});
        socket.on("close", () => {
          client.closed = true;
        });
        await new Promise((resolve) => socket.once("connect", resolve));
        return client;
      }),
    );
    const say = () => {
      for (const { socket, closed } of clients) if (!closed) socket.write("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    };
    say();
    await eventually(
      async () => clients,
      (all) => all.every(({ answers }) => answers > 0),
    );
    const sources = async (number: number) =>
      new Set(
        ((await (await asked("/connections", `${serving.admin}.${number}`)).json()) as { source: string }[]).map(
          ({ source }) => Number(source.split(":").at(-1)),
        ),
      );
    const lost = await sources(1);
    const mine = clients.map(({ socket }) => socket.localPort!);
    const { workers } = await status();
    process.kill(workers[0]!.pid, "SIGKILL");
    const isLost = (index: number) => lost.has(mine[index]!);
    await eventually(
      async () => clients,
      (all) => all.every((client, index) => client.closed === isLost(index)),
    );
    expect(clients.map(({ closed }) => closed)).toEqual(mine.map((_, index) => isLost(index)));
    // The others go on.
    const already = clients.map(({ answers }) => answers);
    say();
    await eventually(
      async () => clients,
      (all) => all.every((client, index) => client.closed || client.answers > already[index]!),
    );
    expect(clients.filter((client, index) => !client.closed && client.answers === already[index])).toEqual([]);
    const anew = (of: number) =>
      eventually(
        async () => serving.processes(composition.pid),
        (all) => all.length === 3 && !all.some(({ pid }) => pid === of),
      );
    expect(await anew(workers[0]!.pid)).toHaveLength(3);
    for (const { socket } of clients) socket.destroy();

    const tally = await whileAsked(["127.0.0.1", serving.ports.http], async () => {
      expect((await fetch("http://proxy/drain", { method: "POST", unix: `${serving.admin}.2` })).status).toBe(202);
      expect(await anew(workers[1]!.pid)).toHaveLength(3);
    });
    expect(tally.failures).toEqual([]);
  }, 60_000);
});

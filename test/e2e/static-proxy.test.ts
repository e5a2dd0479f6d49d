// `fairlead proxy run` from the outside: it follows its files, keeps what it serves when they are wrong, starts nothing that is not
// good as a whole, and leaves nothing behind. Needs no privileges.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http2 from "node:http2";
import net from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { ProxyStatus } from "../../src/cluster/control-api.ts";
import { freePort } from "./proxy-harness.ts";

const fairlead = join(import.meta.dir, "../../bin/fairlead");
/** Milliseconds for anything that must come about. */
const patience = 20_000;

let folder: string;
let file: string;
let port: number;
const running: Running[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "fl-t-static-"));
  file = join(folder, "proxy.yaml");
  port = freePort();
});

afterEach(async () => {
  for (const one of running.splice(0)) {
    one.process.kill("SIGKILL");
    await one.process.exited;
  }
  rmSync(folder, { recursive: true });
});

class Running {
  readonly process;
  printed = "";
  constructor(words: readonly string[], stdin: "ignore" | Blob = "ignore") {
    this.process = Bun.spawn([fairlead, "proxy", ...words], {
      ...{ cwd: folder, stdin, stdout: "pipe", stderr: "pipe" },
      // One that is killed leaves its sockets; they go with the test's folder.
      env: { ...process.env, TMPDIR: folder },
    });
    running.push(this);
    for (const stream of [this.process.stdout, this.process.stderr]) void this.#read(stream);
  }

  async #read(stream: ReadableStream<Uint8Array>): Promise<void> {
    for await (const chunk of stream) this.printed += Buffer.from(chunk).toString();
  }

  /** Waits until it has printed this. */
  async says(what: string): Promise<void> {
    const until = Date.now() + patience;
    while (!this.printed.includes(what)) {
      if (Date.now() > until) throw new Error(`it did not say "${what}", but:\n${this.printed}`);
      await Bun.sleep(20);
    }
  }
}

/** A listener that answers with `body`. */
function answering(body: string, more = ""): string {
  const rule = `{ name: all, action: { kind: respond, status: 200, body: ${JSON.stringify(body)} } }`;
  return `kind: Listener
name: web
port: ${port}
chains: [{ serve: { routes: main } }]
---
kind: RouteTable
name: main
hosts: [{ rules: [${rule}] }]
${more}`;
}

const get = async () => await (await fetch(`http://127.0.0.1:${port}/`)).text();

/** Resolves when nobody listens any more. */
async function gone(): Promise<void> {
  const until = Date.now() + patience;
  while (
    await get().then(
      () => true,
      () => false,
    )
  ) {
    if (Date.now() > until) throw new Error("it is still served");
    await Bun.sleep(20);
  }
}

describe("fairlead proxy run", () => {
  test("follows its file; a bad one is told with its line, and what was served stays", async () => {
    writeFileSync(file, answering("one"));
    const proxy = new Running(["run", "-f", file]);
    await proxy.says("ready: ");
    expect(proxy.printed).toContain(`web listens on 127.0.0.1:${port} (tcp)`);
    expect(await get()).toBe("one");

    writeFileSync(file, answering("two").replace("status:", "staus:"));
    await proxy.says("hosts[0].rules[0].action.staus is not known: did you mean status?");
    expect(proxy.printed).toContain(`${file}:8: RouteTable main: `);
    expect(await get()).toBe("one");

    writeFileSync(file, answering("two"));
    await proxy.says("new configuration: ");
    expect(await get()).toBe("two");

    const admin = /--unix-socket (\S+)/.exec(proxy.printed)![1]!;
    expect((await fetch("http://proxy/healthz", { unix: admin })).status).toBe(200);
    proxy.process.kill("SIGTERM");
    expect(await proxy.process.exited).toBe(0);
    expect(existsSync(dirname(admin))).toBe(false);
    await gone();
  }, 60_000);

  test("takes a file that a Secret names anew when it changes", async () => {
    const lines = (password: string) => `ann:{SHA}${createHash("sha1").update(password).digest("base64")}\n`;
    const as = async (password: string) => {
      const authorization = `Basic ${btoa(`ann:${password}`)}`;
      return (await fetch(`http://127.0.0.1:${port}/`, { headers: { authorization } })).status;
    };
    writeFileSync(join(folder, "users"), lines("one"));
    const secret = "---\nkind: Secret\nname: users\ncontent: { kind: users, lines: { file: users } }\n";
    const text = answering("in", secret);
    writeFileSync(file, text.replace("name: all", "name: all, filters: [{ kind: basicAuth, realm: r, users: users }]"));
    const proxy = new Running(["run", "-f", file]);
    await proxy.says("ready: ");
    expect([await as("one"), await as("two")]).toEqual([200, 401]);
    writeFileSync(join(folder, "users"), lines("two"));
    await proxy.says("new configuration: ");
    expect([await as("one"), await as("two")]).toEqual([401, 200]);
  }, 60_000);

  test("is shown by fairlead proxy, several by their names, of several workers as one, and no more when it has ended", async () => {
    const name = `fl-t-static-${process.pid}`;
    writeFileSync(file, answering("one"));
    const one = new Running(["run", "-f", file, "--name", name, "--workers", "2"]);
    await one.says("ready: ");
    const other = port;
    port = freePort();
    const second = join(folder, "second.yaml");
    writeFileSync(second, answering("two"));
    const two = new Running(["run", "-f", second, "--name", `${name}-b`]);
    await two.says(`shown by: fairlead proxy status ${name}-b`);

    const pidOf = async (worker: string): Promise<number | undefined> => {
      const asked = new Running(["status", name, "-o", "json"]);
      await asked.says("]\n");
      const [shown] = JSON.parse(asked.printed) as ProxyStatus[];
      return shown?.workers?.present.find(({ proxy }) => proxy === worker)?.pid;
    };
    const codeOf = (...words: string[]) => new Running(words).process.exited;
    const status = new Running(["status", name]);
    await status.says("2/2");
    expect(await status.process.exited).toBe(0);
    expect(status.printed).toMatch(new RegExp(`^${name} .*SYNCED`, "m"));
    const routes = new Running(["listeners", name]);
    await routes.says(String(other));
    const others = new Running(["listeners", `${name}-b`]);
    await others.says(String(port));
    const worker = new Running(["config", `${name}/2`]);
    await worker.says("routeTables");
    const before = await pidOf(`${name}/2`);
    expect(await codeOf("restart", `${name}/2`)).toBe(0);
    const until = Date.now() + patience;
    while ((await pidOf(`${name}/2`)) === before && Date.now() < until) await Bun.sleep(50);
    expect(await pidOf(`${name}/2`)).not.toBe(before);
    const restart = new Running(["restart", name]);
    await restart.says(`${name} belongs to no stack`);
    const taken = new Running(["run", "-f", second, "--name", name]);
    await taken.says(`a proxy "${name}" runs already`);
    expect(await taken.process.exited).toBe(2);

    // Both workers have what the file says.
    writeFileSync(file, answering("new").replace(String(port), String(other)));
    await one.says("new configuration: ");
    port = other;
    expect(await Promise.all(Array.from({ length: 16 }, get))).toEqual(Array.from({ length: 16 }, () => "new"));

    one.process.kill("SIGTERM");
    expect(await one.process.exited).toBe(0);
    await gone();
    expect(await codeOf("status", name)).toBe(2);
    // Killed, it cannot take its entry away: who looks for it does.
    two.process.kill("SIGKILL");
    await two.process.exited;
    expect(await codeOf("status", `${name}-b`)).not.toBe(0);
  }, 60_000);

  test("shows live connections of every protocol, what was passed through, and that endpoints are those of files", async () => {
    const name = `fl-t-shown-${process.pid}`;
    const server = net.createServer((socket) => void socket.pipe(socket));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const through = freePort();
    const more = `---
kind: Listener
name: through
port: ${through}
chains: [{ serve: { tcp: [{ target: { backend: echo } }] } }]
---
kind: Backend
name: echo
protocol: tcp
---
kind: Endpoints
backend: echo
endpoints: [{ address: 127.0.0.1, port: ${(server.address() as net.AddressInfo).port} }]
`;
    writeFileSync(file, answering("one", more));
    const proxy = new Running(["run", "-f", file, "--name", name]);
    await proxy.says("ready: ");
    const table = async (...words: string[]): Promise<string[][]> => {
      const asked = new Running([...words, name]);
      expect(await asked.process.exited).toBe(0);
      await asked.says("\n");
      return asked.printed
        .trimEnd()
        .split("\n")
        .map((line) => line.split(/ {3,}/));
    };
    const http = net.connect(port, "127.0.0.1");
    const passed = net.connect(through, "127.0.0.1");
    const session = http2.connect(`http://127.0.0.1:${port}`);
    try {
      const echoed = once(passed, "data");
      passed.write("x".repeat(2048));
      await echoed;
      const stream = session.request({ ":path": "/" });
      await once(stream.resume(), "end");

      const until = Date.now() + patience;
      let live: string[][];
      do live = (await table("connections")).slice(1);
      while (live.length < 3 && Date.now() < until);
      const age = expect.stringMatching(/^\d+s$/);
      expect(live.sort()).toEqual([
        ["through", "127.0.0.1", "TCP", age],
        ["web", "127.0.0.1", "HTTP/1.1", age],
        ["web", "127.0.0.1", "HTTP/2", age],
      ]);
      const asked = new Running(["connections", name, "-o", "json"]);
      await asked.says("]\n");
      const all = JSON.parse(asked.printed) as { listener: string; protocol: string; age: number }[];
      expect(all.map(({ protocol }) => protocol).sort()).toEqual(["HTTP/1.1", "HTTP/2", "TCP"]);

      const stats = await table("stats");
      expect(stats.map(([first]) => first)).toEqual(["ROUTE", "all", "", "PROTOCOL", "TCP"]);
      expect(stats[4]).toEqual(["TCP", "echo", "1", "1", "2.0 KiB", "2.0 KiB"]);
      expect((await table("clusters"))[1]!.slice(0, 5)).toEqual(["echo", "-", "-", "STATIC", "-"]);

      passed.destroy();
      session.destroy();
      http.destroy();
      do live = (await table("connections")).slice(1);
      while (live.length > 0 && Date.now() < until);
      expect(live).toEqual([]);
    } finally {
      for (const one of [passed, session, http]) one.destroy();
      server.close();
    }
  }, 60_000);

  test("starts nothing when one resource is bad, or a port cannot be had", async () => {
    writeFileSync(file, answering("one", "---\nkind: Backend\nname: lonely\n"));
    const bad = new Running(["run", "-f", file]);
    expect(await bad.process.exited).toBe(1);
    await bad.says(`${file}:11: Backend lonely: name has no document of kind Endpoints`);
    await bad.says("Nothing was started.");

    writeFileSync(file, answering("one"));
    const taken = Bun.listen({ hostname: "127.0.0.1", port, socket: { data() {} } });
    try {
      const refused = new Running(["run", "-f", file]);
      expect(await refused.process.exited).toBe(1);
      await refused.says(`${file}:1: Listener web: 127.0.0.1:${port} is in use by another process`);
    } finally {
      taken.stop(true);
    }
  }, 60_000);

  test("has its ports for itself: another proxy of the same user is refused them, whatever the workers of either", async () => {
    const udp = `---
kind: Listener
name: datagrams
transport: udp
port: ${port}
chains: [{ serve: { tcp: [{ target: { backend: none } }] } }]
---
kind: Backend
name: none
protocol: tcp
---
kind: Endpoints
backend: none
endpoints: []
`;
    const start = (name: string, text: string, workers: number) => {
      writeFileSync(join(folder, `${name}.yaml`), text);
      return new Running([
        "run",
        "-f",
        `${name}.yaml`,
        "--name",
        `fl-t-${name}-${process.pid}`,
        "--workers",
        `${workers}`,
      ]);
    };
    for (const [name, workers] of [
      ["alone", 1],
      ["both", 2],
    ] as const) {
      const one = start(name, answering("one", udp), workers);
      await one.says("ready: ");
      const web = start(`${name}-web`, answering("two"), workers);
      const datagrams = start(`${name}-udp`, udp, 3 - workers);
      await Promise.all([
        web.says(`Listener web: 127.0.0.1:${port} is in use by another process`),
        datagrams.says(`Listener datagrams: 127.0.0.1:${port} is in use by another process`),
      ]);
      expect(await Promise.all([web.process.exited, datagrams.process.exited])).toEqual([1, 1]);
      expect(new Set(await Promise.all(Array.from({ length: 16 }, get)))).toEqual(new Set(["one"]));
      // One that comes later: what is served stays.
      const other = freePort();
      const free = start(`${name}-free`, answering("three").replace(String(port), String(other)), workers);
      await free.says("ready: ");
      writeFileSync(join(folder, `${name}-free.yaml`), answering("three"));
      await free.says(`127.0.0.1:${port} is in use by another process`);
      expect(await (await fetch(`http://127.0.0.1:${other}/`)).text()).toBe("three");
      for (const running of [one, free]) {
        running.process.kill("SIGTERM");
        expect(await running.process.exited).toBe(0);
      }
    }
  }, 60_000);

  test("reads standard input, only checks with --check, and explains by the same files", async () => {
    writeFileSync(file, answering("one"));
    const check = new Running(["run", "-f", file, "--check"]);
    expect(await check.process.exited).toBe(0);
    await check.says("good: 1 listener, 1 rule, 0 backends");

    const explained = new Running(["explain", "-f", file, `http://127.0.0.1:${port}/`]);
    expect(await explained.process.exited).toBe(0);
    await explained.says(`RouteTable main hosts[0].rules[0]  (proxy.yaml:8)`);

    const piped = new Running(["run", "-f", "-"], new Blob([answering("piped")]));
    await piped.says("ready: ");
    expect(await get()).toBe("piped");
    // Killed without a chance to end its proxy: that drains.
    piped.process.kill("SIGKILL");
    await gone();
  }, 60_000);
});

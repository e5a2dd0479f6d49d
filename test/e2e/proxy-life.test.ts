// The life of a stack's proxy: handed over to another process, of the same program or of a newer one, while requests arrive; what the
// command line shows of it; access logs and traces of a proxy alone.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ProxyStatus, StackStatus } from "../../src/cluster/control-api.ts";
import { whileAsked } from "./asking.ts";
import { backend, endpoints, freePort, ProxyUnderTest, plainListener, routeTable, rule } from "./proxy-harness.ts";
import { eventually, isRoot, type Result, root, run, TestStack } from "./stack.ts";

if (!isRoot) console.log("skipped: a stack's proxy in namespaces needs root");

const objects = `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: fairlead}
spec: {controllerName: fairlead.dev/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web}
spec: {gatewayClassName: fairlead, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart}
spec:
  parentRefs: [{name: web}]
  hostnames: [shop.example.com]
  rules: [{matches: [{path: {type: PathPrefix, value: /cart}}], backendRefs: [{name: cart, port: 80}]}]
---
apiVersion: v1
kind: Service
metadata: {name: cart}
spec: {selector: {app: cart}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart}
spec:
  replicas: 2
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec: {containers: [{name: web, image: example/cart, ports: [{containerPort: 8080}]}]}
`;

describe.if(isRoot)("a stack's proxy", () => {
  const stack = new TestStack("life");
  // A copy of the program, so that it can be changed as an upgrade changes it.
  const installed = mkdtempSync(join(tmpdir(), "fl-t-installed-"));
  let address = "";

  const fairlead = (command: string, ...words: string[]): Promise<Result> =>
    run([process.execPath, join(installed, "src/cli/main.ts"), command, "--name", stack.name, ...words], {
      env: { FAIRLEAD_HOME: stack.home },
    });
  const proxyOf = async (): Promise<ProxyStatus> => {
    const { out } = await fairlead("proxy", "status", "-o", "json");
    return (JSON.parse(out) as ProxyStatus[])
      .filter(({ connected }) => connected)
      .sort((a, b) => b.since - a.since)[0]!;
  };

  const killControl = async () => {
    const { out } = await fairlead("status", "-o", "json");
    const control = (JSON.parse(out) as StackStatus).processes.find(({ component }) => component === "control")!;
    process.kill(control.pid!, "SIGKILL");
  };

  beforeAll(async () => {
    for (const name of ["src", "package.json", "tsconfig.json"])
      cpSync(join(root, name), join(installed, name), { recursive: true, preserveTimestamps: true });
    symlinkSync(join(root, "node_modules"), join(installed, "node_modules"));
    const file = join(installed, "objects.yaml");
    await Bun.write(file, objects);
    const { code, out, err } = await fairlead("up", ...["--network", "netns", ...stack.rangeOptions, "-f", file]);
    if (code !== 0) throw new Error(`${out}${err}`);
    address = await stack.address("web", "default");
  }, 90_000);

  afterAll(async () => {
    await stack.remove();
    rmSync(installed, { recursive: true, force: true });
  }, 30_000);

  test("restart hands it over, and no request of thousands fails; what has begun is finished by the process before", async () => {
    const before = await proxyOf();
    const slow = fetch(`http://${address}/cart/slow?delay=3s`, { headers: { host: "shop.example.com" } });
    const tally = await whileAsked([address, 80], async () => {
      for (let turn = 0; turn < 3; turn++) {
        const { code, err } = await fairlead("proxy", "restart");
        expect(err).toBe("");
        expect(code).toBe(0);
      }
    });
    expect(tally.failures).toEqual([]);
    expect(tally.answered).toBeGreaterThan(1_000);
    expect((await slow).status).toBe(200);
    const after = await proxyOf();
    expect(after.pid).not.toBe(before.pid);
    expect(existsSync(`/proc/${after.pid}`)).toBe(true);
    await eventually(
      async () => existsSync(`/proc/${before.pid}`),
      (runs) => !runs,
      40_000,
    );
    expect(existsSync(`/proc/${before.pid}`)).toBe(false);
  }, 90_000);

  test("a newer program takes over from the older one's proxy when the control process is started again", async () => {
    const before = await proxyOf();
    const tally = await whileAsked([address, 80], async () => {
      const later = new Date(Date.now() + 60_000);
      utimesSync(join(installed, "src/proxy/main.ts"), later, later);
      await killControl();
      const after = await eventually(
        () => proxyOf().catch(() => undefined),
        (proxy) => proxy !== undefined && proxy.program !== before.program,
        40_000,
      );
      expect(after?.program).not.toBe(before.program);
      expect(after?.pid).not.toBe(before.pid);
    });
    expect(tally.failures).toEqual([]);
  }, 90_000);

  test("a program that cannot start takes nothing over: the one before goes on", async () => {
    const file = join(installed, "src/proxy/main.ts");
    const sound = readFileSync(file, "utf8");
    const before = await proxyOf();
    writeFileSync(file, `throw new Error("broken");\n`);
    const tally = await whileAsked([address, 80], async () => {
      const { code, err } = await fairlead("proxy", "restart");
      expect(code).toBe(1);
      expect(err).toContain("the new proxy process did not begin to serve; the one before goes on");
    }).finally(() => writeFileSync(file, sound));
    expect(tally.failures).toEqual([]);
    expect((await proxyOf()).pid).toBe(before.pid);
    expect((await fairlead("proxy", "restart")).code).toBe(0);
  }, 60_000);

  test("an upgrade that fails is told by proxy status, and tried again until it comes about", async () => {
    const file = join(installed, "src/proxy/main.ts");
    const sound = readFileSync(file, "utf8");
    const before = await proxyOf();
    const tally = await whileAsked([address, 80], async () => {
      writeFileSync(file, `throw new Error("broken");\n`);
      try {
        await killControl();
        const { err } = await eventually(
          () => fairlead("proxy", "status"),
          (status) => status.err.includes("could not take over"),
          40_000,
        );
        expect(err).toMatch(
          /Warning: the present program \(\S+\) could not take over, tried once: the new proxy process did not begin to serve; the one before goes on\. Next try in \ds\n$/,
        );
        expect((await proxyOf()).pid).toBe(before.pid);
      } finally {
        writeFileSync(file, sound);
      }
      const after = await eventually(proxyOf, ({ pid }) => pid !== before.pid, 40_000);
      expect(after.program).not.toBe(before.program);
      expect(
        (
          await eventually(
            () => fairlead("proxy", "status"),
            ({ err }) => err === "",
          )
        ).err,
      ).toBe("");
    });
    expect(tally.failures).toEqual([]);
  }, 120_000);

  test("becomes several workers, and one process again, without a failure; several are shown as one", async () => {
    const name = `gateway.${stack.name}`;
    const before = await proxyOf();
    const tally = await whileAsked([address, 80], async () => {
      expect(await fairlead("proxy", "restart", "--workers", "3")).toMatchObject({ code: 0, err: "" });
      const composed = await proxyOf();
      expect(composed.proxy).toBe(name);
      expect(composed.pid).not.toBe(before.pid);
      expect(composed.workers).toMatchObject({ of: 3 });
      expect(composed.workers!.present.map(({ proxy }) => proxy)).toEqual([1, 2, 3].map((one) => `${name}/${one}`));
      const status = (await fairlead("proxy", "status")).out.trimEnd().split("\n");
      expect(status).toHaveLength(2);
      expect(status[0]).toMatch(/VERSION +WORKERS$/);
      expect(status[1]).toMatch(new RegExp(`^${name} .*SYNCED .* 3/3$`));

      expect((await fairlead("proxy", "listeners")).out).toContain("Route: gateway/default/web/80");
      expect((await fairlead("proxy", "config", name)).code).toBe(0);
      expect((await fairlead("proxy", "routes", `${name}/2`)).out).toContain("shop.example.com");
      const stats = JSON.parse((await fairlead("proxy", "stats", "-o", "json")).out) as { workers: object[] };
      expect(stats.workers).toHaveLength(3);

      // One of them by itself, the others take over; then all of them, which stay as many.
      const second = composed.workers!.present[1]!.pid;
      expect((await fairlead("proxy", "restart", `${name}/2`)).out).toContain("started anew");
      await eventually(
        proxyOf,
        ({ workers }) => workers?.present.length === 3 && !workers.present.some(({ pid }) => pid === second),
      );
      expect((await fairlead("proxy", "restart")).code).toBe(0);
      expect((await proxyOf()).workers?.of).toBe(3);

      // A number that up was told is taken at once by a stack that runs.
      const up = await fairlead("up", "--proxy-workers", "1");
      expect(up.out).toContain("proxy workers: 1");
      expect(up.code).toBe(0);
      expect((await proxyOf()).workers).toBe(undefined);
    });
    expect(tally.failures).toEqual([]);
  }, 120_000);

  test("is shown as istioctl shows one", async () => {
    const name = `gateway.${stack.name}`;
    const rows = async (...words: string[]) => {
      const { code, out, err } = await fairlead("proxy", ...words);
      if (code !== 0) throw new Error(err);
      return out
        .trimEnd()
        .split("\n")
        .map((line) => line.split(/ {3,}/));
    };
    expect((await rows("status"))[0]).toEqual(["NAME", "PID", "CDS", "EDS", "LDS", "RDS", "SDS", "VERSION"]);
    const [cell] = (await rows("status", name)).slice(1).map(([proxy, , cds]) => [proxy, cds]);
    expect(cell).toEqual([name, expect.stringMatching(/^SYNCED \(\d+[smh]\)$/)]);
    expect((await rows("clusters", name))[1]!.slice(0, 5)).toEqual([
      ...["cart.default.svc.cluster.local", "80", "-", "EDS", "-"],
    ]);
    const shown = await rows("endpoints", name);
    expect(shown[0]!.slice(0, 4)).toEqual(["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"]);
    expect(shown.slice(1).map(([, ...cells]) => cells.slice(0, 3))).toEqual(
      [0, 1].map(() => ["HEALTHY", "OK", "service/default/cart/80"]),
    );
    expect((await rows("listeners"))[1]!.slice(0, 4)).toEqual([address, "80", "ALL", "Route: gateway/default/web/80"]);
    expect((await rows("routes"))[1]).toEqual([
      ...["gateway/default/web/80", "shop.example.com", "shop.example.com", "/cart/*", "cart.default"],
      "service/default/cart/80",
    ]);
    expect((await rows("config")).map(([type]) => type)).toEqual([
      ...["TYPE", "backends", "endpoints", "routeTables", "listeners"],
    ]);
    await (await fetch(`http://${address}/cart`, { headers: { host: "shop.example.com" } })).text();
    const stats = JSON.parse((await fairlead("proxy", "stats", "-o", "json")).out) as { routes: object[] };
    expect(stats.routes).toContainEqual(
      expect.objectContaining({ route: "default/cart", backend: "service/default/cart/80", flags: {} }),
    );
  }, 30_000);

  test("has a live connection while there is one", async () => {
    const socket = net.connect(80, address);
    await new Promise((resolve) => socket.once("connect", resolve));
    const { out } = await eventually(
      () => fairlead("proxy", "connections"),
      ({ out }) => out.includes("HTTP/1.1"),
    );
    expect(out).toMatch(/gateway\/default\/web\/80 {3}\S+ {3}HTTP\/1\.1 {3}\d+s/);
    socket.destroy();
  }, 20_000);

  test("takes a log level, and makes a CPU profile", async () => {
    expect((await fairlead("proxy", "log", "--level", "debug")).out).toBe("level: debug\n");
    expect((await fairlead("proxy", "log")).out).toBe("level: debug\n");
    expect((await fairlead("proxy", "log", "--level", "loud")).err).toContain(
      "a log level is debug, info, warn, error",
    );
    const file = join(stack.home, "x.cpuprofile");
    expect((await fairlead("proxy", "profile", "--seconds", "1", "--file", file)).code).toBe(0);
    expect(JSON.parse(readFileSync(file, "utf8"))).toHaveProperty("nodes");
  }, 30_000);

  test("a wrong word is told with what is near it", async () => {
    expect(await fairlead("proxy", "endpoint")).toMatchObject({
      code: 2,
      err: expect.stringContaining('Did you mean "fairlead proxy endpoints"?'),
    });
    expect(await fairlead("proxy", "routes", "no-such")).toMatchObject({
      code: 2,
      err: expect.stringContaining(`There are: gateway.${stack.name}`),
    });
  }, 20_000);
});

describe("what a proxy tells of its requests", () => {
  const proxy = new ProxyUnderTest();
  const cleanups: (() => unknown)[] = [() => proxy.stop()];
  afterAll(async () => {
    for (const clean of cleanups.reverse()) await clean();
  });

  test("a log line in Envoy's operators, a context for the backend, and a span for the collector", async () => {
    const seen: Headers[] = [];
    const origin = Bun.serve({
      ...{ hostname: "127.0.0.1", port: 0 },
      fetch(request) {
        seen.push(request.headers);
        return new Response("hello", { headers: { "x-version": "v2" } });
      },
    });
    const batches: { resourceSpans: { scopeSpans: { spans: Record<string, unknown>[] }[] }[] }[] = [];
    const collector = Bun.serve({
      ...{ hostname: "127.0.0.1", port: 0 },
      async fetch(request) {
        if (new URL(request.url).pathname === "/v1/traces") batches.push((await request.json()) as (typeof batches)[0]);
        return Response.json({});
      },
    });
    cleanups.push(
      () => origin.stop(true),
      () => collector.stop(true),
    );
    await proxy.start();
    const port = freePort();
    const path = join(proxy.folder, "access.log");
    const text =
      '%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %BYTES_SENT% %RESP(X-VERSION)% "%REQ(USER-AGENT)%" %TRACE_ID%';
    const listener = {
      ...plainListener(port),
      accessLog: { path, format: { text } },
      tracing: { backend: "otel", service: "edge", sample: 1, formats: ["w3c", "b3"] },
    };
    const update = {
      backends: [backend("one"), backend("otel")],
      endpoints: [endpoints("one", origin.port!), endpoints("otel", collector.port!)],
      routeTables: [routeTable([rule("all")])],
    };
    expect(await proxy.control.update({ ...update, listeners: [listener] })).toEqual([]);
    const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
    const traceparent = `00-${traceId}-00f067aa0ba902b7-01`;
    const answer = await fetch(`http://127.0.0.1:${port}/cart?x=1`, { headers: { traceparent, "user-agent": 'a"b' } });
    expect(await answer.text()).toBe("hello");

    const sent = /^00-([0-9a-f]{32})-([0-9a-f]{16})-01$/.exec(seen[0]!.get("traceparent") ?? "")!;
    expect(sent[1]).toBe(traceId);
    expect(sent[2]).not.toBe("00f067aa0ba902b7");
    expect(seen[0]!.get("b3")).toBe(`${traceId}-${sent[2]}-1-00f067aa0ba902b7`);
    const line = await eventually(
      async () => (existsSync(path) ? readFileSync(path, "utf8") : ""),
      (log) => log !== "",
    );
    expect(line).toBe(`GET /cart?x=1 200 5 v2 "a\\x22b" ${traceId}\n`);
    expect(statSync(path).mode & 0o777).toBe(0o640);
    await eventually(
      async () => batches.length,
      (count) => count > 0,
    );
    const span = batches[0]!.resourceSpans[0]!.scopeSpans[0]!.spans[0]!;
    expect(span).toMatchObject({
      traceId,
      spanId: sent[2],
      parentSpanId: "00f067aa0ba902b7",
      name: "GET all",
      kind: 2,
    });
    const metrics = await (await proxy.get("/metrics")).text();
    expect(metrics).toContain('fairlead_proxy_spans_total{result="sent"} 1');
    expect(metrics).toContain('fairlead_proxy_access_log_lines_total{result="written"} 1');
    expect(metrics).toContain('fairlead_proxy_response_body_bytes_sum{route="all",backend="one"} 5');
  }, 20_000);

  test("a template or a file that will not do refuses the listener, and the one before stays", async () => {
    const port = freePort();
    const refuse = async (accessLog: object) =>
      (await proxy.control.update({ listeners: [{ ...plainListener(port, { name: "bad" }), accessLog }] }))[0]?.reason;
    expect(await refuse({ path: "/tmp/x.log", format: { text: "%NO_SUCH%" } })).toContain("%NO_SUCH% is no operator");
    expect(await refuse({ path: "x.log", format: { text: "x" } })).toContain('"x.log" is no absolute path');
    expect(await refuse({ path: "/no/such/folder/x.log", format: { text: "x" } })).toContain("/no/such/folder/x.log");
  }, 20_000);
});

describe("a proxy with too much to do", () => {
  const cleanups: (() => unknown)[] = [];
  afterAll(async () => {
    for (const clean of cleanups.reverse()) await clean();
  });

  async function started(...options: string[]): Promise<{ proxy: ProxyUnderTest; port: number; release: () => void }> {
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const origin = Bun.serve({
      ...{ hostname: "127.0.0.1", port: 0 },
      async fetch(request) {
        if (request.url.endsWith("/held")) await held;
        return new Response("hello");
      },
    });
    const proxy = new ProxyUnderTest();
    cleanups.push(
      () => origin.stop(true),
      () => proxy.stop(),
    );
    await proxy.start(...options);
    const port = freePort();
    await proxy.control.update({
      backends: [backend("one")],
      endpoints: [endpoints("one", origin.port!)],
      routeTables: [routeTable([rule("all")])],
      listeners: [plainListener(port)],
    });
    return { proxy, port, release };
  }

  test("refuses requests above its most, and takes others when they have ended", async () => {
    const { proxy, port, release } = await started("--max-requests", "1");
    const first = fetch(`http://127.0.0.1:${port}/held`);
    await eventually(
      async () => (await (await proxy.get("/status")).json()) as { requests: { active: number } },
      ({ requests }) => requests.active === 1,
    );
    const second = await fetch(`http://127.0.0.1:${port}/`);
    expect(second.status).toBe(503);
    expect(second.headers.get("x-fairlead-reason")).toBe("overloaded");
    expect((await proxy.get("/healthz")).status).toBe(200);
    release();
    expect((await first).status).toBe(200);
    expect((await fetch(`http://127.0.0.1:${port}/`)).status).toBe(200);
    const { requests } = (await (await proxy.get("/status")).json()) as { requests: object };
    expect(requests).toMatchObject({ active: 0, refused: 1 });
  }, 20_000);

  test("accepts nothing above its memory bound, and still says how it is", async () => {
    const { proxy, port } = await started("--max-memory", "1000000");
    const answers = () =>
      fetch(`http://127.0.0.1:${port}/`, { headers: { connection: "close" } }).then(
        ({ status }) => status,
        () => undefined,
      );
    expect(await eventually(answers, (status) => status === undefined)).toBe(undefined);
    expect(await (await proxy.get("/healthz")).text()).toBe("ok, but memory is short\n");
  }, 20_000);
});

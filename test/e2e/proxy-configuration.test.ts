// What changes or ends under a proxy that serves, and what it says of itself. The proxy program is spawned, configured over its
// control socket and spoken to over loopback. Needs no privileges.

import { describe, expect, test } from "bun:test";
import { existsSync, statSync } from "node:fs";
import { fingerprint } from "../../src/model/fingerprint.ts";
import { eachProxyTest, echo, ends, port, proxy, request, serve, until, url } from "./proxy-cases.ts";
import { backend, endpoints, freePort, plainListener, routeTable, rule } from "./proxy-harness.ts";
import { exchange, RawClient, rawBackend } from "./proxy-raw.ts";

eachProxyTest();

describe("configuration", () => {
  test("what is wrong is refused alone and what was in force stays", async () => {
    await serve([echo("one")]);
    const taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
    ends.push(() => taken.stop(true));
    const rejected = await proxy.control.update({
      backends: [backend("two", { connectTimeout: -1 }), backend("three")],
      routeTables: [routeTable([rule("bad", { match: { path: { kind: "regex", value: "(" } } })])],
      listeners: [
        plainListener(taken.port, { name: "taken" }),
        plainListener(port, { name: "again" }),
        { ...plainListener(freePort(), { name: "elsewhere" }), scope: "mesh" },
        plainListener(freePort(), { name: "nowhere", address: "192.0.2.1" }),
      ],
    });
    expect(rejected.map(({ resource, name }) => `${resource} ${name}`).sort()).toEqual([
      "backends two",
      "listeners again",
      "listeners elsewhere",
      "listeners nowhere",
      "listeners taken",
      "routeTables main",
    ]);
    const reason = (name: string) => rejected.find((one) => one.name === name)!.reason;
    expect(reason("taken")).toContain("in use by another process");
    expect(reason("again")).toContain("in use by listener http");
    expect((await fetch(url())).status).toBe(200);
    const config = (await (await proxy.get("/config")).json()) as { backends: { name: string }[] };
    expect(config.backends.map(({ name }) => name)).toEqual(["one", "three"]);
  });

  test("100 route changes under load fail no request and drop no connection", async () => {
    const ports = [echo("one"), echo("two"), echo("three")];
    await serve([ports[0]!]);
    let running = true;
    let requests = 0;
    const failures: string[] = [];
    const worker = async (): Promise<void> => {
      const client = await RawClient.connect(port);
      while (running) {
        client.seen = "";
        client.send(request("/x"));
        const seen = await client.read((all) => all.includes('"body":""}'));
        requests++;
        if (!seen.startsWith("HTTP/1.1 200")) failures.push(seen.slice(0, 200) || "closed");
        if (client.closed) failures.push("the connection was closed");
        if (failures.length > 0) return;
      }
      client.close();
    };
    const workers = Array.from({ length: 8 }, worker);
    for (let change = 0; change < 100; change++) {
      const rules = Array.from({ length: 50 }, (_, index) =>
        rule(`rule-${change}-${index}`, { match: { path: { kind: "segments", value: `/${change}/${index}` } } }),
      );
      const extra = freePort();
      const rejected = await proxy.control.update(
        {
          endpoints: [endpoints("one", ports[change % 3]!, ports[(change + 1) % 3]!)],
          routeTables: [routeTable([...rules, rule("all")])],
          listeners: [plainListener(extra, { name: `extra-${change}` })],
        },
        { listeners: [`extra-${change - 1}`] },
      );
      expect(rejected).toEqual([]);
    }
    running = false;
    await Promise.all(workers);
    expect(failures).toEqual([]);
    expect(requests).toBeGreaterThan(200);
  });

  test("it serves on without the control process, and tells a new one what it has", async () => {
    await serve([echo("one")]);
    proxy.control.stop();
    for (let count = 0; count < 20; count++) expect((await fetch(url())).status).toBe(200);
    const hello = proxy.control.hello();
    proxy.control.start();
    const { have } = await hello;
    expect(Object.keys(have.backends!)).toEqual(["one"]);
    expect(have.backends!["one"]).toBe(fingerprint("backends", backend("one")));
    expect(have.routeTables!["main"]).toBe(fingerprint("routeTables", routeTable([rule("all")])));
  });

  test("killed, it serves again from its file before the control process has said anything", async () => {
    await serve([echo("one")]);
    await until(() => existsSync(proxy.state));
    expect(statSync(proxy.state).mode & 0o777).toBe(0o600);
    proxy.process!.kill("SIGKILL");
    await proxy.process!.exited;
    proxy.control.stop();
    proxy.spawn();
    await until(async () => (await fetch(url()).catch(() => undefined))?.status === 200);
  });
});

describe("the end", () => {
  test("SIGTERM: no new connections, what is in flight is finished, then exit 0", async () => {
    let release: () => void = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let asked = false;
    const server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      async fetch() {
        asked = true;
        await held;
        return new Response("finished");
      },
    });
    ends.push(() => server.stop(true));
    await serve([server.port!]);
    const idle = await RawClient.connect(port);
    const inFlight = exchange(port, request());
    await until(() => asked);
    proxy.process!.kill("SIGTERM");
    await idle.read(() => false);
    expect(idle.closed).toBe(true);
    await until(async () => (await fetch(url()).catch(() => undefined)) === undefined);
    release();
    const answer = await inFlight;
    expect(answer).toContain("connection: close");
    expect(answer).toEndWith("finished");
    expect(await proxy.process!.exited).toBe(0);
  });

  test("a drain's deadline closes what does not finish", async () => {
    const one = rawBackend(() => {});
    ends.push(one.stop);
    await serve([one.port]);
    const hanging = exchange(port, request());
    await until(() => one.connections() === 1);
    proxy.control.send({ type: "drain", deadline: 100 });
    expect(await hanging).toBe("");
    expect(await proxy.process!.exited).toBe(0);
  });
});

test("the admin socket shows figures and what is in force", async () => {
  await serve([echo("one")]);
  await (await fetch(url())).text();
  await (await fetch(url())).text();
  expect(await (await proxy.get("/healthz")).text()).toBe("ok\n");
  const metrics = await (await proxy.get("/metrics")).text();
  expect(metrics).toContain('fairlead_proxy_requests_total{route="all",backend="one",code="2xx"} 2');
  expect(metrics).toContain('fairlead_proxy_request_duration_seconds_count{route="all",backend="one"} 2');
  const stats = (await (await proxy.get("/stats")).json()) as { resources: object; listeners: object };
  expect(stats).toMatchObject({
    connected: true,
    resources: { listeners: 1, routeTables: 1, backends: 1, endpoints: 1, secrets: 0 },
  });
  expect(statSync(proxy.admin).mode & 0o777).toBe(0o600);
});

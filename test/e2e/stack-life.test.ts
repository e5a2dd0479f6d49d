// The life of a stack: joined, kept, rebooted, given real programs, and changed a hundred times under load.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { eventually, isRoot, root, run, TestStack } from "./stack.ts";

if (!isRoot) console.log("skipped: the life of a stack: it needs root");

describe.skipIf(!isRoot)("a stack", () => {
  const stack = new TestStack("life");
  const file = join(root, "examples/shop");
  let address = "";
  beforeAll(async () => {
    const { code, err } = await stack.up("-f", file, "--image", "*shop/cart*=python3 -m http.server 8080");
    expect(err).toBe("");
    expect(code).toBe(0);
    address = await stack.address("shop", "shop");
  }, 60_000);
  afterAll(() => stack.remove(), 30_000);

  const get = async (path: string, ...words: string[]) =>
    run([
      "curl",
      "-s",
      "-m",
      "3",
      "-w",
      "\n%{http_code}",
      ...words,
      "-H",
      "Host: www.shop.example",
      `http://${address}${path}`,
    ]);
  const podNames = async () => (await stack.list("pods", "-A")).map((pod) => pod.metadata.name).sort();

  test("runs a host program in place of an image, in the pod's network", async () => {
    // The pod counts as ready when its command runs; Python listens a moment later.
    const head = () => run(["curl", "-sI", "-H", "Host: www.shop.example", `http://${address}/cart/`]);
    expect((await eventually(head, ({ out }) => out.includes("SimpleHTTP"))).out).toContain("SimpleHTTP");
  });

  test("is joined by a second up, which applies", async () => {
    const before = await podNames();
    const { code, out } = await stack.up("-f", file);
    expect(out).toContain(`Joining stack "${stack.name}".`);
    expect(code).toBe(0);
    expect(await podNames()).toEqual(before);
  }, 30_000);

  test("drops no request over a hundred route changes under load", async () => {
    let failed = 0;
    let answered = 0;
    let changing = true;
    const client = async () => {
      while (changing) {
        const response = await fetch(`http://${address}/catalog`, { headers: { host: "www.shop.example" } }).catch(
          () => undefined,
        );
        if (response?.status !== 200) failed++;
        else await response.text();
        answered++;
      }
    };
    const load = Promise.all([client(), client(), client(), client()]);
    for (let at = 0; at < 100; at++) {
      const { code, err } = await stack.kubectl(
        ...["patch", "httproute", "storefront", "-n", "shop", "--type=json", "-p"],
        JSON.stringify([{ op: "replace", path: "/spec/rules/1/backendRefs/0/weight", value: 50 + at }]),
      );
      if (code !== 0) throw new Error(err);
    }
    changing = false;
    await load;
    expect(failed).toBe(0);
    expect(answered).toBeGreaterThan(1000);
  }, 120_000);

  test("goes on after down --keep-data with the same objects", async () => {
    const before = await podNames();
    expect((await stack.fairlead("down", "--keep-data")).code).toBe(0);
    expect((await run(["ip", "netns"])).out).not.toContain(`fl-${stack.name}`);
    const { code, err } = await stack.up();
    expect(err).toBe("");
    expect(code).toBe(0);
    expect(await podNames()).toEqual(before);
    expect(
      (
        await eventually(
          () => get("/catalog"),
          ({ out }) => out.endsWith("200"),
        )
      ).out,
    ).toEndWith("200");
  }, 60_000);

  test("goes on after a reboot: processes, namespaces and sockets are gone, the state directory is not", async () => {
    const { out } = await stack.fairlead("status", "-o", "json");
    const before = await podNames();
    const keeper = (await run(["sh", "-c", "grep -lz keep-control /proc/[0-9]*/cmdline 2>/dev/null"])).out;
    for (const path of keeper.split("\n").filter(Boolean)) {
      const pid = Number(path.split("/")[2]);
      const environment = await Bun.file(`/proc/${pid}/environ`)
        .text()
        .catch(() => "");
      if (environment.includes(`FAIRLEAD_STACK=/run/fairlead/${stack.name}\0`)) process.kill(pid, "SIGKILL");
    }
    for (const { pid } of JSON.parse(out).processes) process.kill(pid, "SIGKILL");
    const namespaces = (await run(["ip", "netns"])).out
      .split("\n")
      .map((line) => line.split(" ")[0]!)
      .filter((name) => name.startsWith(`fl-${stack.name}.`));
    for (const name of namespaces) await run(["ip", "netns", "del", name]);
    rmSync(`/run/fairlead/${stack.name}`, { recursive: true });
    const again = await stack.up();
    expect(again.err).toBe("");
    expect(again.code).toBe(0);
    expect(await podNames()).toEqual(before);
    expect(
      (
        await eventually(
          () => get("/catalog"),
          ({ out }) => out.endsWith("200"),
        )
      ).out,
    ).toEndWith("200");
  }, 60_000);
});

describe("stacks that start at the same moment", () => {
  const stacks = ["one", "two", "three"].map((name) => new TestStack(name, "loopback"));
  afterAll(() => Promise.all(stacks.map((stack) => stack.remove())), 30_000);

  test("each have a port for their API server, and another one when theirs was taken meanwhile", async () => {
    const ups = await Promise.all(stacks.map((stack) => stack.up()));
    expect(ups.map(({ code, err }) => ({ code, err }))).toEqual(stacks.map(() => ({ code: 0, err: "" })));
    const port = ({ home, name }: TestStack): number =>
      JSON.parse(readFileSync(join(home, name, "stack.json"), "utf8")).apiPort;
    const ports = stacks.map(port);
    expect(new Set(ports).size).toBe(stacks.length);
    // The usual port is one that others may take in between as well.
    const first = stacks.find((stack) => port(stack) !== 6443)!;
    const had = port(first);
    expect((await first.fairlead("down", "--keep-data")).code).toBe(0);
    const thief = Bun.listen({ hostname: "127.0.0.1", port: had, socket: { data() {} } });
    expect(await first.up()).toMatchObject({ code: 0, err: "" });
    thief.stop(true);
    expect(port(first)).not.toBe(had);
    expect((await first.list("nodes"))[0].metadata.name).toBe("node-1");
  }, 60_000);
});

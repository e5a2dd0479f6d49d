// Bad input to the Service layer (issue of the Service layer, "Bad input"): each an error or an Event that names it, while all
// other Services go on being served. A table that another tool has locked is in `locked-table.test.ts`.

import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Cluster, podYaml } from "./cluster.ts";
import { eventually, isRoot, root, run, TestStack } from "./stack.ts";

if (!isRoot) console.log("skipped: bad input to the Service layer: it needs root");

describe.skipIf(!isRoot)("up on a machine that takes no Service rules", () => {
  const stack = new TestStack("tools");
  const tools = mkdtempSync(join(tmpdir(), "fl-t-tools-"));
  afterAll(async () => {
    await stack.remove();
    rmSync(tools, { recursive: true });
  }, 30_000);

  /** `up` with `nft` being this shell script, before anything else of the PATH. */
  const withNft = async (script: string) => {
    writeFileSync(join(tools, "nft"), `#!/bin/sh\n${script}\n`);
    chmodSync(join(tools, "nft"), 0o755);
    return await up(["--proxy-mode", "nftables"], [], { PATH: `${tools}:${process.env.PATH}` });
  };
  /** `up` where these programs are not there: something that is no program lies over each, in a mount namespace of its own. */
  const without = (names: readonly string[], ...words: string[]) => {
    const paths = names.flatMap((name) => ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map((at) => `${at}/${name}`));
    const hide = paths.filter((path) => existsSync(path)).map((path) => `mount --bind /dev/null ${path}`);
    return up(words, ["unshare", "-m", "sh", "-ec", [...hide, 'exec "$@"'].join("\n"), "sh"]);
  };
  const up = async (words: readonly string[], before: readonly string[], env: Record<string, string> = {}) => {
    const command = [join(root, "bin/fairlead"), "up", "--name", stack.name, "--network", "netns"];
    return await run([...before, ...command, ...stack.rangeOptions, ...words], {
      env: { FAIRLEAD_HOME: stack.home, ...env },
    });
  };
  /** Refused in words, before anything was made. */
  const refused = async ({ code, out, err }: { code: number; out: string; err: string }, ...words: string[]) => {
    expect({ code, out }).toEqual({ code: 1, out: "" });
    for (const word of words) expect(err).toContain(word);
    expect(err).not.toMatch(/\bat .*\.ts:\d+/);
    expect(readdirSync(stack.home)).toEqual([]);
    expect((await run(["ip", "netns"])).out).not.toContain(`fl-${stack.name}.`);
  };

  test("an nft that is too old is named with its version, the one that is needed, and another way", async () => {
    const outcome = await withNft('[ "$1" = --version ] && echo "nftables v0.9.8 (E.D.S.)" && exit 0\nexit 1');
    await refused(outcome, "nft 0.9.8 is too old", "install nftables 1.0.1 or newer", "--proxy-mode iptables");
  });

  test("a kernel without nf_tables is named by nft's words", async () => {
    const words = "netlink: Error: cache initialization failed: Protocol not supported";
    const outcome = await withNft(
      `[ "$1" = --version ] && echo "nftables v1.0.6 (x)" && exit 0\ncat >/dev/null\necho "${words}" >&2\nexit 1`,
    );
    await refused(outcome, "--proxy-mode nftables: the rules of IPv4 cannot be written here", words);
  });

  test.each([
    ["nft", "nftables", "the program nft is missing", "apt-get install nftables"],
    ["iptables", "iptables", "the program iptables is missing", "apt-get install iptables"],
    ["ipvsadm", "ipvs", "needs the program ipvsadm, which is not installed", "apt-get install ipvsadm"],
  ])("without %s, --proxy-mode %s is refused with the package to install", async (tool, mode, message, remedy) => {
    await refused(await without([tool], "--proxy-mode", mode), message, remedy);
  });
});

describe.skipIf(!isRoot)("a running stack", () => {
  const cluster = new Cluster("bad");
  const service = (name: string, spec: string) =>
    `apiVersion: v1\nkind: Service\nmetadata: { name: ${name} }\nspec: ${spec}\n---\n`;
  const slice = (name: string, addresses: readonly string[]) => `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: ${name}-1, labels: { kubernetes.io/service-name: ${name} } }
addressType: IPv4
ports: [{ port: 8080 }]
endpoints: [${addresses.map((address) => `{ addresses: ["${address}"] }`).join(", ")}]
---`;
  const clusterIP = async (name: string) => (await cluster.get("Service", name)).spec.clusterIP as string;
  const events = async (reason: string) =>
    (await cluster.list("Event"))
      .filter((event) => event.reason === reason)
      .map((event) => `${event.type} ${event.involvedObject.kind} ${event.involvedObject.name}: ${event.message}`);
  const event = (reason: string) =>
    eventually(
      () => events(reason),
      (list) => list.length > 0,
      20_000,
    );
  /** Who answers at the Service that nothing is wrong with. */
  const unharmed = async () => {
    const address = await clusterIP("good");
    const answering = () => cluster.answering("default/client", address, 80, 4);
    expect(await eventually(answering, ([name, more]) => name === "web" && !more, 20_000)).toEqual(["web"]);
  };

  beforeAll(async () => {
    await cluster.start(
      [
        podYaml("web", { node: "node-1" }),
        podYaml("client", { node: "node-1", ports: [] }),
        service("good", "{ selector: { app: web }, ports: [{ port: 80, targetPort: 8080 }] }"),
        service("manual", "{ ports: [{ port: 80, targetPort: 8080 }] }"),
      ].join("\n"),
    );
    await cluster.ready("web");
    await cluster.ready("client");
  }, 60_000);
  afterAll(() => cluster.remove(), 30_000);

  test("refuses an EndpointSlice with a malformed address, naming the field", async () => {
    const error = await cluster.apply(slice("manual", ["10.1.2.400"])).catch((one: Error) => one);
    expect((error as Error).message).toContain('endpoints[0].addresses[0]: Invalid value: "10.1.2.400"');
    expect(await cluster.get("EndpointSlice", "manual-1")).toBeUndefined();
    await unharmed();
  });

  test("two Services that claim one external address and port: the older one has it, the other is told, both serve", async () => {
    const claim = "selector: { app: web }, externalIPs: [198.51.100.77], ports: [{ port: 80, targetPort: 8080 }]";
    await cluster.apply(service("first", `{ ${claim} }`));
    await Bun.sleep(1_100); // creation times count in seconds
    await cluster.apply(service("second", `{ ${claim.replace("app: web", "app: nobody")} }`));
    expect(await event("ExternalAddressConflict")).toEqual([
      "Warning Service second: 198.51.100.77:80/TCP is served for Service default/first, which claimed it first",
    ]);
    expect(await cluster.answering("default/client", "198.51.100.77", 80, 4)).toEqual(["web"]);
    await cluster.patch("Service", "second", { spec: { selector: { app: "web" } } });
    const own = await clusterIP("second");
    expect(
      await eventually(
        () => cluster.answering("default/client", own, 80, 2),
        ([one]) => one === "web",
      ),
    ).toEqual(["web"]);
    await unharmed();
  }, 60_000);

  test("a node port that a program on the node has is told of, and serves the Service", async () => {
    const listener = await cluster.inside("node/node-1", () =>
      Bun.listen({
        hostname: "0.0.0.0",
        port: 31_080,
        socket: { open: (socket) => void socket.end("the program"), data() {} },
      }),
    );
    await cluster.apply(
      service(
        "noted",
        "{ type: NodePort, selector: { app: web }, ports: [{ port: 80, targetPort: 8080, nodePort: 31080 }] }",
      ),
    );
    expect(await event("NodePortInUse")).toEqual([
      "Warning Service noted: node node-1: a program listens on node port 31080 (TCP), too; connections to it go to this Service. " +
        "Stop the program, or give the Service another nodePort",
    ]);
    const address = cluster.nodes.get("node-1")!;
    const answering = () => cluster.answering("default/client", address, 31_080, 4);
    expect(await eventually(answering, (names) => names.join() === "web")).toEqual(["web"]);
    listener.stop(true);
    await unharmed();
  }, 30_000);

  test("a malformed address that is in the store already is left out with an Event, the slice's others serve", async () => {
    const before = (await cluster.get("Pod", "web")).status.podIP as string;
    await cluster.apply(slice("manual", ["10.1.2.4", before]));
    expect((await cluster.stack.fairlead("down", "--keep-data")).code).toBe(0);
    const store = new Database(join(cluster.stack.home, cluster.stack.name, "store.sqlite"));
    const { changes } = store.run(
      `UPDATE revisions SET object = replace(object, '"10.1.2.4"', '"10.1.2.400"') WHERE name = 'manual-1'`,
    );
    store.close();
    expect(changes).toBeGreaterThan(0);
    expect(await cluster.stack.up()).toMatchObject({ code: 0, err: "" });
    await cluster.connect();
    expect(await event("InvalidEndpointAddress")).toEqual([
      'Warning Service manual: EndpointSlice default/manual-1: 1 endpoints are left out, their address is no IPv4 address: "10.1.2.400"',
    ]);
    // A pod keeps its address, or the slice would be as stale as one that a user forgot.
    expect((await cluster.ready("web")).status.podIP).toBe(before);
    const manual = await clusterIP("manual");
    const answering = () => cluster.answering("default/client", manual, 80, 8);
    expect(await eventually(answering, (names) => names.join() === "web", 20_000)).toEqual(["web"]);
    await unharmed();
  }, 60_000);
});

import { describe, expect, test } from "bun:test";
import { FakeClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import type { Run } from "../service-rules.ts";
import { port, table } from "../testing/rows.ts";
import { Draining } from "./draining.ts";
import type { IpvsOptions } from "./fixed-chains.ts";
import { ipvs } from "./ipvs.ts";
import { missingIpvsSupport } from "./support.ts";

const options: IpvsOptions = { family: 4, nodeAddresses: [] };

interface Answer {
  readonly code?: number;
  readonly stdout?: string;
  readonly stderr?: string;
}

/** Tools that answer as told, by the beginning of the command, and remember what they were given. */
function tools(answers: Record<string, Answer> = {}) {
  const calls: { readonly command: string; readonly text: string }[] = [];
  const run: Run = async (argv, stdin = "") => {
    const command = argv.join(" ");
    calls.push({ command, text: stdin });
    const answer = Object.entries(answers).find(([start]) => command.startsWith(start))?.[1];
    return { code: 0, stdout: "", stderr: "", ...answer };
  };
  const texts = (start: string) => calls.filter(({ command }) => command.startsWith(start)).map(({ text }) => text);
  return { run, calls, texts, answers };
}

/** Lets all that only waits for promises go on. */
const settle = async () => {
  for (let n = 0; n < 30; n++) await Promise.resolve();
};

describe("writing", () => {
  test("runs each tool once for a new table, after the kernel's settings", async () => {
    const { run, calls } = tools();
    const backend = ipvs(run, options, { clock: new FakeClock(), log: silentLogger });
    await backend.commit(backend.difference(new Map(), backend.render(table([port(1, [1])]))));
    expect(calls.map(({ command }) => command.split(" ")[0])).toEqual([
      "sh",
      "ipset",
      "iptables-restore",
      "ipvsadm",
      "ip",
    ]);
    expect(calls[0]!.command).toContain("put net/ipv4/vs/conntrack 1");
    await backend.commit(backend.difference(new Map(), new Map()));
    expect(calls).toHaveLength(5);
  });

  test("sets timeouts and strict ARP once, where they were asked for", async () => {
    const { run, calls } = tools();
    const asked = { ...options, strictArp: true, timeouts: { tcp: 1200, tcpFin: 0, udp: 90 } };
    const backend = ipvs(run, asked, { clock: new FakeClock(), log: silentLogger });
    const transaction = backend.difference(new Map(), backend.render(table([port(1, [1])])));
    await backend.commit(transaction);
    await backend.commit(transaction);
    expect(calls[0]!.command).toContain("put net/ipv4/conf/all/arp_ignore 1");
    const set = calls.filter(({ command }) => command.startsWith("ipvsadm --set"));
    expect(set.map(({ command }) => command)).toEqual(["ipvsadm --set 1200 0 90"]);
  });

  test("fails with the tool's words and the line that they are about", async () => {
    const refused = { code: 1, stderr: "ipset v7.17: Error in line 2: Kernel error received: out of memory" };
    const backend = ipvs(tools({ "ipset -exist": refused }).run, options, {
      clock: new FakeClock(),
      log: silentLogger,
    });
    const transaction = { text: "## ipset\nadd A 1\nadd B 2\n", pieces: 2 };
    await expect(backend.commit(transaction)).rejects.toThrow(/exit code 1\): ipset v7.17: .*: add B 2$/);
  });

  test("takes words of ipvsadm for a failure although it ends with 0", async () => {
    const { run } = tools({ "ipvsadm -R": { stderr: "No such service\n" } });
    const backend = ipvs(run, options, { clock: new FakeClock(), log: silentLogger });
    await expect(backend.commit({ text: "## ipvsadm\n-D -t 10.0.0.1:80\n", pieces: 1 })).rejects.toThrow(
      "No such service",
    );
  });
});

describe("removal", () => {
  const device = "2: kube-ipvs0    inet 10.0.0.1/32 scope global kube-ipvs0\n";

  test("takes the device with the last family's addresses", async () => {
    for (const [left, gone] of [
      ["", true],
      ["2: kube-ipvs0    inet6 fd00::1/128 scope global nodad\n", false],
    ] as const) {
      const { run, texts, answers } = tools({ "ip -o address": { stdout: device + left } });
      const backend = ipvs(
        async (argv, stdin) => {
          const result = await run(argv, stdin);
          if (stdin?.includes("address delete")) answers["ip -o address"] = { stdout: left };
          return result;
        },
        options,
        { clock: new FakeClock(), log: silentLogger },
      );
      await backend.remove();
      expect(texts("ip -force").join("")).toContain("address delete 10.0.0.1/32 dev kube-ipvs0");
      expect(texts("ip -force").join("").includes("link delete")).toBe(gone);
    }
  });
});

describe("intact", () => {
  const there = {
    iptables: { stdout: "-N KUBE-MARK-MASQ\n-A KUBE-MARK-MASQ -j MARK\n" },
    "ipset list": { stdout: "Number of entries: 3\n" },
    "ipvsadm -Sn": { stdout: "-A -t 10.0.0.1:80 -s rr\n" },
  };
  const intact = async (more: Record<string, Answer>) => {
    const backend = ipvs(tools({ ...more, ...there, ...more }).run, options, {
      clock: new FakeClock(),
      log: silentLogger,
    });
    await backend.read();
    return backend.intact();
  };

  test("sees what a flush leaves", async () => {
    expect(await intact({})).toBe(true);
    expect(await intact({ iptables: { stdout: "-N KUBE-MARK-MASQ\n" } })).toBe(false);
    expect(await intact({ "ip -o link": { code: 1 } })).toBe(false);
    expect(await intact({ "ipset list": { code: 1 } })).toBe(false);
    expect(await intact({ "ipset list": { stdout: "Number of entries: 0\n" } })).toBe(false);
    expect(await intact({ grep: { code: 1 } })).toBe(false);
  });
});

describe("draining", () => {
  const listed = (connections: number) => ({
    stdout: `TCP  10.0.0.1:80 rr\n  -> 10.1.0.1:80  Masq  0  ${connections}  0\n`,
  });
  const removed = { text: "## ipvsadm\n-e -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 0\n", pieces: 1 };

  test("looks each minute, and takes a real server away when its last connection has ended", async () => {
    const { run, texts, answers } = tools({ "ipvsadm -Ln": listed(1) });
    const clock = new FakeClock();
    const backend = ipvs(run, options, { clock, log: silentLogger });
    await backend.commit(removed);
    clock.advance(60_000);
    await settle();
    expect(texts("ipvsadm -R")).toHaveLength(1);
    answers["ipvsadm -Ln"] = listed(0);
    clock.advance(60_000);
    await settle();
    expect(texts("ipvsadm -R").slice(1)).toEqual(["-d -t 10.0.0.1:80 -r 10.1.0.1:80\n"]);
    clock.advance(600_000);
    await settle();
    expect(texts("ipvsadm -Ln")).toHaveLength(2);
  });

  test("goes on after a restart with what has weight 0", async () => {
    const saved = "-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 0\n";
    const { run, texts } = tools({ "ipvsadm -Sn": { stdout: saved }, "ipvsadm -Ln": listed(0) });
    const clock = new FakeClock();
    const backend = ipvs(run, options, { clock, log: silentLogger });
    const read = await backend.read();
    expect(read.get("ipvs/-t 10.0.0.1:80")).toEqual(["-s rr"]);
    clock.advance(60_000);
    await settle();
    expect(texts("ipvsadm -R")).toEqual(["-d -t 10.0.0.1:80 -r 10.1.0.1:80\n"]);
  });

  test("ends with dispose", async () => {
    const { run, texts } = tools({ "ipvsadm -Ln": listed(0) });
    const clock = new FakeClock();
    const backend = ipvs(run, options, { clock, log: silentLogger });
    await backend.commit(removed);
    backend.dispose();
    clock.advance(600_000);
    await settle();
    expect(texts("ipvsadm -Ln")).toEqual([]);
  });

  test("gives a weight back instead of adding twice", () => {
    const draining = new Draining();
    draining.follow("-e -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 0\n");
    expect(draining.size).toBe(1);
    const add = "-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 1\n";
    expect(draining.follow(add)).toBe(`-e${add.slice(2)}`);
    expect(draining.size).toBe(0);
    expect(draining.follow(add)).toBe(add);
  });

  test("forgets what went with its virtual server, or was given weight by somebody else", () => {
    const draining = new Draining();
    const text = "-e -t 10.0.0.1:80 -r 10.1.0.1:80 -m -w 0\n";
    draining.follow(text);
    draining.follow("-D -t 10.0.0.1:80\n");
    expect(draining.size).toBe(0);
    draining.follow(text);
    const load = { server: "-t 10.0.0.1:80", real: "10.1.0.1:80", weight: 1, connections: 0 };
    expect(draining.finished([load])).toBe("");
    expect(draining.size).toBe(0);
  });
});

describe("what ipvs mode needs", () => {
  const apart = (command: string) => `sh -c PATH="$PATH:/usr/sbin:/sbin" exec unshare --net "$@" sh ${command}`;
  const reason = async (answers: Record<string, Answer>) => (await missingIpvsSupport(tools(answers).run))?.reason;

  test("is nothing more when all is there", async () => {
    expect(await missingIpvsSupport(tools().run)).toBeUndefined();
  });

  test("is named, with a remedy", async () => {
    const missing = await missingIpvsSupport(tools({ [apart("ipvsadm -Ln")]: { code: 2 } }).run);
    expect(missing?.reason).toContain("no IP Virtual Server (module ip_vs)");
    expect(missing?.remedy).toContain("--proxy-mode iptables");
    expect(await reason({ "sh -c": { code: 127 } })).toContain("ipvsadm, which is not installed");
    expect(await reason({ [apart("ipvsadm -A")]: { stderr: "Scheduler not found" } })).toContain("ip_vs_rr");
    expect(await reason({ [apart("ipset")]: { code: 1 } })).toContain("ip_set_hash_ipport");
    expect(await reason({ [apart("ip link")]: { code: 2 } })).toContain("dummy");
  });

  test("is looked at without touching the host's network", async () => {
    const { run, calls } = tools();
    await missingIpvsSupport(run);
    for (const { command } of calls) expect(command).toMatch(/exec unshare --net "\$@" sh |command -v /);
  });
});

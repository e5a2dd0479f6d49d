// The ipvs backend in a real kernel with IPVS: User-Mode Linux boots, makes pods, and connects through what the backend wrote
// (test/uml/ipvs-scenario.ts). This file reads what came out.

import { describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cannotBoot, type MachineRun, runInMachine } from "../uml/machine.ts";

/** Milliseconds from start to halt; 50 s are usual, and more where both cores have other work. */
const longest = 240_000;

const reason = cannotBoot(["ipvsadm", "ipset", "ip", "xtables-legacy-multi"]);
const machine = reason ? undefined : await runInMachine(join(import.meta.dir, "../uml/ipvs-scenario.ts"), longest);
const skipped = reason ?? whyNotBooted(machine);
// What the machine printed explains a step that is not there.
if (machine?.booted && !machine.steps.has("done")) console.log(machine.output);

/** A host may forbid what User-Mode Linux does (ptrace, executable shared memory); that is no fault of the rules. */
function whyNotBooted(run: MachineRun | undefined): string | undefined {
  if (run === undefined || run.booted) return undefined;
  return `User-Mode Linux does not start here: ${run.output.trim().split("\n").at(-1)}`;
}

const step = (name: string): unknown => machine?.steps.get(name);
const answers = (name: string) => step(name) as readonly string[];
const pod = (answer: string) => answer.split(" ")[0] ?? "";
const listing = (name: string) => String(step(name));

describe.skipIf(skipped !== undefined)("ipvs in User-Mode Linux", () => {
  test("the scenario comes to its end", () => {
    expect(step("failed")).toBeUndefined();
    expect(step("done")).toBeNumber();
  });

  test("the probe finds what the kernel has", () => {
    expect(step("support")).toBe("everything is there");
  });

  test("ipvsadm -Ln shows virtual servers with rr and Masq of weight 1, as kube-proxy's", () => {
    const text = listing("listing");
    expect(text).toMatch(/^TCP {2}10\.96\.9\.9:80 rr$/m);
    expect(text).toMatch(
      /TCP {2}10\.96\.9\.9:80 rr\n(?: {2}-> 10\.244\.9\.[234]:8080 +Masq {4}1 {6}0 {10}0 *\n){3}TCP/,
    );
    expect(text).toMatch(/^TCP {2}10\.96\.9\.12:80 rr persistent 60$/m);
    expect(text).toMatch(/^TCP {2}192\.0\.2\.1:30080 rr$/m);
    expect(text).toMatch(/^TCP {2}203\.0\.113\.9:80 rr$/m);
    expect(text).toMatch(/^TCP {2}10\.97\.0\.9:80 rr$/m);
  });

  test("60 connections from a pod reach three pods 20 times each, with the client's address", () => {
    const counts: Record<string, number> = {};
    for (const answer of answers("spread")) counts[answer] = (counts[answer] ?? 0) + 1;
    expect(counts).toEqual({ "pod-0 10.244.9.5": 20, "pod-1 10.244.9.5": 20, "pod-2 10.244.9.5": 20 });
  });

  test("the node itself connects, and the kernel counted all of it", () => {
    expect(answers("from the node").map(pod).sort()).toEqual(["pod-0", "pod-1", "pod-2"]);
    expect(listing("listing after").match(/Masq {4}1 {6}0 {10}21 /g)).toHaveLength(3);
  });

  test("ClientIP affinity keeps a client with one pod", () => {
    expect(answers("affinity")).toHaveLength(10);
    expect(new Set(answers("affinity").map(pod)).size).toBe(1);
  });

  test("a pod that reaches itself through its Service sees the node as its client", () => {
    for (const answer of answers("hairpin")) expect(answer).toBe("pod-0 169.254.1.1");
  });

  test("a Service without endpoints refuses at once, and so do other ports of a Service's address", () => {
    expect(answers("no endpoints")).toEqual(["- ECONNREFUSED"]);
    expect(step("other ports of a Service's address")).toBe("- ECONNREFUSED");
  });

  test("a node port is masqueraded, and with policy Local it keeps the source", () => {
    expect(new Set(answers("node port"))).toEqual(
      new Set(["pod-0 169.254.1.1", "pod-1 169.254.1.1", "pod-2 169.254.1.1"]),
    );
    for (const answer of answers("node port, policy Local")) expect(answer).toMatch(/^pod-[01] 192\.0\.2\.2$/);
  });

  test("policy Local without local endpoints has the others as real servers, as upstream", () => {
    expect(listing("listing")).toMatch(/TCP {2}192\.0\.2\.1:30082 rr\n {2}-> 10\.244\.9\.4:8080 +Masq {4}1 /);
  });

  test("external and load-balancer addresses answer from outside", () => {
    expect(answers("external")).toEqual(["pod-0 169.254.1.1", "pod-0 169.254.1.1"]);
  });

  test("source ranges admit who is named, and neither others nor the node", () => {
    expect(step("source ranges")).toEqual({ others: "- timeout", named: "pod-0 169.254.1.1", node: "- timeout" });
  });

  test("a removed real server keeps its connection with weight 0, and takes no new ones", () => {
    const { before, listing: text, after } = step("draining") as Record<string, string>;
    expect([before, after]).toEqual(["pod-0 one", "pod-0 two"]);
    expect(text).toMatch(/-> 10\.244\.9\.2:8081 +Masq {4}0 {6}1 {10}0/);
    expect(text).toMatch(/-> 10\.244\.9\.3:8081 +Masq {4}1 {6}0 {10}0/);
  });

  test("one that is wanted again while it drains gets its weight back", () => {
    const { listing: text, after } = step("wanted again") as Record<string, string>;
    expect(text).toMatch(/-> 10\.244\.9\.2:8081 +Masq {4}1 {6}1 /);
    expect(after).toBe("pod-0 three");
  });

  test("it is gone when its connection has ended", () => {
    expect(listing("drained")).toContain("10.244.9.3:8081");
    expect(listing("drained")).not.toContain("10.244.9.2:8081");
  });

  test("no connection fails while endpoints, policies, affinity and source ranges change", () => {
    const { heard, failed } = step("while changing") as { heard: number; failed: readonly string[] };
    expect(failed).toEqual([]);
    expect(heard).toBeGreaterThan(50);
  });

  test("what somebody else flushed is back after the next change", () => {
    for (const [answer] of step("repaired") as string[][]) expect(answer).toStartWith("pod-");
  });

  test("everything reads back as it was written", () => {
    expect(step("read back")).toEqual({ pieces: expect.any(Number), differing: [] });
    expect(step("read back in IPv6")).toEqual({ pieces: expect.any(Number), differing: [] });
    expect(step("intact")).toBe(true);
    expect(step("sysctls")).toEqual(["1", "1", ""]);
  });

  test("after random changes the kernel has what a fresh start gives it, in both families", () => {
    const outcomes = step("increments") as { seed: number; lines: number; grown?: string; fresh?: string }[];
    for (const { seed, lines, grown, fresh } of outcomes) {
      if (grown !== fresh) console.log(`seed ${seed} (keep it in random-rows.ts)`);
      expect(grown).toBe(fresh);
      expect(lines).toBeGreaterThan(40);
    }
    expect(outcomes).toHaveLength(3);
  });

  test.each(["ipvs", "iptables"])("SCTP connections go where TCP's do, with %s", (mode) => {
    const [heard] = (step(`sctp with ${mode}`) ?? []) as Record<string, string[]>[];
    if (!heard) return console.log("skipped: SCTP needs python3");
    const pods = (name: string) => [...new Set(heard[name]!.map(pod))].sort();
    for (const answer of heard["from a pod"]!) expect(answer).toMatch(/^pod-[01] 10\.244\.9\.5$/);
    for (const answer of heard["from outside by node port"]!) expect(answer).toMatch(/^pod-[01] 169\.254\.1\.1$/);
    expect(heard["from outside by node port, policy Local"]).toEqual(["pod-1 192.0.2.2", "pod-1 192.0.2.2"]);
    // SCTP does not take an unreachable port for the end.
    expect(heard["without endpoints"]).toEqual([expect.stringMatching(/^- /)]);
    if (mode === "ipvs") expect(pods("from a pod")).toEqual(["pod-0", "pod-1"]);
  });

  test("removal leaves nothing", () => {
    expect(step("removed")).toEqual({ servers: "", sets: "", chains: [], device: 1 });
  });
});

const fairlead = join(import.meta.dir, "../../bin/fairlead");
const whyNotRefused = reason ?? (hostHasIpvs() ? "this kernel has ip_vs" : undefined);

function hostHasIpvs(): boolean {
  const modprobe = ["sh", "-c", 'PATH="$PATH:/usr/sbin:/sbin" modprobe -n ip_vs'];
  return existsSync("/proc/net/ip_vs") || Bun.spawnSync(modprobe, { stderr: "ignore" }).exitCode === 0;
}

describe.skipIf(whyNotRefused !== undefined)("up --proxy-mode ipvs on a kernel without ip_vs", () => {
  test("is one sentence and a remedy, and makes nothing", () => {
    const home = mkdtempSync(join(tmpdir(), "fl-t-ipvs-"));
    const { exitCode, stderr } = Bun.spawnSync([fairlead, "up", "--name", "fl-t-ipvs", "--proxy-mode", "ipvs"], {
      env: { ...process.env, FAIRLEAD_HOME: home },
    });
    expect(stderr.toString()).toBe(
      "error: --proxy-mode ipvs: this kernel has no IP Virtual Server (module ip_vs), which ipvs mode is made of\n" +
        "Load it (modprobe ip_vs) if the kernel comes with it, or use --proxy-mode iptables.\n",
    );
    expect(exitCode).toBe(1);
    expect(readdirSync(home)).toEqual([]);
    rmSync(home, { recursive: true });
  });
});

if (skipped !== undefined) console.log(`skipped: ipvs in a real kernel: ${skipped}`);

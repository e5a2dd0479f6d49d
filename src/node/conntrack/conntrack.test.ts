import { describe, expect, test } from "bun:test";
import { FakeClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/log.ts";
import { Graph } from "../../collections/graph.ts";
import { source } from "../../collections/source.ts";
import { RulesMeasures } from "../rules-measures.ts";
import { startConntrackCleaner } from "./cleaner.ts";
import { deleteArguments, parseEntries } from "./entries.ts";
import { mayLeaveStale, staleEntries } from "./stale.ts";
import type { UdpService } from "./udp-services.ts";

const listed = (destination: string, port: number, answers: string, answersPort: number, state = "") =>
  `udp      17 29 src=10.244.0.9 dst=${destination} sport=40000 dport=${port} ${state}src=${answers} dst=10.244.0.9 sport=${answersPort} dport=40000 mark=0 use=1`;

const dns = (more: Partial<UdpService> = {}): UdpService => ({
  name: "kube-system/dns",
  frontends: ["10.96.0.10:53"],
  nodePort: undefined,
  endpoints: ["10.244.0.2:53", "10.244.0.3:53"],
  ...more,
});
const change = (before: UdpService | undefined, after: UdpService | undefined) => ({ key: "dns", before, after });
const stale = (lines: readonly string[], before: UdpService | undefined, after: UdpService | undefined) =>
  staleEntries(parseEntries(lines.join("\n")), [change(before, after)], after ? [after] : [], ["192.0.2.1"]).map(
    ({ destination, answers }) => `${destination.address}:${destination.port} by ${answers.address}`,
  );

describe("an entry", () => {
  test("is read from what conntrack prints", () => {
    expect(parseEntries(`${listed("10.96.0.10", 53, "10.244.0.2", 5353, "[UNREPLIED] ")}\ntcp 6 …\n`)).toEqual([
      { destination: { address: "10.96.0.10", port: 53 }, answers: { address: "10.244.0.2", port: 5353 } },
    ]);
    expect(deleteArguments(parseEntries(listed("10.96.0.10", 53, "10.244.0.2", 5353))[0]!).join(" ")).toBe(
      "-D -f ipv4 -p udp --orig-dst 10.96.0.10 --orig-port-dst 53 --reply-src 10.244.0.2 --reply-port-src 5353",
    );
  });
});

describe("stale is", () => {
  const both = [listed("10.96.0.10", 53, "10.244.0.2", 53), listed("10.96.0.10", 53, "10.244.0.3", 53)];

  test("what leads to an endpoint that left, however many clients it has", () => {
    expect(stale([...both, both[0]!], dns(), dns({ endpoints: ["10.244.0.3:53"] }))).toEqual([
      "10.96.0.10:53 by 10.244.0.2",
    ]);
  });

  test("what leads to another port of the same endpoint", () => {
    expect(stale(both, dns(), dns({ endpoints: ["10.244.0.2:54", "10.244.0.3:53"] }))).toHaveLength(1);
  });

  test("all of a Service that was deleted or lost its last endpoint", () => {
    expect(stale(both, dns(), undefined)).toHaveLength(2);
    expect(stale(both, dns(), dns({ endpoints: [] }))).toHaveLength(2);
  });

  test("what went nowhere before there were endpoints", () => {
    const lost = listed("10.96.0.10", 53, "10.96.0.10", 53, "[UNREPLIED] ");
    expect(stale([lost], dns({ endpoints: [] }), dns())).toEqual(["10.96.0.10:53 by 10.96.0.10"]);
  });

  test("what came through a node port, and nothing that only has its number", () => {
    const service = dns({ frontends: [], nodePort: 30_053 });
    const lines = [
      listed("192.0.2.1", 30_053, "10.244.0.2", 53),
      listed("192.0.2.1", 30_053, "192.0.2.1", 30_053, "[UNREPLIED] "),
      listed("203.0.113.9", 30_053, "203.0.113.9", 30_053),
    ];
    expect(stale(lines, service, undefined)).toEqual(["192.0.2.1:30053 by 10.244.0.2", "192.0.2.1:30053 by 192.0.2.1"]);
  });

  test("nothing of other Services, nor of an address that changed hands with its endpoints", () => {
    expect(stale([listed("10.96.0.11", 53, "10.244.0.2", 53)], dns(), undefined)).toEqual([]);
    const heir = dns({ name: "kube-system/other" });
    expect(staleEntries(parseEntries(both.join("\n")), [change(dns(), undefined)], [heir], [])).toEqual([]);
  });
});

test("adding an endpoint to others makes nothing stale", () => {
  const less = dns({ endpoints: ["10.244.0.2:53"] });
  expect(mayLeaveStale(change(less, dns()))).toBe(false);
  expect(mayLeaveStale(change(dns(), less))).toBe(true);
  expect(mayLeaveStale(change(dns({ endpoints: [] }), less))).toBe(true);
});

test("entries are deleted after the rules were written, and again when that fails", async () => {
  const services = source<UdpService>("udp", { graph: new Graph() });
  const clock = new FakeClock();
  const measures = new RulesMeasures(0);
  const runs: string[] = [];
  const rules = Promise.withResolvers<void>();
  let broken = true;
  services.set("dns", dns());
  const cleaner = startConntrackCleaner({
    ...{ services, clock, measures, log: silentLogger, family: 4 as const, nodeAddresses: [] },
    settled: () => rules.promise,
    async run(argv) {
      runs.push(argv.join(" "));
      if (broken) return { code: 1, stdout: "", stderr: "no such tool" };
      if (argv.includes("-L")) return { code: 0, stdout: listed("10.96.0.10", 53, "10.244.0.7", 53), stderr: "" };
      return { code: 0, stdout: "", stderr: "conntrack v1.4.7 (conntrack-tools): 2 flow entries have been deleted." };
    },
  });
  await Promise.resolve();
  expect(runs).toEqual([]);
  rules.resolve();
  await cleaner.settled();
  expect(runs).toEqual(["conntrack -L -f ipv4 -p udp"]);
  broken = false;
  clock.advance(1_000);
  await cleaner.settled();
  expect(runs.slice(1)).toEqual([
    "conntrack -L -f ipv4 -p udp",
    "conntrack -D -f ipv4 -p udp --orig-dst 10.96.0.10 --orig-port-dst 53 --reply-src 10.244.0.7 --reply-port-src 53",
  ]);
  expect(measures.conntrackDeleted).toBe(2);
  cleaner.dispose();
});

// What one change costs: the whole text that `iptables-restore --noflush` is given for it, written out. Upstream's
// TestSyncProxyRulesRepeated (pkg/proxy/iptables/proxier_test.go) has the same steps; kube-proxy writes its fixed chains into each.

import { describe, expect, test } from "bun:test";
import type { ServicePort } from "../../services/service-table.ts";
import { port, table } from "../testing/rows.ts";
import { difference } from "./difference.ts";
import { fixedChains, type IptablesOptions } from "./fixed-chains.ts";
import { IptablesRenderer } from "./renderer.ts";

const options: IptablesOptions = { family: 4, localDetector: { kind: "cidr", cidr: "10.244.0.0/16" } };

/** A node at rest with these rows; gives the text of each step to other ones. */
function node(rows: readonly ServicePort[]): (next: readonly ServicePort[]) => string {
  const renderer = new IptablesRenderer(options);
  let now = table([]);
  let kernel = new Map(renderer.rules);
  const step = (next: readonly ServicePort[]) => {
    const after = table(next);
    const keys = [...new Set([...now.keys(), ...after.keys()])].filter((key) => now.get(key) !== after.get(key));
    const touched = renderer.apply(keys.map((key) => ({ key, before: now.get(key), after: after.get(key) })));
    const { text } = difference(kernel, renderer.rules, touched);
    kernel = new Map(renderer.rules);
    now = after;
    return text;
  };
  step(rows);
  return step;
}

const svc1 = port(1, [1], {}, "p80");
const svc2 = port(2, [1], {}, "p80");
const svc3 = (...endpoints: number[]) => port(3, endpoints, { nodePort: 30_003 }, "p80");
const svc4 = (...endpoints: number[]) => port(4, endpoints, {}, "p80");
const others = [svc1, svc2];

const steps: readonly (readonly [
  change: string,
  before: readonly ServicePort[],
  after: readonly ServicePort[],
  text: string,
])[] = [
  [
    "a Service with a node port is added",
    others,
    [...others, svc3(1)],
    `
*nat
:KUBE-EXT-SEJKYBOPUY6HKVQ4 - [0:0]
:KUBE-SVC-SEJKYBOPUY6HKVQ4 - [0:0]
:KUBE-SEP-YHBBHR47GT6LDIXV - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
-A KUBE-EXT-SEJKYBOPUY6HKVQ4 -m comment --comment "masquerade traffic for ns/s3:p80 external destinations" -j KUBE-MARK-MASQ
-A KUBE-EXT-SEJKYBOPUY6HKVQ4 -j KUBE-SVC-SEJKYBOPUY6HKVQ4
-A KUBE-SVC-SEJKYBOPUY6HKVQ4 ! -s 10.244.0.0/16 -d 10.96.0.3/32 -p tcp -m comment --comment "ns/s3:p80 cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVC-SEJKYBOPUY6HKVQ4 -m comment --comment "ns/s3:p80 -> 10.244.3.1:8080" -j KUBE-SEP-YHBBHR47GT6LDIXV
-A KUBE-SEP-YHBBHR47GT6LDIXV -s 10.244.3.1/32 -m comment --comment "ns/s3:p80" -j KUBE-MARK-MASQ
-A KUBE-SEP-YHBBHR47GT6LDIXV -p tcp -m comment --comment "ns/s3:p80" -m tcp -j DNAT --to-destination 10.244.3.1:8080
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment "ns/s1:p80 cluster IP" -m tcp --dport 80 -j KUBE-SVC-RSV66BG4AU7ASL5X
-A KUBE-SERVICES -d 10.96.0.2/32 -p tcp -m comment --comment "ns/s2:p80 cluster IP" -m tcp --dport 80 -j KUBE-SVC-W6ZKRCWPLYNKT4VU
-A KUBE-SERVICES -d 10.96.0.3/32 -p tcp -m comment --comment "ns/s3:p80 cluster IP" -m tcp --dport 80 -j KUBE-SVC-SEJKYBOPUY6HKVQ4
-A KUBE-SERVICES ! -d 127.0.0.0/8 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-NODEPORTS -p tcp -m comment --comment "ns/s3:p80" -m tcp --dport 30003 -j KUBE-EXT-SEJKYBOPUY6HKVQ4
COMMIT
`,
  ],
  [
    "an endpoint is added",
    [...others, svc3(1)],
    [...others, svc3(1, 2)],
    `
*nat
:KUBE-SVC-SEJKYBOPUY6HKVQ4 - [0:0]
:KUBE-SEP-MCEDFA32GFLG3HHZ - [0:0]
-A KUBE-SVC-SEJKYBOPUY6HKVQ4 ! -s 10.244.0.0/16 -d 10.96.0.3/32 -p tcp -m comment --comment "ns/s3:p80 cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVC-SEJKYBOPUY6HKVQ4 -m comment --comment "ns/s3:p80 -> 10.244.3.1:8080" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-YHBBHR47GT6LDIXV
-A KUBE-SVC-SEJKYBOPUY6HKVQ4 -m comment --comment "ns/s3:p80 -> 10.244.3.2:8080" -j KUBE-SEP-MCEDFA32GFLG3HHZ
-A KUBE-SEP-MCEDFA32GFLG3HHZ -s 10.244.3.2/32 -m comment --comment "ns/s3:p80" -j KUBE-MARK-MASQ
-A KUBE-SEP-MCEDFA32GFLG3HHZ -p tcp -m comment --comment "ns/s3:p80" -m tcp -j DNAT --to-destination 10.244.3.2:8080
COMMIT
`,
  ],
  [
    "an endpoint is removed",
    [...others, svc3(1, 2)],
    [...others, svc3(2)],
    `
*nat
:KUBE-SEP-YHBBHR47GT6LDIXV - [0:0]
:KUBE-SVC-SEJKYBOPUY6HKVQ4 - [0:0]
-A KUBE-SVC-SEJKYBOPUY6HKVQ4 ! -s 10.244.0.0/16 -d 10.96.0.3/32 -p tcp -m comment --comment "ns/s3:p80 cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVC-SEJKYBOPUY6HKVQ4 -m comment --comment "ns/s3:p80 -> 10.244.3.2:8080" -j KUBE-SEP-MCEDFA32GFLG3HHZ
-X KUBE-SEP-YHBBHR47GT6LDIXV
COMMIT
`,
  ],
  [
    "a Service is deleted",
    [...others, svc3(2)],
    others,
    `
*nat
:KUBE-EXT-SEJKYBOPUY6HKVQ4 - [0:0]
:KUBE-SVC-SEJKYBOPUY6HKVQ4 - [0:0]
:KUBE-SEP-MCEDFA32GFLG3HHZ - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment "ns/s1:p80 cluster IP" -m tcp --dport 80 -j KUBE-SVC-RSV66BG4AU7ASL5X
-A KUBE-SERVICES -d 10.96.0.2/32 -p tcp -m comment --comment "ns/s2:p80 cluster IP" -m tcp --dport 80 -j KUBE-SVC-W6ZKRCWPLYNKT4VU
-A KUBE-SERVICES ! -d 127.0.0.0/8 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-X KUBE-EXT-SEJKYBOPUY6HKVQ4
-X KUBE-SVC-SEJKYBOPUY6HKVQ4
-X KUBE-SEP-MCEDFA32GFLG3HHZ
COMMIT
`,
  ],
  [
    "a Service without endpoints is added",
    others,
    [...others, svc4()],
    `
*filter
:KUBE-SERVICES - [0:0]
-A KUBE-SERVICES -d 10.96.0.4/32 -p tcp -m comment --comment "ns/s4:p80 has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable
COMMIT
`,
  ],
  [
    "a Service without endpoints gets one",
    [...others, svc4()],
    [...others, svc4(1)],
    `
*filter
:KUBE-SERVICES - [0:0]
COMMIT
*nat
:KUBE-SVC-MF3NMKXW3JLHGS5F - [0:0]
:KUBE-SEP-7DBUAB7V3Q4TMDPT - [0:0]
:KUBE-SERVICES - [0:0]
-A KUBE-SVC-MF3NMKXW3JLHGS5F ! -s 10.244.0.0/16 -d 10.96.0.4/32 -p tcp -m comment --comment "ns/s4:p80 cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVC-MF3NMKXW3JLHGS5F -m comment --comment "ns/s4:p80 -> 10.244.4.1:8080" -j KUBE-SEP-7DBUAB7V3Q4TMDPT
-A KUBE-SEP-7DBUAB7V3Q4TMDPT -s 10.244.4.1/32 -m comment --comment "ns/s4:p80" -j KUBE-MARK-MASQ
-A KUBE-SEP-7DBUAB7V3Q4TMDPT -p tcp -m comment --comment "ns/s4:p80" -m tcp -j DNAT --to-destination 10.244.4.1:8080
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment "ns/s1:p80 cluster IP" -m tcp --dport 80 -j KUBE-SVC-RSV66BG4AU7ASL5X
-A KUBE-SERVICES -d 10.96.0.2/32 -p tcp -m comment --comment "ns/s2:p80 cluster IP" -m tcp --dport 80 -j KUBE-SVC-W6ZKRCWPLYNKT4VU
-A KUBE-SERVICES -d 10.96.0.4/32 -p tcp -m comment --comment "ns/s4:p80 cluster IP" -m tcp --dport 80 -j KUBE-SVC-MF3NMKXW3JLHGS5F
-A KUBE-SERVICES ! -d 127.0.0.0/8 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
COMMIT
`,
  ],
];

describe("one transaction has only the chains that changed, when", () => {
  test.each(steps)("%s", (_, before, after, text) => {
    expect(node(before)(after)).toBe(text.slice(1));
  });

  test("nothing changed: it is none at all", () => {
    expect(node(others)([port(1, [1], {}, "p80"), svc2])).toBe("");
  });

  test("in none of them a fixed chain or a jump of a built-in one is written again", () => {
    const written = steps
      .flatMap(([, , , text]) => text.match(/^(:|-[AID] )\S+/gm) ?? [])
      .map((one) => one.replace(/^:|^-. /, ""));
    const fixed = [...fixedChains(options).keys()].map((name) => name.slice(name.indexOf("/") + 1));
    expect(fixed).toContain("KUBE-POSTROUTING");
    expect(written.filter((chain) => fixed.includes(chain) || !chain.startsWith("KUBE-"))).toEqual([]);
  });
});

test("in a long KUBE-SERVICES a Service that comes and goes is one line, whatever the number of others", () => {
  const many = Array.from({ length: 100 }, (_, at) => port(at + 100, [1], {}, "p80"));
  const step = node(many);
  const shared = (text: string) => text.split("\n").filter((line) => line.includes("KUBE-SERVICES"));
  expect(shared(step([...many, svc4(1)]))).toEqual([
    '-I KUBE-SERVICES 101 -d 10.96.0.4/32 -p tcp -m comment --comment "ns/s4:p80 cluster IP" -m tcp --dport 80 -j KUBE-SVC-MF3NMKXW3JLHGS5F',
  ]);
  expect(step([...many, svc4(1, 2)])).not.toContain("KUBE-SERVICES");
  expect(shared(step(many))).toEqual(["-D KUBE-SERVICES 101"]);
});

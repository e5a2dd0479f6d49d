import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { ServicePort } from "../../services/service-table.ts";
import type { Rules } from "../service-rules.ts";
import { applyIpvs as apply } from "../testing/ipvs-kernel.ts";
import { port, table } from "../testing/rows.ts";
import { difference, stepsOf } from "./difference.ts";
import type { IpvsOptions } from "./fixed-chains.ts";
import { IpvsRenderer, render } from "./renderer.ts";
import { parseAddresses, parseServers, parseSets, printRules } from "./save.ts";

const options: IpvsOptions = {
  family: 4,
  localDetector: { kind: "cidr", cidr: "10.244.0.0/16" },
  nodeAddresses: ["192.0.2.1"],
  nodeAddress: "192.0.2.1",
};

const between = (a: readonly ServicePort[], b: readonly ServicePort[]) =>
  difference(render(table(a), options), render(table(b), options)).text;

/** The lines of a transaction for one tool, in order. */
const linesOf = (text: string, tool: string) =>
  stepsOf(text)
    .filter((step) => step.tool === tool)
    .flatMap((step) => step.text.trimEnd().split("\n"));

const plain = (rules: Rules) => Object.fromEntries([...rules].sort(([a], [b]) => (a < b ? -1 : 1)));

describe("a difference", () => {
  test("of equal states is nothing", () => {
    const rules = render(table([port(1, [1, 2])]), options);
    expect(difference(rules, new Map(rules))).toEqual({ text: "", pieces: 0 });
  });

  test("of one changed endpoint is one ipvsadm text: the new one first, then weight 0 for the old one", () => {
    expect(between([port(1, [1, 3]), port(2, [1])], [port(1, [1, 5]), port(2, [1])])).toBe(
      [
        "## ipvsadm",
        "-a -t 10.96.0.1:80 -r 10.244.1.5:8080 -m -w 1",
        "-e -t 10.96.0.1:80 -r 10.244.1.3:8080 -m -w 0",
        "",
      ].join("\n"),
    );
  });

  test("takes real servers of UDP and SCTP away at once", () => {
    for (const [protocol, flag] of [
      ["UDP", "-u"],
      ["SCTP", "--sctp-service"],
    ] as const) {
      expect(between([port(1, [1], { protocol })], [port(1, [], { protocol })])).toBe(
        `## ipvsadm\n-d ${flag} 10.96.0.1:80 -r 10.244.1.1:8080\n`,
      );
    }
  });

  test("changes the flags of a virtual server in place", () => {
    const text = between([port(1, [1])], [port(1, [1], { affinitySeconds: 60 })]);
    expect(text).toBe("## ipvsadm\n-E -t 10.96.0.1:80 -s rr -p 60\n");
  });

  test("of a new Service lets packets through before it attracts them", () => {
    const text = between([port(1, [1])], [port(1, [1]), port(2, [1])]);
    expect(stepsOf(text).map((step) => step.tool)).toEqual(["ipset", "ipvsadm", "ip"]);
    expect(linesOf(text, "ipset")).toEqual(["add KUBE-CLUSTER-IP 10.96.0.2,tcp:80", "add KUBE-IPVS-IPS 10.96.0.2"]);
    expect(linesOf(text, "ip")).toEqual(["address replace 10.96.0.2/32 dev kube-ipvs0"]);
  });

  test("of a deleted Service takes the address first, then the virtual server, and last what masquerades", () => {
    const text = between([port(1, [1]), port(2, [1])], [port(1, [1])]);
    expect(stepsOf(text).map((step) => step.tool)).toEqual(["ip", "ipvsadm", "ipset"]);
    expect(linesOf(text, "ipvsadm")).toEqual(["-D -t 10.96.0.2:80"]);
  });

  test("keeps masquerading while remote endpoints come or go with the policy", () => {
    const cluster = port(1, [1, 2], { nodePort: 30_080 });
    const local = port(1, [1, 2], { nodePort: 30_080, externalPolicyLocal: true });
    const tools = (text: string) => stepsOf(text).map(({ tool }) => tool);
    // To Local: the remote endpoint goes, and only then is the source kept.
    expect(tools(between([cluster], [local]))).toEqual(["iptables", "ipvsadm", "ipset"]);
    // Back: masqueraded again before the remote endpoint comes.
    const back = between([local], [cluster]);
    expect(tools(back).indexOf("ipset")).toBeLessThan(tools(back).indexOf("ipvsadm"));
    expect(linesOf(back, "ipset")).toEqual(["del KUBE-NODE-PORT-LOCAL-TCP 30080"]);
  });

  test("admits source ranges before it restricts, and restricts no more before it forgets them", () => {
    const open = port(1, [1], { loadBalancerIPs: ["10.97.0.1"] });
    const narrow = port(1, [1], { loadBalancerIPs: ["10.97.0.1"], sourceRanges: ["203.0.113.0/24"] });
    expect(linesOf(between([open], [narrow]), "ipset")).toEqual([
      "add KUBE-LOAD-BALANCER-SOURCE-CIDR 10.97.0.1,tcp:80,203.0.113.0/24",
      "add KUBE-LOAD-BALANCER-FW 10.97.0.1,tcp:80",
    ]);
    expect(linesOf(between([narrow], [open]), "ipset")).toEqual([
      "del KUBE-LOAD-BALANCER-FW 10.97.0.1,tcp:80",
      "del KUBE-LOAD-BALANCER-SOURCE-CIDR 10.97.0.1,tcp:80,203.0.113.0/24",
    ]);
  });

  test("looks only at the pieces that are named", () => {
    const [now, wanted] = [
      render(table([port(1, [1])]), options),
      render(table([port(1, [3]), port(2, [1])]), options),
    ];
    expect(difference(now, wanted, ["ipvs/-t 10.96.0.1:80"]).pieces).toBe(1);
  });

  test("to nothing takes everything, chains before the sets that they match", () => {
    const rules = render(table([port(1, [1], { loadBalancerIPs: ["10.97.0.1"], nodePort: 30_080 })]), options);
    expect(plain(apply(rules, difference(rules, new Map()).text))).toEqual({});
  });
});

const rows = fc
  .uniqueArray(
    fc.record({
      service: fc.nat(9),
      endpoints: fc.uniqueArray(fc.integer({ min: 1, max: 6 }), { maxLength: 4 }),
      protocol: fc.constantFrom("TCP", "UDP", "SCTP"),
      nodePort: fc.option(fc.integer({ min: 30_000, max: 30_003 }), { nil: undefined }),
      externalPolicyLocal: fc.boolean(),
      internalPolicyLocal: fc.boolean(),
      affinitySeconds: fc.option(fc.constant(10), { nil: undefined }),
      externalIPs: fc.constantFrom<readonly string[]>([], ["203.0.113.1"], ["203.0.113.2", "192.0.2.1"]),
      loadBalancerIPs: fc.constantFrom<readonly string[]>([], ["10.97.0.1"]),
      sourceRanges: fc.constantFrom<readonly string[]>([], ["192.0.2.0/24"], ["203.0.113.0/24"]),
      healthCheckNodePort: fc.option(fc.constant(32_000), { nil: undefined }),
    }),
    { selector: (one) => one.service, maxLength: 7 },
  )
  .map((list) => list.map(({ service, endpoints, ...more }) => port(service, endpoints, more as Partial<ServicePort>)));

describe("increments", () => {
  test("end where a fresh start ends, and the kernel takes each of them", () => {
    fc.assert(
      fc.property(fc.array(rows, { minLength: 1, maxLength: 6 }), (states) => {
        const renderer = new IpvsRenderer(options);
        let before = new Map<string, ServicePort>();
        let kernel = apply(new Map(), difference(new Map(), renderer.rules).text);
        for (const state of states) {
          const after = table(state);
          const keys = [...new Set([...before.keys(), ...after.keys()])];
          const touched = renderer.apply(keys.map((key) => ({ key, before: before.get(key), after: after.get(key) })));
          kernel = apply(kernel, difference(kernel, renderer.rules, touched).text);
          expect(plain(renderer.rules)).toEqual(plain(render(after, options)));
          expect(plain(kernel)).toEqual(plain(renderer.rules));
          before = after;
        }
      }),
      { numRuns: 60 },
    );
  });

  test("do not depend on the order that rows come in", () => {
    fc.assert(
      fc.property(rows, (all) => {
        expect(plain(render(table([...all].reverse()), options))).toEqual(plain(render(table(all), options)));
      }),
      { numRuns: 30 },
    );
  });

  test("print as texts that read back as the same pieces", () => {
    fc.assert(
      fc.property(rows, (all) => {
        const rules = render(table(all), options);
        const text = printRules(rules);
        const links = text
          .split("\n")
          .filter((line) => line.startsWith("address add"))
          .map((line) => `2: kube-ipvs0    inet ${line.split(" ")[2]} scope global kube-ipvs0`);
        const found = new Map([
          ...parseServers(text, 4).pieces,
          ...parseSets(text, 4),
          ...parseAddresses(links.join("\n"), 4),
        ]);
        const wanted = new Map([...rules].filter(([name]) => !/^(nat|filter)\//.test(name)));
        expect(plain(found)).toEqual(plain(wanted));
      }),
      { numRuns: 30 },
    );
  });
});

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { ServicePort } from "../../services/service-table.ts";
import type { Rules } from "../service-rules.ts";
import { difference } from "./difference.ts";
import type { NftablesOptions } from "./fixed.ts";
import { NftablesRenderer, render } from "./renderer.ts";
import { applyTransaction } from "./testing/kernel.ts";
import { port, table } from "./testing/rows.ts";

const options: NftablesOptions = {
  family: 4,
  localDetector: { kind: "cidr", cidr: "10.244.0.0/16" },
  nodePortAddresses: ["192.0.2.1"],
  serviceCidrs: ["10.96.0.0/16"],
};
const of = (...rows: ServicePort[]) => render(table(rows), options);
const between = (now: Rules, wanted: Rules, names?: Iterable<string>) => difference(4, now, wanted, names);
const plain = (rules: Rules) => Object.fromEntries([...rules].sort(([a], [b]) => (a < b ? -1 : 1)));
const lines = (text: string) => text.trimEnd().split("\n");

describe("a difference", () => {
  test("of equal states is nothing", () => {
    const rules = of(port(1, [1, 2]));
    expect(between(rules, new Map(rules))).toEqual({ text: "", pieces: 0 });
  });

  test("of one changed endpoint is one chain, emptied and filled again", () => {
    const { text, pieces } = between(of(port(1, [1, 3]), port(2, [1])), of(port(1, [1, 5]), port(2, [1])));
    expect(pieces).toBe(1);
    expect(lines(text).map((line) => line.replace(/service-\S+/, "CHAIN"))).toEqual([
      "flush chain ip kube-proxy CHAIN",
      "add rule ip kube-proxy CHAIN meta l4proto tcp dnat ip addr . port to numgen random mod 2 map { 0 : 10.244.1.1 . 8080, 1 : 10.244.1.5 . 8080 }",
    ]);
  });

  test("of an added Service among many is its chain, and an element in two sets", () => {
    const rows = Array.from({ length: 500 }, (_, at) => port(at, [1]));
    const { text } = between(of(...rows), of(...rows, port(600, [1])));
    expect(lines(text).map((line) => line.split(" ").slice(0, 2).join(" "))).toEqual([
      "add chain",
      "add rule",
      "add element",
      "add element",
    ]);
  });

  test("of a removed Service takes elements out before the chain that they lead to", () => {
    const { text } = between(of(port(1, [1]), port(2, [1])), of(port(2, [1])));
    expect(lines(text).map((line) => line.split(" ").slice(0, 2).join(" "))).toEqual([
      "flush chain",
      "delete element",
      "delete element",
      "delete chain",
    ]);
  });

  test("of an element that leads elsewhere takes it out and puts it in", () => {
    const { text } = between(of(port(1, [2])), of(port(1, [2], { internalPolicyLocal: true })));
    const at = (words: string) => lines(text).findIndex((line) => line.startsWith(words));
    expect(at("delete element ip kube-proxy service-ips { 10.96.0.1 . tcp . 80 }")).toBeGreaterThan(0);
    expect(at("add element ip kube-proxy service-ips { 10.96.0.1 . tcp . 80 : goto local-")).toBeGreaterThan(
      at("delete element"),
    );
  });

  test("of another timeout makes the set anew, and the rules that name it", () => {
    const now = of(port(1, [1, 2], { affinitySeconds: 10 }), port(2, [1], { affinitySeconds: 10 }));
    const wanted = of(port(1, [1, 2], { affinitySeconds: 20 }), port(2, [1], { affinitySeconds: 10 }));
    const { text } = between(now, wanted);
    expect(text.match(/^delete set /gm)).toHaveLength(2);
    expect(text).not.toContain("ns/s2/");
    expect(plain(applyTransaction(now, text))).toEqual(plain(wanted));
  });

  test("to nothing deletes the table", () => {
    expect(between(of(port(1, [1])), new Map()).text).toBe("delete table ip kube-proxy\n");
  });

  test("from a table whose hook or type is another makes all of it anew", () => {
    const wanted = of(port(1, [1]));
    for (const [name, lines] of [
      ["chain nat-output", ["type nat hook output priority 5; policy accept;", "jump services"]],
      ["map service-ips", ["type inet_service : verdict"]],
    ] as const) {
      const now = new Map([...wanted, [name, lines]]);
      const { text } = between(now, wanted);
      expect(text).toStartWith("delete table ip kube-proxy\nadd table ip kube-proxy");
      expect(plain(applyTransaction(now, text))).toEqual(plain(wanted));
    }
  });

  test("puts back what somebody else changed, and takes away what somebody else added", () => {
    const wanted = of(port(1, [1]));
    const now = new Map<string, readonly string[]>([
      ...wanted,
      ["chain services", ["accept"]],
      ["chain mine", ["drop"]],
      ["set strangers", ["type ipv4_addr"]],
      ["element strangers 192.0.2.9", ["192.0.2.9"]],
      ["element service-ips 10.96.0.1 . tcp . 80", ["10.96.0.1 . tcp . 80 : drop"]],
    ]);
    now.delete("element cluster-ips 10.96.0.1");
    now.delete("chain cluster-ips-check");
    now.set("chain filter-forward", [now.get("chain filter-forward")![0]!]);
    now.set("chain filter-output", [now.get("chain filter-output")![0]!]);
    expect(plain(applyTransaction(now, between(now, wanted).text))).toEqual(plain(wanted));
  });
});

const rowsArbitrary = fc
  .uniqueArray(
    fc.record({
      service: fc.nat(12),
      endpoints: fc.uniqueArray(fc.integer({ min: 1, max: 6 }), { maxLength: 4 }),
      nodePort: fc.option(fc.integer({ min: 30_000, max: 30_003 }), { nil: undefined }),
      externalPolicyLocal: fc.boolean(),
      internalPolicyLocal: fc.boolean(),
      affinitySeconds: fc.constantFrom(undefined, 10, 20),
      protocol: fc.constantFrom("TCP" as const, "UDP" as const),
      clusterIP: fc.constantFrom(undefined, "10.96.9.9"),
      externalIPs: fc.constantFrom<readonly string[]>([], ["198.51.100.1"], ["198.51.100.1", "198.51.100.2"]),
      loadBalancerIPs: fc.constantFrom<readonly string[]>([], ["10.97.0.1"]),
      sourceRanges: fc.constantFrom<readonly string[]>([], ["192.0.2.0/24"], ["0.0.0.0/0"]),
    }),
    { selector: (one) => one.service, maxLength: 8 },
  )
  .map((list) =>
    list.map(({ service, endpoints, clusterIP, ...more }) =>
      port(service, endpoints, { ...more, ...(clusterIP ? { clusterIP } : {}) }),
    ),
  );

describe("increments", () => {
  test("end where a fresh start ends, and the kernel takes each of them", () => {
    fc.assert(
      fc.property(fc.array(rowsArbitrary, { minLength: 1, maxLength: 6 }), (states) => {
        const renderer = new NftablesRenderer(options);
        let before: ReadonlyMap<string, ServicePort> = new Map();
        let kernel = applyTransaction(new Map(), between(new Map(), renderer.rules).text);
        for (const state of states) {
          const after = table(state);
          const keys = [...new Set([...before.keys(), ...after.keys()])];
          const touched = renderer.apply(keys.map((key) => ({ key, before: before.get(key), after: after.get(key) })));
          kernel = applyTransaction(kernel, between(kernel, renderer.rules, touched).text);
          expect(plain(kernel)).toEqual(plain(render(after, options)));
          before = after;
        }
      }),
      { numRuns: 80 },
    );
  });

  test("draw endpoints by rules above 1,000 Services, and by maps again below", () => {
    const rows = (count: number) =>
      Array.from({ length: count }, (_, at) => port(at, at === 3 ? [1, 2, 3, 4, 5, 6, 7, 8, 9] : [1, 2, 3]));
    const renderer = new NftablesRenderer(options);
    renderer.apply(rows(1000).map((after) => ({ key: after.key, before: undefined, after })));
    const drawn = () => {
      const all = [...renderer.rules].filter(([name]) => name.startsWith("chain service-") && name.includes("/"));
      return all.map(([, lines]) => lines.length);
    };
    expect(new Set(drawn())).toEqual(new Set([1]));
    let kernel = applyTransaction(new Map(), between(new Map(), renderer.rules).text);
    const extra = port(1000, [1], { affinitySeconds: 10 });
    let touched = renderer.apply([{ key: extra.key, before: undefined, after: extra }]);
    kernel = applyTransaction(kernel, between(kernel, renderer.rules, touched).text);
    expect(plain(kernel)).toEqual(plain(render(table([...rows(1000), extra]), options)));
    expect(drawn().filter((count) => count === 3)).toHaveLength(999);
    const [chain] = [...renderer.rules].filter(([name]) => name.includes("/s7/"));
    expect(chain![1].map((line) => line.replace("meta l4proto tcp dnat to ", ""))).toEqual([
      "numgen random mod 3 0 10.244.7.1:8080",
      "numgen random mod 2 0 10.244.7.2:8080",
      "10.244.7.3:8080",
    ]);
    touched = renderer.apply([{ key: extra.key, before: extra, after: undefined }]);
    kernel = applyTransaction(kernel, between(kernel, renderer.rules, touched).text);
    expect(plain(kernel)).toEqual(plain(render(table(rows(1000)), options)));
  });

  test("from any state to any other, with any options, agree with the kernel", () => {
    const anyOptions = fc.constantFrom<NftablesOptions>(options, { family: 4, masqueradeAll: true }, { family: 4 });
    fc.assert(
      fc.property(rowsArbitrary, anyOptions, rowsArbitrary, anyOptions, (a, from, b, to) => {
        const now = render(table(a), from);
        const wanted = render(table(b), to);
        expect(plain(applyTransaction(now, between(now, wanted).text))).toEqual(plain(wanted));
      }),
      { numRuns: 80 },
    );
  });
});

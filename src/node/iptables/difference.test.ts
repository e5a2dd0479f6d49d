import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { ServicePort } from "../../services/service-table.ts";
import type { Rules } from "../service-rules.ts";
import { port } from "../testing/rows.ts";
import { difference } from "./difference.ts";
import type { IptablesOptions } from "./fixed-chains.ts";
import { IptablesRenderer, render } from "./renderer.ts";

const options: IptablesOptions = { family: 4, localDetector: { kind: "cidr", cidr: "10.244.0.0/16" } };

/** What `iptables-restore --noflush` does, as far as this backend uses it. Throws where the kernel would refuse. */
function restore(now: Rules, text: string): Rules {
  const rules = new Map([...now].map(([chain, lines]) => [chain, [...lines]]));
  let table = "";
  for (const line of text.split("\n")) {
    const [verb, chain = "", ...rest] = line.split(" ");
    const name = `${table}/${chain}`;
    const lines = rules.get(name);
    const builtIn = !chain.startsWith("KUBE-");
    if (line.startsWith("*")) table = line.slice(1);
    else if (line.startsWith(":")) rules.set(`${table}/${line.slice(1, line.indexOf(" "))}`, []);
    else if (verb === "-A") lines!.push(rest.join(" "));
    else if (verb === "-I") {
      const at = Number(rest[0]) - 1;
      if (!lines && builtIn) rules.set(name, [rest.slice(1).join(" ")]);
      else if (at > lines!.length) throw new Error(`no place ${at + 1}: ${line}`);
      else lines!.splice(at, 0, rest.slice(1).join(" "));
    } else if (verb === "-D") {
      const at = /^[0-9]+$/.test(rest.join(" ")) ? Number(rest[0]) - 1 : lines!.indexOf(rest.join(" "));
      if (at < 0 || at >= lines!.length) throw new Error(`no such rule: ${line}`);
      lines!.splice(at, 1);
    } else if (verb === "-X") {
      const users = [...rules].filter(
        ([other, all]) => other.startsWith(table) && all.some((one) => one.endsWith(`-j ${chain}`)),
      );
      if (lines!.length > 0 || users.length > 0) throw new Error(`chain in use: ${line}`);
      rules.delete(name);
    }
  }
  for (const [name, lines] of rules) if (lines.length === 0 && !name.includes("/KUBE-")) rules.delete(name);
  return rules;
}

const table = (rows: readonly ServicePort[]) => new Map(rows.map((row) => [row.key, row]));
const plain = (rules: Rules) => Object.fromEntries([...rules].sort(([a], [b]) => (a < b ? -1 : 1)));

describe("a difference", () => {
  test("of equal states is nothing", () => {
    const rules = render(table([port(1, [1, 2])]), options);
    expect(difference(rules, new Map(rules))).toEqual({ text: "", pieces: 0 });
  });

  test("of one changed endpoint is the Service's chain and two endpoint chains", () => {
    const text = difference(
      render(table([port(1, [1, 2]), port(2, [1])]), options),
      render(table([port(1, [1, 3]), port(2, [1])]), options),
    ).text;
    expect(text.split("\n").filter((line) => line.startsWith(":"))).toHaveLength(3);
    expect(text).toStartWith("*nat\n");
    expect(text).toEndWith("COMMIT\n");
    expect(text.match(/^-X /gm)).toHaveLength(1);
    expect(text).not.toContain("KUBE-SERVICES");
  });

  test("of one added Service among many writes one line into the shared chain", () => {
    const rows = Array.from({ length: 500 }, (_, at) => port(at, [1]));
    const text = difference(render(table(rows), options), render(table([...rows, port(600, [1])]), options)).text;
    expect(text.match(/KUBE-SERVICES/g)).toHaveLength(1);
    expect(text).toMatch(/^-I KUBE-SERVICES [0-9]+ -d 10\.96\.2\.88\/32/m);
  });

  test("to nothing takes out jumps and chains, and nothing of others", () => {
    const rules = render(table([port(1, [1])]), options);
    expect(plain(restore(rules, difference(rules, new Map()).text))).toEqual({});
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
      affinitySeconds: fc.option(fc.constant(10), { nil: undefined }),
      loadBalancerIPs: fc.constantFrom<readonly string[]>([], ["10.97.0.1"]),
      sourceRanges: fc.constantFrom<readonly string[]>([], ["192.0.2.0/24"]),
    }),
    { selector: (one) => one.service, maxLength: 8 },
  )
  .map((list) => list.map(({ service, endpoints, ...more }) => port(service, endpoints, more)));

describe("increments", () => {
  test("end where a fresh start ends, and the kernel takes each of them", () => {
    fc.assert(
      fc.property(fc.array(rowsArbitrary, { minLength: 1, maxLength: 6 }), (states) => {
        const renderer = new IptablesRenderer(options);
        let before = new Map<string, ServicePort>();
        let kernel = restore(new Map(), difference(new Map(), renderer.rules).text);
        for (const state of states) {
          const after = table(state);
          const keys = [...new Set([...before.keys(), ...after.keys()])];
          const touched = renderer.apply(keys.map((key) => ({ key, before: before.get(key), after: after.get(key) })));
          kernel = restore(kernel, difference(kernel, renderer.rules, touched).text);
          expect(plain(kernel)).toEqual(plain(render(after, options)));
          before = after;
        }
      }),
      { numRuns: 60 },
    );
  });

  test("from any state to any other agree with the kernel, long chains included", () => {
    const many = fc.uniqueArray(fc.nat(200), { minLength: 60, maxLength: 150 });
    fc.assert(
      fc.property(many, many, (a, b) => {
        const from = render(table(a.map((one) => port(one, [1]))), options);
        const to = render(table(b.map((one) => port(one, one % 3 === 0 ? [] : [1]))), options);
        expect(plain(restore(from, difference(from, to).text))).toEqual(plain(to));
      }),
      { numRuns: 8 },
    );
  });
});

describe("a large cluster", () => {
  const many = Array.from({ length: 200 }, (_, at) =>
    port(at, [1, 2, 3, 4, 5], { affinitySeconds: at === 7 ? 60 : undefined }),
  );
  const comments = (rules: Rules, kind: string) =>
    [...rules]
      .filter(([chain]) => chain.startsWith(`nat/${kind}`))
      .flatMap(([, lines]) => lines.filter((line) => line.includes("-> ") || kind === "KUBE-SEP"))
      .filter((line) => line.includes("--comment")).length;

  test("above 1,000 endpoints has no comments in rules about endpoints, and again below", () => {
    const renderer = new IptablesRenderer(options);
    const change = (before: ServicePort | undefined, after: ServicePort | undefined) => ({
      key: (after ?? before)!.key,
      before,
      after,
    });
    renderer.apply(many.map((row) => change(undefined, row)));
    expect(comments(renderer.rules, "KUBE-SEP")).toBe(2_000);
    let kernel = restore(new Map(), difference(new Map(), renderer.rules).text);
    const more = port(300, [1]);
    const touched = renderer.apply([change(undefined, more)]);
    kernel = restore(kernel, difference(kernel, renderer.rules, touched).text);
    expect([comments(renderer.rules, "KUBE-SEP"), comments(renderer.rules, "KUBE-SVC")]).toEqual([0, 0]);
    expect(plain(kernel)).toEqual(plain(render(table([...many, more]), options)));
    expect(renderer.rules.get("nat/KUBE-SERVICES")?.[0]).toContain("--comment");
    const back = renderer.apply([change(more, undefined)]);
    kernel = restore(kernel, difference(kernel, renderer.rules, back).text);
    expect(plain(kernel)).toEqual(plain(render(table(many), options)));
  });
});

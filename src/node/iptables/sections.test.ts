import { describe, expect, test } from "bun:test";
import { port } from "../testing/rows.ts";
import { difference } from "./difference.ts";
import { IptablesRenderer } from "./renderer.ts";
import { inSections } from "./sections.ts";

const options = { family: 4, localDetector: { kind: "cidr", cidr: "10.0.0.0/8" } } as const;

function rules(services: number, endpoint = 1) {
  const renderer = new IptablesRenderer(options);
  const rows = Array.from({ length: services }, (_, n) =>
    port(n + 1, [endpoint, endpoint + 1], {
      nodePort: 30_000 + n,
      sourceRanges: ["192.0.2.0/24"],
      loadBalancerIPs: ["10.97.0.1"],
    }),
  );
  renderer.apply(rows.map((after) => ({ key: after.key, before: undefined, after })));
  return renderer.rules;
}

/** What a restore of the sections makes of the chains: each section refers to chains that are there, and deletes unnamed ones. */
function restore(before: ReadonlyMap<string, readonly string[]>, text: string): Map<string, readonly string[]> {
  const all = new Map(before);
  for (const section of text.split("COMMIT\n").slice(0, -1)) {
    const [head = "", ...lines] = section.trimEnd().split("\n");
    const table = head.slice(1);
    const builtIn = (chain: string) => /^[A-Z]+$/.test(chain);
    for (const line of lines) {
      const [verb = "", chain = ""] = line.split(" ");
      const name = `${table}/${line.startsWith(":") ? verb.slice(1) : chain}`;
      const rule = line.slice(verb.length + chain.length + 2);
      const target = /-[jg] (KUBE-\S+)$/.exec(rule)?.[1];
      if (target && !all.has(`${table}/${target}`)) throw new Error(`${line}: there is no ${target}`);
      if (line.startsWith(":")) all.set(name, []);
      else if (!all.has(name) && !builtIn(chain)) throw new Error(`${line}: there is no ${chain}`);
      else if (verb === "-A") all.set(name, [...all.get(name)!, rule]);
      else if (verb === "-X") {
        const user = [...all].find(
          ([key, rules]) => key.startsWith(table) && rules.some((one) => one.endsWith(`-j ${chain}`)),
        );
        if (user) throw new Error(`${line}: ${user[0]} leads there`);
        all.delete(name);
      } else if (verb === "-I") {
        const [number, ...rest] = rule.split(" ");
        const now = [...(all.get(name) ?? [])];
        now.splice(Number(number) - 1, 0, rest.join(" "));
        all.set(name, now);
      } else if (verb === "-D") {
        const now = [...(all.get(name) ?? [])];
        now.splice(/^\d+$/.test(rule) ? Number(rule) - 1 : now.indexOf(rule), 1);
        if (now.length > 0) all.set(name, now);
        else all.delete(name);
      } else throw new Error(line);
    }
  }
  return all;
}

const plain = (all: ReadonlyMap<string, readonly string[]>) => Object.fromEntries([...all].sort());

describe("a large change", () => {
  const count = 150;

  test("in sections makes the same chains, each leading to what is there, from nothing and to nothing", () => {
    const wanted = rules(count);
    const whole = difference(new Map(), wanted).text;
    const text = inSections(whole);
    expect(text.match(/^COMMIT$/gm)!.length).toBeGreaterThan(5);
    const made = restore(new Map(), text);
    expect(plain(made)).toEqual(plain(wanted));
    expect(plain(restore(made, inSections(difference(wanted, new Map()).text)))).toEqual({});
  });

  test("to other endpoints of all Services lets what is gone go last", () => {
    const [before, after] = [rules(count), rules(count, 3)];
    const text = inSections(difference(before, after).text);
    expect(plain(restore(before, text))).toEqual(plain(after));
  });

  test("names few chains in a section, but for those that all Services share", () => {
    const sections = inSections(difference(new Map(), rules(count)).text).split("COMMIT\n");
    for (const section of sections) expect((section.match(/^:/gm) ?? []).length).toBeLessThanOrEqual(100);
  });

  test("changes the chains that packets come through in one section of a table", () => {
    const text = inSections(difference(rules(count), rules(count + 100)).text);
    const shared = text.split("COMMIT\n").filter((section) => /^-[AID] KUBE-(SERVICES|NODEPORTS) /m.test(section));
    expect(shared.map((section) => section.split("\n")[0])).toEqual(["*nat"]);
  });
});

test("a small change stays one transaction a table", () => {
  const { text } = difference(new Map(), rules(3));
  expect(inSections(text)).toBe(text);
});

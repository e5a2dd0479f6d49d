// Scenarios of `side-by-side-policies.test.ts`: limits of a backend, checks, priorities, consistent hashing and sessions.

import type { Rule } from "../../src/model/model.ts";
import type { Difference } from "./beside.ts";
import {
  type Answer,
  type Ask,
  type Checked,
  forward,
  origins,
  type Scenario,
  type Side,
  seen,
  well,
} from "./beside-scenario.ts";
import { eventually } from "./stack.ts";

/** Three at once: so many are with the origin, so many refused, and the others wait until the origin lets go of the first. */
const crowd = (held: number, refused: number) => async (side: Side) => {
  const keys: string[] = [];
  const all: Promise<Answer>[] = [];
  let over = 0;
  for (let count = 0; count < 3; count++) {
    keys.push(side.nextKey());
    const answer = side.ask({ headers: { "x-hold": "1" } });
    all.push(answer);
    void answer.then(() => over++);
    // The others come when the first is there.
    if (count === 0) await eventually(async () => seen.has(keys[0]!), Boolean);
  }
  const atOnce = () => keys.filter((key) => seen.has(key)).length;
  await eventually(
    async () => atOnce() >= held && over >= refused,
    (all) => all,
  );
  // For those that should wait and do not.
  await Bun.sleep(150);
  const result = { atOnce: atOnce(), over };
  for (const key of keys) origins.one.release(key);
  const answers = await Promise.all(all);
  return { ...result, answers: answers.toSorted((a, b) => a.status - b.status) };
};
const crowds: readonly Scenario[] = [
  { name: "a limit of requests", rules: [{ action: forward("few-requests") }], run: crowd(2, 1) },
  { name: "a limit of requests that wait", rules: [{ action: forward("few-pending") }], run: crowd(1, 1) },
  { name: "a limit of connections: others wait", rules: [{ action: forward("few-connections") }], run: crowd(1, 0) },
];

const served = (name: Checked) => (answer: Answer) => answer.body === `good ${name}`;
const status = (code: number) => (answer: Answer) => answer.status === code;
const health: readonly Scenario[] = [
  {
    name: "an endpoint whose check fails leaves, and comes back; without any there is a 503",
    rules: [{ action: forward("alone") }],
    async run(side) {
      const results = [await side.until({}, served("a"))];
      well.a = false;
      results.push(await side.until({}, status(503)), await side.ask());
      well.a = true;
      results.push(await side.until({}, served("a")), await side.ask());
      return results;
    },
  },
  {
    name: "the next priority serves while the first is ill",
    rules: [{ action: forward("failover") }],
    async run(side) {
      const results = [await side.until({}, served("a"))];
      well.a = false;
      results.push(await side.until({}, served("b")), await side.ask(), await side.ask());
      well.a = true;
      results.push(await side.until({}, served("a")), await side.ask(), await side.ask());
      return results;
    },
  },
  {
    name: "half of a priority ill: seven tenths of the requests are its, with what it is provisioned beyond need",
    rules: [
      { match: { headers: [{ name: "x-alone", match: { kind: "present" } }] }, action: forward("alone") },
      { action: forward("two-levels") },
    ],
    async run(side) {
      well.a = false;
      await side.until({ headers: { "x-alone": "1" } }, status(503));
      // Until a dozen in a row were not its.
      let without = 0;
      await side.until({}, ({ body }) => {
        without = body === "good a" ? 0 : without + 1;
        return without === 12;
      });
      const counts = new Map<string, number>();
      for (let count = 0; count < 200; count++) {
        const { body } = await side.until({}, () => true);
        counts.set(body, (counts.get(body) ?? 0) + 1);
      }
      const first = counts.get("good b") ?? 0;
      // 140 but for one in ten thousand.
      return { used: [...counts.keys()].sort(), first: first > 112 && first < 168 };
    },
  },
  {
    name: "when too few are well, all are used",
    rules: [
      { match: { headers: [{ name: "x-alone", match: { kind: "present" } }] }, action: forward("alone") },
      { action: forward("panicking") },
    ],
    async run(side) {
      Object.assign(well, { a: false, b: false, c: false });
      // What is checked beside them says when the checks have seen it; two more must have by then.
      await side.until({ headers: { "x-alone": "1" } }, status(503));
      await Bun.sleep(400);
      const used = async () => {
        const all = new Set<string>();
        for (let count = 0; count < 8; count++) all.add((await side.until({}, () => true)).body);
        return [...all].sort();
      };
      // Half of them are not too few: on the way there the others rest.
      return await eventually(used, ({ length }) => length === 4);
    },
  },
];

const keys = Array.from({ length: 40 }, (_, index) => `key-${index}`);
/** Which endpoint each key gets, when that is as wanted and stays. */
async function placed(side: Side, holds: (all: readonly string[]) => boolean): Promise<readonly string[]> {
  let before: readonly string[] = [];
  const place = async () => {
    const all: string[] = [];
    for (const key of keys) all.push((await side.until({ headers: { "x-hash": key } }, () => true)).body);
    return all;
  };
  const same = (all: readonly string[]) => {
    const stays = all.every((one, index) => one === before[index]);
    before = all;
    return stays && holds(all);
  };
  return await eventually(place, same);
}
const hashing = (name: string, target: string): Scenario => ({
  name,
  rules: [{ action: forward(target), hash: [{ kind: "header", name: "x-hash" }] }],
  async run(side) {
    const before = await placed(side, (all) => new Set(all).size === 4);
    well.b = false;
    const without = await placed(side, (all) => !all.includes("good b"));
    const moved = before.filter((one, index) => one !== "good b" && one !== without[index]).length;
    well.b = true;
    const after = await placed(side, (all) => all.includes("good b"));
    return {
      used: [...new Set(before)].sort(),
      usedWithout: [...new Set(without)].sort(),
      // Of some thirty; by the rest of a division it would be three in four.
      fewMoved: moved <= 12,
      asBefore: after.every((one, index) => one === before[index]),
    };
  },
});
/** Of requests that have the same all go to one endpoint; which one is each proxy's own choice. */
const alike = (name: string, hash: NonNullable<Rule["hash"]>, ask: Ask): Scenario => ({
  name,
  rules: [{ action: forward("ring"), hash }],
  async run(side) {
    // Again when an endpoint has just come or gone by its checks.
    const used = async () => {
      const all = new Set<string>();
      for (let count = 0; count < 16; count++) all.add((await side.until(ask, () => true)).body);
      return all.size;
    };
    return await eventually(used, (size) => size === 1);
  },
});
const cookieOf = (answer: Answer) =>
  /^set-cookie: ([^;]+)/.exec(answer.headers.find((one) => /^set-c/.test(one)) ?? "")?.[1];
const keeping: Difference = {
  why: "the value of a cookie is opaque, and it is not sent with requests that other sites make (SameSite=Lax; Envoy says nothing of sites)",
  ours: [
    [
      /(set-cookie: [a-z]+)=[^;]+; Path=\/; Max-Age=100; HttpOnly; SameSite=Lax/g,
      "$1=X; Max-Age=100; Path=/; HttpOnly",
    ],
  ],
  envoys: [[/(set-cookie: [a-z]+)=[^;]+/g, "$1=X"]],
};
const kept = (name: string, target: string, more: Partial<Rule>): Scenario => ({
  name,
  rules: [{ action: forward(target), ...more }],
  async run(side) {
    const bodyless = ({ status, headers }: Answer) => ({ status, headers });
    await side.until({}, (answer) => answer.status === 200);
    const first = await side.ask();
    const cookie = { headers: { cookie: cookieOf(first) ?? "" } };
    const same: boolean[] = [];
    for (let count = 0; count < 6; count++) same.push((await side.ask(cookie)).body === first.body);
    const results: unknown[] = [bodyless(first), same, bodyless(await side.ask(cookie))];
    const name = first.body.slice(5) as Checked;
    well[name] = false;
    const next = await side.until(cookie, ({ body }) => body !== first.body);
    results.push(bodyless(next), next.body !== first.body);
    well[name] = true;
    results.push((await side.until(cookie, ({ body }) => body === first.body)).body === first.body);
    return results;
  },
  differs: keeping,
});
const sticky = (more: object): Partial<Rule> => ({
  persistence: { carrier: { kind: "cookie", name: "keep", path: "/", ttl: 100 }, keeps: "endpoint", ...more },
});
const choices: readonly Scenario[] = [
  hashing("a ring: the same key, the same endpoint", "ring"),
  hashing("Maglev: the same key, the same endpoint", "maglev"),
  alike("the same parameter of the query, the same endpoint", [{ kind: "query", name: "q" }], { path: "?q=1" }),
  alike("the same client, the same endpoint", [{ kind: "source" }], {}),
  {
    name: "a header keeps a client with its endpoint",
    rules: [
      {
        action: forward("kept"),
        persistence: { carrier: { kind: "header", name: "x-keep" }, keeps: "endpoint" },
      },
    ],
    async run(side) {
      const token = ({ headers }: Answer) => headers.find((one) => /^x-keep: /.test(one))?.slice(8);
      const first = await side.ask();
      const next: unknown[] = [];
      for (let count = 0; count < 6; count++) {
        const answer = await side.ask({ headers: { "x-keep": token(first) ?? "" } });
        next.push([answer.body === first.body, token(answer) === undefined ? "" : "told again"]);
      }
      return [first.status, token(first) !== undefined, next];
    },
  },
  kept("a cookie keeps a client with its endpoint while it is well", "kept", sticky({})),
  kept("a cookie keeps a client with its endpoint, or with none", "kept-strictly", sticky({ fallback: false })),
  kept("a cookie is made to be hashed", "hashed", {
    hash: [{ kind: "cookie", name: "keep", path: "/", ttl: 100 }],
  }),
];

export const ofEndpoints: readonly Scenario[] = [...crowds, ...health, ...choices];

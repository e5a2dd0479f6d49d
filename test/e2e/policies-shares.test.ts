// Policies that are for a part of the requests, through a real proxy: the part is right within four standard deviations, so that
// one run in ten thousand may fail by chance. Needs no privileges.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { proxy, serve, server, setUp, tearDown, url } from "./policy-stack.ts";
import { from, routeTable, rule } from "./proxy-harness.ts";
import { withinShare } from "./shares.ts";

beforeEach(setUp);
afterEach(tearDown);

const requests = 1000;

test("faults hit so many requests as are said, and delay and abort are drawn apart", async () => {
  const delay = { perMillion: 300_000, time: 30 };
  const abort = { perMillion: 200_000, status: 418 };
  await serve([{ kind: "fault", from, delay, abort }], server());
  const counts = { late: 0, aborted: 0, both: 0 };
  const ask = async () => {
    const begun = performance.now();
    const answer = await fetch(url());
    await answer.arrayBuffer();
    const late = performance.now() - begun >= 29;
    const aborted = answer.status === 418;
    counts.late += Number(late);
    counts.aborted += Number(aborted);
    counts.both += Number(late && aborted);
  };
  for (let round = 0; round < requests / 25; round++) await Promise.all(Array.from({ length: 25 }, ask));
  expect(counts.aborted).toSatisfy(withinShare(requests, 0.2));
  // A busy machine makes others late, too.
  expect(counts.late).toBeGreaterThan(requests * 0.3 - 4 * Math.sqrt(requests * 0.3 * 0.7));
  expect(counts.both).toBeGreaterThan(requests * 0.06 - 4 * Math.sqrt(requests * 0.06 * 0.94));
  expect(counts.both).toBeLessThan(counts.aborted);
});

test("mirrors get the part that is said, each its own, and the backend everything", async () => {
  const [main, few, many] = [server(), server(), server()];
  await serve(
    [
      { kind: "mirror", from, backend: "few", perMillion: 100_000 },
      { kind: "mirror", from, backend: "many", perMillion: 700_000 },
    ],
    main,
    { few, many },
  );
  for (let round = 0; round < requests / 20; round++) {
    const answers = await Promise.all(Array.from({ length: 20 }, (_, index) => fetch(url(`/${round * 20 + index}`))));
    for (const answer of answers) expect(answer.status).toBe(200);
  }
  // Copies come when they come: until the proxy has no more of them under way, which the last ones of all say.
  const last = [
    { kind: "mirror" as const, from, backend: "few", perMillion: 1_000_000 },
    { kind: "mirror" as const, from, backend: "many", perMillion: 1_000_000 },
  ];
  await proxy.control.update({ routeTables: [routeTable([rule("all", { filters: last })])] });
  await fetch(url("/last"));
  const isLast = ({ path }: { path: string }) => path === "/last";
  while (!few.seen.some(isLast) || !many.seen.some(isLast)) await Bun.sleep(5);
  expect(main.seen.length).toBe(requests + 1);
  expect(few.seen.length - 1).toSatisfy(withinShare(requests, 0.1));
  expect(many.seen.length - 1).toSatisfy(withinShare(requests, 0.7));
  // Drawn apart: those that both got are a part of a part.
  const paths = new Set(few.seen.map(({ path }) => path));
  const both = many.seen.filter(({ path }) => paths.has(path)).length - 1;
  expect(both).toSatisfy(withinShare(requests, 0.07));
});

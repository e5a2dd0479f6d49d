// Large updates over the control socket, as the control process writes them: the proxy serves while it takes them, takes what changed as
// a patch, and a drain in the middle waits for requests and for nothing else.

import { afterEach, expect, test } from "bun:test";
import type { Rule } from "../../src/model/model.ts";
import { freePort, ProxyUnderTest, plainListener, routeTable, rule } from "./proxy-harness.ts";

const proxies: ProxyUnderTest[] = [];
afterEach(async () => {
  for (const proxy of proxies.splice(0)) await proxy.stop();
});

const respond = (name: string, body: string): Rule =>
  rule(name, {
    match: { path: { kind: "segments", value: `/${name}` } },
    action: { kind: "respond", status: 200, reason: "test", body },
  });
const many = (body: string) => Array.from({ length: 4_000 }, (_, at) => respond(`rule-${at}`, body));

async function started() {
  const proxy = new ProxyUnderTest();
  proxies.push(proxy);
  await proxy.start();
  const port = freePort();
  expect(
    await proxy.control.deliver({ routeTables: [routeTable(many("0"))], listeners: [plainListener(port)] }),
  ).toEqual([]);
  const get = async (name: string) => await (await fetch(`http://127.0.0.1:${port}/${name}`)).text();
  return { proxy, get };
}

test("requests are answered from one table or the other while large tables are swapped", async () => {
  const { proxy, get } = await started();
  const seen: string[] = [];
  let going = true;
  const client = (async () => {
    while (going) seen.push(await get("rule-3999"));
  })();
  for (let count = 1; count <= 3; count++) {
    expect(await proxy.control.deliver({ routeTables: [routeTable(many(String(count)))] })).toEqual([]);
    expect(await get("rule-0")).toBe(String(count));
  }
  going = false;
  await client;
  expect(seen.length).toBeGreaterThan(3);
  expect(seen).toEqual(seen.toSorted());
});

test("a changed rule of a large table travels as a patch of the table in force; a bad one is refused alone", async () => {
  const { proxy, get } = await started();
  const first = routeTable(many("1"));
  expect(await proxy.control.deliver({ routeTables: [first] })).toEqual([]);
  const base = { table: first, version: proxy.control.version };
  const [host] = first.hosts;
  const changed = (at: number, one: Rule) => ({ ...first, hosts: [{ ...host!, rules: host!.rules.with(at, one) }] });
  const bad = respond("bad", "x");
  const refused = await proxy.control.deliver(
    { routeTables: [changed(7, { ...bad, match: { path: { kind: "exact", value: "bad" } } })] },
    new Map([["main", base]]),
  );
  expect(refused.map(({ name, reason }) => [name, reason])).toEqual([
    ["main", 'hosts[0].rules[7].match.path path "bad" does not begin with "/"'],
  ]);
  expect(await get("rule-7")).toBe("1");
  const taken = proxy.control.deliver(
    { routeTables: [changed(7, respond("rule-7", "patched"))] },
    new Map([["main", base]]),
  );
  expect(await taken).toEqual([]);
  expect([await get("rule-7"), await get("rule-8")]).toEqual(["patched", "1"]);
});

test("a drain in the middle of a large update ends the process in order", async () => {
  const { proxy, get } = await started();
  expect(await get("rule-5")).toBe("0");
  void proxy.control.deliver({ routeTables: [routeTable(many("1"))] });
  proxy.control.send({ type: "drain", deadline: 500 });
  expect(await proxy.process!.exited).toBe(0);
});

import { beforeEach, describe, expect, test } from "bun:test";
import { FakeClock } from "../base/clock.ts";
import { createGraph } from "../collections/graph.ts";
import { fingerprint } from "../model/fingerprint.ts";
import { Distribution, listenerStateSource, type Subscription } from "./distribution.ts";
import type { Delta, SubscriptionOptions } from "./subscription.ts";
import {
  backend,
  endpoints,
  listener,
  type ModelSources,
  modelSources,
  routeTable,
  secret,
} from "./testing/model-sources.ts";

let model: ModelSources;
let distribution: Distribution;
let clock: FakeClock;

beforeEach(() => {
  const graph = createGraph();
  clock = new FakeClock();
  model = modelSources(graph);
  distribution = new Distribution(model, { listenerStates: listenerStateSource({ graph }), clock });
});

function connect(options: Partial<SubscriptionOptions> = {}): { deltas: Delta[]; subscription: Subscription } {
  const deltas: Delta[] = [];
  const subscription = distribution.subscribe({ proxy: "p1", scopes: ["gateway"], ...options }, (one) =>
    deltas.push(one),
  );
  return { deltas, subscription };
}

/** Lets what settled in this turn be taken. */
const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Whether a promise has resolved by now. */
async function done(promise: Promise<void>): Promise<boolean> {
  let resolved = false;
  void promise.then(() => {
    resolved = true;
  });
  await turn();
  return resolved;
}

describe("what a proxy is sent", () => {
  test("first everything that its scopes reach, then only what differs", async () => {
    model.listeners.set("l", listener("l", { routes: "t" }));
    model.routeTables.set("t", routeTable("t", ["b"]));
    model.backends.set("b", backend("b"));
    model.backends.set("unused", backend("unused"));
    const { deltas, subscription } = connect();
    expect(deltas).toEqual([
      {
        version: 1,
        upsert: {
          listeners: [listener("l", { routes: "t" })],
          routeTables: [routeTable("t", ["b"])],
          backends: [backend("b")],
        },
        remove: {},
      },
    ]);
    subscription.acknowledge(1, []);
    model.endpoints.set("b", endpoints("b", "10.0.0.1"));
    await turn();
    expect(deltas[1]).toEqual({ version: 2, upsert: { endpoints: [endpoints("b", "10.0.0.1")] }, remove: {} });
    subscription.acknowledge(2, []);
    model.routeTables.set("t", routeTable("t", []));
    await turn();
    expect(deltas[2]).toEqual({
      version: 3,
      upsert: { routeTables: [routeTable("t", [])] },
      remove: { backends: ["b"], endpoints: ["b"] },
      bases: new Map([["t", { table: routeTable("t", ["b"]), version: 1 }]]),
    });
  });

  test("one update at a time: what changes while an answer is awaited is merged", async () => {
    model.listeners.set("l", listener("l", { tcp: ["b"] }));
    const { deltas, subscription } = connect();
    for (const timeout of [1, 2, 3]) {
      model.backends.set("b", backend("b", timeout));
      await turn();
    }
    expect(deltas.length).toBe(1);
    subscription.acknowledge(1, []);
    expect(deltas[1]?.upsert).toEqual({ backends: [backend("b", 3)] });
  });

  test("a proxy that comes with what it has is sent only what differs, and told what is no more", () => {
    model.listeners.set("l", listener("l", { tcp: ["b"] }));
    model.backends.set("b", backend("b", 2));
    const have = {
      listeners: { l: fingerprint("listeners", listener("l", { tcp: ["b"] })), old: "x" },
      backends: { b: fingerprint("backends", backend("b", 1)) },
    };
    const { deltas } = connect({ have });
    expect(deltas).toEqual([{ version: 1, upsert: { backends: [backend("b", 2)] }, remove: { listeners: ["old"] } }]);
  });

  test("a proxy that has everything is sent nothing, and counts as applied", async () => {
    model.listeners.set("l", listener("l"));
    const { deltas } = connect({ have: { listeners: { l: fingerprint("listeners", listener("l")) } } });
    expect(deltas).toEqual([]);
    expect(distribution.listenerStates.get("l")?.state).toBe("applied");
    expect(await done(distribution.barrier([{ type: "listeners", name: "l" }]))).toBe(true);
  });

  test("a change that is taken back before it was sent is not sent", async () => {
    model.listeners.set("l", listener("l", { tcp: ["b"] }));
    model.backends.set("b", backend("b", 1));
    const { deltas, subscription } = connect();
    model.backends.set("b", backend("b", 2));
    await turn();
    model.backends.set("b", backend("b", 1));
    await turn();
    subscription.acknowledge(1, []);
    expect(deltas.length).toBe(1);
  });

  test("more than fits one update comes in several, what is named before what names it; a barrier waits for the last", async () => {
    model.listeners.set("l", listener("l", { tcp: ["a", "b"] }));
    for (const name of ["a", "b"]) {
      model.backends.set(name, backend(name));
      model.endpoints.set(name, endpoints(name, "10.0.0.1"));
    }
    const { deltas, subscription } = connect({ updateSize: 200 });
    const barrier = distribution.barrier([{ type: "listeners", name: "l" }]);
    const sent: string[] = [];
    for (let version = 1; version <= deltas.length; version++) {
      expect(await done(barrier)).toBe(false);
      sent.push(Object.keys(deltas[version - 1]!.upsert).join());
      subscription.acknowledge(version, []);
    }
    expect(sent.length).toBeGreaterThan(2);
    expect([sent[0], sent.at(-1)]).toEqual(["backends", "listeners"]);
    expect(await done(barrier)).toBe(true);
  });

  test("an encoder can take single types, each with versions of its own", () => {
    model.listeners.set("l", listener("l", { tcp: ["b"] }));
    model.backends.set("b", backend("b"));
    expect(connect({ types: ["backends"] }).deltas[0]?.upsert).toEqual({ backends: [backend("b")] });
    expect(connect({ types: ["listeners"] }).deltas[0]?.version).toBe(1);
  });
});

describe("a refusal", () => {
  const refusal = { resource: "listeners", name: "l", reason: "port 80 is taken" } as const;

  test("shows as the listener's state and in the proxy's, until a change is taken", async () => {
    model.listeners.set("l", listener("l"));
    const { deltas, subscription } = connect();
    expect(distribution.listenerStates.get("l")).toBeUndefined();
    subscription.acknowledge(1, [refusal]);
    expect(distribution.listenerStates.get("l")).toEqual({
      listener: "l",
      state: "rejected",
      message: "port 80 is taken",
    });
    expect(distribution.proxyStates()[0]?.rejected).toEqual([refusal]);
    expect(distribution.proxyStates()[0]?.types.listeners).toEqual({ count: 0, state: "rejected" });
    model.listeners.set("l", listener("l", { port: 81 }));
    await turn();
    expect(deltas[1]?.upsert.listeners).toEqual([listener("l", { port: 81 })]);
    subscription.acknowledge(2, []);
    expect(distribution.listenerStates.get("l")).toEqual({ listener: "l", state: "applied", message: "" });
    expect(distribution.proxyStates()[0]?.rejected).toEqual([]);
  });

  test("going back to what is in force ends it without an update", async () => {
    model.listeners.set("l", listener("l"));
    const { deltas, subscription } = connect();
    subscription.acknowledge(1, []);
    model.listeners.set("l", listener("l", { port: 81 }));
    await turn();
    subscription.acknowledge(2, [refusal]);
    model.listeners.set("l", listener("l"));
    await turn();
    expect(deltas.length).toBe(2);
    expect(distribution.listenerStates.get("l")?.state).toBe("applied");
  });

  test("what was refused is sent again with the next update, and alone after a pause", async () => {
    model.listeners.set("l", listener("l", { secrets: ["s"] }));
    const { deltas, subscription } = connect();
    subscription.acknowledge(1, [refusal]);
    model.secrets.set("s", secret("s"));
    await turn();
    expect(Object.keys(deltas[1]!.upsert).toSorted()).toEqual(["listeners", "secrets"]);
    subscription.acknowledge(2, [refusal]);
    clock.advance(5_000);
    expect(deltas[2]?.upsert.listeners?.length).toBe(1);
    subscription.acknowledge(3, []);
    expect(distribution.listenerStates.get("l")?.state).toBe("applied");
    clock.advance(600_000);
    expect(deltas.length).toBe(3);
  });

  test("may be of a resource that was not sent but names one that was", async () => {
    model.listeners.set("l", listener("l", { secrets: ["s"] }));
    model.secrets.set("s", secret("s", "good"));
    const { deltas, subscription } = connect();
    subscription.acknowledge(1, []);
    model.secrets.set("s", secret("s", "bad"));
    await turn();
    subscription.acknowledge(2, [refusal]);
    expect(distribution.listenerStates.get("l")?.state).toBe("rejected");
    model.secrets.set("s", secret("s", "better"));
    await turn();
    expect(Object.keys(deltas[2]!.upsert).toSorted()).toEqual(["listeners", "secrets"]);
    subscription.acknowledge(3, []);
    expect(distribution.listenerStates.get("l")?.state).toBe("applied");
  });

  test("an answer to another version is ignored", () => {
    model.listeners.set("l", listener("l"));
    const { subscription } = connect();
    subscription.acknowledge(7, []);
    expect(distribution.listenerStates.get("l")).toBeUndefined();
  });
});

describe("the state of a listener", () => {
  test("is applied when every proxy of its scope has it", () => {
    model.listeners.set("l", listener("l"));
    const one = connect({ proxy: "p1" });
    const two = connect({ proxy: "p2" });
    connect({ proxy: "elsewhere", scopes: ["node-2"] });
    one.subscription.acknowledge(1, []);
    expect(distribution.listenerStates.get("l")).toBeUndefined();
    two.subscription.acknowledge(1, []);
    expect(distribution.listenerStates.get("l")?.state).toBe("applied");
  });

  test("stays while a change is on its way and while its proxy restarts, and goes with the listener", async () => {
    model.listeners.set("l", listener("l"));
    const { subscription } = connect();
    subscription.acknowledge(1, []);
    model.listeners.set("l", listener("l", { port: 81 }));
    await turn();
    expect(distribution.listenerStates.get("l")?.state).toBe("applied");
    subscription.dispose();
    expect(distribution.listenerStates.get("l")?.state).toBe("applied");
    model.listeners.delete("l");
    await turn();
    expect(distribution.listenerStates.get("l")).toBeUndefined();
  });
});

describe("a barrier", () => {
  const table = [{ type: "routeTables", name: "t" }] as const;

  test("waits for the answer to what was wanted when it was asked for", async () => {
    model.listeners.set("l", listener("l", { routes: "t" }));
    model.routeTables.set("t", routeTable("t", []));
    const { subscription } = connect();
    subscription.acknowledge(1, []);
    model.routeTables.set("t", routeTable("t", ["b"]));
    const barrier = distribution.barrier(table);
    expect(await done(barrier)).toBe(false);
    subscription.acknowledge(2, []);
    expect(await done(barrier)).toBe(true);
  });

  test("a refusal settles it, too", async () => {
    model.listeners.set("l", listener("l", { routes: "t" }));
    model.routeTables.set("t", routeTable("t", []));
    const { subscription } = connect();
    const barrier = distribution.barrier(table);
    subscription.acknowledge(1, [{ resource: "routeTables", name: "t", reason: "no" }]);
    expect(await done(barrier)).toBe(true);
  });

  test("waits until a proxy of the scope is connected and has it", async () => {
    model.listeners.set("l", listener("l", { routes: "t" }));
    model.routeTables.set("t", routeTable("t", []));
    const barrier = distribution.barrier(table);
    connect({ proxy: "other", scopes: ["node-2"] });
    expect(await done(barrier)).toBe(false);
    const { subscription } = connect();
    expect(await done(barrier)).toBe(false);
    subscription.acknowledge(1, []);
    expect(await done(barrier)).toBe(true);
  });

  test("a proxy that goes away is waited for no longer when another has it", async () => {
    model.listeners.set("l", listener("l", { routes: "t" }));
    model.routeTables.set("t", routeTable("t", []));
    const one = connect({ proxy: "p1" });
    const two = connect({ proxy: "p2" });
    const barrier = distribution.barrier(table);
    one.subscription.acknowledge(1, []);
    expect(await done(barrier)).toBe(false);
    two.subscription.dispose();
    expect(await done(barrier)).toBe(true);
  });

  test("is not held up by changes that come after it", async () => {
    model.listeners.set("l", listener("l", { routes: "t" }));
    model.routeTables.set("t", routeTable("t", []));
    const { deltas, subscription } = connect();
    const barrier = distribution.barrier(table);
    expect(await done(barrier)).toBe(false);
    model.routeTables.set("t", routeTable("t", ["b"]));
    await turn();
    subscription.acknowledge(1, []);
    expect(deltas.length).toBe(2); // the table is on its way again
    expect(await done(barrier)).toBe(true);
  });

  test("is not waited for any longer when the listener goes whose proxies never came", async () => {
    model.listeners.set("l", listener("l", { routes: "t" }));
    const barrier = distribution.barrier(table);
    expect(await done(barrier)).toBe(false);
    model.listeners.delete("l");
    expect(await done(barrier)).toBe(true);
  });

  test("can be given up", async () => {
    model.listeners.set("l", listener("l", { routes: "t" }));
    const controller = new AbortController();
    const barrier = distribution.barrier(table, controller.signal);
    await turn();
    controller.abort();
    connect().subscription.acknowledge(1, []);
    expect(await done(barrier)).toBe(false);
  });

  test("settles at once for what no listener reaches", async () => {
    model.routeTables.set("t", routeTable("t", []));
    expect(await done(distribution.barrier(table))).toBe(true);
    expect(await done(distribution.barrier([]))).toBe(true);
  });

  test("waits until a removal is in force", async () => {
    model.listeners.set("l", listener("l", { routes: "t" }));
    model.routeTables.set("t", routeTable("t", []));
    const { subscription } = connect();
    subscription.acknowledge(1, []);
    model.listeners.delete("l");
    const barrier = distribution.barrier(table);
    expect(await done(barrier)).toBe(false);
    subscription.acknowledge(2, []);
    expect(await done(barrier)).toBe(true);
  });
});

test("proxies are listed with what they have, also after they went", () => {
  model.listeners.set("l", listener("l"));
  const { subscription } = connect({ pid: 42 });
  const state = () =>
    distribution.proxyStates().map(({ proxy, connected, types }) => ({ proxy, connected, ...types.listeners }));
  expect(state()).toEqual([{ proxy: "p1", connected: true, count: 0, state: "stale" }]);
  subscription.acknowledge(1, []);
  subscription.dispose();
  expect(state()).toEqual([{ proxy: "p1", connected: false, count: 1, state: "synced" }]);
});

import { describe, expect, test } from "bun:test";
import type { Batch } from "./collection.ts";
import { derive, union } from "./derive.ts";
import { explain } from "./explain.ts";
import { createGraph } from "./graph.ts";
import { index } from "./index.ts";
import { source } from "./source.ts";

interface Service {
  readonly name: string;
  readonly ports: readonly number[];
}

const service = (name: string, ...ports: number[]): Service => ({ name, ports });

describe("a derived collection", () => {
  test("follows its input: added, changed and removed values", () => {
    const graph = createGraph();
    const services = source<Service>("services", { graph });
    services.set("a", service("a", 80));
    const ports = derive(services, (one) => one.ports.map((port) => `${one.name}:${port}`), {
      name: "ports",
      key: (text) => text,
    });
    expect([...ports.values()]).toEqual(["a:80"]);
    services.set("a", service("a", 80, 81));
    expect([...ports.values()]).toEqual(["a:80", "a:81"]);
    services.delete("a");
    expect(ports.size).toBe(0);
  });

  test("recomputes only what fetched the key that changed", () => {
    const graph = createGraph();
    const names = source<string>("names", { graph });
    const settings = source<number>("settings", { graph });
    const computed: string[] = [];
    derive(
      names,
      (name, fetch) => {
        computed.push(name);
        return `${name}=${fetch.one(settings, name)}`;
      },
      { name: "lines", key: (line) => line },
    );
    graph.batch(() => {
      for (const name of ["a", "b", "c"]) names.set(name, name);
    });
    computed.length = 0;
    settings.set("b", 1);
    expect(computed).toEqual(["b"]);
    settings.set("b", 1);
    expect(computed).toEqual(["b"]);
  });

  test("an index bucket makes stale only those who fetched that bucket", () => {
    const graph = createGraph();
    const pods = source<{ node: string }>("pods", { graph });
    const byNode = index(pods, "pods by node", (pod) => [pod.node]);
    const nodes = source<string>("nodes", { graph });
    const computed: string[] = [];
    const counts = derive(
      nodes,
      (node, fetch) => {
        computed.push(node);
        return { node, count: fetch.where(byNode, node).length };
      },
      { name: "counts", key: (one) => one.node },
    );
    nodes.replace([
      ["n1", "n1"],
      ["n2", "n2"],
    ]);
    pods.set("p", { node: "n1" });
    computed.length = 0;
    pods.set("p", { node: "n2" });
    expect(computed.toSorted()).toEqual(["n1", "n2"]);
    expect([...counts.values()].map((one) => one.count)).toEqual([0, 1]);
    computed.length = 0;
    pods.set("q", { node: "n3" });
    expect(computed).toEqual([]);
    expect(byNode.where("n3")).toEqual([{ node: "n3" }]);
  });

  test("an index that cannot place a value says so, and holds the others", () => {
    const graph = createGraph();
    const pods = source<{ node?: { name: string } }>("pods", { graph });
    const byNode = index(pods, "pods by node", (pod) => [pod.node!.name]);
    pods.set("p", {});
    pods.set("q", { node: { name: "n" } });
    expect(byNode.where("n").length).toBe(1);
    expect(graph.errors().map((one) => [one.collection, one.key])).toEqual([["pods by node", "p"]]);
    pods.set("p", { node: { name: "n" } });
    expect([byNode.where("n").length, graph.errors().length]).toEqual([2, 0]);
  });

  test("an output equal by value to the one before travels no further, and keeps its identity", () => {
    const graph = createGraph();
    const services = source<Service>("services", { graph });
    const first = derive(services, (one) => ({ name: one.name, first: one.ports.slice(0, 1) }), {
      name: "first",
      key: (one) => one.name,
    });
    let computed = 0;
    const batches: Batch<unknown>[] = [];
    const next = derive(
      first,
      (one) => {
        computed++;
        return one;
      },
      { name: "next", key: (one) => one.name },
    );
    next.subscribe((batch) => batches.push(batch));
    services.set("a", service("a", 1, 2));
    const held = next.get("a");
    services.set("a", service("a", 1, 3));
    expect(computed).toBe(1);
    expect(batches.length).toBe(1);
    expect(next.get("a")).toBe(held!);
  });

  test("two ways from one input meet in one computation, which sees both new", () => {
    const graph = createGraph();
    const numbers = source<number>("numbers", { graph });
    const doubled = derive(numbers, (n) => 2 * n, { name: "doubled", key: () => "x" });
    const tripled = derive(doubled, (n, fetch) => n + fetch.one(numbers, "x")!, { name: "tripled", key: () => "x" });
    const seen: number[][] = [];
    derive(
      numbers,
      (n, fetch) => {
        seen.push([n, fetch.one(doubled, "x")!, fetch.one(tripled, "x")!]);
        return n;
      },
      { name: "meet", key: () => "x" },
    );
    numbers.set("x", 1);
    numbers.set("x", 5);
    expect(seen).toEqual([
      [1, 2, 3],
      [5, 10, 15],
    ]);
  });

  test("a throw keeps the last good value and is an error at its input until the computation succeeds", () => {
    const graph = createGraph();
    const numbers = source<number>("numbers", { graph });
    const limit = source<number>("limit", { graph });
    limit.set("max", 10);
    const checked = derive(
      numbers,
      (n, fetch) => {
        if (n > fetch.one(limit, "max")!) throw new Error(`${n} is too much`);
        return n;
      },
      { name: "checked", key: () => "n" },
    );
    const heard: string[] = [];
    graph.onComputeError = (error) => heard.push(error.message);
    numbers.set("a", 3);
    numbers.set("a", 30);
    limit.set("max", 11); // computed again, and still the same failure
    expect(heard).toEqual(["30 is too much"]);
    expect(checked.get("n")).toBe(3);
    expect(graph.errors()).toEqual([{ collection: "checked", key: "a", message: "30 is too much" }]);
    limit.set("max", 100); // what was read before the throw counts as read
    expect(checked.get("n")).toBe(30);
    expect(graph.errors()).toEqual([]);
    numbers.set("a", 300);
    numbers.delete("a");
    expect(checked.size).toBe(0);
    expect(graph.errors()).toEqual([]);
  });

  test("two inputs that make one key: the one that sorts first has it, the other an error, whatever came first", () => {
    const graph = createGraph();
    const names = source<string>("names", { graph });
    const upper = derive(names, (name) => ({ name }), { name: "upper", key: (one) => one.name.toUpperCase() });
    names.set("2", "a");
    names.set("1", "A");
    expect(upper.get("A")).toEqual({ name: "A" });
    expect(graph.errors()).toEqual([{ collection: "upper", key: "2", message: "its output A is already made from 1" }]);
    names.delete("1");
    expect(upper.get("A")).toEqual({ name: "a" });
    expect(graph.errors()).toEqual([]);
  });

  test("mistakes are errors with a reason: reading without fetch, fetching what came later, promises", () => {
    const graph = createGraph();
    const input = source<number>("input", { graph });
    const unread = derive(input, () => [...input.values()][0], { name: "unread", key: String });
    const late: { of?: typeof unread } = {};
    derive(input, (_n, fetch) => fetch.all(late.of!)[0], { name: "early", key: String });
    late.of = derive(input, (n) => n, { name: "late", key: String });
    derive(input, async (n) => n, { name: "async", key: () => "k" });
    input.set("a", 1);
    expect(unread.size).toBe(0);
    expect(graph.errors().map((one) => one.message)).toEqual([
      "a compute function reads input without fetch, so its changes would go unseen",
      "early fetches from late, which was made after it",
      "a compute function must not be asynchronous",
    ]);
  });

  test("explains a value by its input and its reads", () => {
    const graph = createGraph();
    const a = source<number>("a", { graph });
    const b = source<number>("b", { graph });
    const byParity = index(b, "b by parity", (n) => [n % 2 ? "odd" : "even"]);
    const sum = derive(
      a,
      (n, fetch) => n + (fetch.one(b, "k") ?? 0) + fetch.where(byParity, "odd").length + fetch.all(b).length,
      { name: "sum", key: () => "sum" },
    );
    a.set("x", 1);
    expect(explain(sum, "sum")).toEqual({
      collection: "sum",
      key: "sum",
      input: { collection: "a", key: "x" },
      reads: [
        { kind: "one", collection: "b", key: "k" },
        { kind: "where", index: "b by parity", value: "odd" },
        { kind: "all", collection: "b" },
      ],
      failure: undefined,
    });
    expect(explain(sum, "nothing")).toBeUndefined();
  });

  test("after dispose it keeps what it has and follows no more", () => {
    const graph = createGraph();
    const numbers = source<number>("numbers", { graph });
    let computed = 0;
    const same = derive(
      numbers,
      (n) => {
        computed++;
        return n;
      },
      { name: "same", key: () => "n" },
    );
    numbers.set("n", 1);
    same.dispose();
    numbers.set("n", 2);
    expect([computed, same.get("n")]).toEqual([1, 1]);
  });
});

describe("a union", () => {
  test("has the values of all, and an error where two have the same key", () => {
    const graph = createGraph();
    const a = source<number>("a", { graph });
    const b = source<number>("b", { graph });
    const both = union("both", [a, b]);
    a.set("x", 1);
    b.set("y", 2);
    expect([...both.entries()]).toEqual([
      ["x", 1],
      ["y", 2],
    ]);
    b.set("x", 3);
    expect(both.get("x")).toBe(1);
    expect(graph.errors().map((one) => one.key)).toEqual(["x"]);
    a.delete("x");
    expect(both.get("x")).toBe(3);
  });
});

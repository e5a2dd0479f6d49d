import { describe, expect, test } from "bun:test";
import { Deployments, Services } from "../kinds.ts";
import { builtinScheme } from "../scheme.ts";
import { jsonPatch, mergePatch } from "./json-patch.ts";
import { strategicMergePatch } from "./strategic.ts";

const scheme = builtinScheme();
const service = scheme.schemaOf(Services);
const deployment = scheme.schemaOf(Deployments);
const ports = (...list: object[]) => ({ spec: { ports: list } });

describe("strategic merge patch", () => {
  test("lists with a merge key merge item by item, new ones in the patch's place", () => {
    const live = ports({ port: 80, name: "a" }, { port: 81, name: "b" });
    expect(strategicMergePatch(service, live, ports({ port: 81, name: "c" }, { port: 90 }))).toEqual(
      ports({ port: 80, name: "a" }, { port: 81, name: "c" }, { port: 90 }),
    );
    expect(live.spec.ports).toHaveLength(2);
  });

  test("$patch deletes an item, or replaces the list", () => {
    const live = ports({ port: 80 }, { port: 81 });
    expect(strategicMergePatch(service, live, ports({ port: 80, $patch: "delete" }))).toEqual(ports({ port: 81 }));
    expect(strategicMergePatch(service, live, ports({ port: 1 }, { $patch: "replace" }))).toEqual(ports({ port: 1 }));
  });

  test("$setElementOrder puts items in the order of the client", () => {
    const live = ports({ port: 80 }, { port: 81 });
    const patch = {
      spec: { "$setElementOrder/ports": [{ port: 81 }, { port: 80 }], ports: [{ port: 81, name: "x" }] },
    };
    expect(strategicMergePatch(service, live, patch)).toEqual(ports({ port: 81, name: "x" }, { port: 80 }));
  });

  test("$retainKeys drops what is not named, $deleteFromPrimitiveList removes values, null removes fields", () => {
    const live = {
      metadata: { finalizers: ["a/b", "c/d"] },
      spec: { strategy: { type: "RollingUpdate", rollingUpdate: { maxSurge: 1 } }, paused: true },
    };
    const patch = {
      metadata: { "$deleteFromPrimitiveList/finalizers": ["a/b"] },
      spec: { strategy: { $retainKeys: ["type"], type: "Recreate" }, paused: null },
    };
    expect(strategicMergePatch(deployment, live, patch)).toEqual({
      metadata: { finalizers: ["c/d"] },
      spec: { strategy: { type: "Recreate" } },
    } as never);
  });

  test("an item without its merge key is refused", () => {
    expect(() => strategicMergePatch(service, ports({ port: 80 }), ports({ name: "x" }))).toThrow(
      "does not contain declared merge key: port",
    );
  });
});

describe("JSON patches", () => {
  test("do all of RFC 6902 and leave their input alone", () => {
    const live = { a: { b: [1, 2] }, "x/y": 1 };
    const body = [
      { op: "test", path: "/a/b/0", value: 1 },
      { op: "add", path: "/a/b/-", value: 3 },
      { op: "remove", path: "/a/b/0" },
      { op: "move", from: "/x~1y", path: "/z" },
      { op: "copy", from: "/a/b", path: "/c" },
      { op: "replace", path: "/z", value: 2 },
    ];
    expect(jsonPatch(live, body)).toEqual({ a: { b: [2, 3] }, z: 2, c: [2, 3] } as never);
    expect(live).toEqual({ a: { b: [1, 2] }, "x/y": 1 });
  });

  test("an operation that cannot be done is refused", () => {
    for (const one of [
      { op: "remove", path: "/q" },
      { op: "replace", path: "/q", value: 1 },
      { op: "nope", path: "/a" },
      { op: "test", path: "/a", value: 2 },
    ]) {
      expect(() => jsonPatch({ a: 1 }, [one])).toThrow(
        "the server rejected our request due to an error in our request",
      );
    }
  });

  test("merge patches follow RFC 7386", () => {
    expect(mergePatch({ a: { b: 1, c: 2 }, d: [1] }, { a: { b: null }, d: [2], e: { f: null } })).toEqual({
      a: { c: 2 },
      d: [2],
      e: {},
    } as never);
  });
});

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { ConfigMaps, Deployments } from "../kinds.ts";
import type { KubeObject } from "../object.ts";
import { builtinScheme } from "../scheme.ts";
import { StatusError } from "../status-error.ts";
import { difference, equalSets, fromFieldsV1, intersection, isEmptySet, toFieldsV1, union } from "./field-set.ts";
import { applyServerSide, managerOfUserAgent, trackUpdate } from "./managed-fields.ts";

const scheme = builtinScheme();
const now = 0;
const config = (data: Record<string, string>): KubeObject => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name: "c", namespace: "shop" },
  data,
});
const apply = (live: KubeObject | undefined, manager: string, data: Record<string, string>, force = false) =>
  applyServerSide(scheme, ConfigMaps, live, config(data), { manager, now, force });
const owners = (object: KubeObject) =>
  Object.fromEntries(
    (object.metadata.managedFields ?? []).map((one) => [
      one.manager,
      Object.keys((one.fieldsV1?.["f:data"] ?? {}) as object),
    ]),
  );

describe("server-side apply", () => {
  test("the same configuration twice changes nothing", () => {
    const first = apply(undefined, "a", { x: "1" });
    expect(first.changed).toBe(true);
    expect(apply(first.object, "a", { x: "1" }).changed).toBe(false);
  });

  test("what a manager leaves out goes, unless another one wants it too", () => {
    const one = apply(undefined, "a", { x: "1", y: "2" }).object;
    const two = apply(one, "b", { x: "1" }).object;
    const three = apply(two, "a", {}).object;
    expect(three["data"]).toEqual({ x: "1" });
    expect(owners(three)).toEqual({ a: [], b: ["f:x"] });
  });

  test("another's field is a conflict, and force takes it", () => {
    const live = apply(undefined, "a", { x: "1", y: "2" }).object;
    expect(() => apply(live, "b", { x: "9", y: "9" })).toThrow(
      'Apply failed with 2 conflicts: conflicts with "a":\n- .data.x\n- .data.y',
    );
    const forced = apply(live, "b", { x: "9" }, true).object;
    expect(forced["data"]).toEqual({ x: "9", y: "2" });
    expect(owners(forced)).toEqual({ a: ["f:y"], b: ["f:x"] });
  });

  test("a field that the type does not have is refused, with a hint", () => {
    const body: KubeObject = {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: "d", namespace: "shop" },
      spec: { replica: 1 },
    };
    try {
      applyServerSide(scheme, Deployments, undefined, body, { manager: "a", now });
      throw new Error("was not refused");
    } catch (error) {
      if (!(error instanceof StatusError)) throw error;
      expect(error.message).toBe(
        "failed to create typed patch object (shop/d; apps/v1, Kind=Deployment): .spec.replica: field not declared in schema",
      );
      expect(error.hints[0]).toContain("spec.replicas");
    }
  });
});

describe("updates", () => {
  test("own what they change, and take it from whoever had it", () => {
    const live = apply(undefined, "a", { x: "1", y: "2" }).object;
    const next = trackUpdate(scheme, ConfigMaps, live, { ...live, data: { x: "3", y: "2" } }, { manager: "edit", now });
    expect(owners(next)).toEqual({ a: ["f:y"], edit: ["f:x"] });
  });

  test("one empty entry gives all up; an empty list keeps what there was", () => {
    const live = apply(undefined, "a", { x: "1" }).object;
    const reset = { ...live, metadata: { ...live.metadata, managedFields: [{}] } };
    expect(
      trackUpdate(scheme, ConfigMaps, live, reset, { manager: "edit", now }).metadata.managedFields,
    ).toBeUndefined();
    const { managedFields: _none, ...metadata } = live.metadata;
    const kept = trackUpdate(scheme, ConfigMaps, live, { ...live, metadata }, { manager: "edit", now });
    expect(owners(kept)).toEqual({ a: ["f:x"] });
  });

  test("the manager of a client is the first word of its User-Agent", () => {
    expect(managerOfUserAgent("kubectl/v1.32 (linux)")).toBe("kubectl");
    expect(managerOfUserAgent(undefined)).toBe("unknown");
  });
});

describe("field sets", () => {
  const fields = fc.letrec((tie) => ({
    node: fc.dictionary(
      fc.constantFrom("f:a", "f:b", 'k:{"n":1}', "."),
      fc.oneof({ maxDepth: 3 }, fc.constant({}), tie("node")),
      { maxKeys: 3 },
    ),
  })).node;
  const set = fields.map((one) => fromFieldsV1(one));

  test("survive their serialised form", () => {
    fc.assert(fc.property(set, (one) => equalSets(fromFieldsV1(toFieldsV1(one)), one)));
  });

  test("a set is what it shares with another and what it does not", () => {
    fc.assert(fc.property(set, set, (a, b) => equalSets(union(intersection(a, b), difference(a, b)), a)));
  });

  test("nothing is left of a set without itself", () => {
    fc.assert(fc.property(set, (one) => isEmptySet(difference(one, one))));
  });
});

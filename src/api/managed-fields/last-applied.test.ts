import { describe, expect, test } from "bun:test";
import type { KubeObject } from "../object.ts";
import { builtinScheme } from "../scheme.ts";
import { applyConfiguration } from "./last-applied.ts";
import { trackUpdate } from "./managed-fields.ts";

const scheme = builtinScheme();
const configMaps = scheme.byKey("configmaps")!;
const annotation = "kubectl.kubernetes.io/last-applied-configuration";
const object = (data: Record<string, string>, annotations?: Record<string, string>): KubeObject => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name: "a", namespace: "default", ...(annotations ? { annotations } : {}) },
  data,
});
const byClient = (applied: Record<string, string>, now: Record<string, string> = applied) =>
  trackUpdate(scheme, configMaps, undefined, object(now, { [annotation]: JSON.stringify(object(applied)) }), {
    manager: "kubectl-client-side-apply",
    now: 0,
  });

describe("server-side apply by kubectl of what kubectl applied before", () => {
  test("does not conflict with the same user's fields, and the annotation follows", () => {
    const { object: next } = applyConfiguration(scheme, configMaps, byClient({ k: "1" }), object({ k: "2" }), {
      manager: "kubectl",
      now: 1000,
    });
    expect(next["data"]).toEqual({ k: "2" });
    expect(next.metadata.annotations?.[annotation]).toBe(
      '{"apiVersion":"v1","data":{"k":"2"},"kind":"ConfigMap","metadata":{"name":"a","namespace":"default"}}\n',
    );
  });

  test("conflicts where the object is no longer as it was applied", () => {
    const live = byClient({ k: "1" }, { k: "edited" });
    const apply = () =>
      applyConfiguration(scheme, configMaps, live, object({ k: "2" }), { manager: "kubectl", now: 1 });
    expect(apply).toThrow(/Apply failed with 1 conflict/);
  });

  test("is for kubectl alone", () => {
    const live = byClient({ k: "1" });
    const apply = () => applyConfiguration(scheme, configMaps, live, object({ k: "2" }), { manager: "bob", now: 1 });
    expect(apply).toThrow(/Apply failed with 1 conflict/);
  });
});

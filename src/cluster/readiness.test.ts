import { describe, expect, test } from "bun:test";
import type { KubeObject } from "../api/object.ts";
import { readiness } from "./readiness.ts";

const accepted = { type: "Accepted", status: "True", reason: "Accepted", observedGeneration: 1 };
const resolved = { type: "ResolvedRefs", status: "True", reason: "ResolvedRefs", observedGeneration: 1 };
const programmed = { type: "Programmed", status: "True", reason: "Programmed", observedGeneration: 1 };

const route = (parents: unknown[]): KubeObject => ({
  apiVersion: "gateway.networking.k8s.io/v1",
  kind: "HTTPRoute",
  metadata: { name: "cart", namespace: "shop", generation: 1 },
  spec: { parentRefs: [{ name: "web" }] },
  status: { parents },
});

describe("readiness", () => {
  test("of a Deployment counts updated and available replicas of the present generation", () => {
    const deployment = (status: object) => ({
      ...{ apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "a", namespace: "b", generation: 2 } },
      ...{ spec: { replicas: 2 }, status },
    });
    const full = { observedGeneration: 2, replicas: 2, updatedReplicas: 2, availableReplicas: 2 };
    expect(readiness(deployment(full)).ready).toBe(true);
    expect(readiness(deployment({ ...full, observedGeneration: 1 })).ready).toBe(false);
    expect(readiness(deployment({ ...full, availableReplicas: 1 })).why).toBe(
      "Deployment b/a: 1 of 2 replicas are available",
    );
  });

  test("of a route needs an accepting status from every parent", () => {
    const parentRef = { group: "gateway.networking.k8s.io", kind: "Gateway", name: "web" };
    expect(readiness(route([{ parentRef, conditions: [accepted, resolved] }])).ready).toBe(true);
    expect(readiness(route([])).why).toContain("spec.parentRefs[0]: Gateway shop/web has not taken it");
  });

  test("tells a refusal, with reason and message, from something that is not known yet", () => {
    const refused = { ...resolved, status: "False", reason: "BackendNotFound", message: 'Service "x" not found' };
    const state = readiness(route([{ parentRef: { name: "web" }, conditions: [accepted, refused] }]));
    expect(state).toEqual({
      ready: false,
      refused: true,
      why: 'HTTPRoute shop/cart on Gateway shop/web: ResolvedRefs=False BackendNotFound: Service "x" not found',
    });
    expect(readiness(route([{ parentRef: { name: "web" }, conditions: [] }])).refused).toBeUndefined();
  });

  test("of a Gateway names the listener that is wrong", () => {
    const gateway = (listener: unknown[]): KubeObject => ({
      ...{
        apiVersion: "gateway.networking.k8s.io/v1",
        kind: "Gateway",
        metadata: { name: "web", namespace: "infra", generation: 1 },
      },
      spec: { listeners: [{ name: "https" }] },
      status: {
        addresses: [{ value: "10.97.0.1" }],
        conditions: [accepted, programmed],
        listeners: [{ name: "https", conditions: listener }],
      },
    });
    expect(readiness(gateway([accepted, resolved, programmed])).ready).toBe(true);
    const bad = { ...resolved, status: "False", reason: "InvalidCertificateRef", message: "no such Secret" };
    expect(readiness(gateway([accepted, bad, programmed])).why).toBe(
      "Gateway infra/web: listener https: ResolvedRefs=False InvalidCertificateRef: no such Secret",
    );
  });

  test("of kinds that nothing has to be done for is given at once", () => {
    expect(readiness({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "x" } }).ready).toBe(true);
  });
});

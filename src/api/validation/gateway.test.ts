import { describe, expect, test } from "bun:test";
import { applyDefaults } from "../defaults.ts";
import { Gateways, HTTPRoutes } from "../kinds.ts";
import type { KubeObject } from "../object.ts";
import { builtinScheme } from "../scheme.ts";
import { validateCreate, validateUpdate } from "./validate.ts";

const scheme = builtinScheme();
const metadata = { name: "x", namespace: "shop" };
const apiVersion = "gateway.networking.k8s.io/v1";
const gateway = (...listeners: object[]): KubeObject => ({
  apiVersion,
  kind: "Gateway",
  metadata,
  spec: { gatewayClassName: "c", listeners },
});
const route = (rule: object): KubeObject => ({ apiVersion, kind: "HTTPRoute", metadata, spec: { rules: [rule] } });
const problems = (resource: typeof Gateways, object: KubeObject) =>
  validateCreate(scheme, resource, applyDefaults(scheme, resource, object)).map(
    (one) => `${one.field}: ${one.message}`,
  );

describe("Gateway API rules", () => {
  test("what is in order passes", () => {
    expect(problems(Gateways, gateway({ name: "a", port: 80, protocol: "HTTP" }))).toEqual([]);
    expect(problems(HTTPRoutes, route({ backendRefs: [{ name: "s", port: 80 }] }))).toEqual([]);
  });

  test("listeners must differ and fit their protocol", () => {
    expect(
      problems(
        Gateways,
        gateway({ name: "a", port: 80, protocol: "HTTP", tls: {} }, { name: "b", port: 80, protocol: "HTTP" }),
      ),
    ).toEqual([
      `spec.listeners: Invalid value: "array": tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']`,
      'spec.listeners: Invalid value: "array": Combination of port, protocol and hostname must be unique for each listener',
      'spec.listeners[0].tls: Invalid value: "object": certificateRefs or options must be specified when mode is Terminate',
    ]);
  });

  test("bounds of the schema come first", () => {
    expect(problems(Gateways, gateway({ name: "a", port: 70000, protocol: "HTTP" }))).toEqual([
      "spec.listeners[0].port: Invalid value: 70000: spec.listeners[0].port in body should be less than or equal to 65535",
    ]);
  });

  test("filters carry the field of their type, and paths are absolute", () => {
    expect(
      problems(
        HTTPRoutes,
        route({ matches: [{ path: { type: "Exact", value: "x" } }], filters: [{ type: "RequestRedirect" }] }),
      ),
    ).toEqual([
      `spec.rules[0].matches[0].path: Invalid value: "object": value must be an absolute path and start with '/' when type one of ['Exact', 'PathPrefix']`,
      'spec.rules[0].filters[0]: Invalid value: "object": filter.requestRedirect must be specified for RequestRedirect filter.type',
    ]);
  });

  test("what was wrong before and is left alone does not hold up an update", () => {
    const old = gateway({ name: "a", port: 70000, protocol: "HTTP" });
    const next = { ...old, metadata: { ...metadata, labels: { a: "b" } } };
    expect(validateUpdate(scheme, Gateways, next, old)).toEqual([]);
  });
});

// The Gateway API's CEL rules for Gateway, GatewayClass, HTTPRoute and GRPCRoute (config/crd of gateway-api 1.6), written as
// plain functions: routes are applied often, and these cost microseconds. Messages are the rules' own. Rules on addresses'
// forms, session persistence, CORS lists and external authorization are not here yet.

import type {
  Gateway,
  GatewayListener,
  HTTPRoute,
  HTTPRouteRule,
  HTTPRouteRuleFilter,
  HTTPRouteRuleMatchPath,
} from "../generated/gateway.ts";
import type { KubeObject } from "../object.ts";
import { type FieldError, invalidValue } from "./field-error.ts";

const broken = (field: string, type: "object" | "array" | "string", message: string) =>
  invalidValue(field, type, message);

/** The rules that an object of the Gateway API breaks; none for other kinds. Its schema has been checked before. */
export function validateGatewayKinds(object: KubeObject, old?: KubeObject): FieldError[] {
  switch (object.kind) {
    case "GatewayClass":
      return old && old.spec?.controllerName !== object.spec?.controllerName
        ? [broken("spec.controllerName", "string", "Value is immutable")]
        : [];
    case "Gateway":
      return gateway(object as Gateway);
    case "HTTPRoute":
    case "GRPCRoute":
      return route(object as HTTPRoute);
    default:
      return [];
  }
}

function gateway(object: Gateway): FieldError[] {
  const errors: FieldError[] = [];
  const listeners = object.spec?.listeners ?? [];
  const path = "spec.listeners";
  const rule = (holds: boolean, message: string) => {
    if (!holds) errors.push(broken(path, "array", message));
  };
  const plain = ["HTTP", "TCP", "UDP"];
  rule(
    listeners.every((one) => !plain.includes(one.protocol) || one.tls === undefined),
    "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']",
  );
  rule(
    listeners.every(
      (one) => one.protocol !== "HTTPS" || one.tls === undefined || (one.tls.mode ?? "Terminate") === "Terminate",
    ),
    "tls mode must be Terminate for protocol HTTPS",
  );
  rule(
    listeners.every((one) => one.protocol !== "TLS" || one.tls?.mode !== undefined),
    "tls mode must be set for protocol TLS",
  );
  rule(
    listeners.every((one) => !["TCP", "UDP"].includes(one.protocol) || !one.hostname),
    "hostname must not be specified for protocols ['TCP', 'UDP']",
  );
  rule(unique(listeners.map((one) => one.name)), "Listener name must be unique within the Gateway");
  const place = (one: GatewayListener) => `${one.port}/${one.protocol}/${one.hostname ?? ""}`;
  rule(unique(listeners.map(place)), "Combination of port, protocol and hostname must be unique for each listener");
  for (const [index, one] of listeners.entries()) {
    if (!one.tls || (one.tls.mode ?? "Terminate") !== "Terminate") continue;
    const has = (one.tls.certificateRefs?.length ?? 0) > 0 || Object.keys(one.tls.options ?? {}).length > 0;
    if (!has) {
      errors.push(
        broken(
          `${path}[${index}].tls`,
          "object",
          "certificateRefs or options must be specified when mode is Terminate",
        ),
      );
    }
  }
  for (const type of ["IPAddress", "Hostname"]) {
    const values = (object.spec?.addresses ?? []).filter((one) => (one.type ?? "IPAddress") === type && one.value);
    if (!unique(values.map((one) => one.value ?? ""))) {
      errors.push(broken("spec.addresses", "array", `${type} values must be unique`));
    }
  }
  return errors;
}

const unique = (values: readonly string[]) => new Set(values).size === values.length;

function route(object: HTTPRoute): FieldError[] {
  const errors: FieldError[] = [];
  const { rules = [], parentRefs = [] } = object.spec ?? {};
  const parents = new Map<string, (typeof parentRefs)[number][]>();
  for (const ref of parentRefs) {
    const key = [ref.group ?? "", ref.kind ?? "", ref.namespace ?? "", ref.name].join("/");
    parents.set(key, [...(parents.get(key) ?? []), ref]);
  }
  for (const refs of parents.values()) {
    if (refs.length < 2) continue;
    const places = refs.map((ref) => `${ref.sectionName ?? ""}/${ref.port ?? ""}`);
    if (places.includes("/")) {
      errors.push(
        broken(
          "spec.parentRefs",
          "array",
          "sectionName or port must be specified when parentRefs includes 2 or more references to the same parent",
        ),
      );
    } else if (!unique(places)) {
      errors.push(
        broken(
          "spec.parentRefs",
          "array",
          "sectionName or port must be unique when parentRefs includes 2 or more references to the same parent",
        ),
      );
    }
  }
  if (rules.reduce((total, one) => total + (one.matches?.length ?? 0), 0) > 128) {
    errors.push(
      broken(
        "spec.rules",
        "array",
        "While 16 rules and 64 matches per rule are allowed, the total number of matches across all rules in a route must be less than 128",
      ),
    );
  }
  const names = rules.map((one) => one.name).filter((name) => name !== undefined);
  if (!unique(names)) errors.push(broken("spec.rules", "array", "Rule name must be unique within the route"));
  const http = object.kind === "HTTPRoute";
  for (const [index, one] of rules.entries()) errors.push(...routeRule(one, `spec.rules[${index}]`, http));
  return errors;
}

function routeRule(rule: HTTPRouteRule, path: string, http: boolean): FieldError[] {
  const errors: FieldError[] = [];
  const filters = rule.filters ?? [];
  const backends = rule.backendRefs ?? [];
  if (backends.length > 0 && filters.some((one) => one.requestRedirect !== undefined)) {
    errors.push(broken(path, "object", "RequestRedirect filter must not be used together with backendRefs"));
  }
  if (http) {
    const matches = rule.matches ?? [];
    const onePrefix = matches.length === 1 && matches[0]!.path?.type === "PathPrefix";
    const within = backends.flatMap((one) => one.filters ?? []);
    for (const [list, prefix] of [
      [filters, "When"],
      [within, "Within backendRefs, when"],
    ] as const) {
      for (const [kind, field] of [
        ["RequestRedirect", "requestRedirect"],
        ["URLRewrite", "urlRewrite"],
      ] as const) {
        const needs = list.some((one) => one[field]?.path?.replacePrefixMatch !== undefined);
        if (needs && !onePrefix) {
          errors.push(
            broken(
              path,
              "object",
              `${prefix} using ${kind} filter with path.replacePrefixMatch, exactly one PathPrefix match must be specified`,
            ),
          );
        }
      }
    }
    for (const [index, match] of matches.entries()) {
      if (match.path) errors.push(...matchPath(match.path, `${path}.matches[${index}].path`));
    }
    const { request, backendRequest } = rule.timeouts ?? {};
    if (
      request &&
      backendRequest &&
      milliseconds(request) !== 0 &&
      milliseconds(backendRequest) > milliseconds(request)
    ) {
      errors.push(broken(`${path}.timeouts`, "object", "backendRequest timeout cannot be longer than request timeout"));
    }
  }
  errors.push(...filterList(filters, `${path}.filters`));
  for (const [index, backend] of backends.entries()) {
    const at = `${path}.backendRefs[${index}]`;
    if ((backend.group ?? "") === "" && (backend.kind ?? "Service") === "Service" && backend.port === undefined) {
      errors.push(broken(at, "object", "Must have port for Service reference"));
    }
    errors.push(...filterList(backend.filters ?? [], `${at}.filters`));
  }
  return errors;
}

const filterFields = {
  RequestHeaderModifier: "requestHeaderModifier",
  ResponseHeaderModifier: "responseHeaderModifier",
  RequestMirror: "requestMirror",
  RequestRedirect: "requestRedirect",
  URLRewrite: "urlRewrite",
  CORS: "cors",
  ExternalAuth: "externalAuth",
  ExtensionRef: "extensionRef",
} as const;
const once = ["CORS", "RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite"];

function filterList(filters: readonly HTTPRouteRuleFilter[], path: string): FieldError[] {
  const errors: FieldError[] = [];
  const count = (type: string) => filters.filter((one) => one.type === type).length;
  if (count("RequestRedirect") > 0 && count("URLRewrite") > 0) {
    errors.push(
      broken(
        path,
        "array",
        "May specify either httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite, but not both",
      ),
    );
  }
  for (const type of once) {
    if (count(type) > 1) errors.push(broken(path, "array", `${type} filter cannot be repeated`));
  }
  for (const [index, filter] of filters.entries()) {
    const at = `${path}[${index}]`;
    for (const [type, field] of Object.entries(filterFields)) {
      const given = filter[field] !== undefined;
      if (given && filter.type !== type) {
        errors.push(broken(at, "object", `filter.${field} must be nil if the filter.type is not ${type}`));
      } else if (!given && filter.type === type) {
        errors.push(broken(at, "object", `filter.${field} must be specified for ${type} filter.type`));
      }
    }
    for (const field of ["requestRedirect", "urlRewrite"] as const) {
      const change = filter[field]?.path;
      if (!change) continue;
      for (const [type, value] of [
        ["ReplaceFullPath", "replaceFullPath"],
        ["ReplacePrefixMatch", "replacePrefixMatch"],
      ] as const) {
        const given = change[value] !== undefined;
        const pathAt = `${at}.${field}.path`;
        if (change.type === type && !given) {
          errors.push(broken(pathAt, "object", `${value} must be specified when type is set to '${type}'`));
        } else if (change.type !== type && given) {
          errors.push(broken(pathAt, "object", `type must be '${type}' when ${value} is set`));
        }
      }
    }
  }
  return errors;
}

const badParts = ["//", "/./", "/../", "%2f", "%2F", "#"];
const badEnds = ["/..", "/."];
const validPath = /^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})+$/;

function matchPath(path: HTTPRouteRuleMatchPath, at: string): FieldError[] {
  if (path.type === "RegularExpression") return [];
  const value = path.value ?? "/";
  const errors: FieldError[] = [];
  const types = "['Exact', 'PathPrefix']";
  if (!value.startsWith("/"))
    errors.push(broken(at, "object", `value must be an absolute path and start with '/' when type one of ${types}`));
  for (const bad of badParts) {
    if (value.includes(bad)) errors.push(broken(at, "object", `must not contain '${bad}' when type one of ${types}`));
  }
  for (const bad of badEnds) {
    if (value.endsWith(bad)) errors.push(broken(at, "object", `must not end with '${bad}' when type one of ${types}`));
  }
  if (!validPath.test(value)) {
    errors.push(
      broken(
        at,
        "object",
        `must only contain valid characters (matching ^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$) for types ${types}`,
      ),
    );
  }
  return errors;
}

const units: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 };

/** A Gateway API Duration (GEP-2257) in milliseconds. */
function milliseconds(text: string): number {
  let total = 0;
  for (const [, number, unit] of text.matchAll(/(\d+)(ms|h|m|s)/g)) total += Number(number) * units[unit!]!;
  return total;
}

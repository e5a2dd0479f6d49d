// The parts of Envoy's configuration that say who may come and which endpoint serves: filters that only some routes have, and what
// a cluster does beside naming endpoints. For `envoy-model.ts`. Throws for what it cannot say.

import type { ExternalAuthorization, Filter, JwtAuth } from "../../src/model/filters.ts";
import type { Backend, Endpoints, Rule } from "../../src/model/model.ts";
import type { HashKey, HealthCheck, Limits, Persistence } from "../../src/model/upstream-policies.ts";

export type Json = Record<string, unknown>;

export const type = (name: string): Json => ({ "@type": `type.googleapis.com/envoy.${name}` });
export const seconds = (milliseconds: number) => `${milliseconds / 1000}s`;
export const share = (perMillion: number) => ({ numerator: perMillion, denominator: "MILLION" });

// ---------------------------------------------------------------------------------------------- Filters of some routes

/** A filter that is off but for the rule that it is made for, whose name is part of its name. */
interface RouteFilter {
  readonly name: string;
  readonly typed_config: Json;
}

function routeFilters(rule: Rule): readonly RouteFilter[] {
  const made = rule.filters.flatMap((one) => {
    const typed_config = configured(one);
    return typed_config ? [{ name: `${rule.name}.${one.kind}`, typed_config }] : [];
  });
  const { persistence } = rule;
  return persistence ? [...made, { name: `${rule.name}.persistence`, typed_config: stateful(persistence) }] : made;
}

/** Of all rules, in our one order. */
export function policyFilters(rules: readonly Rule[]): readonly Json[] {
  const order = ["bodyLimit", "jwt", "externalAuth", "grpcWeb", "buffering", "persistence"];
  const place = ({ name }: RouteFilter) => order.indexOf(name.slice(name.lastIndexOf(".") + 1));
  return rules
    .flatMap(routeFilters)
    .sort((a, b) => place(a) - place(b))
    .map((one) => ({ ...one, disabled: true }));
}

/** What switches a rule's own filters on, for `typed_per_filter_config`. */
export function switchedOn(rule: Rule): Json {
  const on = { ...type("config.route.v3.FilterConfig"), config: {} };
  return Object.fromEntries(routeFilters(rule).map(({ name }) => [name, on]));
}

function configured(one: Filter): Json | undefined {
  const http = (name: string, more: Json) => ({ ...type(`extensions.filters.http.${name}`), ...more });
  if (one.kind === "jwt") return http("jwt_authn.v3.JwtAuthentication", jwt(one));
  if (one.kind === "externalAuth") return http("ext_authz.v3.ExtAuthz", externalAuth(one));
  if (one.kind === "grpcWeb") return http("grpc_web.v3.GrpcWeb", {});
  if (one.kind === "bodyLimit") return http("buffer.v3.Buffer", { max_request_bytes: one.bytes });
  if (one.kind === "buffering" && one.request !== undefined && one.response === undefined)
    return http("buffer.v3.Buffer", { max_request_bytes: one.request });
  return undefined;
}

function jwt({ providers, optional }: JwtAuth): Json {
  const encoded = providers.map(({ name, issuer, audiences, keys, places, forward, payloadHeader, claimHeaders }) => {
    if (!("inline" in keys) || places.length > 0) throw new Error("such a provider cannot be said");
    return [
      name,
      {
        issuer,
        audiences,
        local_jwks: { inline_string: keys.inline },
        forward,
        ...(payloadHeader !== undefined && { forward_payload_header: payloadHeader }),
        claim_to_headers: claimHeaders.map(({ claim, header }) => ({ header_name: header, claim_name: claim })),
      },
    ];
  });
  const required = [
    ...providers.map(({ name }) => ({ provider_name: name })),
    ...(optional ? [{ allow_missing: {} }] : []),
  ];
  const requires = required.length === 1 ? required[0] : { requires_any: { requirements: required } };
  return { providers: Object.fromEntries(encoded), rules: [{ match: { prefix: "/" }, requires }] };
}

function externalAuth(one: ExternalAuthorization): Json {
  const { protocol, service, timeout, body } = one;
  const listed = (field: string, names: readonly string[]) =>
    names.length > 0 ? { [field]: { patterns: names.map((exact) => ({ exact })) } } : {};
  if (protocol.kind === "http" && !protocol.prefix) throw new Error("a question of NGINX's cannot be said");
  const asked =
    protocol.kind === "grpc"
      ? {
          grpc_service: {
            envoy_grpc: { cluster_name: service, authority: protocol.authority },
            timeout: seconds(timeout),
          },
        }
      : {
          http_service: {
            server_uri: { uri: `http://${protocol.authority ?? service}`, cluster: service, timeout: seconds(timeout) },
            path_prefix: protocol.path,
            authorization_request: { headers_to_add: one.adds.map(({ name, value }) => ({ key: name, value })) },
            authorization_response: {
              ...listed("allowed_upstream_headers", one.toBackend),
              ...listed("allowed_client_headers", one.toClient),
              ...listed(
                "allowed_client_headers_on_success",
                one.toClient.filter((name) => name === "set-cookie"),
              ),
            },
          },
        };
  return {
    ...asked,
    transport_api_version: "V3",
    ...listed("allowed_headers", one.sends),
    failure_mode_allow: one.whenFailing === "pass",
    ...(one.whenFailing !== "pass" && { status_on_error: { code: one.whenFailing.status } }),
    ...(body.bytes > 0 && {
      with_request_body: { max_request_bytes: body.bytes, allow_partial_message: body.partial },
    }),
  };
}

function stateful({ carrier, fallback }: Persistence): Json {
  const state =
    carrier.kind === "header"
      ? {
          name: "envoy.http.stateful_session.header",
          typed_config: {
            ...type("extensions.http.stateful_session.header.v3.HeaderBasedSessionState"),
            name: carrier.name,
          },
        }
      : {
          name: "envoy.http.stateful_session.cookie",
          typed_config: {
            ...type("extensions.http.stateful_session.cookie.v3.CookieBasedSessionState"),
            cookie: cookieOf(carrier),
          },
        };
  return {
    ...type("extensions.filters.http.stateful_session.v3.StatefulSession"),
    session_state: state,
    strict: fallback === false,
  };
}

/** The first key that a request has decides, as ours do. */
export function hashPolicy(keys: readonly HashKey[]): readonly Json[] {
  return keys.map((key) => ({ ...hashed(key), terminal: true }));
}

function hashed(key: HashKey): Json {
  switch (key.kind) {
    case "header":
      return { header: { header_name: key.name } };
    case "query":
      return { query_parameter: { name: key.name } };
    case "source":
      return { connection_properties: { source_ip: true } };
    case "cookie":
      return { cookie: cookieOf(key) };
    case "host":
      return { header: { header_name: ":authority" } };
    case "method":
      return { header: { header_name: ":method" } };
    case "uri":
      return { header: { header_name: ":path" } };
    case "path":
    case "joined":
      throw new Error(`a hash of ${key.kind} cannot be said as one key of Envoy`);
  }
}

function cookieOf({ name, path, ttl }: { readonly name: string; readonly path?: string; readonly ttl?: number }): Json {
  return { name, ...(path !== undefined && { path }), ...(ttl !== undefined && { ttl: `${ttl}s` }) };
}

// ----------------------------------------------------------------------------------------------------------- Clusters

/** Everything of a cluster but its name, its outlier detection and how it connects. */
export function endpointPolicies(backend: Backend, endpoints: Endpoints | undefined): Json {
  const { balance, healthCheck, limits, protocol } = backend;
  const policies = { roundRobin: "ROUND_ROBIN", ringHash: "RING_HASH", maglev: "MAGLEV", random: "RANDOM" } as const;
  if (!(balance.kind in policies)) throw new Error(`balancing by ${balance.kind} cannot be said`);
  const all = endpoints?.endpoints ?? [];
  const levels = [...new Set(all.map(({ priority }) => priority ?? 0))].sort();
  return {
    lb_policy: policies[balance.kind as keyof typeof policies],
    common_lb_config: {
      healthy_panic_threshold: { value: backend.panicPercent ?? 0 },
      // What checks find is used at once, not when the next second is over.
      update_merge_window: "0s",
    },
    load_assignment: {
      cluster_name: backend.name,
      endpoints: levels.map((level) => ({
        priority: level,
        lb_endpoints: all
          .filter(({ priority }) => (priority ?? 0) === level)
          .map(({ address, port, weight }) => ({
            endpoint: { address: { socket_address: { address, port_value: port } } },
            load_balancing_weight: weight,
          })),
      })),
    },
    ...(limits && { circuit_breakers: { thresholds: [thresholds(limits)] } }),
    ...(healthCheck && { health_checks: [health(healthCheck)] }),
    ...(protocol === "h2c" && {
      typed_extension_protocol_options: {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
          ...type("extensions.upstreams.http.v3.HttpProtocolOptions"),
          explicit_http_config: { http2_protocol_options: {} },
        },
      },
    }),
  };
}

function thresholds({ connections, pending, requests, retries }: Limits): Json {
  return {
    ...(connections !== undefined && { max_connections: connections }),
    ...(pending !== undefined && { max_pending_requests: pending }),
    ...(requests !== undefined && { max_requests: requests }),
    ...(retries !== undefined && { max_retries: retries }),
  };
}

function health({ check, interval, timeout, unhealthyThreshold, healthyThreshold }: HealthCheck): Json {
  if (check.kind !== "http") throw new Error(`a check by ${check.kind} cannot be said`);
  const every = seconds(interval);
  return {
    // Clusters without traffic are checked as often as ours.
    interval: every,
    no_traffic_interval: every,
    no_traffic_healthy_interval: every,
    timeout: seconds(timeout),
    unhealthy_threshold: unhealthyThreshold,
    healthy_threshold: healthyThreshold,
    http_health_check: { path: check.path, ...(check.host !== undefined && { host: check.host }) },
  };
}

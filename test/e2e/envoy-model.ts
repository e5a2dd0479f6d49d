// The model as a static configuration of Envoy, so far as the side-by-side test needs it: routes, their filters and the upstream
// policies. Throws for what it cannot say. A test's encoder: the xDS of Fairlead, when it comes, is another thing.

import type { Filter } from "../../src/model/filters.ts";
import type { Backend, Endpoints, HeaderChange, Match, RouteTable, Rule, StringMatch } from "../../src/model/model.ts";
import type { OutlierDetection, Retry } from "../../src/model/upstream-policies.ts";
import {
  endpointPolicies,
  hashPolicy,
  type Json,
  policyFilters,
  seconds,
  share,
  switchedOn,
  type,
} from "./envoy-policies.ts";

/** `accessLog`: a file and the line of a request; every answer is written there. */
export function envoyFromModel(
  port: number,
  table: RouteTable,
  backends: readonly Backend[],
  endpoints: readonly Endpoints[],
  accessLog?: { readonly path: string; readonly text: string },
): Json {
  const filter = (name: string, kind: string, more: Json = {}) => ({
    name: `envoy.filters.http.${name}`,
    typed_config: { ...type(kind), ...more },
  });
  return {
    static_resources: {
      listeners: [
        {
          name: "main",
          address: { socket_address: { address: "127.0.0.1", port_value: port } },
          filter_chains: [
            {
              filters: [
                {
                  name: "http",
                  typed_config: {
                    ...type("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
                    stat_prefix: "main",
                    use_remote_address: true,
                    ...(accessLog && { access_log: [fileLog(accessLog)] }),
                    upgrade_configs: [{ upgrade_type: "CONNECT" }],
                    http_filters: [
                      filter("cors", "extensions.filters.http.cors.v3.Cors"),
                      filter("fault", "extensions.filters.http.fault.v3.HTTPFault"),
                      filter("local_ratelimit", "extensions.filters.http.local_ratelimit.v3.LocalRateLimit", {
                        stat_prefix: "limit",
                      }),
                      ...policyFilters(table.hosts.flatMap(({ rules }) => rules)),
                      filter("router", "extensions.filters.http.router.v3.Router"),
                    ],
                    route_config: {
                      virtual_hosts: table.hosts.map(({ names, rules }, index) => ({
                        name: `host-${index}`,
                        domains: names,
                        routes: rules.map(route),
                      })),
                    },
                  },
                },
              ],
            },
          ],
        },
      ],
      clusters: backends.map((backend) =>
        cluster(
          backend,
          endpoints.find(({ backend: name }) => name === backend.name),
        ),
      ),
    },
  };
}

function fileLog({ path, text }: { readonly path: string; readonly text: string }): Json {
  return {
    name: "file",
    typed_config: {
      ...type("extensions.access_loggers.file.v3.FileAccessLog"),
      path,
      log_format: { text_format_source: { inline_string: `${text}\n` } },
    },
  };
}

function stringMatch(match: Exclude<StringMatch, { kind: "present" }>): Json {
  if (match.kind === "regex") return { safe_regex: { regex: match.value } };
  return { [match.kind]: match.value, ...(match.ignoreCase && { ignore_case: true }) };
}

function matchOf(match: Match): Json {
  const { path } = match;
  if (match.method === "CONNECT") {
    const hosts = (match.headers ?? []).filter(({ name }) => name === "host");
    return {
      connect_matcher: {},
      headers: hosts.map(({ match: one }) => ({ name: ":authority", string_match: stringMatch(one as never) })),
    };
  }
  const valued = (name: string, one: StringMatch, present: string) =>
    one.kind === "present" ? { name, [present]: true } : { name, string_match: stringMatch(one) };
  const headers = (match.headers ?? []).map(({ name, match: one }) => valued(name, one, "present_match"));
  if (match.method) headers.push({ name: ":method", string_match: { exact: match.method } });
  const place = !path
    ? { prefix: "/" }
    : path.kind === "exact"
      ? { path: path.value }
      : path.kind === "regex"
        ? { safe_regex: { regex: path.value } }
        : path.kind === "prefix" || path.value === "/"
          ? { prefix: path.value }
          : { path_separated_prefix: path.value.replace(/\/$/, "") };
  return {
    ...place,
    ...(path?.ignoreCase && { case_sensitive: false }),
    headers,
    query_parameters: (match.query ?? []).map(({ name, match: one }) => valued(name, one, "present_match")),
  };
}

function headerOptions(change: HeaderChange, direction: "request" | "response"): Json {
  const option = (action: string) => (header: { name: string; value: string }) => ({
    header: { key: header.name, value: header.value },
    append_action: action,
  });
  return {
    [`${direction}_headers_to_add`]: [
      ...change.set.map(option("OVERWRITE_IF_EXISTS_OR_ADD")),
      ...change.add.map(option("APPEND_IF_EXISTS_OR_ADD")),
    ],
    [`${direction}_headers_to_remove`]: change.remove,
  };
}

function route(rule: Rule): Json {
  let top: Json = { name: rule.name, match: matchOf(rule.match) };
  let action: Json = {};
  const perFilter: Json = switchedOn(rule);
  for (const one of rule.filters) {
    if (one.kind === "requestHeaders") top = { ...top, ...headerOptions(one.change, "request") };
    else if (one.kind === "responseHeaders") top = { ...top, ...headerOptions(one.change, "response") };
    else if (one.kind === "rewrite") action = { ...action, ...rewrite(one) };
    else if (one.kind === "mirror")
      action["request_mirror_policies"] = [
        {
          cluster: one.backend,
          runtime_fraction: { default_value: share(one.perMillion) },
          disable_shadow_host_suffix_append: one.hostSuffix === undefined,
        },
      ];
    else if (!(`${rule.name}.${one.kind}` in perFilter)) Object.assign(perFilter, filterConfiguration(one));
  }
  if (Object.keys(perFilter).length > 0) top["typed_per_filter_config"] = perFilter;
  const does = rule.action;
  if (does.kind === "respond") {
    return {
      ...top,
      direct_response: { status: does.status, body: { inline_string: does.body ?? `${does.reason}\n` } },
    };
  }
  if (does.kind === "redirect") {
    const codes = {
      301: "MOVED_PERMANENTLY",
      302: "FOUND",
      303: "SEE_OTHER",
      307: "TEMPORARY_REDIRECT",
      308: "PERMANENT_REDIRECT",
    };
    if (does.status === 300) throw new Error("a redirect with 300 cannot be said");
    const path =
      does.path?.kind === "full"
        ? { path_redirect: does.path.value }
        : does.path?.kind === "prefix"
          ? { prefix_rewrite: does.path.value }
          : {};
    return {
      ...top,
      redirect: {
        response_code: codes[does.status],
        ...(does.scheme && { scheme_redirect: does.scheme }),
        ...(does.host && { host_redirect: does.host }),
        ...(does.port && { port_redirect: does.port }),
        ...path,
      },
    };
  }
  const clusters = does.to.map(({ target, weight }) => {
    if (!("backend" in target)) throw new Error("a share that responds cannot be said");
    return { name: target.backend, weight };
  });
  return {
    ...top,
    route: {
      ...(clusters.length === 1 ? { cluster: clusters[0]!.name } : { weighted_clusters: { clusters } }),
      ...action,
      ...(does.connect && {
        upgrade_configs: [{ upgrade_type: "CONNECT", ...(does.connect === "terminate" && { connect_config: {} }) }],
      }),
      ...(rule.timeouts?.request !== undefined && { timeout: seconds(rule.timeouts.request) }),
      ...(rule.timeouts?.stream !== undefined && {
        max_stream_duration: { max_stream_duration: seconds(rule.timeouts.stream) },
      }),
      ...(rule.timeouts?.idle !== undefined && { idle_timeout: seconds(rule.timeouts.idle) }),
      ...(rule.retry?.hedge && { hedge_policy: { hedge_on_per_try_timeout: true } }),
      ...(rule.hash && { hash_policy: hashPolicy(rule.hash) }),
      ...(rule.retry && { retry_policy: retryPolicy(rule.retry, rule.timeouts?.perTry) }),
    },
  };
}

function rewrite({ host, path }: Extract<Filter, { kind: "rewrite" }>): Json {
  return {
    ...(host && { host_rewrite_literal: host }),
    ...(path?.kind === "full" && {
      path_rewrite_policy: undefined,
      regex_rewrite: { pattern: { regex: "^.*$" }, substitution: path.value },
    }),
    ...(path?.kind === "prefix" && { prefix_rewrite: path.value }),
    ...(path?.kind === "regex" && { regex_rewrite: { pattern: { regex: path.pattern }, substitution: path.value } }),
  };
}

function filterConfiguration(one: Filter): Json {
  if (one.kind === "cors") {
    return {
      "envoy.filters.http.cors": {
        ...type("extensions.filters.http.cors.v3.CorsPolicy"),
        allow_origin_string_match: one.allowOrigins.map((origin) => stringMatch(origin as never)),
        allow_methods: one.allowMethods.join(","),
        allow_headers: one.allowHeaders.join(","),
        expose_headers: one.exposeHeaders.join(","),
        ...(one.maxAge !== undefined && { max_age: String(one.maxAge) }),
        allow_credentials: one.allowCredentials,
        forward_not_matching_preflights: one.otherPreflights === "forward",
      },
    };
  }
  if (one.kind === "fault") {
    return {
      "envoy.filters.http.fault": {
        ...type("extensions.filters.http.fault.v3.HTTPFault"),
        ...(one.when && {
          headers: one.when.map(({ name, match }) => ({ name, string_match: stringMatch(match as never) })),
        }),
        ...(one.delay && { delay: { fixed_delay: seconds(one.delay.time), percentage: share(one.delay.perMillion) } }),
        ...(one.abort && {
          abort: {
            ...("status" in one.abort ? { http_status: one.abort.status } : { grpc_status: one.abort.grpcStatus }),
            percentage: share(one.abort.perMillion),
          },
        }),
      },
    };
  }
  if (one.kind === "localRateLimit" && one.key.length === 0) {
    const all = { default_value: share(1_000_000) };
    return {
      "envoy.filters.http.local_ratelimit": {
        ...type("extensions.filters.http.local_ratelimit.v3.LocalRateLimit"),
        stat_prefix: "limit",
        status: { code: one.status },
        token_bucket: { max_tokens: one.burst, tokens_per_fill: one.requests, fill_interval: seconds(one.per) },
        filter_enabled: all,
        filter_enforced: all,
        // Ours always is.
        rate_limited_as_resource_exhausted: true,
        ...(one.tell && { enable_x_ratelimit_headers: "DRAFT_VERSION_03" }),
      },
    };
  }
  throw new Error(`the filter ${one.kind} cannot be said`);
}

function retryPolicy(retry: Retry, perTry: number | undefined): Json {
  return {
    retry_on: [...retry.on, ...(retry.statuses.length > 0 ? ["retriable-status-codes"] : [])].join(","),
    retriable_status_codes: retry.statuses,
    num_retries: retry.attempts,
    retry_back_off: { base_interval: seconds(retry.backoff.base), max_interval: seconds(retry.backoff.max) },
    ...(perTry !== undefined && { per_try_timeout: seconds(perTry) }),
    ...(retry.elsewhere && {
      retry_host_predicate: [
        {
          name: "envoy.retry_host_predicates.previous_hosts",
          typed_config: type("extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
        },
      ],
      host_selection_retry_max_attempts: 5,
    }),
  };
}

function cluster(backend: Backend, endpoints: Endpoints | undefined): Json {
  return {
    name: backend.name,
    type: "STATIC",
    connect_timeout: seconds(backend.connectTimeout),
    ...endpointPolicies(backend, endpoints),
    ...(backend.outlierDetection && { outlier_detection: outlier(backend.outlierDetection) }),
  };
}

function outlier(one: OutlierDetection): Json {
  return {
    consecutive_5xx: one.consecutive5xx,
    enforcing_consecutive_5xx: one.consecutive5xx > 0 ? 100 : 0,
    consecutive_gateway_failure: one.consecutiveGatewayErrors,
    enforcing_consecutive_gateway_failure: one.consecutiveGatewayErrors > 0 ? 100 : 0,
    enforcing_success_rate: 0,
    interval: seconds(one.interval),
    base_ejection_time: seconds(one.baseEjection),
    max_ejection_time: seconds(one.maxEjection),
    ...(one.ejectionJitter !== undefined && { max_ejection_time_jitter: seconds(one.ejectionJitter) }),
    max_ejection_percent: one.maxEjectionPercent,
    always_eject_one_host: one.alwaysEjectOne,
  };
}

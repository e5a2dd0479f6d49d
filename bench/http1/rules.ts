// The same 1,000 rules for all proxies: 500 services by path prefix, each once with a header match and once without.

import type { RouteTable, Rule } from "../../src/model/model.ts";

const from = { kind: "Bench", name: "http1", field: "" };
export const services = 500;

export function routeTable(): RouteTable {
  const rules: Rule[] = [];
  for (let index = 0; index < services; index++) {
    const path = { kind: "segments" as const, value: `/service-${index}` };
    const to = (backend: string) => ({
      kind: "forward" as const,
      to: [{ from, weight: 1, target: { backend }, filters: [] }],
    });
    rules.push({
      from,
      name: `service-${index}-v2`,
      match: { path, headers: [{ name: "x-api-version", match: { kind: "exact", value: "v2" } }] },
      filters: [],
      action: to("two"),
    });
    rules.push({ from, name: `service-${index}`, match: { path }, filters: [], action: to("one") });
  }
  return { name: "main", from, hosts: [{ names: ["bench.example.com"], rules }] };
}

/** How a proxy is set up. */
export interface Setup {
  readonly port: number;
  /** Port of the backend. */
  readonly backend: number;
  /** For the proxy's files. */
  readonly folder: string;
  /** Base name of a certificate, for TLS: `.crt`, `.key`, and both in `.pem`. */
  readonly certificate?: string | undefined;
  /** Clients without TLS speak HTTP/2. With TLS, ALPN says it. */
  readonly http2?: boolean | undefined;
  /** The backend speaks HTTP/2 without TLS, for gRPC. */
  readonly grpc?: boolean | undefined;
  /** A file for a line a request, of the fields of our default format; none: no log. NGINX only. */
  readonly log?: string | undefined;
  /** Connections to the backend that are kept; 512 unless given. */
  readonly kept?: number | undefined;
}

/** What NGINX has of the fields of Istio's default format, where ours has them, too. */
const nginxLog =
  '[$time_iso8601] "$request_method $request_uri $server_protocol" $status - via_upstream - "-" $request_length ' +
  '$body_bytes_sent $request_time $upstream_header_time "$http_x_forwarded_for" "$http_user_agent" "$request_id" ' +
  '"$http_host" "$upstream_addr" $proxy_host - $server_addr:$server_port $remote_addr:$remote_port - $uri';

/** NGINX with the same rules, one process, keep-alive to the backend, the same headers added; a log, if asked for, in large writes. */
export function nginxConfiguration({ port, backend, folder, certificate, http2, grpc, log, kept }: Setup): string {
  const pass = grpc ? "grpc_pass grpc" : "proxy_pass http";
  const set = grpc ? "grpc_set_header" : "proxy_set_header";
  const locations = Array.from(
    { length: services },
    (_, index) => `    location /service-${index}/ { ${pass}://$chosen; }`,
  );
  return `daemon off;
master_process off;
worker_processes 1;
pid ${folder}/nginx-${port}.pid;
error_log ${folder}/error.log error;
events { worker_connections 19000; }
http {
  ${log ? `log_format told '${nginxLog}';\n  access_log ${log} told buffer=64k flush=1s;` : "access_log off;"}
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  client_max_body_size 0;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  http2_max_concurrent_streams 128;
  map $http_x_api_version $chosen { v2 two; default one; }
  map $http_upgrade $connection_upgrade { default upgrade; "" ""; }
  upstream one { server 127.0.0.1:${backend}; keepalive ${kept ?? 512}; keepalive_requests 1000000000; }
  upstream two { server 127.0.0.1:${backend}; keepalive ${kept ?? 512}; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:${port}${certificate ? " ssl http2" : http2 ? " http2" : ""} backlog=4096;
${certificate ? `    ssl_certificate ${certificate}.crt;\n    ssl_certificate_key ${certificate}.key;` : ""}
    server_name bench.example.com;
    ${grpc ? "" : "proxy_http_version 1.1;\n    proxy_set_header Connection $connection_upgrade;\n    proxy_set_header Upgrade $http_upgrade;"}
    ${set} Host $http_host;
    ${set} X-Forwarded-For $proxy_add_x_forwarded_for;
    ${set} X-Forwarded-Proto $scheme;
    ${set} X-Forwarded-Host $http_host;
    ${set} X-Request-Id $request_id;
${locations.join("\n")}
    location / { return 404; }
  }
}
`;
}

/** HAProxy with the same rules as maps, one thread, the same headers added. The folder gets its maps: {@link haproxyMap}. */
export function haproxyConfiguration({ port, backend, folder, certificate, grpc }: Setup): string {
  const server = `server a 127.0.0.1:${backend} pool-max-conn 512 pool-low-conn 512${grpc ? " proto h2" : ""}`;
  return `global
  nbthread 1
  maxconn 9990
  tune.h2.max-concurrent-streams 128
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout http-keep-alive 600s
  timeout server 60s
  option forwardfor
  http-reuse always
frontend main
  bind 127.0.0.1:${port} backlog 4096${certificate ? ` ssl crt ${certificate}.pem alpn h2,http/1.1` : ""}
  http-request set-header X-Forwarded-Proto ${certificate ? "https" : "http"}
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  unique-id-format %[uuid()]
  unique-id-header X-Request-Id
  acl service path,map_beg(${folder}/services.map) -m found
  use_backend two if service { req.hdr(x-api-version) v2 }
  use_backend one if service
  default_backend none
backend one
  ${server}
backend two
  ${server}
backend none
  http-request return status 404
`;
}

/** The map that {@link haproxyConfiguration} names. */
export function haproxyMap(): string {
  return Array.from({ length: services }, (_, index) => `/service-${index}/ 1\n`).join("");
}

/** Envoy with the same rules and headers, as a static configuration in JSON. */
export function envoyConfiguration({ port, backend, certificate, grpc }: Setup): string {
  const type = (name: string) => ({ "@type": `type.googleapis.com/envoy.${name}` });
  const routes = Array.from({ length: services }, (_, index) => {
    const prefix = `/service-${index}/`;
    const v2 = { name: "x-api-version", string_match: { exact: "v2" } };
    return [
      { match: { prefix, headers: [v2] }, route: { cluster: "two" } },
      { match: { prefix }, route: { cluster: "one" } },
    ];
  }).flat();
  const file = (end: string) => ({ filename: `${certificate}.${end}` });
  const cluster = (name: string) => ({
    name,
    type: "STATIC",
    load_assignment: {
      cluster_name: name,
      endpoints: [
        {
          lb_endpoints: [{ endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: backend } } } }],
        },
      ],
    },
    ...(grpc && {
      typed_extension_protocol_options: {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
          ...type("extensions.upstreams.http.v3.HttpProtocolOptions"),
          explicit_http_config: { http2_protocol_options: {} },
        },
      },
    }),
  });
  return JSON.stringify({
    static_resources: {
      listeners: [
        {
          name: "main",
          address: { socket_address: { address: "127.0.0.1", port_value: port } },
          filter_chains: [
            {
              ...(certificate && {
                transport_socket: {
                  name: "tls",
                  typed_config: {
                    ...type("extensions.transport_sockets.tls.v3.DownstreamTlsContext"),
                    common_tls_context: {
                      alpn_protocols: ["h2", "http/1.1"],
                      tls_certificates: [{ certificate_chain: file("crt"), private_key: file("key") }],
                    },
                  },
                },
              }),
              filters: [
                {
                  name: "http",
                  typed_config: {
                    ...type("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
                    stat_prefix: "main",
                    use_remote_address: true,
                    upgrade_configs: [{ upgrade_type: "websocket" }],
                    http2_protocol_options: { max_concurrent_streams: 128 },
                    http_filters: [{ name: "router", typed_config: type("extensions.filters.http.router.v3.Router") }],
                    route_config: {
                      virtual_hosts: [
                        {
                          name: "bench",
                          domains: ["bench.example.com", "bench.example.com:*", "127.0.0.1", "127.0.0.1:*"],
                          request_headers_to_add: [{ header: { key: "x-forwarded-host", value: "%REQ(:authority)%" } }],
                          routes,
                        },
                      ],
                    },
                  },
                },
              ],
            },
          ],
        },
      ],
      clusters: [cluster("one"), cluster("two")],
    },
  });
}

// The same 1,000 rules for both proxies: 500 services by path prefix, each once with a header match and once without.

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

/**
 * NGINX with the same rules, one process, keep-alive to the backend, the same headers added, no log. With `tls`, the base name
 * of a certificate and its key, it speaks HTTP/2 over TLS.
 */
export function nginxConfiguration(port: number, backend: number, folder: string, tls?: string): string {
  const locations = Array.from(
    { length: services },
    (_, index) => `    location /service-${index}/ { proxy_pass http://$chosen; }`,
  );
  return `daemon off;
master_process off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log ${folder}/error.log error;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  keepalive_requests 1000000000;
  http2_max_concurrent_streams 128;
  map $http_x_api_version $chosen { v2 two; default one; }
  upstream one { server 127.0.0.1:${backend}; keepalive 128; keepalive_requests 1000000000; }
  upstream two { server 127.0.0.1:${backend}; keepalive 128; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:${port}${tls ? " ssl http2" : ""};
${tls ? `    ssl_certificate ${tls}.crt;\n    ssl_certificate_key ${tls}.key;` : ""}
    server_name bench.example.com;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Request-Id $request_id;
${locations.join("\n")}
    location / { return 404; }
  }
}
`;
}

/** HAProxy with the same rules as maps, one thread, HTTP/2 over TLS in front, the same headers added. `folder` gets its maps. */
export function haproxyConfiguration(port: number, backend: number, folder: string, certificate: string): string {
  return `global
  nbthread 1
  maxconn 4000
  tune.h2.max-concurrent-streams 128
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  option forwardfor
  http-reuse always
frontend main
  bind 127.0.0.1:${port} ssl crt ${certificate} alpn h2,http/1.1
  http-request set-header X-Forwarded-Proto https
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  unique-id-format %[uuid()]
  unique-id-header X-Request-Id
  acl service path,map_beg(${folder}/services.map) -m found
  use_backend two if service { req.hdr(x-api-version) v2 }
  use_backend one if service
  default_backend none
backend one
  server a 127.0.0.1:${backend} pool-max-conn 128
backend two
  server a 127.0.0.1:${backend} pool-max-conn 128
backend none
  http-request return status 404
`;
}

/** The map that {@link haproxyConfiguration} names. */
export function haproxyMap(): string {
  return Array.from({ length: services }, (_, index) => `/service-${index}/ 1\n`).join("");
}

// NGINX, HAProxy and Envoy as plain proxies in front of one port, for tests that compare with them: HTTP/1.1, or HTTP/2 on either
// side. Each runs in the foreground as one process with its defaults for parsing, which is what is compared.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Subprocess } from "bun";
import { envoyProgram } from "./envoy.ts";
import { freePort } from "./proxy-harness.ts";

export type PeerName = "nginx" | "haproxy" | "envoy";
export const peerNames: readonly PeerName[] = ["nginx", "haproxy", "envoy"];

const PATH = `${process.env["PATH"]}:/usr/sbin`;

/** The program of a peer, undefined when it is not there. */
export function peerProgram(name: PeerName): string | undefined {
  return name === "envoy" ? envoyProgram() : (Bun.which(name, { PATH }) ?? undefined);
}

/** What it speaks to its clients and to the port behind it; HTTP/2 by prior knowledge. */
export interface Spoken {
  readonly front: "http1" | "h2c";
  readonly back: "http1" | "h2c";
}

export class HttpPeer {
  readonly name: PeerName;
  readonly port: number;
  readonly process: Subprocess;

  private constructor(name: PeerName, port: number, process: Subprocess) {
    this.name = name;
    this.port = port;
    this.process = process;
  }

  /** Starts it and waits until it accepts connections. `folder` is for its files. */
  static async start(
    name: PeerName,
    to: number,
    folder: string,
    spoken: Spoken = { front: "http1", back: "http1" },
  ): Promise<HttpPeer> {
    const port = freePort();
    const file = join(folder, `${name}-${port}.${name === "envoy" ? "json" : "conf"}`);
    writeFileSync(file, configurations[name](port, to, folder, spoken));
    const command = {
      nginx: ["nginx", "-p", folder, "-c", file],
      haproxy: ["haproxy", "-db", "-f", file],
      envoy: [
        peerProgram("envoy") ?? "envoy",
        "-c",
        file,
        "--concurrency",
        "1",
        "--log-level",
        "off",
        "--use-dynamic-base-id",
      ],
    }[name];
    const child = Bun.spawn(command, { stdout: "ignore", stderr: "ignore", env: { ...process.env, PATH } });
    for (let attempt = 0; attempt < 200; attempt++) {
      if (child.exitCode !== null)
        throw new Error(`${name} ended with ${child.exitCode}; its configuration is ${file}`);
      const up = await isUp(port, spoken);
      if (up) return new HttpPeer(name, port, child);
      await Bun.sleep(50);
    }
    child.kill("SIGKILL");
    throw new Error(`${name} does not answer`);
  }

  async stop(): Promise<void> {
    this.process.kill("SIGKILL");
    await this.process.exited;
  }
}

/** Whether it answers; where it is not asked in HTTP/1.1, whether it listens. */
async function isUp(port: number, { front }: Spoken): Promise<boolean> {
  if (front === "http1") return (await fetch(`http://127.0.0.1:${port}/up`).catch(() => undefined)) !== undefined;
  const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {} } }).catch(() => undefined);
  socket?.terminate();
  return socket !== undefined;
}

/** Timeouts of a second: a peer that waits for bytes which never come shall not hold the test up. */
const configurations: Record<PeerName, (port: number, to: number, folder: string, spoken: Spoken) => string> = {
  nginx: (port, to, folder, { front, back }) => `daemon off;
master_process off;
pid ${folder}/nginx-${port}.pid;
error_log /dev/null;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/proxy; fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi; scgi_temp_path ${folder}/scgi;
  client_header_timeout 1s; client_body_timeout 1s; keepalive_timeout 5s; lingering_timeout 1s;
  upstream to { server 127.0.0.1:${to}; keepalive 16; }
  server {
    listen 127.0.0.1:${port}${front === "h2c" ? " http2" : ""};
    location / { ${back === "h2c" ? "grpc_set_header Host $http_host; grpc_pass grpc://to;" : 'proxy_pass http://to; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host; proxy_request_buffering off;'} }
  }
}
`,
  haproxy: (port, to, _folder, { back }) => `global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 1s
  timeout server 5s
  timeout http-request 1s
  http-reuse always
frontend front
  bind 127.0.0.1:${port}
  default_backend to
backend to
  server a 127.0.0.1:${to}${back === "h2c" ? " proto h2" : ""}
`,
  envoy: (port, to, _folder, { front, back }) =>
    JSON.stringify({
      static_resources: {
        listeners: [
          {
            name: "front",
            address: { socket_address: { address: "127.0.0.1", port_value: port } },
            filter_chains: [
              {
                filters: [
                  {
                    name: "http",
                    typed_config: {
                      "@type":
                        "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                      stat_prefix: "front",
                      codec_type: front === "h2c" ? "HTTP2" : "HTTP1",
                      request_timeout: "1s",
                      request_headers_timeout: "1s",
                      http_filters: [
                        {
                          name: "router",
                          typed_config: {
                            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                          },
                        },
                      ],
                      route_config: {
                        virtual_hosts: [
                          {
                            name: "all",
                            domains: ["*"],
                            routes: [{ match: { prefix: "/" }, route: { cluster: "to" } }],
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
        clusters: [
          {
            name: "to",
            type: "STATIC",
            ...(back === "h2c" && {
              typed_extension_protocol_options: {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                  "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                  explicit_http_config: { http2_protocol_options: {} },
                },
              },
            }),
            load_assignment: {
              cluster_name: "to",
              endpoints: [
                {
                  lb_endpoints: [
                    { endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: to } } } },
                  ],
                },
              ],
            },
          },
        ],
      },
    }),
};

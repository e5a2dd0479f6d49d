// NGINX, HAProxy and Envoy as plain HTTP/1.1 proxies in front of one port, for tests that compare with them. Each runs in the
// foreground as one process with its defaults for parsing, which is what is compared.

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
  static async start(name: PeerName, to: number, folder: string): Promise<HttpPeer> {
    const port = freePort();
    const file = join(folder, `${name}-${port}.${name === "envoy" ? "json" : "conf"}`);
    writeFileSync(file, configurations[name](port, to, folder));
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
      const up = await fetch(`http://127.0.0.1:${port}/up`).catch(() => undefined);
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

/** Timeouts of a second: a peer that waits for bytes which never come shall not hold the test up. */
const configurations: Record<PeerName, (port: number, to: number, folder: string) => string> = {
  nginx: (port, to, folder) => `daemon off;
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
    listen 127.0.0.1:${port};
    location / { proxy_pass http://to; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host; proxy_request_buffering off; }
  }
}
`,
  haproxy: (port, to) => `global
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
  server a 127.0.0.1:${to}
`,
  envoy: (port, to) =>
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
                      codec_type: "HTTP1",
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

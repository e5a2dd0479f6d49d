// Metrics and health over HTTP, where CoreDNS has its metrics (port 9153): `/metrics`, `/health` (the process answers) and `/ready`
// (the first state of the cluster is known). CoreDNS has the latter two on ports of their own, 8080 and 8181, which here
// would be in the way of pods on the node's network.

import type { Disposable } from "../base/disposal.ts";
import { requestPath } from "../base/request-path.ts";

export interface MetricsServerOptions {
  readonly addresses: readonly string[];
  readonly port: number;
  /** With other processes of ours (SO_REUSEPORT). */
  readonly shared: boolean;
  readonly text: () => string;
  readonly ready: () => boolean;
}

export function serveMetrics(options: MetricsServerOptions): Disposable & { readonly port: number } {
  const { text, ready } = options;
  const servers: Bun.Server<undefined>[] = [];
  let port = options.port;
  const serve = (hostname: string) =>
    Bun.serve({ hostname, port, reusePort: options.shared, development: false, fetch });
  const dispose = () => {
    for (const server of servers) void server.stop(true);
  };
  function fetch(request: Request): Response {
    const pathname = requestPath(request);
    if (request.method !== "GET" && request.method !== "HEAD") return new Response("", { status: 405 });
    if (pathname === "/metrics")
      return new Response(text(), { headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" } });
    if (pathname === "/health") return new Response("OK");
    if (pathname === "/ready") return ready() ? new Response("OK") : new Response("kubernetes", { status: 503 });
    return new Response("404 page not found\n", { status: 404 });
  }
  try {
    for (const address of options.addresses) {
      servers.push(serve(address));
      port = servers[0]?.port ?? port;
    }
  } catch (error) {
    dispose();
    throw error;
  }
  return { port, dispose };
}

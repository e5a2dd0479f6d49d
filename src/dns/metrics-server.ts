// Metrics and health over HTTP, where CoreDNS has its metrics (port 9153): `/metrics`, `/health` (the process answers) and `/ready`
// (the first state of the cluster is known). CoreDNS has the latter two on ports of their own, 8080 and 8181, which here
// would be in the way of pods on the node's network.

import type { Disposable } from "../base/disposal.ts";

export interface MetricsServerOptions {
  readonly address: string;
  readonly port: number;
  readonly text: () => string;
  readonly ready: () => boolean;
}

export function serveMetrics(options: MetricsServerOptions): Disposable & { readonly port: number } {
  const { address, port, text, ready } = options;
  const server = Bun.serve({
    hostname: address,
    port,
    fetch(request) {
      const { pathname } = new URL(request.url);
      if (request.method !== "GET" && request.method !== "HEAD") return new Response("", { status: 405 });
      if (pathname === "/metrics")
        return new Response(text(), { headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" } });
      if (pathname === "/health") return new Response("OK");
      if (pathname === "/ready") return ready() ? new Response("OK") : new Response("kubernetes", { status: 503 });
      return new Response("404 page not found\n", { status: 404 });
    },
  });
  return { port: server.port ?? port, dispose: () => void server.stop(true) };
}

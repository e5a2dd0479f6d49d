// The admin interface: HTTP on a Unix socket that only its owner may open. Shows what is in force and the figures, and takes a
// drain. Not part of the data plane: it runs on Bun's own HTTP server.

import { chmodSync, rmSync } from "node:fs";
import type { ProxyProcess } from "../proxy.ts";
import { prometheusText } from "../telemetry/prometheus.ts";

const defaultDrain = 30_000;

/** Throws an Error when the socket cannot be made. */
export function serveAdmin(proxy: ProxyProcess, drain: (deadline: number) => void): { stop(): void } {
  const path = proxy.options.admin;
  // Left behind by a process that was killed: a socket file cannot be listened on again.
  rmSync(path, { force: true });
  const server = Bun.serve({
    unix: path,
    fetch(request) {
      const url = new URL(request.url);
      const route = `${request.method} ${url.pathname}`;
      switch (route) {
        case "GET /healthz":
          return proxy.draining ? new Response("draining\n", { status: 503 }) : new Response("ok\n");
        case "GET /metrics":
          return new Response(prometheusText(proxy.runtime, proxy.listeners), {
            headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" },
          });
        case "GET /config":
          return Response.json({ version: proxy.configuration.version, ...proxy.configuration.shown() });
        case "GET /stats":
          return Response.json(stats(proxy));
        case "POST /drain": {
          const asked = Number(url.searchParams.get("deadline") ?? defaultDrain);
          if (!Number.isInteger(asked) || asked < 0) {
            return new Response("deadline is a number of milliseconds\n", { status: 400 });
          }
          drain(asked);
          return new Response("draining\n", { status: 202 });
        }
        default:
          return new Response("GET /healthz, /metrics, /config, /stats; POST /drain?deadline=MILLISECONDS\n", {
            status: 404,
          });
      }
    },
  });
  chmodSync(path, 0o600);
  return {
    stop() {
      void server.stop(true);
      rmSync(path, { force: true });
    },
  };
}

function stats(proxy: ProxyProcess): object {
  const { runtime, listeners, configuration, options } = proxy;
  const now = runtime.clock.now();
  return {
    name: options.name,
    pid: process.pid,
    uptimeSeconds: Math.round((now - proxy.startedAt) / 1000),
    connected: proxy.connected,
    draining: proxy.draining,
    version: configuration.version,
    resources: configuration.counts(),
    rejections: configuration.rejections,
    memoryBytes: process.memoryUsage.rss(),
    connections: { ...runtime.connections },
    tls: { ...listeners.tlsCounts },
    listeners: listeners.names().map((name) => ({ name, connections: listeners.connections(name) })),
    reasons: Object.fromEntries(runtime.metrics.reasons),
    retries: runtime.metrics.retries,
    backends: [...runtime.backends.all()]
      .filter((backend) => backend.known)
      .map((backend) => ({
        name: backend.name,
        connections: backend.connections,
        pending: backend.pending,
        connectFailures: backend.connectFailures,
        overflows: backend.overflows,
        endpoints: [...backend.pools].map(({ address, port, weight, active, idle }) => ({
          address,
          port,
          weight,
          active,
          idle,
        })),
      })),
  };
}

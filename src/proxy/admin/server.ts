// The admin interface: HTTP on a Unix socket that only its owner may open. Shows what is in force and the figures, takes a log level
// and a drain, and makes CPU profiles. Not part of the data plane: it runs on Bun's own HTTP server.

import { linkSync, renameSync, rmSync, statSync } from "node:fs";
import { messageOf, UserError } from "../../base/errors.ts";
import { type LogLevel, logLevels } from "../../base/log.ts";
import { resourceTypes } from "../../model/model.ts";
import type { ProxyProcess } from "../proxy.ts";
import { prometheusText } from "../telemetry/prometheus.ts";
import { cpuProfile, longestProfile } from "./profile.ts";
import { clusterViews, connectionViews, listenerViews, routeViews, seriesViews, statusView } from "./views.ts";

const defaultDrain = 30_000;
const defaultProfile = 5;
const help = `GET /healthz, /metrics, /status, /config[?type=TYPE], /listeners, /routes, /clusters, /connections, /stats, /log-level
PUT /log-level (debug, info, warn, error)
POST /drain?deadline=MILLISECONDS, /profile?seconds=SECONDS
`;

type Handler = (url: URL, request: Request) => Response | Promise<Response>;

/**
 * Listens at the proxy's admin path, also when another process of ours still does: that one is left its socket and loses the
 * name. Throws an Error when the socket cannot be made.
 */
export function serveAdmin(proxy: ProxyProcess, drain: (deadline: number) => void): { stop(): void } {
  const path = proxy.options.admin;
  const beside = `${path}.${process.pid}`;
  rmSync(beside, { force: true });
  const handlers = handlersOf(proxy, drain);
  // By the mask rather than by chmod afterwards, so that there is no moment in which others could connect.
  const mask = process.umask(0o177);
  // A profile takes longer than Bun's ten idle seconds; its types know the option for TCP only.
  const forever = { idleTimeout: 0 } as object;
  const server = Bun.serve({
    unix: beside,
    ...forever,
    async fetch(request) {
      const url = new URL(request.url);
      const handler = handlers[`${request.method} ${url.pathname}`];
      if (!handler) return new Response(help, { status: 404 });
      try {
        return await handler(url, request);
      } catch (error) {
        return new Response(`${messageOf(error)}\n`, { status: error instanceof UserError ? 409 : 500 });
      }
    },
  });
  process.umask(mask);
  const { ino } = statSync(beside);
  linkSync(beside, `${beside}.new`);
  renameSync(`${beside}.new`, path);
  rmSync(beside, { force: true });
  return {
    stop() {
      void server.stop(true);
      if (statSync(path, { throwIfNoEntry: false })?.ino === ino) rmSync(path, { force: true });
    },
  };
}

function handlersOf(proxy: ProxyProcess, drain: (deadline: number) => void): Readonly<Record<string, Handler>> {
  return {
    // A proxy that refuses some lives: who ends it for that makes it worse for all.
    "GET /healthz": () =>
      proxy.draining
        ? new Response("draining\n", { status: 503 })
        : new Response(proxy.runtime.overload.short ? "ok, but memory is short\n" : "ok\n"),
    "GET /metrics": () =>
      new Response(prometheusText(proxy.runtime, proxy.listeners), {
        headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" },
      }),
    "GET /status": () => Response.json(statusView(proxy)),
    "GET /config": (url) => {
      const type = url.searchParams.get("type");
      const shown = proxy.configuration.shown();
      if (type === null) return Response.json({ version: proxy.configuration.version, ...shown });
      if (type in shown) return Response.json({ version: proxy.configuration.version, [type]: shown[type] });
      return new Response(`type is one of ${resourceTypes.join(", ")}\n`, { status: 400 });
    },
    "GET /listeners": () => Response.json(listenerViews(proxy)),
    "GET /routes": () => Response.json(routeViews(proxy)),
    "GET /clusters": () => Response.json(clusterViews(proxy)),
    "GET /connections": () => Response.json(connectionViews(proxy)),
    "GET /stats": () => Response.json(stats(proxy)),
    "GET /log-level": () => new Response(`${proxy.logLevel.current}\n`),
    "PUT /log-level": async (_url, request) => {
      const level = (await request.text()).trim();
      if (!logLevels.includes(level as LogLevel))
        return new Response(`a log level is ${logLevels.join(", ")}\n`, { status: 400 });
      proxy.logLevel.current = level as LogLevel;
      return new Response(`${level}\n`);
    },
    "POST /drain": (url) => {
      const deadline = wholeNumber(url, "deadline", defaultDrain, Number.MAX_SAFE_INTEGER);
      if (deadline === undefined) return new Response("deadline is a number of milliseconds\n", { status: 400 });
      drain(deadline);
      return new Response("draining\n", { status: 202 });
    },
    "POST /profile": async (url) => {
      const seconds = wholeNumber(url, "seconds", defaultProfile, longestProfile);
      if (!seconds) return new Response(`seconds is a number from 1 to ${longestProfile}\n`, { status: 400 });
      return Response.json(await cpuProfile(seconds));
    },
  };
}

function wholeNumber(url: URL, name: string, otherwise: number, most: number): number | undefined {
  const value = Number(url.searchParams.get(name) ?? otherwise);
  return Number.isInteger(value) && value >= 0 && value <= most ? value : undefined;
}

function stats(proxy: ProxyProcess): object {
  const { runtime, listeners } = proxy;
  return {
    ...statusView(proxy),
    tls: { ...listeners.tlsCounts },
    listeners: listeners.names().map((name) => ({ name, connections: listeners.connections(name) })),
    reasons: Object.fromEntries(runtime.metrics.reasons),
    retries: runtime.metrics.retries,
    routes: seriesViews(proxy),
    backends: clusterViews(proxy),
  };
}

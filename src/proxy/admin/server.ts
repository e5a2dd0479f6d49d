// The admin interface: HTTP on a Unix socket that only its owner may open. Shows what is in force and the figures, takes a log level
// and a drain, and makes CPU profiles. Not part of the data plane: it runs on Bun's own HTTP server.

import { type LogLevel, logLevels } from "../../base/log.ts";
import { resourceTypes } from "../../model/model.ts";
import type { ProxyProcess } from "../proxy.ts";
import { prometheusText } from "../telemetry/prometheus.ts";
import { inPieces, listOfPieces, listPieces, objectPieces, prometheusType } from "./in-pieces.ts";
import { type AdminHandlers, type AdminSocket, answerDrain, listenAdmin, wholeNumber } from "./listen.ts";
import { cpuProfile, longestProfile } from "./profile.ts";
import {
  clusterViews,
  connectionViews,
  listenerViews,
  relayViews,
  routeViews,
  type StatsView,
  seriesViews,
  statusView,
} from "./views.ts";

type Drain = (deadline: number, successors: number | undefined) => void;

const defaultProfile = 5;
const help = `GET /healthz, /metrics, /status, /config[?type=TYPE], /listeners, /routes, /clusters, /connections, /stats, /log-level
PUT /log-level (debug, info, warn, error)
POST /drain?deadline=MILLISECONDS[&successors=NUMBER], /profile?seconds=SECONDS, /reopen-logs
`;

/** Throws an Error when the socket cannot be made. */
export function serveAdmin(proxy: ProxyProcess, drain: Drain): AdminSocket {
  return listenAdmin(proxy.options.admin, handlersOf(proxy, drain), help);
}

function handlersOf(proxy: ProxyProcess, drain: Drain): AdminHandlers {
  return {
    // A proxy that refuses some lives: who ends it for that makes it worse for all.
    "GET /healthz": () =>
      proxy.draining
        ? new Response("draining\n", { status: 503 })
        : new Response(proxy.runtime.overload.short ? "ok, but memory is short\n" : "ok\n"),
    "GET /metrics": () => inPieces(prometheusText(proxy.runtime, proxy.listeners), prometheusType),
    "GET /status": () => Response.json(statusView(proxy)),
    "GET /config": (url) => {
      const type = url.searchParams.get("type");
      const types = resourceTypes.filter((one) => type === null || one === type);
      if (types.length === 0) return new Response(`type is one of ${resourceTypes.join(", ")}\n`, { status: 400 });
      const { configuration } = proxy;
      const lists = types.map((one) => [one, configuration.shown(one)] as const);
      return inPieces(objectPieces({ version: configuration.version }, lists));
    },
    "GET /listeners": () => inPieces(listPieces(listenerViews(proxy))),
    "GET /routes": () => inPieces(listPieces(routeViews(proxy))),
    "GET /clusters": () => inPieces(clusters(proxy)),
    "GET /connections": () => inPieces(listPieces(connectionViews(proxy))),
    "GET /stats": () => inPieces(stats(proxy)),
    "GET /log-level": () => new Response(`${proxy.logLevel.current}\n`),
    "PUT /log-level": async (_url, request) => {
      const level = (await request.text()).trim();
      if (!logLevels.includes(level as LogLevel))
        return new Response(`a log level is ${logLevels.join(", ")}\n`, { status: 400 });
      proxy.logLevel.current = level as LogLevel;
      return new Response(`${level}\n`);
    },
    "POST /drain": (url) => answerDrain(url, drain),
    "POST /reopen-logs": () => {
      proxy.runtime.telemetry.files.reopen();
      return new Response("reopened\n");
    },
    "POST /profile": async (url) => {
      const seconds = wholeNumber(url, "seconds", defaultProfile, longestProfile);
      if (!seconds) return new Response(`seconds is a number from 1 to ${longestProfile}\n`, { status: 400 });
      return Response.json(await cpuProfile(seconds));
    },
  };
}

function stats(proxy: ProxyProcess): Iterable<string> {
  const { runtime, listeners } = proxy;
  const fields: Omit<StatsView, "relays" | "routes" | "backends"> = {
    ...statusView(proxy),
    tls: { ...listeners.tlsCounts },
    listeners: listeners.names().map((name) => ({ name, connections: listeners.connections(name) })),
    reasons: Object.fromEntries(runtime.metrics.reasons),
    retries: runtime.metrics.retries,
  };
  return objectPieces(fields, [
    ["relays", listPieces(relayViews(proxy))],
    ["routes", listPieces(seriesViews(proxy))],
    ["backends", clusters(proxy)],
  ]);
}

const clusters = (proxy: ProxyProcess): Iterable<string> =>
  listOfPieces(clusterViews(proxy), ({ endpoints, ...fields }) =>
    objectPieces(fields, [["endpoints", listPieces(endpoints)]]),
  );

// Paths that name no resource: health, version, discovery, OpenAPI.

import { aggregatedDiscovery, apiGroup, apiGroupList, apiResourceList, apiVersions } from "../api/discovery.ts";
import { openapiDocument, openapiIndex } from "../api/openapi.ts";
import type { Scheme } from "../api/scheme.ts";
import { sendObject, sendText } from "./answer.ts";
import type { Context } from "./context.ts";
import type { Exchange } from "./exchange.ts";
import { negotiate, parseAccept } from "./negotiate.ts";
import { methodNotAllowed } from "./resource-requests.ts";
import { versionInfo } from "./version.ts";

/** Paths that everybody may read, without an identity: liveness and the version. */
export function isPublic(path: string): boolean {
  return isHealth(path) || path === "/version" || path === "/version/";
}

const isHealth = (path: string) => /^\/(healthz|livez|readyz)(\/|$)/.test(path);

export function servePath(context: Context, exchange: Exchange): void {
  const path = exchange.path.replace(/(.)\/+$/, "$1");
  if (exchange.method !== "GET" && exchange.method !== "HEAD") throw methodNotAllowed();
  if (isHealth(path)) {
    sendText(exchange, 200, "ok");
  } else if (path === "/version") {
    exchange.send(200, "application/json", `${JSON.stringify(versionInfo, null, 2)}\n`);
  } else if (path === "/openapi/v3" || path.startsWith("/openapi/v3/")) {
    serveOpenapi(context, exchange, path.slice("/openapi/v3/".length));
  } else serveDiscovery(context, exchange, path);
}

function serveDiscovery(context: Context, exchange: Exchange, path: string): void {
  const { scheme } = context.store;
  if (path === "/api" || path === "/apis") {
    const aggregated = acceptsAggregated(exchange);
    if (aggregated) {
      const document = { ...aggregatedDiscovery(scheme, path === "/api" ? "api" : "apis") };
      const type = `application/json;g=apidiscovery.k8s.io;v=${aggregated};as=APIGroupDiscoveryList`;
      const body = { ...document, apiVersion: `apidiscovery.k8s.io/${aggregated}` };
      exchange.send(200, type, `${JSON.stringify(body)}\n`, { vary: "Accept" });
      return;
    }
  }
  const document = discoveryDocument(scheme, exchange, path);
  if (document) sendObject(exchange, negotiate(exchange.header("accept"), exchange.query), document);
  else sendText(exchange, 404, "404 page not found\n");
}

function discoveryDocument(
  scheme: Scheme,
  exchange: Exchange,
  path: string,
): Readonly<Record<string, unknown>> | undefined {
  if (path === "/api") return apiVersions(exchange.header("host") ?? "");
  if (path === "/apis") return apiGroupList(scheme);
  const core = /^\/api\/([^/]+)$/.exec(path);
  if (core) return apiResourceList(scheme, "", core[1]!);
  const [, group, version] = /^\/apis\/([^/]+)(?:\/([^/]+))?$/.exec(path) ?? [];
  if (group === undefined) return undefined;
  return version === undefined ? apiGroup(scheme, group) : apiResourceList(scheme, group, version);
}

/** The version of the aggregated document that a client prefers to the plain ones (KEP-3352). */
function acceptsAggregated(exchange: Exchange): "v2" | "v2beta1" | undefined {
  for (const { type, parameters } of parseAccept(exchange.header("accept") ?? "")) {
    if (type !== "application/json" && type !== "*/*") continue;
    if (parameters["as"] === undefined) return undefined;
    const { as, g, v } = parameters;
    if (as !== "APIGroupDiscoveryList" || g !== "apidiscovery.k8s.io") continue;
    if (v === "v2" || v === "v2beta1") return v;
  }
  return undefined;
}

const documents = new WeakMap<Scheme, { generation: number; texts: Map<string, string> }>();

/** Documents are large and rarely asked for: made when they are, and kept until the scheme changes. */
function serveOpenapi(context: Context, exchange: Exchange, name: string): void {
  const { scheme } = context.store;
  let kept = documents.get(scheme);
  if (kept?.generation !== scheme.generation) {
    kept = { generation: scheme.generation, texts: new Map() };
    documents.set(scheme, kept);
  }
  let text = kept.texts.get(name);
  if (text === undefined) {
    const document = name === "" ? openapiIndex(scheme) : openapiDocument(scheme, name);
    if (!document) {
      sendText(exchange, 404, "404 page not found\n");
      return;
    }
    text = JSON.stringify(document);
    kept.texts.set(name, text);
  }
  exchange.send(200, "application/json", text);
}

// The HTTP front of the SQLite store: TLS, who asks, whether they may, and which part answers. Everything it does can be
// done through the Store too; see docs/apiserver.md for where to start reading.

import type { IncomingMessage, ServerResponse } from "node:http";
import { StatusError } from "../api/status-error.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import { addressWithPort } from "../base/ip.ts";
import { type Logger, silentLogger } from "../base/log.ts";
import type { SqliteStore } from "../store/sqlite/sqlite-store.ts";
import { sendError, sendText } from "./answer.ts";
import { type Attributes, authorize, forbiddenMessage } from "./authorize.ts";
import { bootstrapPolicy } from "./bootstrap-policy.ts";
import { type Context, storedRules, type Target } from "./context.ts";
import { Exchange } from "./exchange.ts";
import {
  bearerToken,
  type CertificateSubject,
  type Identity,
  identityOfCertificate,
  type Token,
  Tokens,
} from "./identity.ts";
import { listen, type TlsMaterial } from "./listen.ts";
import { isPublic, servePath } from "./path-requests.ts";
import type { PodLogs } from "./pod-logs.ts";
import { servePostedBinding, specialSubresources } from "./pod-requests.ts";
import { type ResourceRequest, requestInfo } from "./request-info.ts";
import { methodNotAllowed, serveResource } from "./resource-requests.ts";
import { impersonated, isReview, serveReview } from "./reviews.ts";

export interface ApiServerOptions {
  readonly store: SqliteStore;
  readonly tls: TlsMaterial;
  readonly tokens?: readonly Token[];
  readonly address: string;
  /** 0 takes a free one. Of several, the first that is free. */
  readonly port: number | readonly number[];
  readonly podLogs?: PodLogs;
  readonly clock?: Clock;
  readonly log?: Logger;
}

export interface ApiServer {
  /** `https://127.0.0.1:6443`. */
  readonly url: string;
  readonly port: number;
  /** Ends all connections, watches too. */
  stop(): Promise<void>;
}

/** Starts serving. Throws a UserError when every port is taken. */
export async function startApiServer(options: ApiServerOptions): Promise<ApiServer> {
  const { store, tls, tokens = [], address, port, clock = systemClock, log = silentLogger } = options;
  const context: Context = {
    store,
    clock,
    log,
    podLogs: options.podLogs,
    tokens: new Tokens(tokens),
    rules: storedRules(store),
  };
  await bootstrapPolicy(store);
  const listener = await listen({ tls, address, port, log }, (request, response, subject) => {
    void serve(context, request, response, subject);
  });
  return {
    url: `https://${addressWithPort(address, listener.port)}`,
    port: listener.port,
    stop: () => listener.stop(),
  };
}

async function serve(
  context: Context,
  request: IncomingMessage,
  response: ServerResponse,
  subject: CertificateSubject | undefined,
): Promise<void> {
  const exchange = new Exchange(request, response);
  try {
    await answer(context, exchange, subject);
  } catch (error) {
    sendError(exchange, error, context.log);
  }
}

async function answer(context: Context, exchange: Exchange, subject: CertificateSubject | undefined): Promise<void> {
  if (isPublic(exchange.path)) return servePath(context, exchange);
  const caller = authenticate(context, exchange, subject);
  if (!caller) throw new StatusError(401, "Unauthorized", "Unauthorized");
  const identity = impersonated(exchange, caller, context);

  const info = requestInfo(exchange.method, exchange.path, exchange.query);
  const attributes: Attributes =
    info.kind === "path"
      ? { verb: info.verb, path: info.path }
      : { ...info, resource: info.plural, subresource: info.subresource, namespace: info.namespace, name: info.name };
  if (!authorize(identity, attributes, context.rules).allowed) throw refused(identity, attributes);
  if (info.kind === "path") return servePath(context, exchange);
  return serveResourceRequest(context, exchange, info, identity);
}

function authenticate(
  context: Context,
  exchange: Exchange,
  subject: CertificateSubject | undefined,
): Identity | undefined {
  const token = bearerToken(exchange.header("authorization"));
  const certificate = identityOfCertificate(subject);
  if (certificate) return certificate;
  return token === undefined ? undefined : context.tokens.identityOf(token);
}

function refused(identity: Identity, attributes: Attributes): StatusError {
  const message = forbiddenMessage(identity, attributes);
  if (attributes.path !== undefined) return new StatusError(403, "Forbidden", `forbidden: ${message}`, {});
  const { group, resource = "", name } = attributes;
  const what = group ? `${resource}.${group}` : resource;
  return new StatusError(
    403,
    "Forbidden",
    `${what} ${name ? `${JSON.stringify(name)} ` : ""}is forbidden: ${message}`,
    {
      ...(name ? { name } : {}),
      ...(group ? { group } : {}),
      kind: resource,
    },
  );
}

async function serveResourceRequest(
  context: Context,
  exchange: Exchange,
  info: ResourceRequest,
  identity: Identity,
): Promise<void> {
  const { scheme } = context.store;
  const { group, version, plural, namespace, name, subresource, verb } = info;
  const resource = scheme.byPath(group, version, plural);
  if (!resource) {
    const known = scheme.resources().some((one) => one.group === group && one.version === version);
    if (known) throw noSuchResource();
    return sendText(exchange, 404, "404 page not found\n");
  }
  const inNamespace = resource.scope === "Namespaced" ? namespace : undefined;
  // A cluster resource under a namespace's path, or one object of a namespaced resource without its namespace.
  if (resource.scope === "Cluster" && namespace !== undefined && plural !== "namespaces") throw noSuchResource();
  if (resource.scope === "Namespaced" && namespace === undefined && name !== undefined) throw noSuchResource();
  if (info.rest.length > 0) throw noSuchResource();
  const target: Target = { resource, namespace: inNamespace, name, subresource, verb, identity };

  if (isReview(resource)) return serveReview(context, exchange, target);
  if (subresource !== undefined) {
    if (!resource.subresources?.includes(subresource)) throw noSuchResource();
    const special = specialSubresources[`${plural}/${subresource}`];
    if (special && group === "") return special(context, exchange, target, name!);
    if (!["status", "scale", "ephemeralcontainers", "resize"].includes(subresource)) {
      throw new StatusError(501, "Unknown", `${plural}/${subresource} is not served here`);
    }
    return serveResource(context, exchange, target);
  }
  if (!resource.verbs.includes(verb)) throw methodNotAllowed();
  if (verb === "create" && resource.scope === "Namespaced" && namespace === undefined) throw methodNotAllowed();
  if (verb === "deletecollection" && resource.scope === "Namespaced" && namespace === undefined)
    throw methodNotAllowed();
  if (group === "" && plural === "bindings") return servePostedBinding(context, exchange, target);
  return serveResource(context, exchange, target);
}

function noSuchResource(): StatusError {
  return new StatusError(404, "NotFound", "the server could not find the requested resource", {});
}

// The curl lines that `up` prints: made from the routes and the addresses, so that they work when pasted. Pure.

import type { KubeObject } from "../api/object.ts";
import { hostLiteral } from "../base/ip.ts";

export interface CurlOptions {
  readonly gateways: readonly KubeObject[];
  readonly routes: readonly KubeObject[];
  /** Whether a Gateway's certificate was issued by the stack's own authority. */
  readonly issuedHere: (gateway: KubeObject) => boolean;
  /** The authority's certificate, for curl's `--cacert`. */
  readonly authority: string;
  /** Where a port really is (loopback may have to move it). */
  readonly effectivePort: (port: number) => number;
  readonly limit: number;
}

interface Listener {
  readonly name: string;
  readonly port: number;
  readonly protocol: string;
  readonly hostname?: string;
}

/** One line a rule of a route, on the first listener that takes the route; at most `limit`. */
export function curlLines(options: CurlOptions): string[] {
  const lines: string[] = [];
  for (const route of options.routes) {
    const attached = attachment(route, options);
    if (!attached) continue;
    for (const rule of route.spec?.rules ?? [{}]) {
      if (lines.length >= options.limit) return lines;
      lines.push(curlLine(route, rule.matches?.[0] ?? {}, attached, options));
    }
  }
  return lines;
}

interface Attachment {
  readonly gateway: KubeObject;
  readonly listener: Listener;
  readonly address: string;
}

function attachment(route: KubeObject, options: CurlOptions): Attachment | undefined {
  for (const ref of route.spec?.parentRefs ?? []) {
    const namespace = ref.namespace ?? route.metadata.namespace;
    const gateway = options.gateways.find(
      ({ metadata }) => metadata.name === ref.name && metadata.namespace === namespace,
    );
    const address = gateway?.status?.addresses?.[0]?.value;
    if (!gateway || !address) continue;
    const taken = (status: {
      parentRef: { name: string; sectionName?: string };
      conditions?: { type: string; status: string }[];
    }) =>
      status.parentRef.name === ref.name &&
      status.parentRef.sectionName === ref.sectionName &&
      status.conditions?.some(({ type, status }) => type === "Accepted" && status === "True");
    if (!route.status?.parents?.some(taken)) continue;
    const listeners: Listener[] = (gateway.spec.listeners as Listener[]).filter(
      (listener) =>
        (listener.protocol === "HTTP" || listener.protocol === "HTTPS") &&
        (ref.sectionName === undefined || ref.sectionName === listener.name) &&
        (ref.port === undefined || ref.port === listener.port) &&
        allows(gateway, listener, route),
    );
    const listener = listeners.find(({ protocol }) => protocol === "HTTPS") ?? listeners[0];
    if (listener) return { gateway, listener, address };
  }
  return undefined;
}

/** Whether the listener took a route at all (its count says so) and, when it asks for the same namespace, could take this one. */
function allows(
  gateway: KubeObject,
  listener: Listener & { allowedRoutes?: { namespaces?: { from?: string } } },
  route: KubeObject,
): boolean {
  const status = gateway.status?.listeners?.find(({ name }: { name: string }) => name === listener.name);
  if (status && status.attachedRoutes === 0) return false;
  const from = listener.allowedRoutes?.namespaces?.from ?? "Same";
  return from !== "Same" || gateway.metadata.namespace === route.metadata.namespace;
}

interface RouteMatch {
  readonly path?: { readonly type?: string; readonly value?: string };
  readonly method?: string;
  readonly headers?: readonly { readonly type?: string; readonly name: string; readonly value: string }[];
  readonly queryParams?: readonly { readonly type?: string; readonly name: string; readonly value: string }[];
}

function curlLine(
  route: KubeObject,
  match: RouteMatch,
  { gateway, listener, address }: Attachment,
  options: CurlOptions,
): string {
  const host = concreteHost(route.spec?.hostnames?.[0] ?? listener.hostname);
  const secure = listener.protocol === "HTTPS";
  const port = options.effectivePort(listener.port);
  const words = ["curl"];
  if (secure) words.push(options.issuedHere(gateway) ? `--cacert ${quote(options.authority)}` : "--insecure");
  const literal = hostLiteral(address);
  if (host) words.push(`--resolve ${quote(`${host}:${port}:${literal}`)}`);
  if (match.method && match.method !== "GET") words.push(`--request ${match.method}`);
  for (const { type, name, value } of match.headers ?? []) {
    if (type === undefined || type === "Exact") words.push(`--header ${quote(`${name}: ${value}`)}`);
  }
  const query = (match.queryParams ?? [])
    .filter(({ type }) => type === undefined || type === "Exact")
    .map(({ name, value }) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`)
    .join("&");
  const path = match.path?.type === "RegularExpression" ? "/" : (match.path?.value ?? "/");
  const authority = `${host ?? literal}${port === (secure ? 443 : 80) ? "" : `:${port}`}`;
  words.push(quote(`${secure ? "https" : "http"}://${authority}${path}${query ? `?${query}` : ""}`));
  return words.join(" ");
}

/** A name that a pattern takes: `*.example.com` → `www.example.com`. */
function concreteHost(pattern: string | undefined): string | undefined {
  return pattern === undefined || pattern === "*" ? undefined : pattern.replace(/^\*\./, "www.");
}

/** Shell quoting, only where the text needs it. */
function quote(text: string): string {
  return /^[\w./:=@%+,-]+$/.test(text) ? text : `'${text.replace(/'/g, "'\\''")}'`;
}

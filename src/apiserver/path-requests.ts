// Paths that name no resource: health, version, discovery, OpenAPI.

import { apiVersionOf, type Resource } from "../api/resource.ts";
import { sendObject, sendText } from "./answer.ts";
import type { Context } from "./context.ts";
import type { Exchange } from "./exchange.ts";
import { negotiate } from "./negotiate.ts";
import { methodNotAllowed } from "./resource-requests.ts";
import { versionInfo } from "./version.ts";

/** Paths that everybody may read, without an identity: liveness and the version. */
export function isPublic(path: string): boolean {
  return /^\/(healthz|livez|readyz)(\/|$)/.test(path) || path === "/version" || path === "/version/";
}

export function servePath(context: Context, exchange: Exchange): void {
  const path = exchange.path.replace(/(.)\/+$/, "$1");
  if (exchange.method !== "GET" && exchange.method !== "HEAD") throw methodNotAllowed();
  if (/^\/(healthz|livez|readyz)(\/|$)/.test(path)) return sendText(exchange, 200, "ok");
  if (path === "/version") {
    return exchange.send(200, "application/json", `${JSON.stringify(versionInfo, null, 2)}\n`);
  }
  const accepted = negotiate(exchange.header("accept"), exchange.query);
  const resources = context.store.scheme.resources();
  if (path === "/api")
    return sendObject(exchange, accepted, { kind: "APIVersions", versions: ["v1"], serverAddressByClientCIDRs: [] });
  const groups = new Map<string, Set<string>>();
  for (const one of resources) {
    const versions = groups.get(one.group) ?? new Set();
    groups.set(one.group, versions.add(one.version));
  }
  const groupOf = (name: string) => {
    const versions = [...groups.get(name)!].map((version) => ({ groupVersion: `${name}/${version}`, version }));
    return { name, versions, preferredVersion: versions[0] };
  };
  if (path === "/apis") {
    return sendObject(exchange, accepted, {
      kind: "APIGroupList",
      apiVersion: "v1",
      groups: [...groups.keys()].filter((name) => name).map(groupOf),
    });
  }
  const match = /^\/(?:api|apis\/([^/]+))(?:\/([^/]+))?$/.exec(path);
  if (match) {
    const [, group = "", version] = match;
    if (version === undefined && groups.has(group))
      return sendObject(exchange, accepted, { kind: "APIGroup", apiVersion: "v1", ...groupOf(group) });
    if (version !== undefined && groups.get(group)?.has(version)) {
      const found = resources.filter((one) => one.group === group && one.version === version);
      return sendObject(exchange, accepted, {
        kind: "APIResourceList",
        apiVersion: "v1",
        groupVersion: apiVersionOf({ group, version }),
        resources: found.flatMap(discovered),
      });
    }
  }
  sendText(exchange, 404, "404 page not found\n");
}

function discovered(resource: Resource): object[] {
  const { plural, singular, kind, verbs, shortNames, categories } = resource;
  return [
    {
      name: plural,
      singularName: singular,
      namespaced: resource.scope === "Namespaced",
      kind,
      verbs,
      shortNames,
      categories,
    },
  ];
}

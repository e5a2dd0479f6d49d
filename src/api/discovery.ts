// Discovery documents as pure functions of the scheme: /api, /apis, one group, one group version (APIResourceList), and the
// aggregated form that kubectl reads (apidiscovery.k8s.io/v2).

import { createHash } from "node:crypto";
import { compact, type Json } from "./data.ts";
import { apiVersionOf, resourceKey } from "./resource.ts";
import { compareVersions, type Scheme, type SchemeEntry } from "./scheme.ts";

/** The order in which the API server lists its groups; others follow by name. */
const groupOrder = [
  "",
  "apiregistration.k8s.io",
  "apps",
  "events.k8s.io",
  "authentication.k8s.io",
  "authorization.k8s.io",
  "autoscaling",
  "batch",
  "certificates.k8s.io",
  "networking.k8s.io",
  "policy",
  "rbac.authorization.k8s.io",
  "storage.k8s.io",
  "admissionregistration.k8s.io",
  "apiextensions.k8s.io",
  "scheduling.k8s.io",
  "coordination.k8s.io",
  "discovery.k8s.io",
];

interface Group {
  readonly name: string;
  readonly versions: readonly string[];
}

/** Served groups in order, each with its versions, the preferred one first. */
export function groupsOf(scheme: Scheme): readonly Group[] {
  const versions = new Map<string, Set<string>>();
  for (const { group, version } of scheme.resources()) {
    const set = versions.get(group) ?? new Set();
    versions.set(group, set.add(version));
  }
  const place = (name: string) => {
    const index = groupOrder.indexOf(name);
    return index < 0 ? groupOrder.length : index;
  };
  return [...versions]
    .map(([name, set]) => ({ name, versions: [...set].sort(compareVersions) }))
    .sort((a, b) => place(a.name) - place(b.name) || (a.name < b.name ? -1 : 1));
}

/** /api. `address` is what clients outside of the cluster use, `host:port`. */
export function apiVersions(address: string): Json {
  return {
    kind: "APIVersions",
    versions: ["v1"],
    serverAddressByClientCIDRs: [{ clientCIDR: "0.0.0.0/0", serverAddress: address }],
  };
}

function groupDocument({ name, versions }: Group): Json {
  const all = versions.map((version) => ({ groupVersion: `${name}/${version}`, version }));
  return { name, versions: all, preferredVersion: all[0] };
}

/** /apis. */
export function apiGroupList(scheme: Scheme): Json {
  return {
    kind: "APIGroupList",
    apiVersion: "v1",
    groups: groupsOf(scheme)
      .filter((group) => group.name !== "")
      .map(groupDocument),
  };
}

/** /apis/GROUP; undefined when it is not served. */
export function apiGroup(scheme: Scheme, name: string): Json | undefined {
  const group = groupsOf(scheme).find((one) => one.name === name && name !== "");
  return group && { kind: "APIGroup", apiVersion: "v1", ...groupDocument(group) };
}

function entriesOf(scheme: Scheme, group: string, version: string): readonly SchemeEntry[] {
  return scheme
    .entries()
    .filter(({ resource }) => resource.group === group && resource.version === version)
    .sort((a, b) => (a.resource.plural < b.resource.plural ? -1 : 1));
}

/** The hash by which clients tell that objects are stored in another version than before. */
function storageVersionHash(scheme: Scheme, entry: SchemeEntry): string | undefined {
  if (!entry.resource.verbs.includes("list") || entry.resource.plural === "componentstatuses") return undefined;
  const stored = scheme.byKey(resourceKey(entry.resource)) ?? entry.resource;
  const text = `${stored.group}/${stored.version}/${stored.kind}`;
  return createHash("sha256").update(text).digest().subarray(0, 8).toString("base64");
}

/** /api/v1 or /apis/GROUP/VERSION; undefined when nothing is served there. */
export function apiResourceList(scheme: Scheme, group: string, version: string): Json | undefined {
  const entries = entriesOf(scheme, group, version);
  if (entries.length === 0) return undefined;
  const resources = entries.flatMap((entry) => {
    const { resource } = entry;
    const namespaced = resource.scope === "Namespaced";
    return [
      compact({
        name: resource.plural,
        singularName: resource.singular,
        namespaced,
        kind: resource.kind,
        verbs: resource.verbs,
        shortNames: resource.shortNames,
        categories: resource.categories,
        storageVersionHash: storageVersionHash(scheme, entry),
      }),
      ...entry.subresources.map((sub) =>
        compact({
          name: `${resource.plural}/${sub.name}`,
          singularName: "",
          namespaced,
          group: sub.group,
          version: sub.version,
          kind: sub.kind,
          verbs: sub.verbs,
        }),
      ),
    ];
  });
  return { kind: "APIResourceList", apiVersion: "v1", groupVersion: apiVersionOf({ group, version }), resources };
}

/** The aggregated document of /api or /apis (`apidiscovery.k8s.io/v2`). */
export function aggregatedDiscovery(scheme: Scheme, root: "api" | "apis"): Json {
  const items = groupsOf(scheme)
    .filter((group) => (group.name === "") === (root === "api"))
    .map((group) => ({
      metadata: group.name === "" ? { creationTimestamp: null } : { name: group.name, creationTimestamp: null },
      versions: group.versions.map((version) => ({
        version,
        freshness: "Current",
        resources: entriesOf(scheme, group.name, version).map(aggregatedResource),
      })),
    }));
  return { kind: "APIGroupDiscoveryList", apiVersion: "apidiscovery.k8s.io/v2", metadata: {}, items };
}

function aggregatedResource({ resource, subresources }: SchemeEntry): Json {
  return compact({
    resource: resource.plural,
    responseKind: { group: resource.group, version: resource.version, kind: resource.kind },
    scope: resource.scope,
    singularResource: resource.singular,
    verbs: resource.verbs,
    shortNames: resource.shortNames,
    categories: resource.categories,
    subresources: subresources.length
      ? subresources.map((sub) => ({
          subresource: sub.name,
          responseKind: {
            group: sub.group ?? resource.group,
            version: sub.version ?? resource.version,
            kind: sub.kind,
          },
          verbs: sub.verbs,
        }))
      : undefined,
  });
}

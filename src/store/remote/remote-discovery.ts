// Which resources an API server has, read from its discovery documents (aggregated where it has them, KEP-3352).

import type { Resource } from "../../api/resource.ts";
import type { ApiClient } from "./api-client.ts";

interface AggregatedResource {
  readonly resource: string;
  readonly responseKind?: { readonly kind: string };
  readonly scope: Resource["scope"];
  readonly singularResource?: string;
  readonly verbs: readonly string[];
  readonly shortNames?: readonly string[];
  readonly categories?: readonly string[];
  readonly subresources?: readonly { readonly subresource: string }[];
}
interface Aggregated {
  readonly kind: string;
  readonly items?: readonly {
    readonly metadata?: { readonly name?: string };
    readonly versions: readonly { readonly version: string; readonly resources?: readonly AggregatedResource[] }[];
  }[];
}
interface ResourceList {
  readonly resources?: readonly {
    readonly name: string;
    readonly singularName?: string;
    readonly namespaced: boolean;
    readonly kind: string;
    readonly verbs: readonly string[];
    readonly shortNames?: readonly string[];
    readonly categories?: readonly string[];
  }[];
}
interface Groups {
  readonly groups?: readonly { readonly name: string; readonly versions: readonly { readonly version: string }[] }[];
}

const accept =
  "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

/** All resources of a server, the preferred version of each group first. */
export async function discover(client: ApiClient): Promise<readonly Resource[]> {
  const [core, groups] = await Promise.all([
    client.json<Aggregated>("GET", "/api", { accept }),
    client.json<Aggregated & Groups>("GET", "/apis", { accept }),
  ]);
  if (core.items && groups.items) return [core, groups].flatMap(fromAggregated);
  const versions = (groups.groups ?? []).flatMap(({ name, versions }) =>
    versions.map(({ version }) => ({ group: name, version })),
  );
  const lists = await Promise.all(
    [{ group: "", version: "v1" }, ...versions].map(async ({ group, version }) => {
      const path = group === "" ? `/api/${version}` : `/apis/${group}/${version}`;
      return fromList(group, version, await client.json<ResourceList>("GET", path));
    }),
  );
  return lists.flat();
}

function fromAggregated(document: Aggregated): Resource[] {
  return (document.items ?? []).flatMap(({ metadata, versions }) =>
    versions.flatMap(({ version, resources }) =>
      (resources ?? []).map((one) => ({
        group: metadata?.name ?? "",
        version,
        kind: one.responseKind?.kind ?? "",
        plural: one.resource,
        singular: one.singularResource ?? "",
        scope: one.scope,
        verbs: one.verbs,
        ...(one.shortNames ? { shortNames: one.shortNames } : {}),
        ...(one.categories ? { categories: one.categories } : {}),
        ...(one.subresources ? { subresources: one.subresources.map(({ subresource }) => subresource) } : {}),
      })),
    ),
  );
}

function fromList(group: string, version: string, list: ResourceList): Resource[] {
  const all = list.resources ?? [];
  return all
    .filter((one) => !one.name.includes("/"))
    .map((one) => {
      const prefix = `${one.name}/`;
      const subresources = all
        .filter(({ name }) => name.startsWith(prefix))
        .map(({ name }) => name.slice(prefix.length));
      return {
        group,
        version,
        kind: one.kind,
        plural: one.name,
        singular: one.singularName ?? "",
        scope: one.namespaced ? ("Namespaced" as const) : ("Cluster" as const),
        verbs: one.verbs,
        ...(one.shortNames ? { shortNames: one.shortNames } : {}),
        ...(one.categories ? { categories: one.categories } : {}),
        ...(subresources.length > 0 ? { subresources } : {}),
      };
    });
}

// CustomResourceDefinitions at work: a stored definition adds its kind to the scheme, its status says so (NamesAccepted,
// Established), and its end takes the kind away again (apiextensions-apiserver controllers establish, status, finalizer;
// here they run in the writer's turn instead of behind a queue).

import { setConditions } from "../../api/conditions.ts";
import { objectMetaSchema } from "../../api/definitions.ts";
import type { KubeObject } from "../../api/object.ts";
import type { Resource } from "../../api/resource.ts";
import { schemaOfCustomResource } from "../../api/schema.ts";
import type { Column, Scheme, Subresource } from "../../api/scheme.ts";
import { instanceCleanup } from "./delete.ts";
import { begin, type Engine } from "./engine.ts";
import type { Change } from "./history.ts";
import type { Watches } from "./watches.ts";

const definitions = "customresourcedefinitions.apiextensions.k8s.io";

/** The verbs of a custom resource, in discovery's order. */
const verbs = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"] as const;

interface Names {
  readonly plural: string;
  readonly singular?: string;
  readonly kind: string;
  readonly listKind?: string;
  readonly shortNames?: readonly string[];
  readonly categories?: readonly string[];
}

interface Version {
  readonly name: string;
  readonly served: boolean;
  readonly storage: boolean;
  readonly schema?: { readonly openAPIV3Schema?: Readonly<Record<string, unknown>> };
  readonly subresources?: {
    readonly status?: object;
    readonly scale?: {
      readonly specReplicasPath: string;
      readonly statusReplicasPath: string;
      readonly labelSelectorPath?: string;
    };
  };
  readonly additionalPrinterColumns?: readonly {
    readonly name: string;
    readonly type: string;
    readonly format?: string;
    readonly description?: string;
    readonly priority?: number;
    readonly jsonPath: string;
  }[];
  readonly selectableFields?: readonly { readonly jsonPath: string }[];
}

export class CustomResources {
  readonly #watches: Watches;
  /** Keys that a stored definition serves (and not the built-in table). */
  readonly #served = new Set<string>();

  constructor(watches: Watches) {
    this.#watches = watches;
  }

  /** Serves what is stored; at the start. */
  serveStored(engine: Engine): void {
    if (!engine.scheme.byKey(definitions)) return;
    for (const definition of engine.objects.of(definitions).list()) this.#serve(engine, definition);
  }

  /** Follows commits: definitions that came, changed or went, and the last instance of one that is going. */
  committed(engine: Engine, changes: readonly Change[]): void {
    for (const change of changes) {
      if (change.resource === definitions) {
        if (change.type === "DELETED") this.#withdraw(engine, keyOf(change.object));
        else this.#serve(engine, change.object);
      } else if (change.type === "DELETED" && this.#served.has(change.resource)) this.#finish(engine, change.resource);
    }
  }

  #serve(engine: Engine, definition: KubeObject): void {
    const key = keyOf(definition);
    // A kind of the built-in table (the Gateway API's) stays as it is; its definition may be stored beside it.
    if (engine.scheme.byKey(key) && !this.#served.has(key)) {
      this.#establish(engine, definition);
      return;
    }
    if (this.#served.has(key)) engine.scheme.remove(key);
    addDefinition(engine.scheme, definition);
    this.#served.add(key);
    this.#establish(engine, definition);
  }

  #withdraw(engine: Engine, key: string): void {
    if (!this.#served.delete(key)) return;
    engine.scheme.remove(key);
    this.#watches.endAll(key);
  }

  /** Writes what is true now into the definition's status. */
  #establish(engine: Engine, definition: KubeObject): void {
    const names = definition.spec.names as Names;
    const status = definition.status ?? {};
    const stored = ((definition.spec.versions ?? []) as Version[]).filter((one) => one.storage).map((one) => one.name);
    const conditions = setConditions(
      status.conditions ?? [],
      [
        { type: "NamesAccepted", status: "True", reason: "NoConflicts", message: "no conflicts found" },
        {
          type: "Established",
          status: "True",
          reason: "InitialNamesAccepted",
          message: "the initial names have been accepted",
        },
      ],
      engine.clock.now(),
    );
    const transaction = begin(engine);
    transaction.put(definitions, {
      ...definition,
      status: {
        ...status,
        conditions: conditions.map(({ type, status: state, lastTransitionTime, reason, message }) => ({
          type,
          status: state,
          lastTransitionTime,
          reason,
          message,
        })),
        acceptedNames: names,
        storedVersions: [...new Set([...(status.storedVersions ?? []), ...stored])],
      },
    });
    engine.objects.commit(transaction.changes());
  }

  /** Ends a definition that only waited for its instances. */
  #finish(engine: Engine, key: string): void {
    const transaction = begin(engine);
    const definition = transaction.get(definitions, undefined, key);
    if (!definition?.metadata.deletionTimestamp || engine.objects.of(key).size > 0) return;
    const finalizers = (definition.metadata.finalizers ?? []).filter((one) => one !== instanceCleanup);
    if (finalizers.length > 0) {
      transaction.put(definitions, { ...definition, metadata: { ...definition.metadata, finalizers } });
    } else transaction.remove(definitions, undefined, key);
    this.committed(engine, engine.objects.commit(transaction.changes()));
  }
}

/** Adds all served versions of a definition to a scheme. */
export function addDefinition(scheme: Scheme, definition: KubeObject): void {
  const { group, scope } = definition.spec as { group: string; scope: Resource["scope"] | "Namespaced" };
  const names = definition.spec.names as Names;
  for (const version of (definition.spec.versions ?? []) as Version[]) {
    if (!version.served) continue;
    const subresources = subresourcesOf(version, names);
    const resource: Resource = {
      group,
      version: version.name,
      kind: names.kind,
      plural: names.plural,
      singular: names.singular ?? names.kind.toLowerCase(),
      scope,
      verbs,
      ...(names.shortNames?.length ? { shortNames: names.shortNames } : {}),
      ...(names.categories?.length ? { categories: names.categories } : {}),
      ...(subresources.length > 0 ? { subresources: subresources.map((one) => one.name) } : {}),
    };
    const columns = columnsOf(version);
    scheme.add(resource, schemaOfCustomResource(version.schema?.openAPIV3Schema, objectMetaSchema()), {
      storage: version.storage,
      listKind: names.listKind ?? `${names.kind}List`,
      subresources,
      ...(columns ? { columns } : {}),
      ...(version.subresources?.scale ? { scale: version.subresources.scale } : {}),
      ...(version.selectableFields ? { selectableFields: version.selectableFields.map((one) => one.jsonPath) } : {}),
    });
  }
}

function subresourcesOf(version: Version, names: Names): Subresource[] {
  const found: Subresource[] = [];
  const subVerbs = ["get", "patch", "update"];
  if (version.subresources?.status) {
    found.push({ name: "status", kind: names.kind, verbs: subVerbs });
  }
  if (version.subresources?.scale) {
    found.push({ name: "scale", kind: "Scale", group: "autoscaling", version: "v1", verbs: subVerbs });
  }
  return found;
}

function columnsOf(version: Version): Column[] | undefined {
  const columns = version.additionalPrinterColumns;
  if (!columns?.length) return undefined;
  return columns.map((one) => ({
    name: one.name,
    type: one.type,
    format: one.format ?? "",
    priority: one.priority ?? 0,
    jsonPath: one.jsonPath,
    ...(one.description ? { description: one.description } : {}),
  }));
}

function keyOf(definition: KubeObject): string {
  return `${definition.spec.names.plural}.${definition.spec.group}`;
}

// The Store on a real API server. Semantics are the server's; this translates calls and answers, keeps watches going, and
// gives out frozen objects as `sqlite/` does.

import type { KubeObject } from "../../api/object.ts";
import { apiVersionOf, type Resource } from "../../api/resource.ts";
import { isStatusReason } from "../../api/status-error.ts";
import { type Clock, systemClock } from "../../base/clock.ts";
import type { Disposable } from "../../base/disposal.ts";
import { type Logger, silentLogger } from "../../base/log.ts";
import { deepFreeze } from "../freeze.ts";
import type {
  DeleteOptions,
  ListOptions,
  ObjectKey,
  Patch,
  ResourceVersion,
  Snapshot,
  Store,
  StoreEvent,
  WatchOptions,
  WriteOptions,
} from "../store.ts";
import { ApiClient, type RequestOptions } from "./api-client.ts";
import type { Connection } from "./kubeconfig.ts";
import { discover } from "./remote-discovery.ts";
import { remoteWatch } from "./remote-watch.ts";

export interface RemoteStoreOptions {
  readonly connection: Connection;
  /** How this program names itself; also its field manager where a write names none. */
  readonly userAgent?: string;
  readonly clock?: Clock;
  readonly log?: Logger;
}

/** Connects and reads which resources there are. Throws a StatusError when that fails. */
export async function openRemoteStore(options: RemoteStoreOptions): Promise<RemoteStore> {
  const client = new ApiClient(options.connection, options.userAgent ?? "fairlead");
  return new RemoteStore(client, await discover(client), options);
}

const patchTypes = {
  json: "application/json-patch+json",
  merge: "application/merge-patch+json",
  strategic: "application/strategic-merge-patch+json",
  apply: "application/apply-patch+yaml",
} as const;

interface WireList {
  readonly metadata: {
    readonly resourceVersion: string;
    readonly continue?: string;
    readonly remainingItemCount?: number;
  };
  readonly items: readonly KubeObject[] | null;
}

export class RemoteStore implements Store {
  readonly #client: ApiClient;
  readonly #clock: Clock;
  readonly #log: Logger;
  #resources: readonly Resource[];

  constructor(client: ApiClient, resources: readonly Resource[], options: Pick<RemoteStoreOptions, "clock" | "log">) {
    this.#client = client;
    this.#resources = resources;
    this.#clock = options.clock ?? systemClock;
    this.#log = options.log ?? silentLogger;
  }

  resources(): readonly Resource[] {
    return this.#resources;
  }

  /** Reads anew which resources there are, after a CustomResourceDefinition came or went. */
  async refreshResources(): Promise<readonly Resource[]> {
    this.#resources = await discover(this.#client);
    return this.#resources;
  }

  /** Any other path of the server (its tables, its logs). Throws StatusErrors. */
  request(method: string, path: string, options: RequestOptions = {}): Promise<Response> {
    return this.#client.send(method, path, options);
  }

  async get(key: ObjectKey): Promise<KubeObject | undefined> {
    try {
      return deepFreeze(await this.#client.json<KubeObject>("GET", pathOf(key)));
    } catch (error) {
      if (isStatusReason(error, "NotFound")) return undefined;
      throw error;
    }
  }

  async list(resource: Resource, options: ListOptions = {}): Promise<Snapshot> {
    const { namespace, ...query } = options;
    const list = await this.#client.json<WireList>("GET", collectionPath(resource, namespace), { query });
    const types = { apiVersion: apiVersionOf(resource), kind: resource.kind };
    const { resourceVersion, continue: next, remainingItemCount } = list.metadata;
    return {
      resourceVersion,
      items: (list.items ?? []).map((item) => deepFreeze({ ...types, ...item })),
      ...(next ? { continue: next } : {}),
      ...(remainingItemCount === undefined ? {} : { remainingItemCount }),
    };
  }

  watch(
    resource: Resource,
    from: ResourceVersion,
    on: (event: StoreEvent) => void,
    options: WatchOptions = {},
  ): Disposable {
    const { namespace, labelSelector, fieldSelector, onError } = options;
    return remoteWatch({
      client: this.#client,
      path: collectionPath(resource, namespace),
      query: { labelSelector, fieldSelector },
      from,
      clock: this.#clock,
      log: this.#log,
      on,
      onError,
    });
  }

  create(resource: Resource, object: KubeObject, options: WriteOptions = {}): Promise<KubeObject> {
    const path = collectionPath(resource, object.metadata.namespace);
    return this.#write("POST", path, JSON.stringify(object), "application/json", options);
  }

  update(resource: Resource, object: KubeObject, options: WriteOptions = {}): Promise<KubeObject> {
    const { name, namespace } = object.metadata;
    const path = pathOf({ resource, name, ...(namespace ? { namespace } : {}) }, options.subresource);
    return this.#write("PUT", path, JSON.stringify(object), "application/json", options);
  }

  patch(key: ObjectKey, patch: Patch, options: WriteOptions = {}): Promise<KubeObject> {
    const apply = patch.type === "apply" ? { fieldManager: patch.fieldManager, force: patch.force } : {};
    const path = pathOf(key, options.subresource);
    return this.#write("PATCH", path, JSON.stringify(patch.body), patchTypes[patch.type], options, apply);
  }

  async delete(key: ObjectKey, options: DeleteOptions = {}): Promise<KubeObject> {
    const before = await this.get(key);
    const { dryRun, ...rest } = options;
    const body = { apiVersion: "v1", kind: "DeleteOptions", ...rest, ...(dryRun ? { dryRun: ["All"] } : {}) };
    const path = pathOf(key);
    const answer = await this.#client.json<KubeObject>("DELETE", path, { body: JSON.stringify(body) });
    // A Status says that the object is gone; then it went as it was.
    return answer.kind === "Status" && before ? before : deepFreeze(answer);
  }

  async #write(
    method: string,
    path: string,
    body: string,
    contentType: string,
    options: WriteOptions,
    more: RequestOptions["query"] = {},
  ): Promise<KubeObject> {
    const query = {
      fieldManager: options.fieldManager,
      fieldValidation: options.fieldValidation,
      dryRun: options.dryRun ? "All" : undefined,
      ...more,
    };
    const response = await this.#client.send(method, path, { query, body, contentType });
    for (const warning of warningsOf(response.headers.get("warning"))) options.onWarning?.(warning);
    return deepFreeze((await response.json()) as KubeObject);
  }
}

function collectionPath(resource: Resource, namespace?: string): string {
  const base = resource.group === "" ? `/api/${resource.version}` : `/apis/${resource.group}/${resource.version}`;
  const inNamespace =
    resource.scope === "Namespaced" && namespace ? `/namespaces/${encodeURIComponent(namespace)}` : "";
  return `${base}${inNamespace}/${resource.plural}`;
}

function pathOf(key: ObjectKey, subresource?: string): string {
  const path = `${collectionPath(key.resource, key.namespace)}/${encodeURIComponent(key.name)}`;
  return subresource ? `${path}/${subresource}` : path;
}

/** The texts of a Warning header (`299 - "…", 299 - "…"`). */
export function warningsOf(header: string | null): readonly string[] {
  const texts: string[] = [];
  for (const match of (header ?? "").matchAll(/\b\d{3} \S+ "((?:[^"\\]|\\.)*)"/g)) {
    texts.push(match[1]!.replace(/\\(.)/g, "$1"));
  }
  return texts;
}

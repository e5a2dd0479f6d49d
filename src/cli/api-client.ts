// The command line's view of a stack's API server: words that users type become resources, and calls give the answer with
// what the server warns of. The HTTP itself, credentials and discovery are `store/remote`'s.

import { existsSync } from "node:fs";
import { apiVersionOf, parseApiVersion, type Resource, resourceKey } from "../api/resource.ts";
import { StatusError } from "../api/status-error.ts";
import { UserError } from "../base/errors.ts";
import { stackPaths } from "../cluster/stack.ts";
import { ApiClient, warningsOf } from "../store/remote/api-client.ts";
import { readKubeconfig } from "../store/remote/kubeconfig.ts";
import { discover } from "../store/remote/remote-discovery.ts";

interface Answer {
  readonly code: number;
  readonly body: Record<string, unknown>;
  readonly warnings: readonly string[];
}

export class StackClient {
  readonly #client: ApiClient;
  #resources: Promise<readonly Resource[]> | undefined;

  private constructor(client: ApiClient) {
    this.#client = client;
  }

  /** The client of a stack that runs. Throws a UserError when there is none of that name. */
  static of(name: string): StackClient {
    const { kubeconfig } = stackPaths(name);
    if (!existsSync(kubeconfig)) {
      throw new UserError(`no stack "${name}" is running`, { remedy: "Start one with: fairlead up" });
    }
    return new StackClient(new ApiClient(readKubeconfig(kubeconfig), "fairlead"));
  }

  /** One call. Throws a StatusError for every answer that is no success, and when nobody answers. */
  async call(
    method: string,
    path: string,
    options: { body?: unknown; type?: string; accept?: string } = {},
  ): Promise<Answer> {
    const response = await this.#client.send(method, path, {
      ...(options.accept ? { accept: options.accept } : {}),
      ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
      ...(options.type ? { contentType: options.type } : {}),
    });
    const body = (await response.json()) as Record<string, unknown>;
    return { code: response.status, body, warnings: warningsOf(response) };
  }

  /** All resources that the server serves, at the version it prefers. */
  resources(): Promise<readonly Resource[]> {
    this.#resources ??= discover(this.#client);
    return this.#resources;
  }

  /** The resource that a user means by `svc`, `services`, `httproute`, `deployments.apps`. */
  async resourceNamed(word: string): Promise<Resource> {
    const [name, ...group] = word.toLowerCase().split(".");
    const fits = ({ plural, singular, shortNames }: Resource) =>
      plural === name || singular === name || shortNames?.includes(name!);
    const all = await this.resources();
    const found = all.find((resource) => fits(resource) && (group.length === 0 || resource.group === group.join(".")));
    if (found) return found;
    throw new UserError(`the server has no resource type "${word}"`, {
      remedy: "The types it has are listed by: kubectl api-resources",
    });
  }

  /** The resource of an object's apiVersion and kind. */
  async resourceOf(object: { readonly apiVersion: string; readonly kind: string }): Promise<Resource | undefined> {
    const { group, version } = parseApiVersion(object.apiVersion);
    const same = (one: Resource) => one.kind === object.kind && one.group === group && one.version === version;
    return (await this.resources()).find(same);
  }
}

export function isNotFound(error: unknown): boolean {
  return error instanceof StatusError && error.code === 404;
}

/** The URL path of a kind's collection, or of one object in it. */
export function apiPath(resource: Resource, namespace: string | undefined, name?: string): string {
  const base = `${resource.group === "" ? "/api" : "/apis"}/${apiVersionOf(resource)}`;
  const inside = resource.scope === "Namespaced" && namespace !== undefined;
  const scope = inside ? `/namespaces/${encodeURIComponent(namespace)}` : "";
  return `${base}${scope}/${resource.plural}${name === undefined ? "" : `/${encodeURIComponent(name)}`}`;
}

/** `service`, `gateway.gateway.networking.k8s.io`: how kubectl names the type of what it wrote. */
export function typeName({ singular, group }: Resource): string {
  return resourceKey({ plural: singular, group });
}

// A thin client of a stack's API server: paths in, JSON out, the server's own errors as they are. What kubectl does with
// caches and heuristics is done here by asking discovery once.

import { existsSync, readFileSync } from "node:fs";
import { parse } from "yaml";
import { parseApiVersion } from "../api/resource.ts";
import { UserError } from "../base/errors.ts";
import { stackPaths } from "../cluster/stack.ts";

export interface ApiResource {
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly singular: string;
  readonly kind: string;
  readonly namespaced: boolean;
  readonly shortNames: readonly string[];
}

interface Answer {
  readonly code: number;
  readonly body: Record<string, unknown>;
  readonly warnings: readonly string[];
}

/** A failure as the server put it, with its HTTP status. */
export class ApiFailure extends UserError {
  readonly code: number;
  readonly reason: string;

  /** What the server says beside the error: the field that was probably meant. */
  readonly warnings: readonly string[];

  constructor(code: number, body: Record<string, unknown>, warnings: readonly string[]) {
    super(String(body.message ?? `the API server answered ${code}`));
    this.code = code;
    this.reason = String(body.reason ?? "");
    this.warnings = warnings;
  }
}

export class ApiClient {
  readonly #server: string;
  readonly #tls: { ca: string; cert: string; key: string };
  #resources: Promise<readonly ApiResource[]> | undefined;

  private constructor(server: string, tls: { ca: string; cert: string; key: string }) {
    this.#server = server;
    this.#tls = tls;
  }

  /** The client of a stack that runs. Throws a UserError when there is none of that name. */
  static ofStack(name: string): ApiClient {
    const { kubeconfig } = stackPaths(name);
    if (!existsSync(kubeconfig)) {
      throw new UserError(`no stack "${name}" is running`, { remedy: "Start one with: fairlead up" });
    }
    const config = parse(readFileSync(kubeconfig, "utf8"));
    const cluster = config.clusters[0].cluster;
    const user = config.users[0].user;
    const decode = (text: string) => Buffer.from(text, "base64").toString("utf8");
    return new ApiClient(cluster.server, {
      ca: decode(cluster["certificate-authority-data"]),
      cert: decode(user["client-certificate-data"]),
      key: decode(user["client-key-data"]),
    });
  }

  /** One call. Throws an {@link ApiFailure} for an answer of 400 and above. */
  async call(
    method: string,
    path: string,
    options: { body?: unknown; type?: string; accept?: string } = {},
  ): Promise<Answer> {
    let response: Response;
    try {
      response = await fetch(`${this.#server}${path}`, {
        method,
        tls: this.#tls,
        headers: {
          accept: options.accept ?? "application/json",
          ...(options.body === undefined ? {} : { "content-type": options.type ?? "application/json" }),
        },
        ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
      });
    } catch {
      throw new UserError(`the API server at ${this.#server} does not answer`, {
        remedy: "Is the stack running? See: fairlead status",
      });
    }
    const text = await response.text();
    let body: Record<string, unknown>;
    try {
      body = JSON.parse(text) as Record<string, unknown>;
    } catch {
      body = { message: text };
    }
    const warnings = [...(response.headers.get("warning") ?? "").matchAll(/299 - "((?:[^"\\]|\\.)*)"/g)].map(
      ([, warning]) => warning!.replace(/\\(.)/g, "$1"),
    );
    if (response.status >= 400) throw new ApiFailure(response.status, body, warnings);
    return { code: response.status, body, warnings };
  }

  /** All resources that the server serves, at the version it prefers. */
  resources(): Promise<readonly ApiResource[]> {
    this.#resources ??= this.#discover();
    return this.#resources;
  }

  /** The resource that a user means by `svc`, `services`, `httproute`, `deployments.apps`. */
  async resourceNamed(word: string): Promise<ApiResource> {
    const [name, ...group] = word.toLowerCase().split(".");
    const all = await this.resources();
    const fits = (resource: ApiResource) =>
      resource.plural === name || resource.singular === name || resource.shortNames.includes(name!);
    const found = all.find((resource) => fits(resource) && (group.length === 0 || resource.group === group.join(".")));
    if (found) return found;
    throw new UserError(`the server has no resource type "${word}"`, {
      remedy: "The types it has are listed by: kubectl api-resources",
    });
  }

  /** The resource of an object's apiVersion and kind. */
  async resourceOf(object: { readonly apiVersion: string; readonly kind: string }): Promise<ApiResource | undefined> {
    const { group, version } = parseApiVersion(object.apiVersion);
    const same = (resource: ApiResource) =>
      resource.kind === object.kind && resource.group === group && resource.version === version;
    return (await this.resources()).find(same);
  }

  async #discover(): Promise<readonly ApiResource[]> {
    const accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    const lists = await Promise.all(["/api", "/apis"].map((path) => this.call("GET", path, { accept })));
    const found: ApiResource[] = [];
    for (const { body } of lists) {
      for (const group of (body as unknown as DiscoveryList).items) {
        for (const { version, resources } of group.versions) {
          for (const resource of resources) {
            found.push({
              group: group.metadata.name ?? "",
              version,
              plural: resource.resource,
              singular: resource.singularResource,
              kind: resource.responseKind.kind,
              namespaced: resource.scope === "Namespaced",
              shortNames: resource.shortNames ?? [],
            });
          }
        }
      }
    }
    return found;
  }
}

interface DiscoveryList {
  readonly items: readonly {
    readonly metadata: { readonly name?: string };
    readonly versions: readonly {
      readonly version: string;
      readonly resources: readonly {
        readonly resource: string;
        readonly singularResource: string;
        readonly scope: string;
        readonly responseKind: { readonly kind: string };
        readonly shortNames?: readonly string[];
      }[];
    }[];
  }[];
}

/** The URL path of a kind's collection, or of one object in it. */
export function apiPath(resource: ApiResource, namespace: string | undefined, name?: string): string {
  const base = resource.group === "" ? `/api/${resource.version}` : `/apis/${resource.group}/${resource.version}`;
  const scope = resource.namespaced && namespace !== undefined ? `/namespaces/${encodeURIComponent(namespace)}` : "";
  return `${base}${scope}/${resource.plural}${name === undefined ? "" : `/${encodeURIComponent(name)}`}`;
}

// What a request is about, read from its method and path alone: the verb, and the resource (or the plain path) it names.
// Follows apiserver's RequestInfoFactory (staging/src/k8s.io/apiserver/pkg/endpoints/request/requestinfo.go).

export interface ResourceRequest {
  readonly kind: "resource";
  readonly verb: string;
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
  /** Segments after the subresource; nothing that is served has any. */
  readonly rest: readonly string[];
}

export interface PathRequest {
  readonly kind: "path";
  /** The method in lower case. */
  readonly verb: string;
  readonly path: string;
}

export type RequestInfo = ResourceRequest | PathRequest;

const verbs: Readonly<Record<string, string>> = {
  GET: "get",
  HEAD: "get",
  POST: "create",
  PUT: "update",
  PATCH: "patch",
  DELETE: "delete",
};

/** Subresources of a namespace itself; anything else after `namespaces/NAME` is a resource inside of it. */
const ofNamespaces = new Set(["status", "finalize"]);

export function requestInfo(method: string, path: string, query: URLSearchParams): RequestInfo {
  const plain: PathRequest = { kind: "path", verb: method.toLowerCase(), path };
  const parts = path.split("/").filter((part) => part !== "");
  let group = "";
  if (parts[0] === "apis") group = parts.splice(1, 1)[0] ?? "";
  else if (parts[0] !== "api") return plain;
  const version = parts[1];
  let segments = parts.slice(2);
  if (version === undefined || segments.length === 0) return plain;

  let namespace: string | undefined;
  if (segments[0] === "namespaces" && segments.length > 1) {
    namespace = segments[1];
    if (segments.length > 2 && !ofNamespaces.has(segments[2]!)) segments = segments.slice(2);
  }
  const [plural, name, subresource, ...rest] = segments as [string, string?, string?, ...string[]];
  let verb = verbs[method] ?? method.toLowerCase();
  if (name === undefined) {
    if (verb === "get") verb = isTrue(query.get("watch")) ? "watch" : "list";
    else if (verb === "delete") verb = "deletecollection";
  } else if (verb === "get" && subresource === undefined && isTrue(query.get("watch"))) {
    verb = "watch";
  }
  return { kind: "resource", verb, group, version, plural, namespace, name, subresource, rest };
}

/** Query parameters that are switches: `?watch`, `?watch=1`, `?watch=true`. */
export function isTrue(value: string | null): boolean {
  return value !== null && value !== "0" && value.toLowerCase() !== "false";
}

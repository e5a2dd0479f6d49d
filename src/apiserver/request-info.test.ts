import { describe, expect, test } from "bun:test";
import { requestInfo } from "./request-info.ts";

const info = (method: string, target: string) => {
  const [path, query] = target.split("?") as [string, string?];
  return requestInfo(method, path, new URLSearchParams(query));
};
const resource = (method: string, target: string) => {
  const found = info(method, target);
  if (found.kind !== "resource") throw new Error("it names no resource");
  const { verb, group, version, plural, namespace, name, subresource } = found;
  return [verb, group, version, plural, namespace, name, subresource];
};

describe("a path that names a resource", () => {
  test("is read into its parts", () => {
    expect(resource("GET", "/api/v1/namespaces/shop/pods/a/log")).toEqual([
      "get",
      "",
      "v1",
      "pods",
      "shop",
      "a",
      "log",
    ]);
    expect(resource("PUT", "/apis/apps/v1/namespaces/shop/deployments/a/scale")).toEqual([
      "update",
      "apps",
      "v1",
      "deployments",
      "shop",
      "a",
      "scale",
    ]);
    expect(resource("GET", "/apis/apps/v1/deployments")).toEqual([
      "list",
      "apps",
      "v1",
      "deployments",
      undefined,
      undefined,
      undefined,
    ]);
  });

  test("may be a namespace itself, or a part of one", () => {
    expect(resource("PATCH", "/api/v1/namespaces/shop/status")).toEqual([
      "patch",
      "",
      "v1",
      "namespaces",
      "shop",
      "shop",
      "status",
    ]);
    expect(resource("POST", "/api/v1/namespaces")[3]).toBe("namespaces");
  });

  test("has the verb of its collection without a name", () => {
    expect(resource("GET", "/api/v1/pods?watch=true")[0]).toBe("watch");
    expect(resource("GET", "/api/v1/pods?watch=0")[0]).toBe("list");
    expect(resource("DELETE", "/api/v1/namespaces/shop/pods")[0]).toBe("deletecollection");
    expect(resource("DELETE", "/api/v1/namespaces/shop/pods/a")[0]).toBe("delete");
  });
});

test("other paths are taken as they are", () => {
  expect(info("GET", "/healthz")).toEqual({ kind: "path", verb: "get", path: "/healthz" });
  expect(info("GET", "/apis/apps/v1")).toEqual({ kind: "path", verb: "get", path: "/apis/apps/v1" });
  expect(info("GET", "/api").kind).toBe("path");
});

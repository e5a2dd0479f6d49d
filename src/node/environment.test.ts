import { describe, expect, test } from "bun:test";
import type { Container, Pod } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { source } from "../collections/source.ts";
import { environmentOf, expand } from "./environment.ts";
import type { PodSources } from "./pod-sources.ts";
import { volumeFiles } from "./volumes.ts";

let made = 0;
function sources(configMaps: readonly KubeObject[], secrets: readonly KubeObject[] = []): PodSources {
  const collection = (objects: readonly KubeObject[]) => {
    const one = source<KubeObject>(`environment-test-${made++}`);
    for (const object of objects) one.set(`shop/${object.metadata.name}`, object);
    return one;
  };
  return { configMaps: collection(configMaps), secrets: collection(secrets) };
}

const object = (kind: string, name: string, data: Record<string, string>): KubeObject => ({
  apiVersion: "v1",
  kind,
  metadata: { namespace: "shop", name },
  data,
});

const pod = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "cart-1", namespace: "shop", uid: "u", labels: { app: "cart" } },
  spec: { containers: [], serviceAccountName: "cart" },
} as unknown as Pod;
const facts = { podIPs: ["10.244.0.5", "fd00::5"], hostIPs: ["10.98.0.1"], node: "node-1" };

describe("the environment of a container", () => {
  test("has values, fields of the pod, and keys of ConfigMaps and Secrets, with $(NAME) expanded in order", () => {
    const container = {
      name: "app",
      envFrom: [{ prefix: "CFG_", configMapRef: { name: "settings" } }],
      env: [
        { name: "IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
        { name: "IPS", valueFrom: { fieldRef: { fieldPath: "status.podIPs" } } },
        { name: "APP", valueFrom: { fieldRef: { fieldPath: "metadata.labels['app']" } } },
        { name: "PASSWORD", valueFrom: { secretKeyRef: { name: "login", key: "password" } } },
        { name: "URL", value: "http://$(IP)/$(CFG_path)?$$(IP)=$(UNKNOWN)" },
      ],
    } as unknown as Container;
    const from = sources(
      [object("ConfigMap", "settings", { path: "orders" })],
      [object("Secret", "login", { password: btoa("s3cret") })],
    );
    expect(environmentOf(pod, container, facts, from)).toEqual({
      HOSTNAME: "cart-1",
      CFG_path: "orders",
      IP: "10.244.0.5",
      IPS: "10.244.0.5,fd00::5",
      APP: "cart",
      PASSWORD: "s3cret",
      URL: "http://10.244.0.5/orders?$(IP)=$(UNKNOWN)",
    });
  });

  test("says what is missing, unless it is optional", () => {
    const asks = (optional: boolean) =>
      ({
        name: "app",
        env: [{ name: "A", valueFrom: { configMapKeyRef: { name: "settings", key: "a", optional } } }],
      }) as unknown as Container;
    expect(() => environmentOf(pod, asks(false), facts, sources([]))).toThrow('configmap "settings" not found');
    const empty = sources([object("ConfigMap", "settings", {})]);
    expect(() => environmentOf(pod, asks(false), facts, empty)).toThrow(
      "couldn't find key a in ConfigMap shop/settings",
    );
    expect(environmentOf(pod, asks(true), facts, empty)).toEqual({ HOSTNAME: "cart-1" });
  });

  test("expands only names that are set", () => {
    expect(expand("$(A)$(B)$$(A)$", { A: "1" })).toBe("1$(B)$(A)$");
  });
});

describe("the files of a volume", () => {
  const texts = (volume: Record<string, unknown>, from = sources([object("ConfigMap", "c", { a: "1", b: "2" })])) =>
    volumeFiles(pod, { name: "v", ...volume } as never, facts, from)?.map(
      ({ path, content, mode }) => `${path} ${mode.toString(8)} ${Buffer.from(content)}`,
    );

  test("are the keys of its ConfigMap, or the items that are chosen", () => {
    expect(texts({ configMap: { name: "c" } })).toEqual(["a 644 1", "b 644 2"]);
    const items = [{ key: "b", path: "dir/b.txt", mode: 0o400 }];
    expect(texts({ configMap: { name: "c", items } })).toEqual(["dir/b.txt 400 2"]);
  });

  test("come from several sources in a projected volume", () => {
    const downwardAPI = { items: [{ path: "labels", fieldRef: { fieldPath: "metadata.labels" } }] };
    expect(texts({ projected: { sources: [{ configMap: { name: "c" } }, { downwardAPI }] } })).toEqual([
      "a 644 1",
      "b 644 2",
      'labels 644 app="cart"',
    ]);
  });

  test("never lie outside of it", () => {
    expect(() => texts({ configMap: { name: "c", items: [{ key: "a", path: "../../etc/passwd" }] } })).toThrow(
      "leads out of its volume",
    );
  });
});

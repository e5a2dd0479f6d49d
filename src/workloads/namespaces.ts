// Namespaces: each gets its `default` ServiceAccount and the ConfigMap `kube-root-ca.crt`; one that is being deleted loses
// everything in it, then its `kubernetes` finalizer. Upstream: pkg/controller/{namespace,serviceaccount,certificates/rootcacertpublisher}.

import {
  ConfigMaps,
  CustomResourceDefinitions,
  Events,
  type Namespace,
  Namespaces,
  ServiceAccounts,
} from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { type Resource, type ResourceKey, resourceKey } from "../api/resource.ts";
import { isStatusReason } from "../api/status-error.ts";
import { type Disposable, disposable, disposeAll } from "../base/disposal.ts";
import { startController } from "./controller.ts";
import { collectedResources } from "./garbage-collector.ts";
import { eachChange, type Objects } from "./objects.ts";

export interface NamespaceOptions {
  /** The API server's certificate authority in PEM, for `kube-root-ca.crt`. Without it no such ConfigMap is made. */
  readonly rootCertificate?: string;
}

const rootConfigMap = "kube-root-ca.crt";
const defaultAccount = "default";

export function startNamespaces(objects: Objects, options: NamespaceOptions = {}): Disposable {
  const { store } = objects;
  const namespaces = objects.of(Namespaces);
  const watched = new Map<ResourceKey, { readonly resource: Resource; readonly watching: Disposable }>();

  const controller = startController({
    name: "namespace",
    clock: objects.clock,
    log: objects.log,
    async reconcile(key) {
      const namespace = namespaces.get(key) as Namespace | undefined;
      if (!namespace) return undefined;
      await (namespace.metadata.deletionTimestamp === undefined ? furnish(key) : empty(namespace));
      return undefined;
    },
  });

  async function furnish(namespace: string): Promise<void> {
    if (!objects.of(ServiceAccounts).has(`${namespace}/${defaultAccount}`)) {
      await unlessThere(
        objects.create(ServiceAccounts, {
          apiVersion: "v1",
          kind: "ServiceAccount",
          metadata: { name: defaultAccount, namespace },
        }),
      );
    }
    if (options.rootCertificate === undefined) return;
    const wanted = { "ca.crt": options.rootCertificate };
    const stored = objects.of(ConfigMaps).get(`${namespace}/${rootConfigMap}`);
    if (!stored) {
      const description =
        "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";
      await unlessThere(
        objects.create(ConfigMaps, {
          apiVersion: "v1",
          kind: "ConfigMap",
          metadata: { name: rootConfigMap, namespace, annotations: { "kubernetes.io/description": description } },
          data: wanted,
        }),
      );
    } else if (stored["data"]?.["ca.crt"] !== options.rootCertificate) {
      await objects.update(ConfigMaps, { ...stored, data: wanted });
    }
  }

  async function empty(namespace: Namespace): Promise<void> {
    const { name } = namespace.metadata;
    const left = contentsOf(name);
    await Promise.all(
      left
        .filter(({ object }) => object.metadata.deletionTimestamp === undefined)
        .map(({ resource, object }) => ifThere(objects.delete(resource, object, { propagationPolicy: "Background" }))),
    );
    if (contentsOf(name).length > 0) return; // the next removal brings us back
    // A collection may lag behind: the store has the last word.
    for (const { resource } of watched.values()) {
      const { items } = await store.list(resource, { namespace: name, limit: 1 });
      if (items.length > 0) throw new Error(`namespace ${name} still has ${resource.plural}`);
    }
    const { items: events } = await store.list(Events, { namespace: name });
    for (const event of events) {
      await ifThere(store.delete({ resource: Events, namespace: name, name: event.metadata.name }));
    }
    const finalizers = (namespace.spec?.finalizers ?? []).filter((one) => one !== "kubernetes");
    if (finalizers.length === (namespace.spec?.finalizers ?? []).length) return;
    await ifThere(objects.finalize({ ...namespace, spec: { ...namespace.spec, finalizers } }));
  }

  const byNamespace = (resource: Resource) =>
    objects.indexed(resource, "by-namespace", (object) => [object.metadata.namespace ?? ""]);

  function contentsOf(namespace: string): readonly { readonly resource: Resource; readonly object: KubeObject }[] {
    return [...watched.values()].flatMap(({ resource }) =>
      byNamespace(resource)
        .where(namespace)
        .map((object) => ({ resource, object })),
    );
  }

  function followAll(): void {
    const wanted = collectedResources(store.resources()).filter((resource) => resource.scope === "Namespaced");
    const keys = new Set(wanted.map(resourceKey));
    for (const [key, { watching }] of watched) {
      if (keys.has(key)) continue;
      watching.dispose();
      watched.delete(key);
    }
    for (const resource of wanted) {
      if (watched.has(resourceKey(resource))) continue;
      byNamespace(resource);
      const furnishes = [resourceKey(ServiceAccounts), resourceKey(ConfigMaps)].includes(resourceKey(resource));
      const watching = eachChange(objects.of(resource), (object, { after }) => {
        const name = object.metadata.namespace ?? "";
        const terminating = namespaces.get(name)?.metadata.deletionTimestamp !== undefined;
        if (after === undefined ? terminating || furnishes : terminating) controller.enqueue(name);
      });
      watched.set(resourceKey(resource), { resource, watching });
    }
  }

  followAll();
  return disposeAll([
    controller,
    eachChange(objects.of(CustomResourceDefinitions), followAll),
    eachChange(namespaces, (_namespace, { key }) => controller.enqueue(key)),
    disposable(() => {
      for (const { watching } of watched.values()) watching.dispose();
    }),
  ]);
}

async function unlessThere(write: Promise<unknown>): Promise<void> {
  try {
    await write;
  } catch (error) {
    if (!isStatusReason(error, "AlreadyExists")) throw error;
  }
}

async function ifThere(write: Promise<unknown>): Promise<void> {
  try {
    await write;
  } catch (error) {
    if (!isStatusReason(error, "NotFound")) throw error;
  }
}

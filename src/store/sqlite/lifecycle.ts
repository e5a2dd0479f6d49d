// Namespaces as the place that objects live in: nothing is made in a namespace that is missing or going away, and four
// namespaces are always there (plugin/pkg/admission/namespace/lifecycle, pkg/controlplane/controller/systemnamespaces).

import { type Resource, resourceKey } from "../../api/resource.ts";
import { StatusError } from "../../api/status-error.ts";
import type { TransactionView } from "../admission.ts";
import { forbidden, notFound } from "./engine.ts";

/** Made at the first start. */
export const systemNamespaces = ["default", "kube-node-lease", "kube-public", "kube-system"] as const;

const immortal = new Set<string>(["default", "kube-public", "kube-system"]);

/** Throws unless an object of a namespaced resource may be made in the namespace. */
export function checkNamespace(
  view: TransactionView,
  namespaces: Resource,
  resource: Resource,
  namespace: string,
  name: string,
): void {
  const found = view.get("namespaces", undefined, namespace);
  if (!found) throw notFound(namespaces, namespace);
  if (found.metadata.deletionTimestamp === undefined && found.status?.phase !== "Terminating") return;
  const key = resourceKey(resource);
  throw new StatusError(
    403,
    "Forbidden",
    `${key} ${JSON.stringify(name)} is forbidden: unable to create new content in namespace ${namespace} because it is being terminated`,
    {
      name,
      ...(resource.group === "" ? {} : { group: resource.group }),
      kind: resource.plural,
      causes: [
        {
          reason: "NamespaceTerminating",
          message: `namespace ${namespace} is being terminated`,
          field: "metadata.namespace",
        },
      ],
    },
  );
}

/** Throws when the namespace is one that may not be deleted. */
export function checkNamespaceDeletion(namespaces: Resource, name: string): void {
  if (immortal.has(name)) throw forbidden(namespaces, name, "this namespace may not be deleted");
}

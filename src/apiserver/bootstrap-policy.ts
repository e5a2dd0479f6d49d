// The roles that every cluster has (plugin/pkg/auth/authorizer/rbac/bootstrappolicy), as far as they mean something here:
// discovery and self-reviews for everybody with an identity, and cluster-admin, admin, edit and view to be bound by users.

import type { KubeObject } from "../api/object.ts";
import type { SqliteStore } from "../store/sqlite/sqlite-store.ts";
import type { PolicyRule } from "./authorize.ts";

const read = ["get", "list", "watch"];
const write = ["create", "delete", "deletecollection", "patch", "update"];

/** Groups and the resources of them that people who work in a namespace use; Secrets are not for viewers. */
const workload: readonly (readonly [readonly string[], readonly string[]])[] = [
  [
    [""],
    [
      "configmaps",
      "endpoints",
      "events",
      "persistentvolumeclaims",
      "pods",
      "pods/log",
      "pods/status",
      "replicationcontrollers",
      "replicationcontrollers/scale",
      "replicationcontrollers/status",
      "serviceaccounts",
      "services",
      "services/status",
    ],
  ],
  [["discovery.k8s.io"], ["endpointslices"]],
  [
    ["apps"],
    [
      "controllerrevisions",
      "daemonsets",
      "daemonsets/status",
      "deployments",
      "deployments/scale",
      "deployments/status",
      "replicasets",
      "replicasets/scale",
      "replicasets/status",
      "statefulsets",
      "statefulsets/scale",
      "statefulsets/status",
    ],
  ],
  [["autoscaling"], ["horizontalpodautoscalers", "horizontalpodautoscalers/status"]],
  [["batch"], ["cronjobs", "cronjobs/status", "jobs", "jobs/status"]],
  [["policy"], ["poddisruptionbudgets", "poddisruptionbudgets/status"]],
  [["networking.k8s.io"], ["ingresses", "ingresses/status", "networkpolicies"]],
  [["gateway.networking.k8s.io"], ["*"]],
];

const rulesFor = (verbs: readonly string[]): PolicyRule[] =>
  workload.map(([apiGroups, resources]) => ({ verbs, apiGroups, resources }));

const view: readonly PolicyRule[] = [
  ...rulesFor(read),
  {
    verbs: read,
    apiGroups: [""],
    resources: [
      "bindings",
      "limitranges",
      "namespaces",
      "namespaces/status",
      "resourcequotas",
      "resourcequotas/status",
    ],
  },
];
const edit: readonly PolicyRule[] = [
  ...view,
  ...rulesFor(write),
  { verbs: [...read, ...write], apiGroups: [""], resources: ["secrets"] },
  { verbs: ["create"], apiGroups: [""], resources: ["pods/eviction", "serviceaccounts/token"] },
];
const admin: readonly PolicyRule[] = [
  ...edit,
  { verbs: [...read, ...write], apiGroups: ["rbac.authorization.k8s.io"], resources: ["rolebindings", "roles"] },
  { verbs: ["create"], apiGroups: ["authorization.k8s.io"], resources: ["localsubjectaccessreviews"] },
];

const roles: Readonly<Record<string, readonly PolicyRule[]>> = {
  "cluster-admin": [
    { verbs: ["*"], apiGroups: ["*"], resources: ["*"] },
    { verbs: ["*"], nonResourceURLs: ["*"] },
  ],
  admin,
  edit,
  view,
  "system:basic-user": [
    {
      verbs: ["create"],
      apiGroups: ["authorization.k8s.io"],
      resources: ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
    },
    { verbs: ["create"], apiGroups: ["authentication.k8s.io"], resources: ["selfsubjectreviews"] },
  ],
  "system:discovery": [
    {
      verbs: ["get"],
      nonResourceURLs: [
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/healthz",
        "/livez",
        "/openapi",
        "/openapi/*",
        "/readyz",
        "/version",
        "/version/",
      ],
    },
  ],
};

const bindings: Readonly<Record<string, string>> = {
  "cluster-admin": "system:masters",
  "system:basic-user": "system:authenticated",
  "system:discovery": "system:authenticated",
};

/** Makes the roles and bindings that are not there; those that a user has changed stay as they are. */
export async function bootstrapPolicy(store: SqliteStore): Promise<void> {
  const group = "rbac.authorization.k8s.io";
  const apiVersion = `${group}/v1`;
  const metadata = (name: string) => ({
    name,
    labels: { "kubernetes.io/bootstrapping": "rbac-defaults" },
    annotations: { "rbac.authorization.kubernetes.io/autoupdate": "true" },
  });
  const objects: KubeObject[] = [
    ...Object.entries(roles).map(([name, rules]) => ({
      apiVersion,
      kind: "ClusterRole",
      metadata: metadata(name),
      rules,
    })),
    ...Object.entries(bindings).map(([name, subject]) => ({
      apiVersion,
      kind: "ClusterRoleBinding",
      metadata: metadata(name),
      roleRef: { apiGroup: group, kind: "ClusterRole", name },
      subjects: [{ kind: "Group", apiGroup: group, name: subject }],
    })),
  ];
  for (const object of objects) {
    const resource = store.scheme.byKind(object.apiVersion, object.kind);
    if (!resource) continue;
    const { name } = object.metadata;
    if (!(await store.get({ resource, name }))) await store.create(resource, object, { fieldManager: "fairlead" });
  }
}

// Rules of ConfigMaps, Secrets, Namespaces and ServiceAccounts (pkg/apis/core/validation).

import { equal, isEmpty } from "../data.ts";
import type { KubeObject } from "../object.ts";
import { type FieldError, forbidden, invalidValue, keyed, required } from "./field-error.ts";
import { immutableField } from "./metadata.ts";
import { configKeyProblems } from "./names.ts";

const maxSecretSize = 1024 * 1024;
type Texts = Readonly<Record<string, string>>;

const textsOf = (object: KubeObject, field: string): Texts => (object[field] as Texts | undefined) ?? {};

export function validateConfigMap(object: KubeObject): FieldError[] {
  const errors: FieldError[] = [];
  const [data, binary] = [textsOf(object, "data"), textsOf(object, "binaryData")];
  let size = 0;
  for (const [field, values] of [
    ["data", data],
    ["binaryData", binary],
  ] as const) {
    for (const [key, value] of Object.entries(values).sort(([a], [b]) => (a < b ? -1 : 1))) {
      for (const problem of configKeyProblems(key)) errors.push(invalidValue(keyed(field, key), key, problem));
      if (field === "data" && Object.hasOwn(binary, key))
        errors.push(invalidValue(keyed(field, key), key, "duplicate of key present in binaryData"));
      size += field === "data" ? Buffer.byteLength(value) : Math.floor((value.length * 3) / 4);
    }
  }
  if (size > maxSecretSize)
    errors.push({
      type: "FieldValueTooLong",
      field: "",
      message: `Too long: may not be more than ${maxSecretSize} bytes`,
    });
  return errors;
}

const immutableSet = "field is immutable when `immutable` is set";

/** ConfigMaps and Secrets that say they are immutable. */
export function validateImmutableData(object: KubeObject, old: KubeObject): FieldError[] {
  if (old["immutable"] !== true) return [];
  const errors: FieldError[] = [];
  if (object["immutable"] !== true) errors.push(forbidden("immutable", immutableSet));
  for (const field of ["data", "binaryData"]) {
    if (!equal(textsOf(object, field), textsOf(old, field))) errors.push(forbidden(field, immutableSet));
  }
  return errors;
}

/** The keys that a Secret of a type must have. */
const neededKeys: Readonly<Record<string, readonly string[]>> = {
  "kubernetes.io/tls": ["tls.crt", "tls.key"],
  "kubernetes.io/dockerconfigjson": [".dockerconfigjson"],
  "kubernetes.io/dockercfg": [".dockercfg"],
  "kubernetes.io/ssh-auth": ["ssh-privatekey"],
};

export function validateSecret(object: KubeObject): FieldError[] {
  const errors: FieldError[] = [];
  const data = textsOf(object, "data");
  const type = (object["type"] as string | undefined) ?? "";
  let size = 0;
  for (const [key, value] of Object.entries(data).sort(([a], [b]) => (a < b ? -1 : 1))) {
    for (const problem of configKeyProblems(key)) errors.push(invalidValue(keyed("data", key), key, problem));
    size += Math.floor((value.length * 3) / 4);
  }
  if (size > maxSecretSize)
    errors.push({
      type: "FieldValueTooLong",
      field: "data",
      message: `Too long: may not be more than ${maxSecretSize} bytes`,
    });
  for (const key of neededKeys[type] ?? []) if (!Object.hasOwn(data, key)) errors.push(required(keyed("data", key)));
  if (type === "kubernetes.io/basic-auth" && !Object.hasOwn(data, "username") && !Object.hasOwn(data, "password")) {
    errors.push(required(keyed("data", "username")), required(keyed("data", "password")));
  }
  if (type.startsWith("kubernetes.io/docker")) {
    const key = neededKeys[type]?.[0];
    const text = key === undefined ? undefined : data[key];
    if (key !== undefined && text !== undefined) {
      try {
        JSON.parse(Buffer.from(text, "base64").toString("utf8"));
      } catch {
        errors.push(invalidValue(keyed("data", key), "<secret contents redacted>", "invalid character"));
      }
    }
  }
  if (
    type === "kubernetes.io/service-account-token" &&
    !object.metadata.annotations?.["kubernetes.io/service-account.name"]
  ) {
    errors.push(required(keyed("metadata.annotations", "kubernetes.io/service-account.name")));
  }
  return errors;
}

export function validateSecretUpdate(object: KubeObject, old: KubeObject): FieldError[] {
  return [
    ...immutableField("type", object["type"], old["type"]),
    ...validateImmutableData(object, old),
    ...validateSecret(object),
  ];
}

const subjectKinds = ["ServiceAccount", "User", "Group"];
const rbacGroup = "rbac.authorization.k8s.io";

/** RoleBindings and ClusterRoleBindings (pkg/apis/rbac/validation). */
export function validateBinding(object: KubeObject): FieldError[] {
  const errors: FieldError[] = [];
  const ref = (object["roleRef"] ?? {}) as { apiGroup?: string; kind?: string; name?: string };
  if (ref.apiGroup !== rbacGroup)
    errors.push({
      type: "FieldValueNotSupported",
      field: "roleRef.apiGroup",
      message: `Unsupported value: ${JSON.stringify(ref.apiGroup ?? "")}: supported values: "${rbacGroup}"`,
    });
  const kinds = object.kind === "RoleBinding" ? ["ClusterRole", "Role"] : ["ClusterRole"];
  if (!kinds.includes(ref.kind ?? "")) {
    errors.push({
      type: "FieldValueNotSupported",
      field: "roleRef.kind",
      message: `Unsupported value: ${JSON.stringify(ref.kind ?? "")}: supported values: ${kinds.map((one) => `"${one}"`).join(", ")}`,
    });
  }
  if (!ref.name) errors.push(required("roleRef.name"));
  const subjects = (object["subjects"] ?? []) as readonly {
    kind?: string;
    name?: string;
    namespace?: string;
    apiGroup?: string;
  }[];
  for (const [index, subject] of subjects.entries()) {
    const path = `subjects[${index}]`;
    if (!subject.name) errors.push(required(`${path}.name`));
    if (!subjectKinds.includes(subject.kind ?? "")) {
      errors.push({
        type: "FieldValueNotSupported",
        field: `${path}.kind`,
        message: `Unsupported value: ${JSON.stringify(subject.kind ?? "")}: supported values: "Group", "ServiceAccount", "User"`,
      });
    }
    if (subject.kind === "ServiceAccount" && object.kind === "ClusterRoleBinding" && !subject.namespace)
      errors.push(required(`${path}.namespace`));
  }
  return errors;
}

/** Roles and ClusterRoles. */
export function validateRole(object: KubeObject): FieldError[] {
  const errors: FieldError[] = [];
  const rules = (object["rules"] ?? []) as readonly {
    verbs?: readonly string[];
    apiGroups?: readonly string[];
    resources?: readonly string[];
    nonResourceURLs?: readonly string[];
  }[];
  for (const [index, rule] of rules.entries()) {
    const path = `rules[${index}]`;
    if (isEmpty(rule.verbs)) errors.push(required(`${path}.verbs`, "verbs must contain at least one value"));
    if (!isEmpty(rule.nonResourceURLs)) {
      if (object.kind === "Role")
        errors.push(
          invalidValue(
            `${path}.nonResourceURLs`,
            rule.nonResourceURLs,
            "namespaced rules cannot apply to non-resource URLs",
          ),
        );
      if (!isEmpty(rule.apiGroups) || !isEmpty(rule.resources)) {
        errors.push(
          invalidValue(
            `${path}.nonResourceURLs`,
            rule.nonResourceURLs,
            "rules cannot apply to both regular resources and non-resource URLs",
          ),
        );
      }
      continue;
    }
    if (isEmpty(rule.apiGroups))
      errors.push(required(`${path}.apiGroups`, "resource rules must supply at least one api group"));
    if (isEmpty(rule.resources))
      errors.push(required(`${path}.resources`, "resource rules must supply at least one resource"));
  }
  return errors;
}

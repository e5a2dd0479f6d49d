// Who may do what: role-based access control over the stored Role, ClusterRole, RoleBinding and ClusterRoleBinding
// objects (plugin/pkg/auth/authorizer/rbac), with the group system:masters above it. A pure function of the identity, the
// request and the rules; the API server asks it for every request, and the access reviews ask it for what might be asked.

import type { KubeObject } from "../api/object.ts";
import type { Identity } from "./identity.ts";

export interface Attributes {
  readonly verb: string;
  readonly group?: string;
  readonly resource?: string;
  readonly subresource?: string;
  readonly namespace?: string;
  readonly name?: string;
  /** Set for requests of plain paths; then the fields above are not looked at. */
  readonly path?: string;
}

/** The stored rules. Synchronous: a decision is made on one state. */
export interface RuleSource {
  clusterRole(name: string): KubeObject | undefined;
  role(namespace: string, name: string): KubeObject | undefined;
  clusterRoleBindings(): readonly KubeObject[];
  roleBindings(namespace: string): readonly KubeObject[];
}

export interface Verdict {
  readonly allowed: boolean;
  readonly reason: string;
}

export interface PolicyRule {
  readonly verbs?: readonly string[];
  readonly apiGroups?: readonly string[];
  readonly resources?: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly nonResourceURLs?: readonly string[];
}

interface Subject {
  readonly kind: string;
  readonly name: string;
  readonly namespace?: string;
}

export function authorize(identity: Identity, attributes: Attributes, rules: RuleSource): Verdict {
  if (identity.groups.includes("system:masters")) return { allowed: true, reason: "" };
  for (const grant of grants(identity, attributes.namespace, rules)) {
    if (grant.rules.some((rule) => ruleAllows(rule, attributes))) return { allowed: true, reason: grant.reason };
  }
  return { allowed: false, reason: "" };
}

/** All rules that an identity has in a namespace, as SelfSubjectRulesReview lists them. */
export function rulesOf(identity: Identity, namespace: string | undefined, rules: RuleSource): readonly PolicyRule[] {
  if (identity.groups.includes("system:masters")) {
    return [
      { verbs: ["*"], apiGroups: ["*"], resources: ["*"] },
      { verbs: ["*"], nonResourceURLs: ["*"] },
    ];
  }
  return [...grants(identity, namespace, rules)].flatMap((grant) => grant.rules);
}

function* grants(
  identity: Identity,
  namespace: string | undefined,
  source: RuleSource,
): Generator<{ rules: readonly PolicyRule[]; reason: string }> {
  for (const binding of source.clusterRoleBindings()) {
    const subject = subjectOf(binding, identity);
    if (!subject) continue;
    const role = source.clusterRole(binding["roleRef"]?.name);
    const reason = `RBAC: allowed by ClusterRoleBinding "${binding.metadata.name}" of ClusterRole "${binding["roleRef"]?.name}" to ${subject}`;
    if (role) yield { rules: role["rules"] ?? [], reason };
  }
  if (!namespace) return;
  for (const binding of source.roleBindings(namespace)) {
    const subject = subjectOf(binding, identity);
    if (!subject) continue;
    const { kind, name } = binding["roleRef"] ?? {};
    const role = kind === "ClusterRole" ? source.clusterRole(name) : source.role(namespace, name);
    const reason = `RBAC: allowed by RoleBinding "${binding.metadata.name}/${namespace}" of ${kind} "${name}" to ${subject}`;
    if (role) yield { rules: role["rules"] ?? [], reason };
  }
}

/** How the binding names the identity; undefined when it does not. */
function subjectOf(binding: KubeObject, identity: Identity): string | undefined {
  for (const subject of (binding["subjects"] ?? []) as readonly Subject[]) {
    if (subject.kind === "User" && subject.name === identity.user) return `User "${subject.name}"`;
    if (subject.kind === "Group" && identity.groups.includes(subject.name)) return `Group "${subject.name}"`;
    if (subject.kind !== "ServiceAccount") continue;
    const namespace = subject.namespace ?? binding.metadata.namespace;
    if (identity.user === `system:serviceaccount:${namespace}:${subject.name}`) {
      return `ServiceAccount "${subject.name}/${namespace}"`;
    }
  }
  return undefined;
}

export function ruleAllows(rule: PolicyRule, attributes: Attributes): boolean {
  if (!has(rule.verbs, attributes.verb)) return false;
  if (attributes.path !== undefined) {
    return (rule.nonResourceURLs ?? []).some(
      (url) =>
        url === "*" || url === attributes.path || (url.endsWith("*") && attributes.path!.startsWith(url.slice(0, -1))),
    );
  }
  if (!has(rule.apiGroups, attributes.group ?? "")) return false;
  if (!resourceAllowed(rule.resources ?? [], attributes.resource ?? "", attributes.subresource)) return false;
  const names = rule.resourceNames ?? [];
  return names.length === 0 || (attributes.name !== undefined && names.includes(attributes.name));
}

function resourceAllowed(allowed: readonly string[], resource: string, subresource: string | undefined): boolean {
  const whole = subresource ? `${resource}/${subresource}` : resource;
  return allowed.some(
    (one) => one === "*" || one === whole || (subresource !== undefined && one === `*/${subresource}`),
  );
}

const has = (list: readonly string[] | undefined, value: string) =>
  !!list && (list.includes("*") || list.includes(value));

/** What a 403 says (apiserver responsewriters.ForbiddenMessage). */
export function forbiddenMessage(identity: Identity, attributes: Attributes): string {
  const user = `User ${JSON.stringify(identity.user)} cannot ${attributes.verb}`;
  if (attributes.path !== undefined) return `${user} path ${JSON.stringify(attributes.path)}`;
  const resource = attributes.subresource ? `${attributes.resource}/${attributes.subresource}` : attributes.resource;
  const where = attributes.namespace
    ? `in the namespace ${JSON.stringify(attributes.namespace)}`
    : "at the cluster scope";
  return `${user} resource ${JSON.stringify(resource)} in API group ${JSON.stringify(attributes.group ?? "")} ${where}`;
}

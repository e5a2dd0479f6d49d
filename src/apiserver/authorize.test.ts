import { describe, expect, test } from "bun:test";
import type { KubeObject } from "../api/object.ts";
import { type Attributes, authorize, forbiddenMessage, type PolicyRule, type RuleSource } from "./authorize.ts";
import { identityOfCertificate, impliedGroups, Tokens } from "./identity.ts";

const object = (kind: string, name: string, fields: Record<string, unknown>, namespace?: string): KubeObject => ({
  apiVersion: "rbac.authorization.k8s.io/v1",
  kind,
  metadata: { name, ...(namespace ? { namespace } : {}) },
  ...fields,
});
const role = (name: string, rules: readonly PolicyRule[]) => object("ClusterRole", name, { rules });
const binding = (roleName: string, subjects: readonly object[], namespace?: string) =>
  object(
    namespace ? "RoleBinding" : "ClusterRoleBinding",
    "b",
    {
      roleRef: { kind: "ClusterRole", name: roleName },
      subjects,
    },
    namespace,
  );

const rules = (roles: readonly KubeObject[], bindings: readonly KubeObject[]): RuleSource => ({
  clusterRole: (name) => roles.find((one) => one.metadata.name === name),
  role: () => undefined,
  clusterRoleBindings: () => bindings.filter((one) => !one.metadata.namespace),
  roleBindings: (namespace) => bindings.filter((one) => one.metadata.namespace === namespace),
});
const user = (name: string, ...groups: string[]) => ({ user: name, groups });
const getPods: Attributes = { verb: "get", group: "", resource: "pods", namespace: "shop", name: "a" };
const podReader = role("reader", [{ verbs: ["get"], apiGroups: [""], resources: ["pods"] }]);

describe("access", () => {
  test("is unlimited for system:masters and nothing for a stranger", () => {
    expect(authorize(user("root", "system:masters"), getPods, rules([], [])).allowed).toBe(true);
    expect(authorize(user("stranger"), getPods, rules([], []))).toEqual({ allowed: false, reason: "" });
  });

  test("follows a ClusterRoleBinding everywhere and a RoleBinding in its namespace", () => {
    const everywhere = rules([podReader], [binding("reader", [{ kind: "User", name: "jane" }])]);
    expect(authorize(user("jane"), { ...getPods, namespace: "other" }, everywhere).allowed).toBe(true);
    const inShop = rules([podReader], [binding("reader", [{ kind: "Group", name: "devs" }], "shop")]);
    expect(authorize(user("jane", "devs"), getPods, inShop).allowed).toBe(true);
    expect(authorize(user("jane", "devs"), { ...getPods, namespace: "other" }, inShop).allowed).toBe(false);
  });

  test("of a service account is bound by its name, in the binding's namespace by default", () => {
    const source = rules([podReader], [binding("reader", [{ kind: "ServiceAccount", name: "bot" }], "shop")]);
    expect(authorize(user("system:serviceaccount:shop:bot"), getPods, source).allowed).toBe(true);
    expect(authorize(user("system:serviceaccount:other:bot"), getPods, source).allowed).toBe(false);
    expect(impliedGroups("system:serviceaccount:shop:bot")).toContain("system:serviceaccounts:shop");
  });

  test("to a resource does not include its subresources, and may be limited to names", () => {
    const logs = { ...getPods, subresource: "log" };
    const bound = (rule: PolicyRule) => rules([role("r", [rule])], [binding("r", [{ kind: "User", name: "jane" }])]);
    expect(
      authorize(user("jane"), logs, rules([podReader], [binding("reader", [{ kind: "User", name: "jane" }])])).allowed,
    ).toBe(false);
    expect(
      authorize(user("jane"), logs, bound({ verbs: ["get"], apiGroups: [""], resources: ["pods/log"] })).allowed,
    ).toBe(true);
    const named = bound({ verbs: ["*"], apiGroups: ["*"], resources: ["*"], resourceNames: ["b"] });
    expect(authorize(user("jane"), getPods, named).allowed).toBe(false);
    expect(authorize(user("jane"), { ...getPods, name: "b" }, named).allowed).toBe(true);
  });

  test("to paths ends in a star or is exact", () => {
    const source = rules(
      [role("r", [{ verbs: ["get"], nonResourceURLs: ["/api/*", "/metrics"] }])],
      [binding("r", [{ kind: "User", name: "jane" }])],
    );
    const may = (path: string) => authorize(user("jane"), { verb: "get", path }, source).allowed;
    expect([may("/api/v1"), may("/metrics"), may("/metrics/x"), may("/apis")]).toEqual([true, true, false, false]);
  });

  test("that is refused is said in upstream's words", () => {
    expect(forbiddenMessage(user("jane"), { ...getPods, subresource: "log" })).toBe(
      'User "jane" cannot get resource "pods/log" in API group "" in the namespace "shop"',
    );
    expect(forbiddenMessage(user("jane"), { verb: "get", path: "/metrics" })).toBe(
      'User "jane" cannot get path "/metrics"',
    );
  });
});

describe("identities", () => {
  test("come from a certificate's CN and O", () => {
    expect(identityOfCertificate({ CN: "admin", O: ["system:masters", "b"] })).toEqual({
      user: "admin",
      groups: ["system:masters", "b", "system:authenticated"],
    });
    expect(identityOfCertificate({ O: "system:masters" })).toBeUndefined();
    expect(identityOfCertificate(undefined)).toBeUndefined();
  });

  test("come from a token only when all of it is right", () => {
    const tokens = new Tokens([{ token: "secret", user: "bot", groups: ["g"] }]);
    expect(tokens.identityOf("secret")?.user).toBe("bot");
    expect(tokens.identityOf("secre")).toBeUndefined();
    expect(tokens.identityOf("")).toBeUndefined();
  });
});

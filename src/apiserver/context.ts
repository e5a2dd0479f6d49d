// What the parts of the API server share.

import type { Resource } from "../api/resource.ts";
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import type { SqliteStore } from "../store/sqlite/sqlite-store.ts";
import type { RuleSource } from "./authorize.ts";
import type { Identity, Tokens } from "./identity.ts";
import type { PodLogs } from "./pod-logs.ts";

export interface Context {
  readonly store: SqliteStore;
  readonly clock: Clock;
  readonly log: Logger;
  readonly podLogs: PodLogs | undefined;
  readonly tokens: Tokens;
  readonly rules: RuleSource;
}

/** A request that has passed authorization, about one resource. */
export interface Target {
  readonly resource: Resource;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
  readonly verb: string;
  readonly identity: Identity;
}

/** The rules as they are stored. */
export function storedRules(store: SqliteStore): RuleSource {
  const group = "rbac.authorization.k8s.io";
  const view = () => store.view();
  return {
    clusterRole: (name) => view().get(`clusterroles.${group}`, undefined, name),
    role: (namespace, name) => view().get(`roles.${group}`, namespace, name),
    clusterRoleBindings: () => view().list(`clusterrolebindings.${group}`),
    roleBindings: (namespace) => view().list(`rolebindings.${group}`, namespace),
  };
}

// Questions about access that are asked by creating an object which is not kept: who am I, may I, may they, what may I
// (authentication.k8s.io and authorization.k8s.io reviews).

import type { KubeObject } from "../api/object.ts";
import { type Resource, resourceKey } from "../api/resource.ts";
import { StatusError } from "../api/status-error.ts";
import { sendObject } from "./answer.ts";
import { type Attributes, authorize, rulesOf } from "./authorize.ts";
import { readObject } from "./body.ts";
import type { Context, Target } from "./context.ts";
import type { Exchange } from "./exchange.ts";
import { type Identity, impliedGroups, withAuthenticated } from "./identity.ts";
import { negotiate } from "./negotiate.ts";
import { methodNotAllowed } from "./resource-requests.ts";

type Review = (context: Context, target: Target, review: KubeObject) => Record<string, unknown>;

const reviews: Readonly<Record<string, Review>> = {
  "selfsubjectreviews.authentication.k8s.io": (_context, { identity }) => ({
    status: { userInfo: userInfo(identity) },
  }),
  "tokenreviews.authentication.k8s.io": (context, _target, review) => {
    const token: unknown = review.spec?.token;
    if (typeof token !== "string" || token === "")
      throw new StatusError(400, "BadRequest", "token is required for TokenReview in authentication");
    const identity = context.tokens.identityOf(token);
    return {
      spec: review.spec,
      status: identity ? { authenticated: true, user: userInfo(identity) } : { user: {} },
    };
  },
  "selfsubjectaccessreviews.authorization.k8s.io": (context, { identity }, review) => ({
    spec: review.spec,
    status: verdict(context, identity, review),
  }),
  "subjectaccessreviews.authorization.k8s.io": (context, _target, review) => ({
    spec: review.spec,
    status: verdict(context, subjectOf(review), review),
  }),
  "localsubjectaccessreviews.authorization.k8s.io": (context, target, review) => {
    if (review.spec?.resourceAttributes?.namespace !== target.namespace) {
      const message = `spec.resourceAttributes.namespace must match namespace: ${target.namespace}`;
      throw new StatusError(400, "BadRequest", message);
    }
    return { spec: review.spec, status: verdict(context, subjectOf(review), review) };
  },
  "selfsubjectrulesreviews.authorization.k8s.io": (context, { identity }, review) => {
    const rules = rulesOf(identity, review.spec?.namespace, context.rules);
    return {
      spec: {},
      status: {
        resourceRules: rules
          .filter((rule) => rule.resources)
          .map(({ verbs, apiGroups, resources, resourceNames }) => ({ verbs, apiGroups, resources, resourceNames })),
        nonResourceRules: rules
          .filter((rule) => rule.nonResourceURLs)
          .map(({ verbs, nonResourceURLs }) => ({ verbs, nonResourceURLs })),
        incomplete: false,
      },
    };
  },
};

export function isReview(resource: Resource): boolean {
  return Object.hasOwn(reviews, resourceKey(resource));
}

export async function serveReview(context: Context, exchange: Exchange, target: Target): Promise<void> {
  if (target.verb !== "create" || target.name !== undefined) throw methodNotAllowed();
  const { resource } = target;
  const accepted = negotiate(exchange.header("accept"), exchange.query);
  const { value } = await readObject(exchange, resource.kind);
  const review = (value ?? {}) as KubeObject;
  const answer = reviews[resourceKey(resource)]!(context, target, review);
  const body = {
    kind: resource.kind,
    apiVersion: `${resource.group}/${resource.version}`,
    metadata: { creationTimestamp: null, ...review.metadata },
    ...answer,
  };
  sendObject(exchange, accepted, body, 201);
}

function userInfo({ user, uid, groups, extra }: Identity): Record<string, unknown> {
  return { username: user, ...(uid ? { uid } : {}), groups, ...(extra ? { extra } : {}) };
}

function subjectOf(review: KubeObject): Identity {
  const { user = "", groups = [], uid } = review.spec ?? {};
  return { user, groups, ...(uid ? { uid } : {}) };
}

function verdict(context: Context, identity: Identity, review: KubeObject): Record<string, unknown> {
  const { resourceAttributes, nonResourceAttributes } = review.spec ?? {};
  if (!resourceAttributes === !nonResourceAttributes) {
    const message = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
    throw new StatusError(400, "BadRequest", message);
  }
  const attributes: Attributes = nonResourceAttributes
    ? { verb: nonResourceAttributes.verb ?? "", path: nonResourceAttributes.path ?? "" }
    : {
        verb: resourceAttributes.verb ?? "",
        group: resourceAttributes.group ?? "",
        resource: resourceAttributes.resource ?? "",
        subresource: resourceAttributes.subresource,
        namespace: resourceAttributes.namespace || undefined,
        name: resourceAttributes.name || undefined,
      };
  const { allowed, reason } = authorize(identity, attributes, context.rules);
  return { allowed, ...(reason ? { reason } : {}) };
}

/** The identity a request acts under (`kubectl --as`): the caller's, or one that it may impersonate. */
export function impersonated(exchange: Exchange, identity: Identity, context: Context): Identity {
  const user = exchange.header("impersonate-user");
  const groups = exchange.headerValues("impersonate-group");
  if (!user) {
    if (groups.length === 0) return identity;
    throw new StatusError(400, "BadRequest", "requested groups without impersonating a user");
  }
  const may = (resource: string, name: string, namespace?: string) => {
    const attributes = { verb: "impersonate", resource, name, ...(namespace ? { namespace } : {}) };
    if (authorize(identity, attributes, context.rules).allowed) return;
    const where = namespace ? `in the namespace ${JSON.stringify(namespace)}` : "at the cluster scope";
    const message = `${resource} ${JSON.stringify(name)} is forbidden: User ${JSON.stringify(identity.user)} cannot impersonate resource ${JSON.stringify(resource)} in API group "" ${where}`;
    throw new StatusError(403, "Forbidden", message, { name, kind: resource });
  };
  const account = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(user);
  if (account) may("serviceaccounts", account[2]!, account[1]);
  else may("users", user);
  for (const group of groups) may("groups", group);
  return { user, groups: withAuthenticated(groups.length === 0 ? impliedGroups(user) : groups) };
}

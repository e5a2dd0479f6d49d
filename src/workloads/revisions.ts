// The history of StatefulSets and DaemonSets: one ControllerRevision a template, numbered, as `kubectl rollout history|undo`
// read them. Deployments keep theirs in ReplicaSets. Upstream: pkg/controller/history/controller_history.go.

import { semanticEqual } from "../api/data.ts";
import { type ControllerRevision, ControllerRevisions, type PodTemplateSpec } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import type { Resource } from "../api/resource.ts";
import { controllerReference, type Objects } from "./objects.ts";
import { claim } from "./ownership.ts";
import { podTemplateHash } from "./pod-template-hash.ts";

export const revisionHashLabel = "controller-revision-hash";

/** The template that a revision keeps. */
export function templateOf(revision: ControllerRevision): PodTemplateSpec {
  const { $patch: _patch, ...template } = (revision.data as { spec: { template: Record<string, unknown> } }).spec
    .template;
  return template as unknown as PodTemplateSpec;
}

export interface Revisions {
  /** Of the template as it is now. */
  readonly update: ControllerRevision;
  /** Oldest first, `update` included. */
  readonly all: readonly ControllerRevision[];
}

/** The revisions of `owner`, with one for its present template: made, or raised to the newest number when it is an old one. */
export async function syncRevisions(objects: Objects, ownerResource: Resource, owner: KubeObject): Promise<Revisions> {
  const template = owner.spec.template as PodTemplateSpec;
  const found = (await claim(
    objects,
    ControllerRevisions,
    ownerResource,
    owner,
    owner.spec.selector,
  )) as ControllerRevision[];
  const all = [...found].sort((a, b) => (a.revision ?? 0) - (b.revision ?? 0));
  const newest = all.at(-1)?.revision ?? 0;
  const same = all.findLast((revision) => semanticEqual(templateOf(revision), template));
  if (same) {
    if (same.revision === newest) return { update: same, all };
    const raised = (await objects.update(ControllerRevisions, { ...same, revision: newest + 1 })) as ControllerRevision;
    return { update: raised, all: [...all.filter((one) => one !== same), raised] };
  }
  const taken = new Set(all.map((one) => one.metadata.name));
  let collisions = 0;
  let hash = podTemplateHash(template);
  while (taken.has(`${owner.metadata.name}-${hash}`)) hash = podTemplateHash(template, ++collisions);
  const made = (await objects.create(ControllerRevisions, {
    apiVersion: "apps/v1",
    kind: "ControllerRevision",
    metadata: {
      name: `${owner.metadata.name}-${hash}`,
      namespace: owner.metadata.namespace,
      labels: { ...template.metadata?.labels, [revisionHashLabel]: hash },
      ownerReferences: [controllerReference(ownerResource, owner)],
    },
    data: { spec: { template: { ...template, $patch: "replace" } } },
    revision: newest + 1,
  })) as ControllerRevision;
  return { update: made, all: [...all, made] };
}

/** Deletes the oldest revisions that no pod has and that exceed the limit. `live` are the names of those in use. */
export async function forgetOldRevisions(
  objects: Objects,
  all: readonly ControllerRevision[],
  live: ReadonlySet<string>,
  limit: number,
): Promise<void> {
  const idle = all.filter((one) => !live.has(one.metadata.name));
  await Promise.all(
    idle.slice(0, Math.max(0, idle.length - limit)).map((one) => objects.delete(ControllerRevisions, one)),
  );
}

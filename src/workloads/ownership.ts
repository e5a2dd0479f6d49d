// Which of the objects in a namespace belong to a controller: those that it owns and its selector takes, orphans that the
// selector takes (adopted), and not those that it owns but no longer takes (released). Upstream: controller_ref_manager.go.

import type { LabelSelector } from "../api/kinds.ts";
import type { KubeObject, OwnerReference } from "../api/object.ts";
import type { Resource } from "../api/resource.ts";
import { type Labels, matchesLabelSelector } from "../api/selectors.ts";
import { controllerOf, controllerReference, type Objects, orphansOf } from "./objects.ts";

export interface Claims {
  /** Owned, and to be kept. */
  readonly owned: readonly KubeObject[];
  readonly adopt: readonly KubeObject[];
  readonly release: readonly KubeObject[];
}

/** A LabelSelector as a function, for many objects: the common case of matchLabels alone is unpacked once. */
export function selectorTest(selector: LabelSelector | undefined): (labels: Labels | undefined) => boolean {
  if (!selector || (selector.matchExpressions?.length ?? 0) > 0)
    return (labels) => matchesLabelSelector(selector, labels);
  const pairs = Object.entries(selector.matchLabels ?? {});
  return (labels) => pairs.every(([key, value]) => labels?.[key] === value);
}

/** Pure. `owned` are those with this controller, `orphans` those of the namespace without any. */
export function claims(
  owner: KubeObject,
  selector: LabelSelector | undefined,
  owned: readonly KubeObject[],
  orphans: readonly KubeObject[],
): Claims {
  const matches = selectorTest(selector);
  const takes = (object: KubeObject) => matches(object.metadata.labels);
  const leaving = owner.metadata.deletionTimestamp !== undefined;
  return {
    owned: owned.filter(takes),
    adopt: leaving ? [] : orphans.filter((one) => one.metadata.deletionTimestamp === undefined && takes(one)),
    release: leaving ? [] : owned.filter((one) => one.metadata.deletionTimestamp === undefined && !takes(one)),
  };
}

/** All objects of `kind` that belong to `owner`, after adopting and releasing what has to be. */
export async function claim(
  objects: Objects,
  kind: Resource,
  ownerResource: Resource,
  owner: KubeObject,
  selector: LabelSelector | undefined,
): Promise<readonly KubeObject[]> {
  const index = objects.byController(kind);
  const found = claims(
    owner,
    selector,
    index.where(owner.metadata.uid ?? ""),
    index.where(orphansOf(owner.metadata.namespace)),
  );
  const references = (one: KubeObject): readonly OwnerReference[] => one.metadata.ownerReferences ?? [];
  const adopted = await Promise.all(
    found.adopt.map((one) =>
      objects.updateMetadata(kind, one, {
        ownerReferences: [...references(one), controllerReference(ownerResource, owner)],
      }),
    ),
  );
  await Promise.all(
    found.release.map((one) =>
      objects.updateMetadata(kind, one, {
        ownerReferences: references(one).filter((reference) => reference.uid !== owner.metadata.uid),
      }),
    ),
  );
  return [...found.owned, ...adopted];
}

/** Tells, for a change of a controlled object, which owners may have to act: its controller, or whoever might adopt it. */
export function ownersOf(
  objects: Objects,
  ownerResource: Resource,
  change: { readonly before?: KubeObject; readonly after?: KubeObject },
): readonly string[] {
  const names = new Set<string>();
  for (const object of [change.before, change.after]) {
    if (!object) continue;
    const namespace = object.metadata.namespace ?? "";
    const controller = controllerOf(object.metadata);
    if (controller) {
      if (controller.kind === ownerResource.kind) names.add(`${namespace}/${controller.name}`);
      continue;
    }
    if (object !== change.after || object.metadata.labels === undefined) continue;
    const candidates = objects.indexed(ownerResource, "by-namespace", (one) => [one.metadata.namespace ?? ""]);
    for (const owner of candidates.where(namespace)) {
      if (matchesLabelSelector(owner.spec?.selector, object.metadata.labels))
        names.add(`${namespace}/${owner.metadata.name}`);
    }
  }
  return [...names];
}

// `--fill` for a stack: asks what is there, lets `fill` make up the rest, and gives it as manifests with the reasons in words.

import type { KubeObject } from "../api/object.ts";
import { createAuthority } from "../identity/authority.ts";
import { openAuthority } from "../identity/authority-store.ts";
import { fill } from "./fill.ts";
import type { Manifest } from "./manifests.ts";
import { stackPaths } from "./stack.ts";

export interface FilledManifests {
  readonly manifests: readonly Manifest[];
  /** A line for each: `Service orders-team/orders-v2: named by HTTPRoute …`. */
  readonly reasons: readonly string[];
}

/** Types of objects that are looked for before something is made up. */
const lookedFor = ["namespaces", "services", "secrets", "gatewayclasses", "ingressclasses", "deployments", "gateways"];

/**
 * What `given` refers to and neither `given` nor the stack has. `list` gives all objects of a type in the stack; certificates
 * come from the authority of the stack named, or from one that is made for this call alone.
 */
export async function fillManifests(
  given: readonly Manifest[],
  namespace: string,
  stack: string | undefined,
  list: (type: string) => Promise<readonly KubeObject[]>,
): Promise<FilledManifests> {
  const existing = (await Promise.all(lookedFor.map(list))).flat();
  const authority =
    stack === undefined
      ? await createAuthority("fairlead")
      : await openAuthority(stackPaths(stack).pki, `fairlead ${stack}`);
  const filled = await fill(
    given.map(({ object }) => object),
    existing,
    { namespace, issue: (names) => authority.issueServer(names) },
  );
  return filled;
}

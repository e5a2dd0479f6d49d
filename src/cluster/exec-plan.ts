// How `fairlead exec` runs a command: from the words `NAMESPACE/POD` or `node/NAME` to the argv that enters that network.

import type { KubeObject } from "../api/object.ts";
import { UserError } from "../base/errors.ts";
import type { Collection } from "../collections/collection.ts";
import type { NetworkTarget, PodNetwork } from "../node/network.ts";
import type { ExecPlan } from "./control-api.ts";

/** Throws a UserError when there is no such pod or node. */
export function execPlan(target: string, pods: Collection<KubeObject>, network: PodNetwork): ExecPlan {
  const plan = (place: NetworkTarget): ExecPlan => {
    const argv = network.command(place, []);
    if (network.kind === "netns") return { argv };
    return { argv, note: "note: the loopback network has no namespaces; the command runs on the host as it is" };
  };
  const [space, name, ...more] = target.split("/");
  if (!space || !name || more.length > 0) {
    throw new UserError(`"${target}" is neither NAMESPACE/POD nor node/NAME`, { exitCode: 2 });
  }
  if (space === "node") {
    if (network.place({ node: name })) return plan({ node: name });
    throw new UserError(`there is no node "${name}"`, { remedy: "List them with: fairlead get nodes" });
  }
  const pod = pods.get(target);
  if (!pod)
    throw new UserError(`there is no pod "${target}"`, { remedy: `List them with: fairlead get pods -n ${space}` });
  const uid = pod.metadata.uid ?? "";
  if (network.place({ pod: uid })) return plan({ pod: uid });
  throw new UserError(`pod "${target}" has no network yet`, {
    remedy: `Look at it with: fairlead get pods -n ${space}`,
  });
}

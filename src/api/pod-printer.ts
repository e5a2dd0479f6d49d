// The row of a pod (printPod in pkg/printers/internalversion): a status that sums up phase, containers and deletion, and a
// restart count with the age of the last restart.

import { ageOf } from "./duration.ts";
import type { ContainerStatus, Pod } from "./generated/core.ts";
import type { KubeObject } from "./object.ts";
import type { Cell } from "./table.ts";

const none = "<none>";

export function printPod(object: KubeObject, now: number): readonly Cell[] {
  const pod = object as Pod;
  const { status, ready, total, restarts, lastRestart } = summarize(pod);
  const restartText =
    restarts > 0 && lastRestart !== undefined ? `${restarts} (${ageOf(lastRestart, now)} ago)` : String(restarts);
  const gates = pod.spec?.readinessGates ?? [];
  const conditions = pod.status?.conditions ?? [];
  const gatesTrue = gates.filter((gate) =>
    conditions.some((one) => one.type === gate.conditionType && one.status === "True"),
  );
  return [
    pod.metadata.name,
    `${ready}/${total}`,
    status,
    restartText,
    ageOf(pod.metadata.creationTimestamp, now),
    pod.status?.podIPs?.[0]?.ip ?? pod.status?.podIP ?? none,
    pod.spec?.nodeName || none,
    pod.status?.nominatedNodeName || none,
    gates.length > 0 ? `${gatesTrue.length}/${gates.length}` : none,
  ];
}

interface Summary {
  readonly status: string;
  readonly ready: number;
  readonly total: number;
  readonly restarts: number;
  readonly lastRestart: string | undefined;
}

function summarize(pod: Pod): Summary {
  const initStatuses = pod.status?.initContainerStatuses ?? [];
  const sidecars = new Set(
    (pod.spec?.initContainers ?? []).filter((one) => one.restartPolicy === "Always").map((one) => one.name),
  );
  const total = (pod.spec?.containers?.length ?? 0) + sidecars.size;
  let status = pod.status?.reason || pod.status?.phase || "Unknown";
  const conditions = pod.status?.conditions ?? [];
  if (conditions.some((one) => one.type === "PodScheduled" && one.reason === "SchedulingGated"))
    status = "SchedulingGated";
  let restarts = 0;
  let ready = 0;
  let lastRestart: string | undefined;
  const restarted = (one: ContainerStatus) => {
    restarts += one.restartCount ?? 0;
    const at = one.lastState?.terminated?.finishedAt;
    if (at && (lastRestart === undefined || at > lastRestart)) lastRestart = at;
  };
  let initializing = false;
  for (const [index, one] of initStatuses.entries()) {
    restarted(one);
    const sidecar = sidecars.has(one.name);
    if (sidecar && one.started) {
      if (one.ready) ready++;
      continue;
    }
    const state = one.state ?? {};
    if (state.terminated) {
      if (state.terminated.exitCode === 0) continue;
      status = `Init:${state.terminated.reason || (state.terminated.signal ? `Signal:${state.terminated.signal}` : `ExitCode:${state.terminated.exitCode}`)}`;
    } else if (state.waiting?.reason && state.waiting.reason !== "PodInitializing")
      status = `Init:${state.waiting.reason}`;
    else status = `Init:${index}/${pod.spec?.initContainers?.length ?? 0}`;
    initializing = true;
    break;
  }
  if (!initializing || conditions.some((one) => one.type === "Initialized" && one.status === "True")) {
    if (sidecars.size === 0) restarts = 0;
    let running = false;
    for (const one of [...(pod.status?.containerStatuses ?? [])].reverse()) {
      restarted(one);
      const state = one.state ?? {};
      if (state.waiting?.reason) status = state.waiting.reason;
      else if (state.terminated) {
        status =
          state.terminated.reason ||
          (state.terminated.signal ? `Signal:${state.terminated.signal}` : `ExitCode:${state.terminated.exitCode}`);
      } else if (one.ready && state.running) {
        running = true;
        ready++;
      }
    }
    if (status === "Completed" && running) {
      status = conditions.some((one) => one.type === "Ready" && one.status === "True") ? "Running" : "NotReady";
    }
  }
  if (pod.metadata.deletionTimestamp && pod.status?.reason === "NodeLost") status = "Unknown";
  else if (pod.metadata.deletionTimestamp && pod.status?.phase !== "Failed" && pod.status?.phase !== "Succeeded")
    status = "Terminating";
  return { status, ready, total, restarts, lastRestart };
}

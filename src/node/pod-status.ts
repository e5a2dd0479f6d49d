// The `status` of a Pod as a kubelet writes it (pkg/kubelet/kubelet_pods.go getPhase, status/generate.go), made from what the
// agent knows of its containers. A pure function: what it does not know, it keeps from the status that is there.

import type { Container, ContainerState, ContainerStatus, Pod, PodCondition, PodStatus } from "../api/kinds.ts";
import { formatTime } from "../api/strategy.ts";

/** One container as it stands. Times are milliseconds since the epoch. */
export interface ContainerView {
  readonly name: string;
  readonly image: string;
  /** What runs in its place. */
  readonly kind: "stand-in" | "command";
  readonly id: string;
  readonly state: ContainerLife;
  readonly last?: Ended;
  readonly restartCount: number;
  /** The startup probe has passed. */
  readonly started: boolean;
  readonly ready: boolean;
}

export interface Ended {
  readonly exitCode: number;
  readonly signal?: number;
  /** Completed, Error, OOMKilled… */
  readonly reason: string;
  readonly message?: string;
  readonly startedAt: number;
  readonly finishedAt: number;
}

export type ContainerLife =
  | { readonly kind: "waiting"; readonly reason: string; readonly message?: string }
  | { readonly kind: "running"; readonly startedAt: number }
  | ({ readonly kind: "terminated" } & Ended);

/** A pod as it stands on its node. */
export interface PodView {
  readonly hostIPs: readonly string[];
  /** None until its sandbox is there. */
  readonly podIPs: readonly string[];
  readonly startTime: number;
  readonly initContainers: readonly ContainerView[];
  readonly containers: readonly ContainerView[];
}

type Phase = NonNullable<PodStatus["phase"]>;

export function podStatus(pod: Pod, view: PodView, now: number): PodStatus {
  const phase = phaseOf(pod, view);
  const before = pod.status ?? {};
  const observedGeneration = pod.metadata.generation;
  return {
    ...before,
    ...(observedGeneration === undefined ? {} : { observedGeneration }),
    phase,
    conditions: conditionsOf(pod, view, phase, now),
    hostIP: view.hostIPs[0],
    hostIPs: view.hostIPs.map((ip) => ({ ip })),
    ...(view.podIPs.length === 0 ? {} : { podIP: view.podIPs[0], podIPs: view.podIPs.map((ip) => ({ ip })) }),
    startTime: before.startTime ?? formatTime(view.startTime),
    ...(view.initContainers.length > 0 ? { initContainerStatuses: view.initContainers.map(containerStatus) } : {}),
    containerStatuses: view.containers.map(containerStatus).sort((a, b) => (a.name < b.name ? -1 : 1)),
    qosClass: before.qosClass ?? qosClass(pod),
  };
}

/** Whether a container that ended is started again. Sidecars always are; init containers until they ended well. */
export function isRestarted(
  pod: Pod,
  container: Pick<Container, "restartPolicy">,
  exitCode: number,
  isInit = false,
): boolean {
  const policy = container.restartPolicy ?? pod.spec?.restartPolicy ?? "Always";
  if (isInit && !isSidecar(container)) return exitCode !== 0 && policy !== "Never";
  return policy === "Always" || (policy === "OnFailure" && exitCode !== 0);
}

export function isSidecar(container: Pick<Container, "restartPolicy">): boolean {
  return container.restartPolicy === "Always";
}

/** Whether what must run before the containers has done its part: init containers ended well, sidecars started. */
export function isInitialized(pod: Pod, view: PodView): boolean {
  if (view.containers.some((one) => one.state.kind !== "waiting" || one.last !== undefined)) return true;
  return view.initContainers.every((one) => {
    const spec = pod.spec?.initContainers?.find(({ name }) => name === one.name);
    if (spec && isSidecar(spec)) return one.state.kind === "running" && one.started;
    return one.state.kind === "terminated" && one.state.exitCode === 0;
  });
}

export function phaseOf(pod: Pod, view: PodView): Phase {
  const before = pod.status?.phase;
  if (before === "Failed" || before === "Succeeded") return before;
  const policy = pod.spec?.restartPolicy ?? "Always";
  const failedInit = view.initContainers.some((one) => {
    const spec = pod.spec?.initContainers?.find(({ name }) => name === one.name);
    const lasting = spec !== undefined && isSidecar(spec);
    return one.state.kind === "terminated" && one.state.exitCode !== 0 && policy === "Never" && !lasting;
  });
  if (failedInit) return "Failed";
  const states = view.containers.map((one) => one.state);
  if (!isInitialized(pod, view) && states.every((state) => state.kind === "waiting")) return "Pending";
  const over = pod.metadata.deletionTimestamp !== undefined;
  // A phase that is final is said when all has ended, sidecars included (KEP-3329).
  const sidecarRuns = view.initContainers.some((one) => one.state.kind === "running");
  if (states.length > 0 && sidecarRuns && states.every((state) => state.kind === "terminated")) return "Running";
  if (states.length > 0 && states.every((state) => state.kind === "terminated")) {
    const exitCodes = states.map((state) => (state as Ended).exitCode);
    if (over || policy === "Never") return exitCodes.every((code) => code === 0) ? "Succeeded" : "Failed";
    if (policy === "OnFailure" && exitCodes.every((code) => code === 0)) return "Succeeded";
    return "Running";
  }
  // A container that waits to be started again has run before.
  const begun = view.containers.some((one) => one.state.kind !== "waiting" || one.last !== undefined);
  return begun ? "Running" : "Pending";
}

function conditionsOf(pod: Pod, view: PodView, phase: Phase, now: number): readonly PodCondition[] {
  const before = pod.status?.conditions ?? [];
  const sidecars = view.initContainers.filter((one) => {
    const spec = pod.spec?.initContainers?.find(({ name }) => name === one.name);
    return spec !== undefined && isSidecar(spec);
  });
  const all = [...view.containers, ...sidecars];
  const unready = all.filter((one) => !one.ready).map((one) => one.name);
  const initialized = isInitialized(pod, view);
  const uninitialized = view.initContainers.filter((one) => {
    return !(one.state.kind === "terminated" && one.state.exitCode === 0) && !(sidecars.includes(one) && one.started);
  });
  const gates = (pod.spec?.readinessGates ?? []).map((gate) => gate.conditionType);
  const closed = gates.filter((gate) => before.find((one) => one.type === gate)?.status !== "True");

  const finished = phase === "Succeeded" || phase === "Failed";
  let containersReady: Verdict = { status: "True" };
  if (phase === "Succeeded") containersReady = { status: "False", reason: "PodCompleted" };
  else if (phase === "Failed") containersReady = { status: "False", reason: "PodFailed" };
  else if (unready.length > 0) {
    containersReady = {
      status: "False",
      reason: "ContainersNotReady",
      message: `containers with unready status: [${unready.join(" ")}]`,
    };
  }
  let ready = containersReady;
  if (ready.status === "True" && closed.length > 0) {
    const messages = closed.map((gate) => {
      const found = before.find((one) => one.type === gate);
      return found
        ? `the status of pod readiness gate "${gate}" is not "True", but ${found.status}`
        : `corresponding condition of pod readiness gate "${gate}" does not exist.`;
    });
    ready = { status: "False", reason: "ReadinessGatesNotReady", message: messages.join(", ") };
  }
  const wanted: readonly (readonly [string, Verdict])[] = [
    ["PodReadyToStartContainers", { status: view.podIPs.length > 0 && !finished ? "True" : "False" }],
    [
      "Initialized",
      initialized || (finished && phase === "Succeeded")
        ? { status: "True", ...(phase === "Succeeded" ? { reason: "PodCompleted" } : {}) }
        : {
            status: "False",
            reason: "ContainersNotInitialized",
            message: `containers with incomplete status: [${uninitialized.map((one) => one.name).join(" ")}]`,
          },
    ],
    ["Ready", ready],
    ["ContainersReady", containersReady],
    ["PodScheduled", { status: "True" }],
  ];
  const own = new Set(wanted.map(([type]) => type));
  return [
    ...before.filter((one) => !own.has(one.type)),
    ...wanted.map(([type, verdict]) => condition(pod, type, verdict, now)),
  ];
}

interface Verdict {
  readonly status: "True" | "False";
  readonly reason?: string;
  readonly message?: string;
}

function condition(pod: Pod, type: string, verdict: Verdict, now: number): PodCondition {
  const before = pod.status?.conditions?.find((one) => one.type === type);
  const since = before?.status === verdict.status ? before.lastTransitionTime : undefined;
  const generation = pod.metadata.generation;
  return {
    type,
    status: verdict.status,
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    lastTransitionTime: since ?? formatTime(now),
    ...(verdict.reason ? { reason: verdict.reason } : {}),
    ...(verdict.message ? { message: verdict.message } : {}),
  };
}

function containerStatus(view: ContainerView): ContainerStatus {
  const last = view.last;
  return {
    name: view.name,
    state: stateOf(view, view.state),
    lastState: last ? { terminated: terminated(view, last) } : {},
    ready: view.ready,
    restartCount: view.restartCount,
    image: view.image,
    imageID: view.state.kind === "waiting" && !last ? "" : `fairlead.dev/${view.kind}`,
    ...(view.state.kind === "waiting" && !last ? {} : { containerID: view.id }),
    started: view.started,
  };
}

function stateOf(view: ContainerView, state: ContainerLife): ContainerState {
  switch (state.kind) {
    case "waiting":
      return { waiting: { reason: state.reason, ...(state.message ? { message: state.message } : {}) } };
    case "running":
      return { running: { startedAt: formatTime(state.startedAt) } };
    case "terminated":
      return { terminated: terminated(view, state) };
  }
}

function terminated(view: ContainerView, ended: Ended): NonNullable<ContainerState["terminated"]> {
  return {
    exitCode: ended.exitCode,
    ...(ended.signal ? { signal: ended.signal } : {}),
    reason: ended.reason,
    ...(ended.message ? { message: ended.message } : {}),
    startedAt: formatTime(ended.startedAt),
    finishedAt: formatTime(ended.finishedAt),
    containerID: view.id,
  };
}

/** core/v1 helper qos GetPodQOS: by CPU and memory of all containers. */
export function qosClass(pod: Pod): NonNullable<PodStatus["qosClass"]> {
  const containers = [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? [])];
  const counted = ["cpu", "memory"];
  let any = false;
  let guaranteed = true;
  for (const { resources } of containers) {
    for (const name of counted) {
      const limit = resources?.limits?.[name];
      const request = resources?.requests?.[name] ?? limit;
      if (limit !== undefined || request !== undefined) any = true;
      if (limit === undefined || request !== limit) guaranteed = false;
    }
  }
  if (!any) return "BestEffort";
  return guaranteed ? "Guaranteed" : "Burstable";
}

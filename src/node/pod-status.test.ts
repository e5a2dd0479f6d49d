import { describe, expect, test } from "bun:test";
import type { Container, Pod } from "../api/kinds.ts";
import {
  type ContainerLife,
  type ContainerView,
  isRestarted,
  type PodView,
  podStatus,
  qosClass,
} from "./pod-status.ts";

const now = Date.UTC(2026, 0, 1, 12);

function pod(spec: Record<string, unknown> = {}, more: Record<string, unknown> = {}): Pod {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "cart", namespace: "shop", generation: 1 },
    spec: { containers: [{ name: "app" }], ...spec },
    ...more,
  } as unknown as Pod;
}

function container(state: ContainerLife, more: Partial<ContainerView> = {}): ContainerView {
  const up = state.kind === "running";
  return {
    name: "app",
    image: "app:1",
    kind: "command",
    id: "x",
    state,
    restartCount: 0,
    started: up,
    ready: up,
    ...more,
  };
}

const running: ContainerLife = { kind: "running", startedAt: now };
const ended = (exitCode: number): ContainerLife => ({
  kind: "terminated",
  exitCode,
  reason: exitCode === 0 ? "Completed" : "Error",
  startedAt: now,
  finishedAt: now,
});

function view(containers: readonly ContainerView[], initContainers: readonly ContainerView[] = []): PodView {
  return { hostIPs: ["10.98.0.1"], podIPs: ["10.244.0.5"], startTime: now, containers, initContainers };
}

const conditionsOf = (of: Pod, seen: PodView) =>
  Object.fromEntries((podStatus(of, seen, now).conditions ?? []).map((one) => [one.type, one]));

describe("the status of a pod", () => {
  test("is Running and Ready when its containers are", () => {
    const status = podStatus(pod(), view([container(running)]), now);
    expect(status).toMatchObject({
      phase: "Running",
      podIP: "10.244.0.5",
      hostIP: "10.98.0.1",
      qosClass: "BestEffort",
    });
    expect(status.conditions?.map(({ type, status }) => `${type}=${status}`)).toEqual([
      "PodReadyToStartContainers=True",
      "Initialized=True",
      "Ready=True",
      "ContainersReady=True",
      "PodScheduled=True",
    ]);
  });

  test("names the containers that are not ready", () => {
    const two = view([container(running), container(running, { name: "side", ready: false })]);
    expect(conditionsOf(pod(), two)["Ready"]).toMatchObject({
      status: "False",
      reason: "ContainersNotReady",
      message: "containers with unready status: [side]",
    });
  });

  test("stays Pending until init containers have ended well", () => {
    const init = { initContainers: [{ name: "migrate" }] };
    const waiting = view(
      [container({ kind: "waiting", reason: "PodInitializing" })],
      [container(running, { name: "migrate" })],
    );
    expect(podStatus(pod(init), waiting, now).phase).toBe("Pending");
    expect(conditionsOf(pod(init), waiting)["Initialized"]).toMatchObject({
      status: "False",
      message: "containers with incomplete status: [migrate]",
    });
  });

  test("is Failed when an init container fails and nothing is restarted", () => {
    const spec = { restartPolicy: "Never", initContainers: [{ name: "migrate" }] };
    const seen = view(
      [container({ kind: "waiting", reason: "PodInitializing" })],
      [container(ended(1), { name: "migrate" })],
    );
    expect(podStatus(pod(spec), seen, now).phase).toBe("Failed");
  });

  test("ends Succeeded or Failed by exit codes when its containers are not restarted", () => {
    expect(podStatus(pod({ restartPolicy: "Never" }), view([container(ended(0))]), now).phase).toBe("Succeeded");
    expect(podStatus(pod({ restartPolicy: "Never" }), view([container(ended(3))]), now).phase).toBe("Failed");
    expect(podStatus(pod({ restartPolicy: "OnFailure" }), view([container(ended(3))]), now).phase).toBe("Running");
    expect(conditionsOf(pod({ restartPolicy: "Never" }), view([container(ended(0))]))["Ready"]).toMatchObject({
      reason: "PodCompleted",
    });
  });

  test("is still Running between a crash and the next start", () => {
    const crashed = { exitCode: 1, reason: "Error", startedAt: now, finishedAt: now };
    const waiting = container({ kind: "waiting", reason: "CrashLoopBackOff" }, { last: crashed, restartCount: 2 });
    const status = podStatus(pod(), view([waiting]), now);
    expect(status.phase).toBe("Running");
    expect(status.containerStatuses?.[0]).toMatchObject({
      restartCount: 2,
      state: { waiting: { reason: "CrashLoopBackOff" } },
      lastState: { terminated: { exitCode: 1 } },
    });
  });

  test("waits for readiness gates that others open, and keeps their conditions", () => {
    const gated = pod(
      { readinessGates: [{ conditionType: "example.com/in-pool" }] },
      { status: { conditions: [{ type: "example.com/in-pool", status: "False" }] } },
    );
    const conditions = conditionsOf(gated, view([container(running)]));
    expect(conditions["ContainersReady"]?.status).toBe("True");
    expect(conditions["Ready"]).toMatchObject({ status: "False", reason: "ReadinessGatesNotReady" });
    expect(conditions["example.com/in-pool"]?.status).toBe("False");
  });

  test("keeps the time of a condition that did not change", () => {
    const before = podStatus(pod(), view([container(running)]), now);
    const after = podStatus(pod({}, { status: before }), view([container(running)]), now + 60_000);
    expect(after).toEqual(before);
  });
});

test("what ended is restarted by the pod's policy; init containers only after a failure; sidecars always", () => {
  const plain = {} as Container;
  const sidecar = { restartPolicy: "Always" } as Container;
  expect(isRestarted(pod(), plain, 0)).toBe(true);
  expect(isRestarted(pod(), plain, 0, true)).toBe(false);
  expect(isRestarted(pod(), plain, 1, true)).toBe(true);
  expect(isRestarted(pod({ restartPolicy: "Never" }), plain, 1, true)).toBe(false);
  expect(isRestarted(pod({ restartPolicy: "OnFailure" }), plain, 0)).toBe(false);
  expect(isRestarted(pod({ restartPolicy: "Never" }), sidecar, 0, true)).toBe(true);
});

test("the QoS class follows requests and limits of all containers", () => {
  const resources = { requests: { cpu: "1", memory: "1Gi" }, limits: { cpu: "1", memory: "1Gi" } };
  expect(qosClass(pod({ containers: [{ name: "a", resources }] }))).toBe("Guaranteed");
  expect(qosClass(pod({ containers: [{ name: "a", resources }, { name: "b" }] }))).toBe("Burstable");
});

describe("a pod with a sidecar", () => {
  const spec = {
    restartPolicy: "Never",
    initContainers: [{ name: "side", restartPolicy: "Always" }, { name: "init" }],
  };
  const side = (state: ContainerLife) => container(state, { name: "side" });
  const init = container(ended(0), { name: "init" });
  const waiting: ContainerLife = { kind: "waiting", reason: "PodInitializing" };

  test("is not initialized before the sidecar has started, and stays so when it is started again later", () => {
    const before = view([container(waiting)], [{ ...side(running), started: false }, init]);
    expect(conditionsOf(pod(spec), before)["Initialized"]).toMatchObject({
      status: "False",
      message: "containers with incomplete status: [side]",
    });
    const later = view([container(running)], [{ ...side(waiting), started: false }, init]);
    expect(conditionsOf(pod(spec), later)["Initialized"]).toMatchObject({ status: "True" });
    expect(conditionsOf(pod(spec), later)["Ready"]).toMatchObject({ status: "False" });
  });

  test("ends when its containers and then the sidecar have, however that ends", () => {
    expect(podStatus(pod(spec), view([container(ended(0))], [side(running), init]), now).phase).toBe("Running");
    expect(podStatus(pod(spec), view([container(ended(0))], [side(ended(143)), init]), now).phase).toBe("Succeeded");
    expect(podStatus(pod(spec), view([container(ended(1))], [side(ended(0)), init]), now).phase).toBe("Failed");
  });
});

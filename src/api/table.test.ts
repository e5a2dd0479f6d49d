import { describe, expect, test } from "bun:test";
import { setCondition } from "./conditions.ts";
import { humanDuration } from "./duration.ts";
import { select } from "./json-path.ts";
import { Gateways, Nodes, Pods } from "./kinds.ts";
import { builtinScheme } from "./scheme.ts";
import { tableFor } from "./table.ts";

const scheme = builtinScheme();
const now = Date.UTC(2026, 0, 2);
const metadata = { name: "x", creationTimestamp: "2026-01-01T00:00:00Z" };

describe("tables", () => {
  test("a pod sums up its containers", () => {
    const pod = {
      apiVersion: "v1",
      kind: "Pod",
      metadata,
      spec: { containers: [{ name: "a" }, { name: "b" }], nodeName: "n1" },
      status: {
        phase: "Running",
        podIP: "10.244.1.2",
        containerStatuses: [
          {
            name: "a",
            ready: true,
            restartCount: 2,
            state: { running: {} },
            lastState: { terminated: { finishedAt: "2026-01-01T23:59:00Z", exitCode: 1 } },
          },
          { name: "b", ready: false, restartCount: 0, state: { waiting: { reason: "CrashLoopBackOff" } } },
        ],
      },
    };
    const [row] = tableFor(scheme, Pods, [pod], { now, includeObject: "None" }).rows;
    expect(row?.cells).toEqual([
      "x",
      "1/2",
      "CrashLoopBackOff",
      "2 (60s ago)",
      "24h",
      "10.244.1.2",
      "n1",
      "<none>",
      "<none>",
    ]);
    expect(row?.object).toBeNull();
  });

  test("a pod being deleted is Terminating", () => {
    const pod = {
      apiVersion: "v1",
      kind: "Pod",
      metadata: { ...metadata, deletionTimestamp: "2026-01-02T00:00:00Z" },
      spec: { containers: [] },
      status: { phase: "Running" },
    };
    expect(tableFor(scheme, Pods, [pod], { now }).rows[0]?.cells[2]).toBe("Terminating");
  });

  test("a node tells its roles and readiness", () => {
    const node = {
      apiVersion: "v1",
      kind: "Node",
      metadata: { ...metadata, labels: { "node-role.kubernetes.io/worker": "" } },
      spec: { unschedulable: true },
      status: { conditions: [{ type: "Ready", status: "True" }], nodeInfo: { kubeletVersion: "v1" } },
    };
    expect(tableFor(scheme, Nodes, [node], { now }).rows[0]?.cells.slice(1, 5)).toEqual([
      "Ready,SchedulingDisabled",
      "worker",
      "24h",
      "v1",
    ]);
  });

  test("declared columns read their JSONPath", () => {
    const gateway = {
      apiVersion: "gateway.networking.k8s.io/v1",
      kind: "Gateway",
      metadata,
      spec: { gatewayClassName: "c" },
      status: { addresses: [{ value: "10.97.0.1" }], conditions: [{ type: "Programmed", status: "True" }] },
    };
    const table = tableFor(scheme, Gateways, [gateway], { now });
    expect(table.columnDefinitions?.map((one) => one.name)).toEqual(["Name", "Class", "Address", "Programmed", "Age"]);
    expect(table.rows[0]?.cells).toEqual(["x", "c", "10.97.0.1", "True", "24h"]);
  });
});

test("JSONPath selects fields, indexes and filtered items", () => {
  const value = {
    a: {
      "b.c": [
        { t: "x", v: 1 },
        { t: "y", v: 2 },
      ],
    },
  };
  expect(select(value, ".a['b.c'][?(@.t==\"y\")].v")).toEqual([2]);
  expect(select(value, ".a.b\\.c[*].v")).toEqual([1, 2]);
  expect(select(value, ".a['b.c'][-1].t")).toEqual(["y"]);
  expect(select(value, ".[")).toBeUndefined();
});

test("ages shorten as they grow", () => {
  const second = 1000;
  const hour = 3600 * second;
  const ages = [
    0,
    119 * second,
    120 * second,
    125 * second,
    11 * 60 * second,
    3 * hour,
    3 * hour + 60 * second,
    9 * hour,
    49 * hour,
    200 * hour,
    9000 * hour,
    20000 * hour,
  ];
  expect(ages.map(humanDuration)).toEqual([
    "0s",
    "119s",
    "2m",
    "2m5s",
    "11m",
    "3h",
    "3h1m",
    "9h",
    "2d1h",
    "8d",
    "375d",
    "2y103d",
  ]);
});

test("a condition keeps the time of its last change of status", () => {
  const first = setCondition(undefined, { type: "Ready", status: "True", reason: "A", message: "" }, now);
  const same = setCondition(first, { type: "Ready", status: "True", reason: "A", message: "" }, now + 5000);
  expect(same).toBe(first);
  const reason = setCondition(first, { type: "Ready", status: "True", reason: "B", message: "" }, now + 5000);
  expect(reason[0]?.lastTransitionTime).toBe(first[0]!.lastTransitionTime);
  const status = setCondition(first, { type: "Ready", status: "False", reason: "B", message: "" }, now + 5000);
  expect(status[0]?.lastTransitionTime).toBe("2026-01-02T00:00:05Z");
});

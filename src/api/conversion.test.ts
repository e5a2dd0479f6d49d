import { expect, test } from "bun:test";
import { convertTo } from "./conversion.ts";
import type { KubeObject } from "./object.ts";

const v2 = (spec: object, status?: object): KubeObject =>
  ({
    apiVersion: "autoscaling/v2",
    kind: "HorizontalPodAutoscaler",
    metadata: { name: "a", annotations: { own: "1" } },
    spec: { scaleTargetRef: { kind: "Deployment", name: "a" }, maxReplicas: 3, minReplicas: 1, ...spec },
    ...(status ? { status } : {}),
  }) as KubeObject;
const cpu = { type: "Resource", resource: { name: "cpu", target: { type: "Utilization", averageUtilization: 70 } } };

test("an autoscaler comes back from v1 as it was, with metrics of every kind", () => {
  const metric = { name: "queue", selector: { matchLabels: { a: "b" } } };
  const others = [
    { type: "Resource", resource: { name: "memory", target: { type: "AverageValue", averageValue: "1Gi" } } },
    {
      type: "ContainerResource",
      containerResource: { name: "cpu", container: "c", target: { type: "Utilization", averageUtilization: 5 } },
    },
    { type: "Pods", pods: { metric, target: { type: "AverageValue", averageValue: "5" } } },
    {
      type: "Object",
      object: { describedObject: { kind: "Service", name: "s" }, metric, target: { type: "Value", value: "7" } },
    },
    { type: "External", external: { metric, target: { type: "AverageValue", averageValue: "9" } } },
  ];
  const behavior = { scaleUp: { policies: [{ type: "Pods", value: 2, periodSeconds: 15 }], selectPolicy: "Max" } };
  const status = {
    currentReplicas: 1,
    currentMetrics: [{ type: "Resource", resource: { name: "cpu", current: { averageUtilization: 40 } } }],
    conditions: [{ type: "AbleToScale", status: "True" }],
  };
  const given = v2({ metrics: [...others, cpu], behavior }, status);
  const seen = convertTo(given, "autoscaling/v1");
  expect(Object.keys(seen.spec).sort()).toEqual([
    "maxReplicas",
    "minReplicas",
    "scaleTargetRef",
    "targetCPUUtilizationPercentage",
  ]);
  expect(seen.status).toEqual({ currentReplicas: 1, currentCPUUtilizationPercentage: 40 });
  expect(seen.metadata.annotations?.["autoscaling.alpha.kubernetes.io/behavior"]).toBe(
    '{"ScaleUp":{"Policies":[{"Type":"Pods","Value":2,"PeriodSeconds":15}],"SelectPolicy":"Max"}}',
  );
  expect(convertTo(seen, "autoscaling/v2") as unknown).toEqual(given);
});

test("an autoscaler of v1 aims at 80 % of the processor where nothing is said, not where annotations say more", () => {
  const { metadata, ...rest } = v2({});
  const plain = { ...rest, metadata, apiVersion: "autoscaling/v1" };
  const target = (averageUtilization: number) => ({
    ...cpu,
    resource: { name: "cpu", target: { type: "Utilization", averageUtilization } },
  });
  expect(convertTo(plain, "autoscaling/v2").spec.metrics).toEqual([target(80)]);
  const annotations = {
    "autoscaling.alpha.kubernetes.io/metrics":
      '[{"type":"Resource","resource":{"name":"cpu","targetAverageValue":"1"}}]',
    "autoscaling.alpha.kubernetes.io/behavior": "not JSON",
  };
  const told = convertTo({ ...plain, metadata: { ...metadata, annotations } }, "autoscaling/v2");
  expect(told.spec.metrics).toEqual([
    { type: "Resource", resource: { name: "cpu", target: { type: "AverageValue", averageValue: "1" } } },
  ]);
  expect([told.spec.behavior, told.metadata.annotations]).toEqual([undefined, undefined]);
});

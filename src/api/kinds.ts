// Kinds by name: a `Resource` constant for each built-in kind (`Services`, `HTTPRoutes`), and the TypeScript types of the
// kinds that this project works with. Types of other groups are in `generated/`, one file a group.

export type * from "./generated/apiextensions.ts";
export type * from "./generated/apps.ts";
export type {
  HorizontalPodAutoscaler,
  HorizontalPodAutoscalerCondition,
  HorizontalPodAutoscalerStatus,
  MetricSpec,
} from "./generated/autoscaling-v2.ts";
export type * from "./generated/batch.ts";
export * from "./generated/constants.ts";
export type * from "./generated/coordination.ts";
export type * from "./generated/core.ts";
export type {
  Endpoint,
  EndpointConditions,
  EndpointHints,
  EndpointPort,
  EndpointSlice,
} from "./generated/discovery.ts";
export type * from "./generated/gateway.ts";
export type { Condition, LabelSelector, LabelSelectorRequirement } from "./generated/meta.ts";
export type * from "./generated/networking.ts";
export type { PodDisruptionBudget, PodDisruptionBudgetStatus } from "./generated/policy.ts";

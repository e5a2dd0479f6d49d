// Whether a node's Service rules keep up: what `:10256/healthz` and `/livez` answer (pkg/proxy/healthcheck/proxy_health.go,
// 1.36). Pure.

import type { IpFamily } from "../../base/ip.ts";
import type { HealthAnswer } from "./service-health.ts";

/** Of the rules of one family; times in milliseconds since the epoch. */
export interface ProxierProgress {
  readonly family: IpFamily;
  /** When the last change was put in force; undefined before the first. */
  readonly lastApplied: number | undefined;
  /** When the oldest change came that is not in force yet. */
  readonly pendingSince: number | undefined;
}

/** A change that waits longer is late: twice kube-proxy's syncPeriod, in milliseconds. */
export const healthTimeout = 60_000;

const deletionTaint = "ToBeDeletedByClusterAutoscaler";

/** False once a node is on its way out: load balancers should take it out, too. */
export function isEligible(
  node:
    | {
        readonly metadata: { readonly deletionTimestamp?: string };
        readonly spec?: { readonly taints?: readonly { readonly key: string }[] };
      }
    | undefined,
): boolean {
  if (!node) return true;
  return (
    node.metadata.deletionTimestamp === undefined && !node.spec?.taints?.some((taint) => taint.key === deletionTaint)
  );
}

/** Whether nothing was late, and nothing is still missing its first transaction. */
export function isHealthy(families: readonly ProxierProgress[], now: number): boolean {
  return families.length > 0 && families.every((one) => familyHealthy(one, now));
}

function familyHealthy({ lastApplied, pendingSince }: ProxierProgress, now: number): boolean {
  return lastApplied !== undefined && (pendingSince === undefined || now - pendingSince < healthTimeout);
}

/** The answer to `/healthz`, or, without `eligible`, to `/livez`, which does not ask about the node. */
export function proxierAnswer(
  families: readonly ProxierProgress[],
  now: number,
  eligible: boolean | undefined,
): HealthAnswer {
  const healthy = isHealthy(families, now) && (eligible ?? true);
  const latest = Math.max(0, ...families.map((one) => one.lastApplied ?? 0));
  // Where all is well, "last updated" is now: older releases counted every look as an update.
  const shown = (isFine: boolean, at: number) => goTime(isFine ? now : at);
  const content = {
    lastUpdated: shown(healthy, latest),
    currentTime: goTime(now),
    ...(eligible === undefined ? {} : { nodeEligible: eligible }),
    healthy,
    status: Object.fromEntries(
      families.map((one) => {
        const fine = familyHealthy(one, now);
        return [`IPv${one.family}`, { lastUpdated: shown(fine, one.lastApplied ?? 0), healthy: fine }];
      }),
    ),
  };
  return {
    status: healthy ? 200 : 503,
    headers: { "Content-Type": "application/json", "X-Content-Type-Options": "nosniff" },
    body: JSON.stringify(content),
  };
}

/** Go's zero time stands for "never". */
function goTime(milliseconds: number): string {
  return milliseconds === 0 ? "0001-01-01T00:00:00Z" : new Date(milliseconds).toISOString();
}

// Gateway.status (Gateway API, GatewayStatus; GEP-1364): conditions of the Gateway and of each listener, its address, and how
// many routes are attached. Programmed speaks of what the proxies answered, never of what was asked of them.

import type { Condition, Finding, ListenerState, StatusUpdate } from "../../model/status-update.ts";
import { finding } from "./findings.ts";
import type { GatewayPlan, ListenerPlan, Verdict } from "./gateway-plan.ts";
import { condition, gatewayGroup, listenerName } from "./names.ts";
import type { GatewayView } from "./views.ts";

export interface GatewayFacts {
  /** The address from the pool; undefined while there is none. */
  readonly address: string | undefined;
  /** Why the pool gives none, when it has said so. */
  readonly addressFailure: string | undefined;
  /** What the proxies say of a listener of the model. */
  state(listener: string): ListenerState | undefined;
  attachedRoutes(listener: string): number;
}

export function gatewayStatus(gateway: GatewayView, plan: GatewayPlan, facts: GatewayFacts): StatusUpdate {
  const { generation } = gateway;
  const listeners = plan.listeners.map((listener) => ({
    name: listener.name,
    supportedKinds: listener.supportedKinds,
    attachedRoutes: facts.attachedRoutes(listener.name),
    conditions: listenerConditions(plan, listener, facts, generation),
  }));
  const usable = usableAddress(plan, facts);
  const names = new Map<string, StatusUpdate["after"][number]>();
  if (usable !== undefined) {
    for (const listener of plan.listeners) {
      if (!listener.served || listener.table === undefined) continue;
      const name = listenerName(plan.key, listener.port);
      names.set(`listeners ${name}`, { type: "listeners", name });
      names.set(`routeTables ${listener.table}`, { type: "routeTables", name: listener.table });
    }
  }
  const own = gatewayAccepted(plan);
  const programmed = gatewayProgrammed(plan, facts);
  return {
    resource: `gateways.${gatewayGroup}`,
    namespace: gateway.namespace,
    name: gateway.name,
    generation,
    status: {
      ...(usable === undefined ? {} : { addresses: [{ type: "IPAddress", value: usable }] }),
      conditions: [
        condition("Accepted", own.ok, own.reason, own.message, generation),
        condition("Programmed", programmed.ok, programmed.reason, programmed.message, generation),
      ],
      listeners,
    },
    after: [...names.values()],
  };
}

/** The status of a Gateway whose class is nobody's, where this stack answers for every Gateway. */
export function orphanStatus(gateway: GatewayView): StatusUpdate {
  const { generation } = gateway;
  const message = `GatewayClass "${gateway.spec.gatewayClassName}" does not exist`;
  return {
    resource: `gateways.${gatewayGroup}`,
    namespace: gateway.namespace,
    name: gateway.name,
    generation,
    status: {
      conditions: [
        condition("Accepted", false, "Pending", message, generation),
        condition("Programmed", false, "Pending", message, generation),
      ],
    },
    after: [],
  };
}

export function orphanFinding(gateway: GatewayView): Finding {
  const { namespace, name, spec } = gateway;
  const problem = `GatewayClass "${spec.gatewayClassName}" does not exist`;
  return finding(
    { kind: "Gateway", namespace, name },
    "spec.gatewayClassName",
    "GatewayClassNotFound",
    "error",
    problem,
    "create the GatewayClass, or name one that exists",
  );
}

/** The address that the Gateway is served at: it has one, and only the one that was asked for will do. */
export function usableAddress(plan: GatewayPlan, facts: Pick<GatewayFacts, "address">): string | undefined {
  if (!plan.accepted.ok) return undefined;
  return plan.requestedAddresses.every((requested) => requested === facts.address) ? facts.address : undefined;
}

function gatewayAccepted(plan: GatewayPlan): Verdict {
  if (!plan.accepted.ok) return plan.accepted;
  const refused = plan.listeners.filter((listener) => !listener.accepted.ok);
  if (refused.length === 0) return plan.accepted;
  const message = refused.map((listener) => `listener "${listener.name}": ${listener.accepted.message}`).join("; ");
  return { ok: refused.length < plan.listeners.length, reason: "ListenersNotValid", message };
}

function gatewayProgrammed(plan: GatewayPlan, facts: GatewayFacts): Verdict {
  if (!plan.accepted.ok) return no("Invalid", plan.accepted.message);
  const served = plan.listeners.filter((listener) => listener.served);
  if (served.length === 0) return no("Invalid", "no listener can be opened");
  const noAddress = addressProblem(plan, facts);
  if (noAddress) return noAddress;
  const verdicts = served.map((listener) => ({ listener, verdict: opened(plan, listener, facts) }));
  const failed = verdicts.filter(({ verdict }) => !verdict.ok);
  if (failed.length === 0) return yes("Programmed", `served at ${facts.address}`);
  const message = failed.map(({ listener, verdict }) => `listener "${listener.name}": ${verdict.message}`).join("; ");
  return no(failed.some(({ verdict }) => verdict.reason === "Invalid") ? "Invalid" : "Pending", message);
}

function addressProblem(plan: GatewayPlan, facts: GatewayFacts): Verdict | undefined {
  if (usableAddress(plan, facts) !== undefined) return undefined;
  if (plan.requestedAddresses.length === 0) {
    return no("AddressNotAssigned", facts.addressFailure ?? "no address is assigned yet");
  }
  const refused = plan.requestedAddresses.filter((requested) => requested !== facts.address).join(", ");
  const unassigned = facts.addressFailure ?? "the pool of load-balancer addresses has not assigned it";
  const why = plan.requestedAddresses.length > 1 ? "a Gateway has one address" : unassigned;
  return no("AddressNotUsable", `spec.addresses: ${refused} cannot be used: ${why}`);
}

/** Says that the pool has no address for a Gateway; nothing while it has not said so. */
export function addressFindings(plan: GatewayPlan, failure: string | undefined): readonly Finding[] {
  if (failure === undefined || !plan.accepted.ok) return [];
  const { namespace, name, requestedAddresses } = plan;
  const code = requestedAddresses.length === 0 ? "AddressNotAssigned" : "AddressNotUsable";
  const remedy = "ask for a free address of the pool in spec.addresses, or for none";
  return [finding({ kind: "Gateway", namespace, name }, "spec.addresses", code, "error", failure, remedy)];
}

function listenerConditions(
  plan: GatewayPlan,
  listener: ListenerPlan,
  facts: GatewayFacts,
  generation: number,
): readonly Condition[] {
  const { accepted, resolved, conflicts } = listener;
  const programmed = listenerProgrammed(plan, listener, facts);
  return [
    condition("Accepted", accepted.ok, accepted.reason, accepted.message, generation),
    condition("Programmed", programmed.ok, programmed.reason, programmed.message, generation),
    condition("ResolvedRefs", resolved.ok, resolved.reason, resolved.message, generation),
    condition("Conflicted", !conflicts.ok, conflicts.reason, conflicts.message, generation),
  ];
}

function listenerProgrammed(plan: GatewayPlan, listener: ListenerPlan, facts: GatewayFacts): Verdict {
  if (!plan.accepted.ok) return no("Invalid", plan.accepted.message);
  if (!listener.accepted.ok) return no("Invalid", listener.accepted.message);
  if (!listener.served) return no("Invalid", listener.resolved.message);
  const noAddress = addressProblem(plan, facts);
  return noAddress ? no("Pending", noAddress.message) : opened(plan, listener, facts);
}

function opened(plan: GatewayPlan, listener: ListenerPlan, facts: GatewayFacts): Verdict {
  const state = facts.state(listenerName(plan.key, listener.port));
  if (!state) return no("Pending", "the proxies have not opened it yet");
  if (state.state === "rejected") return no("Invalid", `the proxies refused it: ${state.message}`);
  return yes("Programmed", `port ${listener.port} is open`);
}

function yes(reason: string, message: string): Verdict {
  return { ok: true, reason, message };
}

function no(reason: string, message: string): Verdict {
  return { ok: false, reason, message };
}

// Names that this dialect gives: of objects in messages, of the listeners and route tables it makes, of its condition entries.

import type { ListenerName, Respond, RouteTableName } from "../../model/model.ts";
import type { Condition } from "../../model/status-update.ts";

export const gatewayGroup = "gateway.networking.k8s.io";
/** Written for parents that no GatewayClass speaks for (an embedded stack answers for every Gateway). */
export const ownController = "fairlead.dev/gateway-controller";

/** `infra/production-gateway`. */
export type GatewayKey = string;
/** `shop/orders`. */
export type RouteKey = string;

/** All listeners of a Gateway on one port are one listener of the model. */
export function listenerName(gateway: GatewayKey, port: number): ListenerName {
  return `gateway/${gateway}/${port}`;
}

/** HTTP listeners of one port share a table; each HTTPS listener, chosen by SNI, has its own. */
export function tableName(gateway: GatewayKey, port: number, httpsListener?: string): RouteTableName {
  const name = listenerName(gateway, port);
  return httpsListener === undefined ? name : `${name}/${httpsListener}`;
}

/** The owner under which the load-balancer pool keeps a Gateway's address. */
export function addressOwner(gateway: GatewayKey): string {
  return `gateway/${gateway}`;
}

/**
 * The answer in place of something that cannot be served. The reason is for logs and `explain`; clients are told only `body`,
 * since what stands in a route is its owner's business.
 */
export function answer(status: number, reason: string, body: string): Respond {
  return { kind: "respond", status, reason, body: `${body}\n` };
}

/** A condition's longest message (metav1.Condition), with room to spare. */
const maxMessage = 4096;

export function condition(
  type: string,
  status: boolean | "Unknown",
  reason: string,
  message: string,
  generation: number,
): Condition {
  return {
    type,
    status: status === "Unknown" ? "Unknown" : status ? "True" : "False",
    reason,
    message: message.length > maxMessage ? `${message.slice(0, maxMessage - 1)}…` : message,
    observedGeneration: generation,
  };
}

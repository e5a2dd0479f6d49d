// What a pod asks for of a node's allocatable resources (component-helpers resource.PodRequests, KEP-753): its containers and sidecars
// together, or the largest init container with the sidecars before it, and the overhead. Pure.

import type { Container, Node, Pod } from "../api/kinds.ts";
import { parseQuantity } from "../api/quantity.ts";

/** Amounts by resource name; CPU in thousandths, everything else in units. */
export type Amounts = Readonly<Record<string, number>>;

export function podRequests(pod: Pod): Amounts {
  const { containers = [], initContainers = [], overhead } = pod.spec ?? {};
  let running = containers.map(requestsOf).reduce(sum, {});
  let sidecars: Amounts = {};
  let initializing: Amounts = {};
  for (const container of initContainers) {
    const own = requestsOf(container);
    if (container.restartPolicy === "Always") {
      running = sum(running, own);
      sidecars = sum(sidecars, own);
      initializing = most(initializing, sidecars);
    } else initializing = most(initializing, sum(own, sidecars));
  }
  return sum(most(running, initializing), amounts(overhead));
}

export function allocatable(node: Node): Amounts {
  return amounts(node.status?.allocatable ?? node.status?.capacity);
}

export function sum(a: Amounts, b: Amounts): Amounts {
  return join(a, b, (one, other) => one + other);
}

function most(a: Amounts, b: Amounts): Amounts {
  return join(a, b, Math.max);
}

function join(a: Amounts, b: Amounts, how: (one: number, other: number) => number): Amounts {
  const result: Record<string, number> = { ...a };
  for (const [name, amount] of Object.entries(b)) result[name] = how(result[name] ?? 0, amount);
  return result;
}

function requestsOf(container: Container): Amounts {
  return amounts(container.resources?.requests);
}

function amounts(list: Readonly<Record<string, string>> | undefined): Amounts {
  const result: Record<string, number> = {};
  for (const [name, text] of Object.entries(list ?? {})) {
    const nano = parseQuantity(String(text))?.nano;
    if (nano !== undefined) result[name] = Number(nano) / (name === "cpu" ? 1e6 : 1e9);
  }
  return result;
}

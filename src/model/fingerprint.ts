// Short digests of model resources, so that two processes can tell whether they hold the same thing without sending it. Each
// part is digested once: a route table's digest is made of its rules', so that one changed rule among a thousand costs one.

import { atOnce, type Steps } from "../base/steps.ts";
import type { ResourceOf, ResourceType, RouteTable, Rule, Secret } from "./model.ts";

const known = new WeakMap<object, string>();

/** Equal for equal content. Secrets are represented by their own fingerprint. */
export function fingerprint<T extends ResourceType>(type: T, resource: ResourceOf[T]): string {
  return atOnce(fingerprinting(type, resource));
}

/** {@link fingerprint} in steps: a rule of a table each. */
export function* fingerprinting<T extends ResourceType>(type: T, resource: ResourceOf[T]): Steps<string> {
  if (type === "secrets") return (resource as Secret).fingerprint;
  if (type === "routeTables" && !known.has(resource)) {
    for (const { rules } of (resource as RouteTable).hosts) {
      for (const rule of rules) {
        ruleDigest(rule);
        yield;
      }
    }
    return remembered(resource, () => digest(tableParts(resource as RouteTable)));
  }
  return remembered(resource, () => digest(resource));
}

function tableParts({ name, from, hosts }: RouteTable): unknown {
  return [name, from, hosts.map((host) => [host.names, host.rules.map(ruleDigest)])];
}

function ruleDigest(rule: Rule): string {
  return remembered(rule, () => digest(rule));
}

function digest(value: unknown): string {
  return Bun.hash(JSON.stringify(value)).toString(36);
}

function remembered(key: object, make: () => string): string {
  let value = known.get(key);
  if (value === undefined) {
    value = make();
    known.set(key, value);
  }
  return value;
}

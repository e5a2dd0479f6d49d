import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { Deployment, ReplicaSet } from "../api/kinds.ts";
import { deploymentPlan, replicasOf, rollingBounds } from "./deployment-plan.ts";
import { podTemplateHash, podTemplateHashLabel, withoutHash } from "./pod-template-hash.ts";
import { template } from "./testing/world.ts";

/** A rollout without a store: ReplicaSets whose pods become available when the test says so. */
class Rollout {
  deployment: Deployment;
  sets: ReplicaSet[] = [];

  constructor(replicas: number, rollingUpdate: object) {
    this.deployment = {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: "web", namespace: "default", uid: "u" },
      spec: {
        replicas,
        selector: { matchLabels: { app: "web" } },
        strategy: { type: "RollingUpdate", rollingUpdate },
        template: template("web", "app:1"),
      },
    };
  }

  want(change: { image?: string; replicas?: number }): void {
    const { image, ...rest } = change;
    const spec = { ...this.deployment.spec!, ...rest, ...(image ? { template: template("web", image) } : {}) };
    this.deployment = { ...this.deployment, spec };
  }

  /** One step of the controller, after which pods beyond a set's size are gone. Returns whether anything was asked for. */
  step(): boolean {
    const plan = deploymentPlan(this.deployment, this.sets, { oldPods: 0 });
    if (plan.create && plan.current) {
      const creationTimestamp = new Date(Date.UTC(2026, 0, 1) + this.sets.length * 1000).toISOString();
      this.sets.push({ ...plan.current, metadata: { ...plan.current.metadata, creationTimestamp } });
    }
    for (const wanted of plan.update) {
      this.sets = this.sets.map((set) => (set.metadata.name === wanted.metadata.name ? wanted : set));
    }
    this.sets = this.sets.map((set) => withStatus(set, Math.min(set.status?.availableReplicas ?? 0, replicasOf(set))));
    return plan.create || plan.update.length > 0;
  }

  /** Lets up to `count` more pods of set `at` become available. */
  serve(at: number, count: number): void {
    const set = this.sets[at % Math.max(1, this.sets.length)];
    if (!set) return;
    const available = Math.min(replicasOf(set), (set.status?.availableReplicas ?? 0) + count);
    this.sets = this.sets.map((one) => (one === set ? withStatus(set, available) : one));
  }

  get total(): number {
    return this.sets.reduce((sum, set) => sum + replicasOf(set), 0);
  }
  get available(): number {
    return this.sets.reduce((sum, set) => sum + (set.status?.availableReplicas ?? 0), 0);
  }
  sizes(): Record<string, number> {
    const image = (set: ReplicaSet) => set.spec!.template!.spec!.containers[0]!.image!;
    return Object.fromEntries(this.sets.map((set) => [image(set), replicasOf(set)]));
  }

  finish(): void {
    for (let turn = 0; turn < 500; turn++) {
      const busy = this.step();
      for (let at = 0; at < this.sets.length; at++) this.serve(at, 1_000);
      if (!busy && !this.step()) return;
    }
    throw new Error(`never finished: ${JSON.stringify(this.sizes())}`);
  }
}

function withStatus(set: ReplicaSet, available: number): ReplicaSet {
  return { ...set, status: { replicas: replicasOf(set), readyReplicas: available, availableReplicas: available } };
}

const bound = fc.oneof(
  fc.integer({ min: 0, max: 4 }),
  fc.integer({ min: 0, max: 100 }).map((percent) => `${percent}%`),
);
const happening = fc.oneof(
  fc.record({ kind: fc.constant("serve" as const), at: fc.nat(3), count: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ kind: fc.constant("image" as const), image: fc.constantFrom("app:1", "app:2", "app:3") }),
  fc.constant({ kind: "step" as const }),
);

describe("a rolling update", () => {
  test("never has more pods than it may, nor takes away pods that it needs, whatever happens when", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 12 }),
        bound,
        bound,
        fc.array(happening, { maxLength: 40 }),
        (replicas, maxSurge, maxUnavailable, happenings) => {
          const rollout = new Rollout(replicas, { maxSurge, maxUnavailable });
          rollout.finish();
          const { surge, unavailable } = rollingBounds(rollout.deployment);
          for (const one of happenings) {
            if (one.kind === "serve") rollout.serve(one.at, one.count);
            else if (one.kind === "image") rollout.want({ image: one.image });
            else {
              const before = rollout.available;
              rollout.step();
              expect(rollout.total).toBeLessThanOrEqual(replicas + surge);
              expect(rollout.available).toBeGreaterThanOrEqual(Math.min(before, replicas - unavailable));
            }
          }
          rollout.finish();
          const image = rollout.deployment.spec!.template.spec!.containers[0]!.image!;
          expect(rollout.sizes()[image]).toBe(replicas);
          expect(rollout.total).toBe(replicas);
        },
      ),
      { numRuns: 150 },
    );
  });

  test("that is scaled half-way keeps its proportions", () => {
    const rollout = new Rollout(10, { maxSurge: 3, maxUnavailable: 2 });
    rollout.finish();
    rollout.want({ image: "app:2" });
    rollout.step();
    rollout.step();
    expect(rollout.sizes()).toEqual({ "app:1": 8, "app:2": 3 });
    rollout.step();
    expect(rollout.sizes()).toEqual({ "app:1": 8, "app:2": 5 });
    // As in the documentation of Deployments: 10 to 15 with 8 + 5 running makes 11 + 7.
    rollout.want({ replicas: 15 });
    rollout.step();
    expect(rollout.sizes()).toEqual({ "app:1": 11, "app:2": 7 });
    rollout.finish();
    expect(rollout.sizes()).toEqual({ "app:1": 0, "app:2": 15 });
  });

  test("moves at least one pod when both bounds round to zero", () => {
    const rollout = new Rollout(3, { maxSurge: 0, maxUnavailable: "10%" });
    expect(rollingBounds(rollout.deployment)).toEqual({ surge: 0, unavailable: 1 });
  });
});

describe("the hash of a pod template", () => {
  test("depends on its content, not on the order of its fields, and is a valid part of a name", () => {
    expect(podTemplateHash({ a: 1, b: [2] })).toBe(podTemplateHash({ b: [2], a: 1 }));
    expect(podTemplateHash({ a: 1 })).not.toBe(podTemplateHash({ a: 2 }));
    expect(podTemplateHash({ a: 1 })).not.toBe(podTemplateHash({ a: 1 }, 1));
    expect(podTemplateHash({ a: 1 })).toMatch(/^[bcdfghjklmnpqrstvwxz2456789]{1,10}$/);
  });

  test("is left out when templates are compared", () => {
    const plain = template("web");
    const labels = { ...plain.metadata!.labels, [podTemplateHashLabel]: "x" };
    const hashed = { ...plain, metadata: { ...plain.metadata!, labels } };
    expect(withoutHash(hashed)).toEqual(plain);
  });
});

// Brings a kernel through a sequence of tables change by change, and another one to the last of them at once.

import type { ServiceRules } from "../../src/node/service-rules.ts";
import type { ServicePort } from "../../src/services/service-table.ts";

/** From nothing, as the rules sink does it: only the pieces that a change touched are looked at. */
export async function grow(rules: ServiceRules, states: readonly (readonly ServicePort[])[]): Promise<void> {
  const renderer = rules.renderer();
  let before: ReadonlyMap<string, ServicePort> = new Map();
  let known = new Map(await rules.read());
  await rules.commit(rules.difference(known, renderer.rules));
  known = new Map(renderer.rules);
  for (const state of states) {
    const after = new Map(state.map((row) => [row.key, row]));
    const keys = [...new Set([...before.keys(), ...after.keys()])];
    const touched = renderer.apply(keys.map((key) => ({ key, before: before.get(key), after: after.get(key) })));
    await rules.commit(rules.difference(known, renderer.rules, touched));
    known = new Map(renderer.rules);
    before = after;
  }
}

/** A fresh start with one table. */
export async function start(rules: ServiceRules, state: readonly ServicePort[]): Promise<void> {
  const wanted = rules.render(new Map(state.map((row) => [row.key, row])));
  await rules.commit(rules.difference(await rules.read(), wanted));
}

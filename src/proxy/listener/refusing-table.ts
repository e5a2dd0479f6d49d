// A route table for requests that come to none: whatever is asked of it, the answer is why.

import type { CompiledRule, RouteTableRuntime } from "../compile.ts";
import { type NotFound, Router } from "../router/router.ts";

class RefusingRouter extends Router<CompiledRule> {
  readonly #reason: NotFound;

  constructor(reason: NotFound) {
    super({ name: "", from: { kind: "Listener", name: "", field: "" }, hosts: [] }, () => {
      throw new Error("it has no rules");
    });
    this.#reason = reason;
  }

  override find(): NotFound {
    return this.#reason;
  }
}

/** A table in which every request is refused for this reason. */
export function refusingTable(reason: NotFound): RouteTableRuntime {
  return { name: "", router: new RefusingRouter(reason) };
}

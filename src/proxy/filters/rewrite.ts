// Host and path rewrites (Gateway API HTTPURLRewriteFilter; the meaning is `model/path.ts`). A path is rewritten as it came, so
// that the last of several rewrites wins and none works on another's result.

import { rewritePath } from "../../model/path.ts";
import type { Filter } from "../filter.ts";

export const rewrite: Filter<"rewrite"> = {
  kind: "rewrite",
  compile: ({ host, path }, _runtime, match) => ({
    request(head, exchange) {
      // The target of a CONNECT stays as it is.
      if (exchange.path === "") return undefined;
      if (host !== undefined) {
        head.authority = host;
        head.hostKept = false;
      }
      if (path) head.path = rewritePath(path, exchange.path, match);
      return undefined;
    },
  }),
};

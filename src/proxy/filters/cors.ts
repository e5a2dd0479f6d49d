// Cross-origin requests; the meaning is `model/cors.ts`. Preflights carry no credentials and are answered here.

import { corsFields, isPreflight, originAllowed, preflightFields, variesByOrigin } from "../../model/cors.ts";
import type { Filter } from "../filter.ts";
import { addToList } from "./fields.ts";

const ours = [
  "access-control-allow-origin",
  "access-control-allow-credentials",
  "access-control-allow-methods",
  "access-control-allow-headers",
  "access-control-expose-headers",
  "access-control-max-age",
  "access-control-allow-private-network",
];

export const cors: Filter<"cors"> = {
  kind: "cors",
  compile(config) {
    const varies = variesByOrigin(config);
    return {
      request(head, exchange) {
        const origin = head.headers.get("origin");
        const allowed = origin !== undefined && originAllowed(config, origin);
        const asked = head.headers.get("access-control-request-method");
        if (origin !== undefined && isPreflight(head.method, origin, asked)) {
          if (!allowed && config.otherPreflights === "forward") return undefined;
          const headers = head.headers.get("access-control-request-headers");
          const inside = head.headers.get("access-control-request-private-network") === "true";
          const fields = allowed ? preflightFields(config, origin, asked!, headers, inside) : [];
          exchange.keep(config, "preflight");
          return { reason: "preflight", headers: fields };
        }
        if (allowed) exchange.keep(config, origin);
        return undefined;
      },
      response({ headers }, exchange) {
        const origin = exchange.kept<string>(config);
        if (varies) addToList(headers, "vary", "origin");
        if (origin === undefined || origin === "preflight") return undefined;
        // The rule's word stands above the backend's: two answers to one question would be refused by browsers.
        for (const name of ours) headers.remove(name);
        for (const { name, value } of corsFields(config, origin)) headers.add(name, value);
        return undefined;
      },
    };
  },
};

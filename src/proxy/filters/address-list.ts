// Who may come, by the client's address; the meaning is `model/address-list.ts`.

import { addressSet } from "../address-set.ts";
import type { Filter } from "../filter.ts";

export const addresses: Filter<"addresses"> = {
  kind: "addresses",
  compile({ allow, deny }) {
    const allowed = allow && addressSet(allow);
    const denied = addressSet(deny ?? []);
    return {
      request({ source }) {
        if (!denied(source) && (allowed === undefined || allowed(source))) return undefined;
        return { reason: "address_refused" };
      },
    };
  },
};

// Who may come, by the client's address; the meaning is `model/address-list.ts`.

import { addressSet } from "../address-set.ts";
import type { Filter, FilterAnswer } from "../filter.ts";

export const addresses: Filter<"addresses"> = {
  kind: "addresses",
  compile({ allow, deny, status }) {
    const allowed = allow && addressSet(allow);
    const denied = addressSet(deny ?? []);
    const refusal: FilterAnswer = { reason: "address_refused", ...(status !== undefined && { status }) };
    return {
      request({ source }) {
        if (!denied(source) && (allowed === undefined || allowed(source))) return undefined;
        return refusal;
      },
    };
  },
};

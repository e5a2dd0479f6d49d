// Changes cookies that the backend sets; the meaning is `model/set-cookie.ts`.

import { changeCookie } from "../../model/set-cookie.ts";
import type { Filter } from "../filter.ts";
import { valuesOf } from "./fields.ts";

export const cookies: Filter<"cookies"> = {
  kind: "cookies",
  compile: (config) => ({
    response(head) {
      const values = valuesOf(head.headers, "set-cookie");
      if (values.length === 0) return undefined;
      head.headers.remove("set-cookie");
      for (const value of values) head.headers.add("set-cookie", changeCookie(value, config));
      return undefined;
    },
  }),
};

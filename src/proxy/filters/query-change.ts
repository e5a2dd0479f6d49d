// Changes parameters of the query; the meaning is `model/query.ts`.

import { changeQuery } from "../../model/query.ts";
import type { Filter } from "../filter.ts";

export const query: Filter<"query"> = {
  kind: "query",
  compile: ({ change }) => ({
    request(head) {
      if (head.path !== "") head.query = changeQuery(head.query, change);
      return undefined;
    },
  }),
};

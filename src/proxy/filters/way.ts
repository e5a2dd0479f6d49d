// What a question that a filter asks for a request says of the request's way (x-forwarded-for), as Envoy's questions do: where it leads
// back to here it is refused when the way has become too long (`forwarded.ts`), as the request itself would be.

import type { HeaderValue } from "../../model/model.ts";
import type { RequestHead } from "../exchange.ts";

export function requestWay({ headers }: RequestHead): readonly HeaderValue[] {
  const value = headers.get("x-forwarded-for");
  return value === undefined ? [] : [{ name: "x-forwarded-for", value }];
}

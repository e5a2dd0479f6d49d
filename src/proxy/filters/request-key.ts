// What requests are told apart by (rate limits): one part of a request as text; undefined when the request does not have it.

import type { RequestKey } from "../../model/filters.ts";
import { cookieValue, queryValue } from "../../model/value-match.ts";
import type { RequestHead } from "../exchange.ts";
import type { FilterExchange } from "../filter.ts";
import { cookies } from "../router/predicate.ts";

export type KeyPart = (head: RequestHead, exchange: FilterExchange) => string | undefined;

/** Path, query and host are those that came: rewrites do not change what a client is counted by. */
export function keyPart(key: RequestKey): KeyPart {
  switch (key.kind) {
    case "source":
      return (head) => head.source;
    case "header":
      return key.name === "host" ? (_head, { authority }) => authority : (head) => head.headers.get(key.name);
    case "cookie":
      return (head) => cookieValue(cookies(head.headers), key.name);
    case "query":
      return (_head, { query }) => queryValue(query, key.name);
    case "method":
      return (head) => head.method;
    case "path":
      return (_head, { path }) => path;
    case "host":
      return (_head, { authority }) => authority.toLowerCase();
    case "constant":
      return () => key.value;
  }
}

// Header filters: set, add, remove, in that order (Gateway API HTTPHeaderFilter; the meaning is `model/header-change.ts`).
// Fields that frame the message or belong to one hop are the proxy's own and stay out of reach; a request's `host` is its
// authority.

import type { HeaderChange } from "../../model/model.ts";
import type { Filter } from "../filter.ts";
import type { HeaderBlock } from "../headers.ts";
import { untouchable } from "./fields.ts";

/** Compiles a change to a function on header blocks. */
function compileChange(change: HeaderChange): (headers: HeaderBlock) => void {
  const set = change.set.filter(({ name }) => !untouchable.has(name));
  const add = change.add.filter(({ name }) => !untouchable.has(name));
  const remove = change.remove.filter((name) => !untouchable.has(name));
  return (headers) => {
    for (const { name, value } of set) headers.set(name, value);
    for (const { name, value } of add) headers.add(name, value);
    for (const name of remove) headers.remove(name);
  };
}

export const requestHeaders: Filter<"requestHeaders"> = {
  kind: "requestHeaders",
  compile({ change }) {
    const apply = compileChange(change);
    const host = [...change.set, ...change.add].findLast(({ name }) => name === "host")?.value;
    return {
      request(head) {
        apply(head.headers);
        if (host === undefined) return undefined;
        head.authority = host;
        head.hostKept = false;
        return undefined;
      },
    };
  },
};

export const responseHeaders: Filter<"responseHeaders"> = {
  kind: "responseHeaders",
  compile({ change }) {
    const apply = compileChange(change);
    return {
      response(head) {
        apply(head.headers);
        return undefined;
      },
    };
  },
};

// HTTPRouteFilter to the model's filters and redirect. A filter that is not done yet is a problem, never left out: what would
// have passed through it is answered 500 (Gateway API, HTTPRouteFilter).

import type { HTTPRouteRuleFilter } from "../../api/kinds.ts";
import { lowerAscii } from "../../model/ascii.ts";
import type { Filter, HeaderChange, PathRewrite, Redirect } from "../../model/model.ts";
import type { Provenance } from "../../model/provenance.ts";

export interface FilterProblem {
  readonly field: string;
  readonly reason: "UnsupportedValue" | "IncompatibleFilters";
  readonly message: string;
}

export interface TranslatedFilters {
  readonly filters: readonly Filter[];
  readonly redirect: Redirect | undefined;
  readonly problems: readonly FilterProblem[];
}

/** `field` is that of the list: `spec.rules[0].filters`. On a backendRef (`onBackend`) a redirect cannot be done. */
export function translateFilters(
  filters: readonly HTTPRouteRuleFilter[],
  from: Provenance,
  onBackend: boolean,
): TranslatedFilters {
  const done: Filter[] = [];
  const problems: FilterProblem[] = [];
  let redirect: Redirect | undefined;
  filters.forEach((filter, i) => {
    const at: Provenance = { ...from, field: `${from.field}[${i}]` };
    const unsupported = (message: string) => problems.push({ field: at.field, reason: "UnsupportedValue", message });
    switch (filter.type) {
      case "RequestHeaderModifier":
        done.push({ kind: "requestHeaders", from: at, change: headerChange(filter.requestHeaderModifier) });
        break;
      case "ResponseHeaderModifier":
        done.push({ kind: "responseHeaders", from: at, change: headerChange(filter.responseHeaderModifier) });
        break;
      case "URLRewrite": {
        const { hostname, path } = filter.urlRewrite ?? {};
        done.push({
          kind: "rewrite",
          from: at,
          ...(hostname === undefined ? {} : { host: hostname }),
          ...(path === undefined ? {} : { path: pathRewrite(path) }),
        });
        break;
      }
      case "RequestRedirect":
        if (onBackend) unsupported("RequestRedirect on a backendRef is not served yet");
        else redirect = translateRedirect(filter.requestRedirect ?? {});
        break;
      default:
        unsupported(`filter ${filter.type} is not served yet`);
    }
  });
  if (redirect && done.some((filter) => filter.kind === "rewrite")) {
    const message = "RequestRedirect and URLRewrite cannot be used in one rule";
    problems.push({ field: from.field, reason: "IncompatibleFilters", message });
  }
  return { filters: done, redirect, problems };
}

function translateRedirect(redirect: NonNullable<HTTPRouteRuleFilter["requestRedirect"]>): Redirect {
  const { scheme, hostname, port, path, statusCode = 302 } = redirect;
  return {
    kind: "redirect",
    ...(scheme === undefined ? {} : { scheme }),
    ...(hostname === undefined ? {} : { host: hostname }),
    ...(port === undefined ? {} : { port }),
    ...(path === undefined ? {} : { path: pathRewrite(path) }),
    status: statusCode,
  };
}

function pathRewrite(path: {
  readonly type: string;
  readonly replaceFullPath?: string;
  readonly replacePrefixMatch?: string;
}): PathRewrite {
  if (path.type === "ReplacePrefixMatch") return { kind: "prefix", value: rooted(path.replacePrefixMatch ?? "") };
  return { kind: "full", value: rooted(path.replaceFullPath ?? "") || "/" };
}

/** The API takes replacements without a leading slash; a path has one. */
function rooted(value: string): string {
  return value === "" || value.startsWith("/") ? value : `/${value}`;
}

/** Of several entries with equivalent names only the first counts. */
function headerChange(
  modifier:
    | {
        readonly set?: readonly { readonly name: string; readonly value: string }[];
        readonly add?: readonly { readonly name: string; readonly value: string }[];
        readonly remove?: readonly string[];
      }
    | undefined,
): HeaderChange {
  const first = (headers: readonly { readonly name: string; readonly value: string }[] | undefined) => {
    const values = new Map<string, string>();
    for (const { name, value } of headers ?? []) {
      if (!values.has(lowerAscii(name))) values.set(lowerAscii(name), value);
    }
    return [...values].map(([name, value]) => ({ name, value }));
  };
  return {
    set: first(modifier?.set),
    add: first(modifier?.add),
    remove: [...new Set((modifier?.remove ?? []).map(lowerAscii))],
  };
}

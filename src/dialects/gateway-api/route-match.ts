// HTTPRouteMatch to the model's match: path, headers, query parameters and method (Gateway API, HTTPRouteRule.matches).

import type { HTTPRouteRuleMatch } from "../../api/kinds.ts";
import { lowerAscii } from "../../model/ascii.ts";
import type { Match, PathMatch, ValueMatch } from "../../model/model.ts";
import type { Provenance } from "../../model/provenance.ts";

/** A match without a path takes all of them: the API's default is PathPrefix `/`. */
export function translateMatch(match: HTTPRouteRuleMatch, from: Provenance): Match {
  const headers = valueMatches(match.headers, `${from.field}.headers`, from, lowerAscii);
  const query = valueMatches(match.queryParams, `${from.field}.queryParams`, from, (name) => name);
  return {
    from,
    path: translatePath(match.path),
    ...(match.method === undefined ? {} : { method: match.method }),
    ...(headers.length > 0 ? { headers } : {}),
    ...(query.length > 0 ? { query } : {}),
  };
}

function translatePath(path: HTTPRouteRuleMatch["path"]): PathMatch {
  const value = path?.value ?? "/";
  switch (path?.type ?? "PathPrefix") {
    case "Exact":
      return { kind: "exact", value };
    case "RegularExpression":
      return { kind: "regex", value };
    case "PathPrefix":
      return { kind: "segments", value };
  }
}

/** Of several entries with equivalent names only the first counts. */
function valueMatches(
  values: readonly { readonly name: string; readonly type?: string; readonly value: string }[] | undefined,
  field: string,
  from: Provenance,
  nameOf: (name: string) => string,
): readonly ValueMatch[] {
  const seen = new Set<string>();
  const found: ValueMatch[] = [];
  for (const [i, { name, type = "Exact", value }] of (values ?? []).entries()) {
    const known = nameOf(name);
    if (seen.has(known)) continue;
    seen.add(known);
    found.push({
      name: known,
      match: { kind: type === "RegularExpression" ? "regex" : "exact", value },
      from: { ...from, field: `${field}[${i}]` },
    });
  }
  return found;
}

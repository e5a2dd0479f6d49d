// Where a piece of the model came from. Every node carries one, so that any decision can be traced to the line of YAML
// that asked for it.

export interface Provenance {
  readonly kind: string;
  readonly namespace?: string;
  readonly name: string;
  /** Field path inside the object, as the API writes them: `spec.rules[0].matches[1]`. Empty for the whole object. */
  readonly field: string;
  /** Where the object was read from, when it came from a file; filled in when a decision is shown. */
  readonly file?: string;
  readonly line?: number;
}

/** `HTTPRoute shop/orders spec.rules[0]`. */
export function describeProvenance(from: Provenance): string {
  const name = from.namespace ? `${from.namespace}/${from.name}` : from.name;
  return `${from.kind} ${name}${from.field ? ` ${from.field}` : ""}`;
}

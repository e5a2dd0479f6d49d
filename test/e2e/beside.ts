// What two proxies answered, written so that it can be compared: without what each writes in its own way, and with what they do
// differently on purpose put into the same words.

/** What the two do differently on purpose, and how each side's result is written before they are compared. */
export interface Difference {
  readonly why: string;
  readonly ours?: readonly (readonly [RegExp, string])[];
  readonly envoys?: readonly (readonly [RegExp, string])[];
}

/** A result with the replacements made in its JSON. */
export function written(result: unknown, replacements: Difference["ours"] = []): unknown {
  return JSON.parse(replacements.reduce((text, [pattern, by]) => text.replace(pattern, by), JSON.stringify(result)));
}

/** Headers that each proxy writes in its own way, and those of connections. */
const own =
  /^(date|server|connection|keep-alive|transfer-encoding|content-length|content-type|x-envoy-.*|x-fairlead-.*|x-request-id|x-forwarded-.*|user-agent|accept.*|host|vary)$/;

/** All others, sorted. */
export function shown(headers: Headers): string[] {
  return [...headers]
    .filter(([name]) => !own.test(name))
    .map(([name, value]) => `${name}: ${value}`)
    .sort();
}

// Key sets as JSON text (RFC 7517 §5): what is taken of one, and what is wrong with it. Only public keys of the kinds that
// signatures are verified with; a private or symmetric key in a set is an error where it was written by hand.

const publicKinds = new Set(["RSA", "EC", "OKP"]);

export interface PublicKeySet {
  readonly keys: readonly Readonly<Record<string, unknown>>[];
}

/** The public keys of a set; others are left out. Throws an Error when the text is no key set. */
export function publicKeySet(text: string): PublicKeySet {
  const parsed: unknown = JSON.parse(text);
  const keys = (parsed as { keys?: unknown } | null)?.keys;
  if (!Array.isArray(keys)) throw new Error('is no key set: it has no list "keys"');
  return { keys: keys.filter(isPublic) };
}

/** What is wrong with a set that was written into a resource; undefined when nothing is. */
export function keySetProblem(text: string): string | undefined {
  let keys: PublicKeySet["keys"];
  try {
    keys = publicKeySet(text).keys;
    const all = (JSON.parse(text) as { keys: unknown[] }).keys;
    if (keys.length < all.length) return "holds a key that is not a public RSA, EC or OKP key";
  } catch (error) {
    return error instanceof SyntaxError ? "is no JSON" : (error as Error).message;
  }
  return keys.length === 0 ? "holds no key" : undefined;
}

function isPublic(key: unknown): boolean {
  const { kty, d, k } = (key ?? {}) as Record<string, unknown>;
  return typeof kty === "string" && publicKinds.has(kty) && d === undefined && k === undefined;
}

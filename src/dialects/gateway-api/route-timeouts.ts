// An HTTPRoute rule's two timeouts (GEP-1742) as the model's one.

/**
 * Milliseconds that a request may take; 0 is without bound, undefined where none is given. `backendRequest` covers the whole
 * answer, too, and each request is tried once, so that the shorter one holds (`perTry` of the model ends with the answer's beginning).
 */
export function requestTimeout(request: number | undefined, backendRequest: number | undefined): number | undefined {
  const given = [request, backendRequest].filter((time) => time !== undefined);
  if (given.length === 0) return undefined;
  const bounds = given.filter((time) => time > 0);
  return bounds.length === 0 ? 0 : Math.min(...bounds);
}

// The path and the query of an HTTP request that Bun.serve gives. Its `url` is put together from the Host header, which a client may have written
// as it likes (an IPv6 address without brackets), so that it need not be a URL.

/** `/healthz` of `http://fd00::1:10256/healthz?full`; `/` when there is none. */
export function requestPath({ url }: { readonly url: string }): string {
  return /^[a-z]+:\/\/[^/?#]*(\/[^?#]*)?/i.exec(url)?.[1] ?? "/";
}

/** Path and query as a URL of nobody's host: it can be made of every request. */
export function requestTarget({ url }: { readonly url: string }): URL {
  const query = /^[^?#]*(\?[^#]*)/.exec(url)?.[1] ?? "";
  return new URL(`http://localhost${requestPath({ url })}${query}`);
}

// What the first bytes of a connection say before it is decided who serves it: the PROXY header, where the listener wants one,
// and whether TLS follows, for which name. Gathers the bytes as they come; nothing of them is lost, because what follows the
// PROXY header, the ClientHello included, is for whoever serves. No sockets here.

import { type ClientHello, readClientHello } from "./client-hello.ts";
import { type ProxyHeader, readProxyHeader } from "./proxy-protocol.ts";

/** What a listener has to know of a connection. */
export interface Wanted {
  /** Every connection begins with a PROXY header. */
  readonly proxyHeader: boolean;
  /** Which chain serves depends on what the client speaks. */
  readonly hello: boolean;
}

export interface Introduction {
  /** Undefined: none was wanted. */
  readonly told: ProxyHeader | undefined;
  /** Undefined: the client speaks no TLS, or it was not asked. */
  readonly hello: ClientHello | undefined;
  /** What came behind the PROXY header. */
  readonly rest: Buffer;
}

export type FirstBytesResult = Introduction | "more" | "bad_proxy_header" | "bad_hello";

export class FirstBytes {
  readonly #wanted: Wanted;
  #bytes: Buffer = Buffer.alloc(0);
  #told: ProxyHeader | undefined = undefined;

  constructor(wanted: Wanted) {
    this.#wanted = wanted;
  }

  /** Bounded: both readers refuse what is longer than any real beginning. */
  push(bytes: Buffer): FirstBytesResult {
    this.#bytes = this.#bytes.length === 0 ? bytes : Buffer.concat([this.#bytes, bytes]);
    if (this.#wanted.proxyHeader && !this.#told) {
      const told = readProxyHeader(this.#bytes);
      if (told === "more") return "more";
      if (told === "malformed") return "bad_proxy_header";
      this.#told = told;
      this.#bytes = this.#bytes.subarray(told.length);
    }
    if (!this.#wanted.hello) return { told: this.#told, hello: undefined, rest: this.#bytes };
    const hello = readClientHello(this.#bytes);
    if (hello === "more") return "more";
    if (hello === "malformed") return "bad_hello";
    return { told: this.#told, hello: hello === "plain" ? undefined : hello, rest: this.#bytes };
  }
}

// Basic authentication (RFC 7617) against a Secret of htpasswd lines. The credentials end here, unless the backend is to see them.

import type { Filter, FilterAnswer } from "../filter.ts";
import { disown, guardTrailers } from "./fields.ts";
import { Passwords } from "./password.ts";

export const basicAuth: Filter<"basicAuth"> = {
  kind: "basicAuth",
  compile({ realm, users, userHeader, keepsAuthorization }, runtime) {
    const list = runtime.users.get(users);
    const ours = ["authorization", ...(userHeader === undefined ? [] : [userHeader])];
    const refusal: FilterAnswer = {
      reason: "unauthorized",
      headers: [{ name: "www-authenticate", value: `Basic realm=${quoted(realm)}, charset="UTF-8"` }],
    };
    return {
      request(head, exchange) {
        if (userHeader !== undefined) disown(head.headers, userHeader);
        const given = credentials(head.headers.get("authorization"));
        if (!given) return refusal;
        guardTrailers(ours, head, exchange);
        const passed = () => {
          if (!keepsAuthorization) head.headers.remove("authorization");
          if (userHeader !== undefined) head.headers.set(userHeader, given.headerName);
        };
        const known = list.users ?? new Map();
        if (passwords.remembered(known, given.name, given.password)) {
          passed();
          return undefined;
        }
        let left = false;
        void passwords.verify(known, given.name, given.password).then((verified) => {
          if (left) return;
          if (verified === true) {
            passed();
            exchange.goOn();
          } else exchange.answer(verified === "busy" ? { reason: "too_many_logins" } : refusal);
        });
        return exchange.wait(() => {
          left = true;
        });
      },
    };
  },
};

/** Of all rules: the same users are often behind several. */
const passwords = new Passwords();

interface Credentials {
  readonly name: string;
  readonly password: string;
  /** The name's bytes as a header carries them. */
  readonly headerName: string;
}

/** What an Authorization field says (RFC 7617 §2); undefined when it says nothing of this kind. */
export function credentials(authorization: string | undefined): Credentials | undefined {
  const encoded = /^basic +([A-Za-z0-9+/_-]+={0,2}) *$/i.exec(authorization ?? "")?.[1];
  if (encoded === undefined) return undefined;
  const bytes = Buffer.from(encoded, "base64");
  const colon = bytes.indexOf(58);
  // Control characters may not be in either (RFC 7617 §2), and would go on in a header.
  if (colon <= 0 || bytes.some((byte) => byte < 32 || byte === 127)) return undefined;
  const name = bytes.subarray(0, colon);
  return {
    name: name.toString("utf8"),
    password: bytes.subarray(colon + 1).toString("utf8"),
    headerName: name.toString("latin1"),
  };
}

/** A quoted string (RFC 9110 §5.6.4). */
export function quoted(text: string): string {
  return `"${text.replace(/["\\]/g, "\\$&")}"`;
}

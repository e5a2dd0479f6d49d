// Who a request comes from. Client certificates carry the user as CN and the groups as O (kube-apiserver's x509
// authentication); bearer tokens are looked up in the list the caller passed. Nothing is anonymous here.

import { createHash, timingSafeEqual } from "node:crypto";

export interface Identity {
  readonly user: string;
  readonly groups: readonly string[];
  readonly uid?: string;
  readonly extra?: Readonly<Record<string, readonly string[]>>;
}

/** A bearer token and whom it stands for. */
export interface Token {
  readonly token: string;
  readonly user: string;
  readonly groups?: readonly string[];
  readonly uid?: string;
}

/** The group that everybody who proved an identity is in. */
const authenticated = "system:authenticated";

/** The subject of a verified client certificate, as node:tls gives it. */
export interface CertificateSubject {
  readonly CN?: string | readonly string[];
  readonly O?: string | readonly string[];
}

/** The identity of a client certificate; undefined when it names no user. */
export function identityOfCertificate(subject: CertificateSubject | undefined): Identity | undefined {
  const user = [subject?.CN ?? []].flat()[0];
  if (!user) return undefined;
  return { user, groups: withAuthenticated([subject?.O ?? []].flat()) };
}

/** Finds tokens without telling by its time how much of one was right. */
export class Tokens {
  readonly #known: readonly { readonly digest: Buffer; readonly identity: Identity }[];

  constructor(tokens: readonly Token[]) {
    this.#known = tokens.map(({ token, user, groups = [], uid }) => ({
      digest: digestOf(token),
      identity: { user, groups: withAuthenticated(groups), ...(uid ? { uid } : {}) },
    }));
  }

  identityOf(token: string): Identity | undefined {
    const digest = digestOf(token);
    let found: Identity | undefined;
    for (const known of this.#known) if (timingSafeEqual(known.digest, digest)) found = known.identity;
    return found;
  }
}

/** The token of an Authorization header. */
export function bearerToken(header: string | undefined): string | undefined {
  const match = /^Bearer\s+(\S+)\s*$/i.exec(header ?? "");
  return match?.[1];
}

/** Groups that service accounts are in besides those of their token (serviceaccount.MakeGroupNames). */
export function impliedGroups(user: string): readonly string[] {
  const match = /^system:serviceaccount:([^:]+):[^:]+$/.exec(user);
  return match ? ["system:serviceaccounts", `system:serviceaccounts:${match[1]}`] : [];
}

export function withAuthenticated(groups: readonly string[]): readonly string[] {
  return groups.includes(authenticated) ? groups : [...groups, authenticated];
}

const digestOf = (token: string) => createHash("sha256").update(token).digest();

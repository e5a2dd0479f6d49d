// Verifies passwords against htpasswd hashes without holding up the event loop: bcrypt in Bun's threads, apr1 in slices. A
// password that was right is remembered (as an HMAC with a key of this process), a bounded number of them, so that one client's
// thousandth request costs one HMAC. Names that do not exist cost the same as wrong passwords.

import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import type { Htpasswd, PasswordHash } from "../../model/htpasswd.ts";

/** Passwords remembered, and verified at a time; further ones wait, up to so many. */
const maxRemembered = 10_000;
const maxUnderWay = 4;
const maxWaiting = 256;

/** "busy" when too many are being verified: nothing is known of this one. */
export type Verified = boolean | "busy";

/** Stands in for the hash of a user that does not exist in an empty list. Nobody knows a password for it. */
const nobody: PasswordHash = {
  kind: "bcrypt",
  text: "$2b$10$CwTycUXWue0Thq9StjUM0uJ8wq5Tj6hIZ6bG3f0t8f0bq7r0uX0aS",
};

export class Passwords {
  readonly #key = randomBytes(32);
  readonly #right = new Set<string>();
  readonly #waiting: (() => void)[] = [];
  #underWay = 0;

  /** True at once when this password was right before; undefined when it must be verified. */
  remembered(users: Htpasswd, name: string, password: string): true | undefined {
    const hash = users.get(name);
    return hash && this.#right.has(this.#mark(hash, password)) ? true : undefined;
  }

  async verify(users: Htpasswd, name: string, password: string): Promise<Verified> {
    if (this.#underWay >= maxUnderWay) {
      if (this.#waiting.length >= maxWaiting) return "busy";
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.#underWay++;
    try {
      const known = users.get(name);
      const hash = known ?? this.#standIn(users, name);
      const right = (await matches(hash, password)) && known !== undefined;
      if (right) this.#remember(this.#mark(hash, password));
      return right;
    } finally {
      this.#underWay--;
      this.#waiting.shift()?.();
    }
  }

  /** The hash of one of the users, always the same for a name, so that one that does not exist takes as long as one that does. */
  #standIn(users: Htpasswd, name: string): PasswordHash {
    const number = createHmac("sha256", this.#key).update(name).digest().readUInt32LE(0);
    return [...users.values()][number % Math.max(1, users.size)] ?? nobody;
  }

  #mark(hash: PasswordHash, password: string): string {
    return createHmac("sha256", this.#key).update(`${hash.text}\0${password}`).digest("base64");
  }

  #remember(mark: string): void {
    if (this.#right.size >= maxRemembered) this.#right.delete(this.#right.values().next().value!);
    this.#right.add(mark);
  }
}

async function matches({ kind, text }: PasswordHash, password: string): Promise<boolean> {
  switch (kind) {
    case "bcrypt":
      // $2y$ is PHP's name of what others call $2b$. bcrypt takes 72 bytes; of longer passwords Bun would take a digest.
      return await Bun.password
        .verify(Buffer.from(password).subarray(0, 72), text.replace(/^\$2y/, "$2b"), "bcrypt")
        .catch(() => false);
    case "sha1":
      return same(`{SHA}${createHash("sha1").update(password).digest("base64")}`, text);
    case "apr1":
      return same(await apr1(password, text.split("$")[2]!), text);
  }
}

function same(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}

const rounds = 1000;
/** Rounds done before others get their turn. */
const slice = 100;

/** Apache's MD5 hash, `$apr1$salt$hash` (apr_md5.c; after FreeBSD's crypt-md5 by P.-H. Kamp). */
export async function apr1(password: string, salt: string): Promise<string> {
  const key = Buffer.from(password, "utf8");
  const salted = Buffer.from(salt, "latin1");
  const md5 = (...parts: readonly Uint8Array[]) => {
    const hash = createHash("md5");
    for (const part of parts) hash.update(part);
    return hash.digest();
  };
  const inner = md5(key, salted, key);
  const parts: Uint8Array[] = [key, Buffer.from("$apr1$"), salted];
  for (let left = key.length; left > 0; left -= 16) parts.push(inner.subarray(0, Math.min(16, left)));
  const zero = Buffer.from([0]);
  for (let bits = key.length; bits > 0; bits >>= 1) parts.push(bits & 1 ? zero : key.subarray(0, 1));
  let final = md5(...parts);
  for (let round = 0; round < rounds; round++) {
    if (round % slice === slice - 1) await new Promise((resolve) => setImmediate(resolve));
    const mixed: Uint8Array[] = [round & 1 ? key : final];
    if (round % 3 !== 0) mixed.push(salted);
    if (round % 7 !== 0) mixed.push(key);
    mixed.push(round & 1 ? final : key);
    final = md5(...mixed);
  }
  return `$apr1$${salt}$${encoded(final)}`;
}

const digits = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

function encoded(hash: Buffer): string {
  let text = "";
  const put = (value: number, count: number) => {
    for (let index = 0, rest = value; index < count; index++, rest >>= 6) text += digits[rest & 63];
  };
  for (const [a, b, c] of [
    [0, 6, 12],
    [1, 7, 13],
    [2, 8, 14],
    [3, 9, 15],
    [4, 10, 5],
  ] as const)
    put((hash[a]! << 16) | (hash[b]! << 8) | hash[c]!, 4);
  put(hash[11]!, 2);
  return text;
}

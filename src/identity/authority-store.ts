// Keeps an authority, and certificates that it issued, in a directory: `ca.crt`, `ca.key`, `NAME.crt`, `NAME.key`. Keys have
// mode 0600 in a directory of 0700. What is there and still good is reused, so that a second start signs nothing.

import { X509Certificate } from "node:crypto";
import { chmod, mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, systemClock } from "../base/clock.ts";
import { UserError } from "../base/errors.ts";
import { formatIPv6, parseIPv6 } from "../base/ip.ts";
import { type Authority, createAuthority, type KeyPair, loadAuthority } from "./authority.ts";

/** The authority kept in `directory`; made, under the common name `name`, when there is none yet. */
export async function openAuthority(directory: string, name: string, clock: Clock = systemClock): Promise<Authority> {
  const kept = await readKeyPair(directory, "ca");
  if (kept) return loadAuthority(kept, clock);
  const made = await createAuthority(name, clock);
  await writeKeyPair(directory, "ca", made);
  return made;
}

/**
 * The certificate kept as `name` when it was signed by `authority`, carries all of `names` (empty for a client's) and has at
 * least a third of its life left; otherwise the one that `issue` makes, which is kept.
 */
export async function keptCertificate(
  directory: string,
  name: string,
  authority: Authority,
  names: readonly string[],
  issue: () => Promise<KeyPair>,
  clock: Clock = systemClock,
): Promise<KeyPair> {
  const kept = await readKeyPair(directory, name);
  if (kept && isStillGood(kept.certificate, authority, names, clock.now())) return kept;
  const made = await issue();
  await writeKeyPair(directory, name, made);
  return made;
}

/** Whether a certificate need not be issued again. `now` is in milliseconds since the epoch. */
export function isStillGood(
  certificate: string,
  authority: { readonly certificate: string },
  names: readonly string[],
  now: number,
): boolean {
  try {
    const parsed = new X509Certificate(certificate);
    const from = Date.parse(parsed.validFrom);
    const until = Date.parse(parsed.validTo);
    if (now < from || until - now < (until - from) / 3) return false;
    const issuer = new X509Certificate(authority.certificate);
    if (!parsed.checkIssued(issuer) || !parsed.verify(issuer.publicKey)) return false;
    const parts = (parsed.subjectAltName ?? "").split(", ");
    const carried = new Set(parts.map((part) => canonical(part.replace(/^(DNS|IP Address):/, ""))));
    return names.every((name) => carried.has(canonical(name)));
  } catch {
    return false;
  }
}

/** IPv6 addresses have many forms, and a certificate prints the longest. */
function canonical(name: string): string {
  const v6 = parseIPv6(name);
  return v6 === undefined ? name : formatIPv6(v6);
}

async function readKeyPair(directory: string, name: string): Promise<KeyPair | undefined> {
  const [certificate, privateKey] = await Promise.all([
    readOrAbsent(join(directory, `${name}.crt`)),
    readOrAbsent(join(directory, `${name}.key`)),
  ]);
  return certificate !== undefined && privateKey !== undefined ? { certificate, privateKey } : undefined;
}

async function readOrAbsent(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new UserError(`${file} cannot be read: ${(cause as Error).message}`, { cause });
  }
}

/** The key first, each by rename: a reader never sees half a file, nor a certificate without its key. */
async function writeKeyPair(directory: string, name: string, pair: KeyPair): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await chmod(directory, 0o700);
  await writeWhole(join(directory, `${name}.key`), pair.privateKey, 0o600);
  await writeWhole(join(directory, `${name}.crt`), pair.certificate, 0o644);
}

async function writeWhole(file: string, content: string, mode: number): Promise<void> {
  const temporary = `${file}.new`;
  await writeFile(temporary, content, { mode });
  await chmod(temporary, mode);
  await rename(temporary, file);
}

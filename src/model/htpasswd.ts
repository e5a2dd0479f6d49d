// Lines of htpasswd (Apache's and NGINX's format): `name:hash`, empty lines and comments aside. Which hashes are taken: bcrypt
// ($2a$, $2b$, $2y$), apr1 ($apr1$, MD5 a thousand times) and SHA-1 ({SHA}). Plain text and crypt(3) are refused.

export interface PasswordHash {
  readonly kind: "bcrypt" | "apr1" | "sha1";
  readonly text: string;
}

export type Htpasswd = ReadonlyMap<string, PasswordHash>;

/** The users, and what is wrong with lines that cannot be taken (by number; their content is not repeated). */
export function parseHtpasswd(text: string): { readonly users: Htpasswd; readonly problems: readonly string[] } {
  const users = new Map<string, PasswordHash>();
  const problems: string[] = [];
  text.split(/\r?\n/).forEach((line, index) => {
    if (line.trim() === "" || line.startsWith("#")) return;
    const colon = line.indexOf(":");
    const name = line.slice(0, colon);
    const hash = colon > 0 ? passwordHash(line.slice(colon + 1).trim()) : undefined;
    if (colon <= 0) problems.push(`line ${index + 1} has no name and colon`);
    else if (!hash)
      problems.push(
        `line ${index + 1} has a hash that is not taken (use bcrypt: htpasswd -B; apr1 and {SHA} are read)`,
      );
    else if (users.has(name)) problems.push(`line ${index + 1} names a user that an earlier line has`);
    else users.set(name, hash);
  });
  return { users, problems };
}

function passwordHash(text: string): PasswordHash | undefined {
  if (/^\$2[aby]\$(0[4-9]|1[0-6])\$[./A-Za-z0-9]{53}$/.test(text)) return { kind: "bcrypt", text };
  if (/^\$apr1\$[^$:]{1,8}\$[./A-Za-z0-9]{22}$/.test(text)) return { kind: "apr1", text };
  if (/^\{SHA\}[A-Za-z0-9+/]{27}=$/.test(text)) return { kind: "sha1", text };
  return undefined;
}

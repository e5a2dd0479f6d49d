// Lists of users from Secrets of htpasswd lines, by the Secret's name, known or not yet. A rule holds the list, and its content
// follows the Secret.

import { type Htpasswd, parseHtpasswd } from "../../model/htpasswd.ts";
import type { Secret, SecretName } from "../../model/model.ts";

export interface UserList {
  readonly name: SecretName;
  /** Undefined while the Secret is not known: then nobody can log in. */
  users: Htpasswd | undefined;
}

export class UserLists {
  readonly #byName = new Map<SecretName, UserList>();

  get(name: SecretName): UserList {
    let list = this.#byName.get(name);
    if (!list) {
      list = { name, users: undefined };
      this.#byName.set(name, list);
    }
    return list;
  }

  /** A Secret was changed or (undefined) removed. Secrets of another kind are nobody's list. */
  configure(name: SecretName, secret: Secret | undefined): void {
    if (secret?.content.kind === "users") {
      this.get(name).users = parseHtpasswd(secret.content.lines.reveal()).users;
      return;
    }
    const list = this.#byName.get(name);
    if (list) list.users = undefined;
  }
}

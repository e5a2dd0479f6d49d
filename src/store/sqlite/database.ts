// The database file of the SQLite engine: every revision of every object in one append-only table, and beside it which
// revision of each object is the current one. Knows rows and transactions, nothing of Kubernetes.
//
// Durability: WAL with `synchronous=FULL`. A committed write is on the disk before it is acknowledged: neither the end of this
// process (kill -9 too) nor a power loss takes one.

import { Database, type Statement } from "bun:sqlite";
import { StatusError } from "../../api/status-error.ts";
import { messageOf } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";

export type RevisionType = "ADDED" | "MODIFIED" | "DELETED";

/** One change of one object. `previous` is the revision it replaced, 0 for none. */
export interface RevisionRow {
  readonly rv: number;
  readonly previous: number;
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  readonly type: RevisionType;
  /** The object as JSON; for DELETED the last state. */
  readonly object: string;
}

/** A revision with the state before it, for watches that resume. */
export interface ReplayRow extends RevisionRow {
  readonly previousObject: string | null;
}

export interface DatabaseOptions {
  /** A file, or `:memory:`. */
  readonly path: string;
  readonly log: Logger;
}

const schemaVersion = 1;

/** Rows in, rows out. All methods throw a StatusError when the disk or the file does not take part. */
export class ObjectDatabase {
  readonly #db: Database;
  readonly #options: DatabaseOptions;
  readonly #statements = new Map<string, Statement>();

  constructor(options: DatabaseOptions) {
    this.#options = options;
    try {
      this.#db = new Database(options.path, { create: true, strict: true });
      this.#db.run("PRAGMA busy_timeout = 2000");
      // One process owns the file: a second one finds it locked instead of writing between our transactions. Set before WAL
      // mode is entered, so that no shared-memory file is needed.
      if (options.path !== ":memory:") this.#db.run("PRAGMA locking_mode = EXCLUSIVE");
      this.#db.run("PRAGMA journal_mode = WAL");
      this.#db.run("PRAGMA synchronous = FULL");
      this.#migrate();
    } catch (error) {
      throw storageError(error, options.path);
    }
  }

  /** A statement, prepared once. All of them end with the database: an open one would keep the file locked. */
  #prepare(sql: string): Statement {
    let statement = this.#statements.get(sql);
    if (!statement) {
      statement = this.#db.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  #migrate(): void {
    const { user_version: version } = this.#prepare("PRAGMA user_version").get() as { user_version: number };
    if (version > schemaVersion) {
      throw new Error(`it was written by a newer version (schema ${version}, this one knows ${schemaVersion})`);
    }
    // IMMEDIATE takes the write lock, so that a file in use fails here, before anything is served from it.
    this.#db.run("BEGIN IMMEDIATE");
    if (version === 0) {
      this.#db.run(
        "CREATE TABLE revisions (rv INTEGER PRIMARY KEY, previous INTEGER NOT NULL, resource TEXT NOT NULL, " +
          "namespace TEXT NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL, object TEXT NOT NULL)",
      );
      this.#db.run(
        "CREATE TABLE objects (resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, " +
          "rv INTEGER NOT NULL, PRIMARY KEY (resource, namespace, name)) WITHOUT ROWID",
      );
      this.#db.run("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID");
      this.#db.run(`PRAGMA user_version = ${schemaVersion}`);
    }
    this.#db.run("COMMIT");
  }

  /** The revision of the last write; 0 for an empty database. */
  lastRevision(): number {
    const row = this.#prepare("SELECT max(rv) AS rv FROM revisions").get() as { rv: number | null };
    return Math.max(row.rv ?? 0, Number(this.meta("lastRevision") ?? 0));
  }

  /** Revisions up to this one can no longer be replayed. */
  compactedRevision(): number {
    return Number(this.meta("compacted") ?? 0);
  }

  meta(key: string): string | undefined {
    const row = this.#prepare("SELECT value FROM meta WHERE key = ?1").get(key) as { value: string } | null;
    return row?.value;
  }

  /** The current objects of a resource, in no order, as JSON. */
  current(resource: string): string[] {
    const rows = this.#prepare(
      "SELECT r.object AS object FROM objects o JOIN revisions r ON r.rv = o.rv WHERE o.resource = ?1",
    ).all(resource) as { object: string }[];
    return rows.map((row) => row.object);
  }

  /** Resources that have at least one object. */
  storedResources(): string[] {
    const rows = this.#prepare("SELECT DISTINCT resource FROM objects").all() as { resource: string }[];
    return rows.map((row) => row.resource);
  }

  /** Revisions of a resource after `rv`, oldest first, at most `limit`. */
  replay(resource: string, rv: number, limit: number): ReplayRow[] {
    return this.#prepare(
      "SELECT r.*, p.object AS previousObject FROM revisions r LEFT JOIN revisions p ON p.rv = r.previous " +
        "WHERE r.rv > ?1 AND r.resource = ?2 ORDER BY r.rv LIMIT ?3",
    ).all(rv, resource, limit) as ReplayRow[];
  }

  /** Writes all rows or none. */
  write(rows: readonly RevisionRow[]): void {
    try {
      this.#prepare("BEGIN IMMEDIATE").run();
      const insert = this.#prepare("INSERT INTO revisions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)");
      const setCurrent = this.#prepare("INSERT OR REPLACE INTO objects VALUES (?1, ?2, ?3, ?4)");
      const dropCurrent = this.#prepare("DELETE FROM objects WHERE resource = ?1 AND namespace = ?2 AND name = ?3");
      for (const row of rows) {
        insert.run(row.rv, row.previous, row.resource, row.namespace, row.name, row.type, row.object);
        if (row.type === "DELETED") dropCurrent.run(row.resource, row.namespace, row.name);
        else setCurrent.run(row.resource, row.namespace, row.name, row.rv);
      }
      this.#prepare("COMMIT").run();
    } catch (error) {
      try {
        if (this.#db.inTransaction) this.#prepare("ROLLBACK").run();
      } catch (rollbackError) {
        this.#options.log.error("a failed write could not be rolled back", { error: messageOf(rollbackError) });
      }
      throw storageError(error, this.#options.path);
    }
  }

  /**
   * Forgets revisions up to `upTo` that are neither current nor the state before a revision that is kept, `rv` being
   * the last revision written.
   */
  compact(upTo: number, rv: number): void {
    const from = this.compactedRevision();
    if (upTo <= from) return;
    try {
      this.#prepare("BEGIN IMMEDIATE").run();
      this.#prepare(
        "DELETE FROM revisions WHERE rv IN (SELECT previous FROM revisions WHERE rv > ?1 AND rv <= ?2)",
      ).run(from, upTo);
      this.#prepare("DELETE FROM revisions WHERE rv > ?1 AND rv <= ?2 AND type = 'DELETED'").run(from, upTo);
      const set = this.#prepare("INSERT OR REPLACE INTO meta VALUES (?1, ?2)");
      set.run("compacted", String(upTo));
      set.run("lastRevision", String(rv)); // the newest row may be a deletion that goes in a later compaction
      this.#prepare("COMMIT").run();
    } catch (error) {
      if (this.#db.inTransaction) this.#prepare("ROLLBACK").run();
      throw storageError(error, this.#options.path);
    }
  }

  close(): void {
    for (const statement of this.#statements.values()) statement.finalize();
    this.#db.close(true);
  }
}

/** SQLite's errors in the API's form, with what to do about them. */
function storageError(error: unknown, path: string): StatusError {
  if (error instanceof StatusError) return error;
  const code = String((error as { code?: unknown }).code ?? "");
  const say = (message: string) => new StatusError(500, "InternalError", message);
  if (code.startsWith("SQLITE_FULL")) {
    return say(
      `the store at ${path} cannot be written: the disk is full. Nothing was changed; free some space and try again`,
    );
  }
  if (code.startsWith("SQLITE_BUSY") || code.startsWith("SQLITE_LOCKED")) {
    return say(
      `the store at ${path} is in use by another process. Nothing was changed; stop that process and try again`,
    );
  }
  if (code.startsWith("SQLITE_READONLY") || code.startsWith("SQLITE_CANTOPEN")) {
    return say(`the store at ${path} cannot be opened for writing. Check that the folder exists and its permissions`);
  }
  if (code.startsWith("SQLITE_CORRUPT") || code.startsWith("SQLITE_NOTADB")) {
    return say(`the store at ${path} is damaged or no database (${messageOf(error)})`);
  }
  if (code.startsWith("SQLITE_IOERR")) {
    return say(`the store at ${path} cannot be read or written (${messageOf(error)}). Nothing was changed`);
  }
  return say(`the store at ${path} failed: ${messageOf(error)}`);
}

// A connection before it is known who serves it: waits for its first bytes, and gives way to what they ask for. It takes the
// socket's seat like any connection, so that nothing is lost on the way; its deadline closes who says nothing.

import { Deadline, type Deadlines } from "../deadlines.ts";
import type { ClientConnection } from "../server.ts";
import { FirstBytes, type Introduction, type Wanted } from "./first-bytes.ts";

/** Milliseconds for the first bytes, and for a handshake. */
export const openingTimeout = 10_000;

export type OpeningProblem = "bad_proxy_header" | "bad_hello" | "slow" | "gone";

export interface OpeningOwner {
  /** The first bytes are there: the connection is the owner's now, with what came behind. */
  introduced(introduction: Introduction): void;
  /** There will be no connection; the owner closes the socket. Called at most once, and nothing follows. */
  failed(problem: OpeningProblem): void;
}

export class Opening extends Deadline implements ClientConnection {
  readonly #owner: OpeningOwner;
  readonly #deadlines: Deadlines;
  readonly #bytes: FirstBytes;
  #over = false;

  constructor(owner: OpeningOwner, wanted: Wanted, deadlines: Deadlines) {
    super();
    this.#owner = owner;
    this.#deadlines = deadlines;
    this.#bytes = new FirstBytes(wanted);
    deadlines.arm(this, openingTimeout);
  }

  onData(bytes: Buffer): void {
    if (this.#over) return;
    const result = this.#bytes.push(bytes);
    if (result === "more") return;
    if (typeof result === "string") {
      this.#fail(result);
      return;
    }
    this.#end();
    this.#owner.introduced(result);
  }

  #end(): void {
    this.#over = true;
    this.#deadlines.disarm(this);
  }

  #fail(problem: OpeningProblem): void {
    if (this.#over) return;
    this.#end();
    this.#owner.failed(problem);
  }

  expired(): void {
    this.#fail("slow");
  }

  onDrain(): void {}

  /** Who says no more before it has said what it wants gets nothing. */
  onEnd(): void {
    this.#fail("gone");
  }

  onClose(): void {
    this.#fail("gone");
  }

  closeWhenIdle(): void {
    this.#fail("gone");
  }

  terminate(): void {
    this.#fail("gone");
  }
}

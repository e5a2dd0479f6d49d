// Values of a line that follow from a connection alone, one behind the other with what is between them: a connection keeps them as a
// whole (`kept-values.ts`), and all of its lines but the first copy it. Which values those are is said here.

import { Kind } from "../headers.ts";
import type { AccessRecord } from "./access-record.ts";
import { What } from "./line-operators.ts";
import { type Piece, writePiece } from "./line-piece.ts";
import { put } from "./line-values.ts";

/** Whose connection keeps a value. `forwarded`: the client's, but only of requests whose head ends with finished lines. */
export type Keeper = "client" | "forwarded" | "upstream";

const keepers: Readonly<Record<number, Keeper>> = {
  [What.tlsVersion]: "client",
  [What.localAddress]: "client",
  [What.source]: "client",
  [What.directSource]: "client",
  [What.serverName]: "client",
  [What.local]: "client",
  [What.remote]: "client",
  [What.direct]: "client",
  [What.localPort]: "client",
  [What.remotePort]: "client",
  [What.directPort]: "client",
  [What.authority]: "client",
  [What.backend]: "upstream",
  [What.endpoint]: "upstream",
  [What.endpointAddress]: "upstream",
  [What.endpointPort]: "upstream",
  [What.upstreamLocal]: "upstream",
  [What.upstreamLocalAddress]: "upstream",
  [What.upstreamLocalPort]: "upstream",
};

/** Undefined: the value is the request's own. */
export function keeperOf({ what, first, second }: Piece): Keeper | undefined {
  if (second !== undefined) return undefined;
  return what === What.field && first!.kind === Kind.forwardedFor ? "forwarded" : keepers[what];
}

const empty = new Uint8Array(0);

export class Row {
  readonly keeper: Keeper;
  readonly #place: number;
  readonly #pieces: Piece[];
  /** What is before each piece but the first, and one more. */
  readonly #literals: Uint8Array[] = [empty];

  /** `place`: among all that a connection keeps for a listener. */
  constructor(keeper: Keeper, place: number, first: Piece) {
    this.keeper = keeper;
    this.#place = place;
    this.#pieces = [first];
  }

  add(literal: Uint8Array, piece: Piece): void {
    this.#literals.push(literal);
    this.#pieces.push(piece);
  }

  /** Returns where it ended. */
  write(to: Buffer, at: number, record: AccessRecord): number {
    const values = this.keeper === "upstream" ? record.upstreamValues : record.clientValues;
    if (values === undefined || (this.keeper === "forwarded" && !endsFinished(record)))
      return this.#anew(to, at, record);
    const kept = values.at(this.#place);
    if (kept !== undefined) {
      to.set(kept, at);
      return at + kept.length;
    }
    const end = this.#anew(to, at, record);
    values.keep(this.#place, to, at, end);
    return end;
  }

  #anew(to: Buffer, start: number, record: AccessRecord): number {
    const pieces = this.#pieces;
    let at = start;
    for (let index = 0; index < pieces.length; index++) {
      at = put(to, at, this.#literals[index]!);
      at = writePiece(to, at, pieces[index]!, record);
    }
    return at;
  }
}

/** What the proxy says of who sent it is all that the head has of that. */
function endsFinished({ headers }: AccessRecord): boolean {
  return (
    headers !== undefined &&
    headers.tail !== "" &&
    headers.extra === undefined &&
    (headers.mask & (1 << Kind.forwardedFor)) === 0
  );
}

// The pieces of an nftables table: what `Rules` has as names here, and what their lines say. A piece is the table, a set or map
// without its elements, a chain with its rules, or one element: so that a change costs what it changes, however big a map is.

/** `table`: no lines. */
export const tablePiece = "table";

/** `set cluster-ips`: its lines are the statements of the declaration (`type ipv4_addr`, `timeout 10800s`). */
export function setPiece(name: string): string {
  return `set ${name}`;
}

/** `map service-ips`: likewise. */
export function mapPiece(name: string): string {
  return `map ${name}`;
}

/** `chain services`: its lines are its rules; a base chain's first line is its hook (`type nat hook prerouting …`). */
export function chainPiece(name: string): string {
  return `chain ${name}`;
}

/** `element service-ips 10.96.0.1 . tcp . 80`: its one line is the element with its comment and verdict. */
export function elementPiece(set: string, key: string): string {
  return `element ${set} ${key}`;
}

export type Piece =
  | { readonly kind: "table" }
  | { readonly kind: "set" | "map" | "chain"; readonly name: string }
  | { readonly kind: "element"; readonly set: string; readonly key: string };

export function parsePiece(piece: string): Piece {
  const space = piece.indexOf(" ");
  if (space < 0) return { kind: "table" };
  const kind = piece.slice(0, space);
  const rest = piece.slice(space + 1);
  if (kind !== "element") return { kind: kind as "set" | "map" | "chain", name: rest };
  const end = rest.indexOf(" ");
  return { kind, set: rest.slice(0, end), key: rest.slice(end + 1) };
}

/** Whether a line of a chain is its hook and no rule. */
export function isHook(line: string | undefined): boolean {
  return line?.startsWith("type ") ?? false;
}

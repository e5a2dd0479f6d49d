// What commands print with: plain text on pipes, colours on a terminal (and never with NO_COLOR), and columns as kubectl's.

const coloured = process.stdout.isTTY && !process.env.NO_COLOR;

function paint(code: number) {
  return (text: string) => (coloured ? `\u001b[${code}m${text}\u001b[0m` : text);
}

export const bold = paint(1);
export const dim = paint(2);
export const red = paint(31);
export const green = paint(32);
export const yellow = paint(33);

export function print(line = ""): void {
  process.stdout.write(`${line}\n`);
}

export function printError(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Rows under a header, three spaces apart, the last column unpadded: kubectl's way of printing tables. */
export function columns(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [header, ...rows];
  const width = header.map((_, at) => Math.max(...all.map((row) => (row[at] ?? "").length)));
  return all
    .map((row) =>
      row
        .map((cell, at) => (at === row.length - 1 ? cell : cell.padEnd(width[at]! + 3)))
        .join("")
        .trimEnd(),
    )
    .join("\n");
}

/** `1.24 s`, `85 ms`. */
export function duration(milliseconds: number): string {
  return milliseconds >= 1000 ? `${(milliseconds / 1000).toFixed(2)} s` : `${Math.round(milliseconds)} ms`;
}

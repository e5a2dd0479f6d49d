// What lies in log files as lines with times: files of a CRI runtime (`TIME STREAM F text`), which stand-ins write, and plain
// output of commands, whose lines have no time of their own. Pure functions; `pod-logs.ts` reads the files.

export interface LogLine {
  readonly text: string;
  /** RFC 3339, as it is shown with `--timestamps`. */
  readonly time: string;
}

export type LogFormat = "cri" | "plain";

/** One line. `otherwise` is the time of lines that have none. */
export function parseLine(line: string, format: LogFormat, otherwise: string): LogLine {
  if (format === "plain") return { text: line, time: otherwise };
  const first = line.indexOf(" ");
  const second = line.indexOf(" ", first + 1);
  const third = line.indexOf(" ", second + 1);
  if (first < 0 || second < 0 || third < 0) return { text: line, time: otherwise };
  return { text: line.slice(third + 1), time: line.slice(0, first) };
}

export interface LineFilter {
  /** Milliseconds since the epoch. */
  readonly since?: number;
  readonly timestamps: boolean;
}

/** The text that a client gets of a line, with its newline; undefined for a line before `since`. */
export function showLine(line: LogLine, filter: LineFilter): string | undefined {
  if (filter.since !== undefined && Date.parse(line.time) < filter.since) return undefined;
  return filter.timestamps ? `${line.time} ${line.text}\n` : `${line.text}\n`;
}

/** Puts lines together from chunks of bytes; the last line may come without a newline until `rest` is asked. */
export class LineSplitter {
  #rest = "";
  readonly #decoder = new TextDecoder();

  push(chunk: Uint8Array): string[] {
    const lines = (this.#rest + this.#decoder.decode(chunk, { stream: true })).split("\n");
    this.#rest = lines.pop() ?? "";
    // A line without an end must not grow for ever.
    if (this.#rest.length > 1024 * 1024) {
      lines.push(this.#rest);
      this.#rest = "";
    }
    return lines;
  }

  rest(): string {
    const rest = this.#rest;
    this.#rest = "";
    return rest;
  }
}

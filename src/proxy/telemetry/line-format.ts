// Access log lines by template, in Envoy's command operators (`model/access-log-template.ts`). A template is taken apart once, to
// what is written as it is and to what each value is, so that a line costs its pieces and leaves nothing behind that has to be collected.
// What is absent is `-` in text and null in JSON.

import { templatePieces } from "../../model/access-log-template.ts";
import type { AccessLogSettings } from "../../model/listener-telemetry.ts";
import type { AccessRecord } from "./access-record.ts";
import { mostText } from "./line-fields.ts";
import { operators, What } from "./line-operators.ts";
import { type AskedOfAnswers, asksForGrpc, fieldNamed, grpcFields, Piece, writePiece } from "./line-piece.ts";
import { keeperOf, Row } from "./line-row.ts";
import { jsonPartStyle, jsonStyle, put, type Style, textStyle } from "./line-values.ts";
import { WrittenTime } from "./written-time.ts";

export interface LineFormat {
  /** Room that a line may need. */
  readonly most: number;
  /** It has values in it that are kept by the connections to backends. */
  readonly tellsOfUpstreams: boolean;
  /** Writes a line with its end; returns where it ended. */
  write(to: Buffer, at: number, record: AccessRecord): number;
}

/** What is not text: numbers, times, addresses, words of ours, and what was begun at the limit. */
const mostOther = 128;

/** A template as it is set. Throws an Error that names an operator that is not known. Adds to `asked` what is asked of answers. */
export function lineFormat(format: AccessLogSettings["format"], asked: AskedOfAnswers): LineFormat {
  const line = new Line(asked);
  if ("text" in format) addTemplate(line, format.text, textStyle, asked);
  else {
    line.text("{");
    Object.entries(format.json).forEach(([name, template], index) => {
      line.text(`${index > 0 ? "," : ""}${JSON.stringify(name)}:`);
      const pieces = templatePieces(template);
      if (pieces.length === 1 && typeof pieces[0] !== "string") addTemplate(line, template, jsonStyle, asked);
      else {
        line.text('"');
        addTemplate(line, template, jsonPartStyle, asked);
        line.text('"');
      }
    });
    line.text("}");
  }
  line.text("\n");
  return line;
}

function addTemplate(line: Line, template: string, style: Style, asked: AskedOfAnswers): void {
  for (const piece of templatePieces(template)) {
    if (typeof piece === "string") line.text(style === textStyle ? piece : JSON.stringify(piece).slice(1, -1));
    else if ("operator" in piece) {
      const what = operators[piece.operator];
      if (what === undefined) line.bytes(style.absent);
      else {
        const [first, second] = asksForGrpc(what) ? grpcFields(asked) : [];
        line.add(new Piece(what, style, { first, second }));
      }
    } else if ("time" in piece) {
      const { time, format } = piece;
      if (format === undefined) line.add(new Piece(time === "start" ? What.startTime : What.emitTime, style));
      else {
        const what = time === "start" ? What.startTimeFormat : What.emitTimeFormat;
        line.add(new Piece(what, style, { time: new WrittenTime(format) }));
      }
    } else if ("parameter" in piece) {
      const first = { what: What.parameter, name: piece.parameter, kind: 0, place: 0 };
      line.add(new Piece(What.parameter, style, { first, most: piece.most }));
    } else {
      const { header, names, most, withoutQuery } = piece;
      const [first, second] = names.map((name) => fieldNamed(header, name, asked));
      line.add(new Piece(first!.what, style, { first, second, most, withoutQuery }));
    }
  }
}

/** Literals and values in turn. */
class Line implements LineFormat {
  readonly #asked: AskedOfAnswers;
  readonly #literals: Uint8Array[] = [new Uint8Array(0)];
  readonly #steps: (Piece | Row)[] = [];
  most = 0;
  tellsOfUpstreams = false;

  constructor(asked: AskedOfAnswers) {
    this.#asked = asked;
  }

  text(text: string): void {
    this.bytes(Buffer.from(text));
  }

  bytes(bytes: Uint8Array): void {
    this.most += bytes.length;
    this.#literals.push(new Uint8Array(Buffer.concat([this.#literals.pop()!, bytes])));
  }

  add(piece: Piece): void {
    this.most += 2 * mostText + mostOther;
    const keeper = keeperOf(piece);
    const last = this.#steps.at(-1);
    if (last instanceof Row && last.keeper === keeper) last.add(this.#literals.pop()!, piece);
    else this.#steps.push(keeper === undefined ? piece : new Row(keeper, this.#asked.kept++, piece));
    if (keeper === "upstream") this.tellsOfUpstreams = true;
    this.#literals.push(new Uint8Array(0));
  }

  write(to: Buffer, start: number, record: AccessRecord): number {
    const steps = this.#steps;
    const literals = this.#literals;
    let at = start;
    for (let index = 0; index < steps.length; index++) {
      at = put(to, at, literals[index]!);
      const step = steps[index]!;
      at = step instanceof Row ? step.write(to, at, record) : writePiece(to, at, step, record);
    }
    return put(to, at, literals[steps.length]!);
  }
}

// gRPC-Web (grpc/grpc, PROTOCOL-WEB) to gRPC and back, for browsers: bodies are the same but for base64 in its text form, and
// trailers come as the last message. What is not gRPC-Web passes as it is; CORS is the cors filter's.

import { BodyStage } from "../body-stage.ts";
import type { Filter, FilterExchange } from "../filter.ts";
import type { HeaderBlock } from "../headers.ts";

/** The flag of a message that is trailers. */
const trailersFlag = 0x80;
const web = /^application\/grpc-web(-text)?((?:\+[!-:<-~]+)?(?:;.*)?)$/i;
const native = /^application\/grpc((?:\+[!-:<-~]+)?(?:;.*)?)$/i;

export const grpcWeb: Filter<"grpcWeb"> = {
  kind: "grpcWeb",
  compile: (config) => ({
    request(head, exchange) {
      const { headers } = head;
      const asked = web.exec(headers.get("content-type") ?? "");
      if (!asked || head.method !== "POST") return undefined;
      const text = asked[1] !== undefined;
      const wanted = web.exec(headers.get("accept") ?? "");
      exchange.keep(config, (wanted ?? asked)[1] !== undefined ? "-text" : "");
      headers.set("content-type", `application/grpc${asked[2]}`);
      headers.set("te", "trailers");
      if (!text) return undefined;
      headers.remove("content-length");
      if (head.length > 0) head.length = -1;
      exchange.putRequestStage(new FromText(exchange));
      return undefined;
    },
    response(head, exchange) {
      const form = exchange.kept<"" | "-text">(config);
      const type = form === undefined ? null : native.exec(head.headers.get("content-type") ?? "");
      if (!type) return undefined;
      const { headers } = head;
      headers.set("content-type", `application/grpc-web${form}${type[1]}`);
      // An answer that is only a head says how it ended there.
      if (exchange.bodiless || head.length === 0) return undefined;
      headers.remove("content-length");
      head.length = -1;
      exchange.putResponseStage(new ToWeb(form === "-text"));
      return undefined;
    },
  }),
};

/** Undoes base64, whose padding may stand within, where a piece of the message ended. */
class FromText extends BodyStage {
  readonly #exchange: FilterExchange;
  /** Up to three characters of a group that is not complete. */
  #rest = "";
  #failed = false;

  constructor(exchange: FilterExchange) {
    super();
    this.#exchange = exchange;
  }

  override write(chunk: Buffer, start: number, end: number): boolean {
    if (this.#failed) return true;
    const text = this.#rest + chunk.latin1Slice(start, end);
    const whole = text.length - (text.length % 4);
    this.#rest = text.slice(whole);
    const decoded = whole === 0 ? undefined : decode(text.slice(0, whole));
    if (decoded === undefined) {
      if (whole > 0) this.#fail();
      return true;
    }
    return this.next.write(decoded, 0, decoded.length);
  }

  override end(trailers?: HeaderBlock): void {
    if (this.#failed) return;
    if (this.#rest !== "") this.#fail();
    else this.next.end(trailers);
  }

  #fail(): void {
    this.#failed = true;
    this.#exchange.fail("bad_request");
  }
}

const groups = /(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)|(?:[A-Za-z0-9+/]{4})+/y;

/** The bytes of whole groups of base64; undefined where they are none. */
export function decode(text: string): Buffer | undefined {
  if (!text.includes("=")) return /^[A-Za-z0-9+/]*$/.test(text) ? Buffer.from(text, "base64") : undefined;
  const parts: Buffer[] = [];
  for (let at = 0; at < text.length; at = groups.lastIndex) {
    groups.lastIndex = at;
    const found = groups.exec(text);
    if (!found) return undefined;
    parts.push(Buffer.from(found[0], "base64"));
  }
  return Buffer.concat(parts);
}

/** Puts the trailers behind the messages, and codes all of it as base64 for who asked for text. */
class ToWeb extends BodyStage {
  readonly #text: boolean;

  constructor(text: boolean) {
    super();
    this.#text = text;
  }

  override write(chunk: Buffer, start: number, end: number): boolean {
    if (!this.#text) return this.next.write(chunk, start, end);
    // Each piece with its padding: nothing of a message waits for the next one.
    const coded = Buffer.from(chunk.toString("base64", start, end), "latin1");
    return this.next.write(coded, 0, coded.length);
  }

  override end(trailers?: HeaderBlock): void {
    if (trailers) {
      const frame = trailersMessage(trailers);
      this.write(frame, 0, frame.length);
    }
    this.next.end();
  }
}

/** Trailers as a message: its flag, its length, and lines of HTTP/1 with names in lower case. */
export function trailersMessage(trailers: HeaderBlock): Buffer {
  let lines = "";
  for (const [name, value] of trailers.entries()) lines += `${name}: ${value}\r\n`;
  const message = Buffer.alloc(5 + lines.length);
  message[0] = trailersFlag;
  message.writeUInt32BE(lines.length, 1);
  message.latin1Write(lines, 5);
  return message;
}

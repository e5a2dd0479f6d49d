// DNS messages as bytes (RFC 1035, EDNS0 of RFC 6891): reads a query strictly, and writes a reply into the size that the asker
// can take. The `dns-packet` library knows the records; here is what a server must know of a message as a whole.

import type { Answer, DecodedPacket, OptAnswer } from "dns-packet";
import { decode, encode } from "dns-packet";
import type { DnsQuestion, DnsRecord, Rcode, Reply } from "./records.ts";

/** The largest answer sent over UDP, whatever the asker offers: fits any path without fragments (DNS flag day 2020). */
export const maxUdpPayload = 1232;

const headerLength = 12;
const rcodes: Readonly<Record<Rcode, number>> = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  BADVERS: 16,
};

export function rcodeNumber(rcode: Rcode): number {
  return rcodes[rcode];
}

export interface Query {
  readonly id: number;
  readonly question: DnsQuestion;
  /** The question section as it came, to be sent back as it was. */
  readonly questionBytes: Uint8Array;
  readonly recursionDesired: boolean;
  /** The asker's EDNS, when it speaks it: the UDP payload it takes, in bytes. */
  readonly edns: { readonly payload: number } | undefined;
}

/** What came: a query, one that is refused at once, or something that must not be answered (an answer, or no message). */
export type Parsed =
  | { readonly kind: "query"; readonly query: Query }
  | { readonly kind: "refused"; readonly reply: Uint8Array }
  | { readonly kind: "ignored" };

/** Never throws. */
export function parseQuery(bytes: Uint8Array): Parsed {
  if (bytes.length < headerLength) return { kind: "ignored" };
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const id = view.readUInt16BE(0);
  const flags = view.readUInt16BE(2);
  if ((flags & 0x8000) !== 0) return { kind: "ignored" };
  const recursionDesired = (flags & 0x0100) !== 0;
  const opcode = (flags >> 11) & 15;
  const refuse = (rcode: Rcode, question: Uint8Array = new Uint8Array()): Parsed => {
    const query = { id, question: { name: "", type: "" }, questionBytes: question, recursionDesired, edns: undefined };
    return { kind: "refused", reply: header(query, rcode, { question: question.length > 0, opcode }) };
  };
  if (opcode !== 0) return refuse("NOTIMP");
  const questionEnd = endOfQuestion(view);
  if (view.readUInt16BE(4) !== 1 || questionEnd === undefined) return refuse("FORMERR");
  const questionBytes = view.subarray(headerLength, questionEnd);
  let packet: DecodedPacket;
  try {
    packet = decode(view);
  } catch {
    return refuse("FORMERR", questionBytes);
  }
  const question = packet.questions?.[0];
  const options = (packet.additionals ?? []).filter((one): one is OptAnswer => one.type === "OPT");
  if (!question || options.length > 1) return refuse("FORMERR", questionBytes);
  const edns = options[0] && { payload: Math.max(512, options[0].udpPayloadSize) };
  const query: Query = {
    id,
    question: { name: dottedName(questionBytes), type: question.type },
    questionBytes,
    recursionDesired,
    edns,
  };
  if (options[0] && options[0].ednsVersion !== 0) {
    return { kind: "refused", reply: encodeReply(query, emptyReply("BADVERS"), maxUdpPayload) };
  }
  if (question.class !== "IN" || question.type === "AXFR" || question.type === "IXFR") {
    return { kind: "refused", reply: encodeReply(query, emptyReply("REFUSED"), maxUdpPayload) };
  }
  return { kind: "query", query };
}

/** The same asker's query for another name. */
export function queryFor(query: Query, name: string): Query {
  const type = query.questionBytes.subarray(query.questionBytes.length - 4);
  const parts = name.split(".").flatMap((label) => {
    const bytes = Buffer.from(label, "latin1");
    return [Buffer.from([bytes.length]), bytes];
  });
  return {
    ...query,
    question: { name, type: query.question.type },
    questionBytes: Buffer.concat([...parts, Buffer.from([0]), type]),
  };
}

/** Where the one question ends; undefined when it does not, or has a compressed or too long name. */
function endOfQuestion(view: Buffer): number | undefined {
  let at = headerLength;
  for (;;) {
    const length = view[at];
    if (length === undefined || length > 63) return undefined;
    at += length + 1;
    if (length === 0) break;
    if (at - headerLength > 254) return undefined;
  }
  return at + 4 <= view.length ? at + 4 : undefined;
}

/** The question's name as text. A dot inside of a label, which no name of a cluster has, is written as another character. */
function dottedName(question: Uint8Array): string {
  const labels: string[] = [];
  for (let at = 0; question[at] !== 0; at += question[at]! + 1) {
    const label = Buffer.from(question.subarray(at + 1, at + 1 + question[at]!)).toString("latin1");
    labels.push(label.replaceAll(".", "\\"));
  }
  return labels.length === 0 ? "." : labels.join(".");
}

export function emptyReply(rcode: Rcode): Reply {
  return { rcode, authoritative: false, answers: [], authorities: [], additionals: [] };
}

/** How large a reply to this query may be over UDP, in bytes. */
export function udpLimit(query: Query): number {
  return query.edns ? Math.min(query.edns.payload, maxUdpPayload) : 512;
}

export interface EncodeOptions {
  /** Whether others can be asked: the RA bit. */
  readonly recursionAvailable?: boolean;
}

/**
 * A reply of at most `limit` bytes. Additional records are left out first, and that is no harm; when answers or the denial do
 * not fit, those that do are sent with the TC bit, and the asker comes again over TCP.
 */
export function encodeReply(query: Query, reply: Reply, limit: number, options: EncodeOptions = {}): Uint8Array {
  const opt = query.edns ? optRecord(reply.rcode) : undefined;
  let room = limit - headerLength - query.questionBytes.length - (opt?.length ?? 0);
  let full = false;
  const take = (records: readonly DnsRecord[]): Uint8Array[] => {
    const taken: Uint8Array[] = [];
    for (const record of records) {
      if (full) break;
      const bytes = encodeRecord(record, query);
      if (bytes.length > room) full = true;
      else {
        room -= bytes.length;
        taken.push(bytes);
      }
    }
    return taken;
  };
  const answers = take(reply.answers);
  const authorities = take(reply.authorities);
  const truncated = full;
  const additionals = take(reply.additionals);
  if (opt) additionals.push(opt);
  const head = header(query, reply.rcode, {
    question: true,
    opcode: 0,
    authoritative: reply.authoritative,
    truncated,
    recursionAvailable: options.recursionAvailable ?? false,
    counts: [answers.length, authorities.length, additionals.length],
  });
  return Buffer.concat([head, ...answers, ...authorities, ...additionals]);
}

interface HeaderOptions {
  readonly question: boolean;
  readonly opcode: number;
  readonly authoritative?: boolean;
  readonly truncated?: boolean;
  readonly recursionAvailable?: boolean;
  readonly counts?: readonly [number, number, number];
}

/** The header, and the question after it. */
function header(query: Query, rcode: Rcode, options: HeaderOptions): Uint8Array {
  const out = Buffer.alloc(headerLength + (options.question ? query.questionBytes.length : 0));
  const bit = (set: boolean | undefined, value: number) => (set ? value : 0);
  out.writeUInt16BE(query.id, 0);
  out.writeUInt16BE(
    0x8000 |
      (options.opcode << 11) |
      bit(options.authoritative, 0x0400) |
      bit(options.truncated, 0x0200) |
      bit(query.recursionDesired, 0x0100) |
      bit(options.recursionAvailable, 0x0080) |
      (rcodes[rcode] & 15),
    2,
  );
  out.writeUInt16BE(options.question ? 1 : 0, 4);
  for (const [at, count] of (options.counts ?? [0, 0, 0]).entries()) out.writeUInt16BE(count, 6 + 2 * at);
  if (options.question) out.set(query.questionBytes, headerLength);
  return out;
}

/** One record; its name is a pointer to the question's where they are equal (RFC 1035, 4.1.4). */
function encodeRecord(record: DnsRecord, query: Query): Uint8Array {
  const bytes = encode({ type: "response", answers: [record as Answer] }).subarray(headerLength);
  if (record.name.toLowerCase() !== query.question.name.toLowerCase()) return bytes;
  let end = 0;
  while (bytes[end] !== 0) end += bytes[end]! + 1;
  return Buffer.concat([pointerToQuestion, bytes.subarray(end + 1)]);
}

const pointerToQuestion = Buffer.from([0xc0, headerLength]);

/** Our own OPT record; the upper bits of the rcode are in it. */
export function optRecord(rcode: Rcode): Uint8Array {
  const out = Buffer.alloc(11);
  out.writeUInt16BE(41, 1);
  out.writeUInt16BE(maxUdpPayload, 3);
  out[5] = rcodes[rcode] >> 4;
  return out;
}

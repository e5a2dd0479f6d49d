// Answers about the cluster as finished bytes, for the question as nearly every client writes it: one question, at most an OPT
// record. Such an answer needs only the asker's id, its spelling of the name and another order of addresses. Everything
// else (other shapes, answers too long for the asker, names of others) takes the way through `message.ts` and `answer.ts`.

import type { Disposable } from "../base/disposal.ts";
import { encodeReply, maxUdpPayload, type Query } from "./message.ts";
import type { ServiceNames } from "./names.ts";
import type { Reply } from "./records.ts";
import type { ZoneTable } from "./zone-table.ts";

interface Entry {
  /** A whole message without OPT. */
  readonly bytes: Uint8Array;
  /** Records of one size that may be sent in any order: how many, from where; 0 when there is nothing to turn. */
  readonly turning: number;
  readonly turnAt: number;
  /** The serial it holds for; -1 when it depends on one Service alone, whose change removes it. */
  readonly serial: number;
  readonly zone: number;
  readonly rcode: number;
}

/** Of an answer that was just given: what metrics need. */
export interface Given {
  length: number;
  type: number;
  zone: number;
  rcode: number;
}

/** Answers kept; denials of names that do not exist have a part of their own, so that somebody's guesses cost nobody else. */
const mostAnswers = 65_536;
const mostDenials = 4_096;
const headerLength = 12;
const optLength = 11;
/** A record with a pointer for its name and an address of four or sixteen bytes. */
const recordSizes: Readonly<Record<string, number>> = { A: 16, AAAA: 28 };

export class AnswerCache implements Disposable {
  readonly #table: ZoneTable;
  readonly #random: () => number;
  readonly #answers = new Map<string, Entry>();
  readonly #denials = new Map<string, Entry>();
  readonly #byService = new Map<string, string[]>();
  readonly #subscription: Disposable;
  readonly #lower = Buffer.alloc(headerLength + 260);
  #questionEnd = 0;
  #edns = 0;
  /** Where answers are put together; valid until the next call. */
  readonly out = Buffer.alloc(maxUdpPayload);
  readonly given: Given = { length: 0, type: 0, zone: 0, rcode: 0 };

  constructor(table: ZoneTable, random: () => number) {
    this.#table = table;
    this.#random = random;
    this.#subscription = table.onChange((change) => {
      if (change === "all") this.#clear();
      else this.#forget(change.service);
    });
  }

  get size(): number {
    return this.#answers.size + this.#denials.size;
  }

  /**
   * The length of the answer, which then is the beginning of `out`; 0 when it has to be made in the long way, after which
   * `keep` may be called for the same message.
   */
  answer(message: Uint8Array, limitWithoutEdns: number, recursionAvailable: boolean): number {
    const key = this.#key(message);
    if (key === undefined) return 0;
    const entry = this.#answers.get(key) ?? this.#denials.get(key);
    if (!entry || (entry.serial !== -1 && entry.serial !== this.#table.serial)) return 0;
    const { bytes } = entry;
    const opt = this.#edns > 0 ? optLength : 0;
    const limit = this.#edns > 0 ? Math.min(maxUdpPayload, Math.max(512, this.#edns)) : limitWithoutEdns;
    let length = bytes.length;
    if (length + opt > Math.min(limit, maxUdpPayload)) return 0;
    const { out } = this;
    out.set(bytes);
    if (entry.turning > 1) this.#turn(entry);
    out[0] = message[0]!;
    out[1] = message[1]!;
    out[2] = out[2]! | (message[2]! & 1);
    if (recursionAvailable) out[3] = out[3]! | 0x80;
    for (let at = headerLength; at < this.#questionEnd; at++) out[at] = message[at]!;
    if (opt > 0) {
      out[11] = out[11]! + 1; // an answer of 1,232 bytes has no 255 records besides
      out.fill(0, length, length + optLength);
      out[length + 2] = 41;
      out[length + 3] = maxUdpPayload >> 8;
      out[length + 4] = maxUdpPayload & 255;
      length += optLength;
    }
    const { given } = this;
    given.length = length;
    given.type = (message[this.#questionEnd - 4]! << 8) | message[this.#questionEnd - 3]!;
    given.zone = entry.zone;
    given.rcode = entry.rcode;
    return length;
  }

  /**
   * Keeps the answer to the message that `answer` could not answer a moment ago. `service` is the one that it depends on;
   * undefined when it depends on more, and then it holds until the next change of anything.
   */
  keep(message: Uint8Array, query: Query, reply: Reply, zone: number, service: ServiceNames | undefined): void {
    const key = this.#key(message);
    if (key === undefined) return;
    const bytes = encodeReply({ ...query, id: 0, recursionDesired: false, edns: undefined }, reply, maxUdpPayload);
    if ((bytes[2]! & 2) !== 0) return; // too long for any asker over UDP
    const size = reply.answers.length > 1 ? sizeOfAll(reply) : undefined;
    const entry: Entry = {
      bytes,
      turning: size === undefined ? 0 : reply.answers.length,
      turnAt: headerLength + query.questionBytes.length,
      serial: service ? -1 : this.#table.serial,
      zone,
      rcode: bytes[3]! & 15,
    };
    const part = reply.rcode === "NXDOMAIN" ? this.#denials : this.#answers;
    if (part.size >= (part === this.#denials ? mostDenials : mostAnswers)) {
      if (part === this.#answers) this.#clear();
      else part.clear();
    }
    part.set(key, entry);
    if (!service) return;
    const keys = this.#byService.get(service.key);
    if (!keys) this.#byService.set(service.key, [key]);
    else if (!keys.includes(key)) keys.push(key);
  }

  dispose(): void {
    this.#subscription.dispose();
    this.#clear();
  }

  /** Name and type as one text, lower case, for a message of the common shape; sets where the question ends and the EDNS size. */
  #key(message: Uint8Array): string | undefined {
    const length = message.length;
    // A query with opcode 0, one question, no answers, no authorities, at most one additional record.
    if (length < 17 || (message[2]! & 0xfe) !== 0 || message[4] !== 0 || message[5] !== 1) return undefined;
    if ((message[6]! | message[7]! | message[8]! | message[9]! | message[10]!) !== 0 || message[11]! > 1)
      return undefined;
    const lower = this.#lower;
    let at = headerLength;
    for (;;) {
      const label = message[at];
      if (label === undefined || label > 63 || at > headerLength + 254) return undefined;
      lower[at] = label;
      at++;
      if (label === 0) break;
      const end = at + label;
      if (end >= length) return undefined;
      for (; at < end; at++) {
        const byte = message[at]!;
        lower[at] = byte >= 65 && byte <= 90 ? byte | 32 : byte;
      }
    }
    const end = at + 4;
    if (end > length || message[at + 2] !== 0 || message[at + 3] !== 1) return undefined;
    lower[at] = message[at]!;
    lower[at + 1] = message[at + 1]!;
    this.#edns = 0;
    if (message[11] === 0) {
      if (end !== length) return undefined;
    } else {
      if (length < end + optLength || message[end] !== 0 || message[end + 1] !== 0 || message[end + 2] !== 41)
        return undefined;
      // Extended rcode and version 0; options, if any, to the very end of the message.
      if (message[end + 5] !== 0 || message[end + 6] !== 0) return undefined;
      if (end + optLength + ((message[end + 9]! << 8) | message[end + 10]!) !== length) return undefined;
      if (length !== end + optLength && !optionsFit(message, end + optLength)) return undefined;
      this.#edns = Math.max(512, (message[end + 3]! << 8) | message[end + 4]!);
    }
    this.#questionEnd = end;
    return lower.latin1Slice(headerLength, at + 2);
  }

  /** The records of `out` from another one on: each is first equally often (CoreDNS's loadbalance). */
  #turn({ bytes, turning, turnAt }: Entry): void {
    const shift = Math.floor(this.#random() * turning);
    if (shift === 0) return;
    // The records before others that are additional have the same size, and lie there one after another.
    const size = bytes[turnAt + 11] === 4 ? 16 : 28;
    const from = shift * size;
    this.out.set(bytes.subarray(turnAt + from, turnAt + turning * size), turnAt);
    this.out.set(bytes.subarray(turnAt, turnAt + from), turnAt + turning * size - from);
  }

  #forget(service: string): void {
    const keys = this.#byService.get(service);
    if (!keys) return;
    this.#byService.delete(service);
    for (const key of keys) {
      this.#answers.delete(key);
      this.#denials.delete(key);
    }
  }

  #clear(): void {
    this.#answers.clear();
    this.#denials.clear();
    this.#byService.clear();
  }
}

function optionsFit(message: Uint8Array, start: number): boolean {
  let at = start;
  while (at + 4 <= message.length) at += 4 + ((message[at + 2]! << 8) | message[at + 3]!);
  return at === message.length;
}

/** The size of each answer, when all are addresses of one family under one name. */
function sizeOfAll({ answers }: Reply): number | undefined {
  const { type, name } = answers[0]!;
  return answers.every((one) => one.type === type && one.name === name) ? recordSizes[type] : undefined;
}

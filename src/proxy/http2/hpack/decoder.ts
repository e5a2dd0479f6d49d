// The decoder of HPACK (RFC 7541): one for each connection, because its dynamic table is the connection's. Strict: every error is
// one of the connection (COMPRESSION_ERROR), because the table cannot be trusted any more. Fields that break the rules of HTTP
// are decoded all the same and marked in the section.

import { Kind } from "../../headers.ts";
import { kindOf } from "../../http1/fields.ts";
import { decodedBound, huffmanDecode } from "./huffman.ts";
import type { FieldSection } from "./section.ts";
import { type Entry, makeEntry, nameIsValid, Pseudo, pseudoOf, staticEntries, valueIsValid } from "./static-table.ts";

/** SETTINGS_HEADER_TABLE_SIZE that we stay with: the default of RFC 9113 §6.5.2. */
export const tableBytes = 4096;
/** Entries have 32 bytes or more, so that there are never more than this; a power of two. */
const places = tableBytes / 32;
/** The longest string that is decoded; a longer one is an error, wherever it goes. */
const maxString = 256 * 1024;

export class HpackDecoder {
  /** A ring of `places`, which grows to that as entries come. */
  readonly #table: (Entry | undefined)[] = [];
  /** Entries ever inserted, and those that are there. */
  #inserted = 0;
  #count = 0;
  #bytes = 0;
  #limit = tableBytes;
  /** Where reading goes on. */
  #at = 0;
  /** Where a string that was read ends in the section's arena. */
  #written = 0;

  /** Decodes a block into a section. Returns what is wrong with it, or undefined. */
  decode(bytes: Uint8Array, start: number, end: number, section: FieldSection): string | undefined {
    this.#at = start;
    let fields = false;
    while (this.#at < end) {
      const first = bytes[this.#at]!;
      if ((first & 0x80) !== 0) {
        const index = this.#integer(bytes, end, 0x7f);
        const entry = this.#entry(index);
        if (entry === undefined) return "an index outside of the tables";
        section.take(entry);
        fields = true;
      } else if ((first & 0xe0) === 0x20) {
        if (fields) return "a table size update behind a field";
        const size = this.#integer(bytes, end, 0x1f);
        if (size < 0 || size > tableBytes) return "a table size above the limit";
        this.#limit = size;
        this.#evict(0);
      } else {
        const problem = this.#literal(bytes, end, first, section);
        if (problem !== undefined) return problem;
        fields = true;
      }
    }
    return undefined;
  }

  #entry(index: number): Entry | undefined {
    if (index < staticEntries.length) return index > 0 ? staticEntries[index] : undefined;
    const back = index - staticEntries.length;
    return back < this.#count ? this.#table[(this.#inserted - 1 - back) & (places - 1)] : undefined;
  }

  #literal(bytes: Uint8Array, end: number, first: number, section: FieldSection): string | undefined {
    const indexed = (first & 0x40) !== 0;
    const nameIndex = this.#integer(bytes, end, indexed ? 0x3f : 0x0f);
    if (nameIndex < 0) return "an integer that is cut off or too large";
    let start: number;
    let nameLength: number;
    let kind: number;
    let pseudo: number;
    let valid = true;
    // The line is written as it stands in HTTP/1: name, colon, space, value, CR, LF.
    if (nameIndex > 0) {
      const named = this.#entry(nameIndex);
      if (named === undefined) return "an index outside of the tables";
      nameLength = named.nameLength;
      start = section.reserve(nameLength + 4);
      const { line } = named;
      const target = section.target;
      for (let offset = 0; offset < nameLength; offset++) target[start + offset] = line[offset]!;
      kind = named.kind;
      pseudo = named.pseudo;
      valid = pseudo !== Pseudo.none || nameIsValid(line, 0, nameLength);
    } else {
      start = this.#string(bytes, end, section, 0);
      if (start < 0) return "a string that is cut off, too long or malformed";
      nameLength = this.#written - start;
      const target = section.target;
      pseudo = pseudoOf(target, start, nameLength);
      kind = pseudo === Pseudo.none ? kindOf(target, start, nameLength) : Kind.other;
      valid = pseudo !== Pseudo.none || nameIsValid(target, start, start + nameLength);
    }
    const value = this.#string(bytes, end, section, nameLength + 2);
    if (value < 0) return "a string that is cut off, too long or malformed";
    // The arena may have moved, and the line with it.
    start = value - nameLength - 2;
    const target = section.target;
    target[value - 2] = 58;
    target[value - 1] = 32;
    const valueEnd = this.#written;
    target[valueEnd] = 13;
    target[valueEnd + 1] = 10;
    valid = valid && valueIsValid(target, value, valueEnd, pseudo);
    if (indexed) this.#insert(makeEntry(target, start, nameLength, valueEnd + 2));
    // Never indexed (RFC 7541 §6.2.3), which an intermediary must keep.
    if ((first & 0xf0) === 0x10 && pseudo === Pseudo.none)
      section.headers.sensitive |= 1 << Math.min(section.headers.count, 31);
    section.takeWritten(start, nameLength, valueEnd + 2, kind, pseudo, valid);
    return undefined;
  }

  #insert(entry: Entry): void {
    this.#evict(entry.size);
    if (entry.size > this.#limit) return;
    this.#table[this.#inserted & (places - 1)] = entry;
    this.#inserted++;
    this.#count++;
    this.#bytes += entry.size;
  }

  /** Makes room for `size` bytes. */
  #evict(size: number): void {
    while (this.#count > 0 && this.#bytes + size > this.#limit) {
      const place = (this.#inserted - this.#count) & (places - 1);
      this.#bytes -= this.#table[place]!.size;
      this.#table[place] = undefined;
      this.#count--;
    }
  }

  /** An integer (RFC 7541 §5.1); -1 when it is cut off or above 2^28. */
  #integer(bytes: Uint8Array, end: number, mask: number): number {
    let value = bytes[this.#at++]! & mask;
    if (value < mask) return value;
    for (let shift = 0; ; shift += 7) {
      if (this.#at >= end || shift > 21) return -1;
      const byte = bytes[this.#at++]!;
      value += (byte & 0x7f) << shift;
      if ((byte & 0x80) === 0) return value;
    }
  }

  /**
   * Reads a string into the arena, `behind` bytes after where its free room begins (what is before it stays). Returns where it
   * begins there, or -1.
   */
  #string(bytes: Uint8Array, end: number, section: FieldSection, behind: number): number {
    if (this.#at >= end) return -1;
    const huffman = (bytes[this.#at]! & 0x80) !== 0;
    const length = this.#integer(bytes, end, 0x7f);
    if (length < 0 || length > end - this.#at || length > maxString) return -1;
    const start = this.#at;
    this.#at = start + length;
    if (huffman) {
      const at = section.reserve(behind + decodedBound(length) + 2, behind) + behind;
      this.#written = huffmanDecode(bytes, start, start + length, section.target, at);
      return this.#written < 0 ? -1 : at;
    }
    const at = section.reserve(behind + length + 2, behind) + behind;
    const target = section.target;
    if (length < 32) for (let offset = 0; offset < length; offset++) target[at + offset] = bytes[start + offset]!;
    else target.set(bytes.subarray(start, start + length), at);
    this.#written = at + length;
    return at;
  }
}

// Methods of Buffer that Node.js and Bun have and their types leave out: text of one byte a character, and in UTF-8, without the lookup
// that `toString("latin1")` and `write(…, "latin1")` do first.

interface Buffer {
  latin1Slice(start?: number, end?: number): string;
  latin1Write(text: string, offset?: number): number;
  utf8Write(text: string, offset?: number): number;
}

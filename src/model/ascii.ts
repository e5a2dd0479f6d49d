// Case folding as HTTP means it: ASCII letters only (RFC 9110 §5.1, RFC 4343), so that lengths never change.

/** `A`-`Z` become `a`-`z`; everything else stays. */
export function lowerAscii(text: string): string {
  return /[A-Z]/.test(text) ? text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase()) : text;
}

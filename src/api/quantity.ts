// Resource quantities (`500m`, `1.5Gi`, `1e3`): their value and their canonical text, which is what the API server stores
// (apimachinery api/resource Quantity). Values are exact, in billionths; anything finer is rounded up, as upstream.

const pattern = /^([+-]?)(\d+(?:\.\d*)?|\.\d+)(?:([KMGTPE]i)|([numkMGTPE])|[eE]([+-]?\d+))?$/;
const decimal: Readonly<Record<string, number>> = { n: -9, u: -6, m: -3, "": 0, k: 3, M: 6, G: 9, T: 12, P: 15, E: 18 };
const binary: Readonly<Record<string, number>> = { Ki: 1, Mi: 2, Gi: 3, Ti: 4, Pi: 5, Ei: 6 };
const billion = 1_000_000_000n;

export interface Quantity {
  /** The value in billionths. */
  readonly nano: bigint;
  readonly format: "decimal" | "binary" | "exponent";
}

/** Undefined when the text is no quantity. */
export function parseQuantity(text: string): Quantity | undefined {
  const match = pattern.exec(text.trim());
  if (!match) return undefined;
  const [, sign, number, power, suffix, exponent] = match;
  const [whole = "", fraction = ""] = number!.split(".");
  let scaled = BigInt(whole + fraction || "0");
  let tens = 9 - fraction.length; // towards billionths
  if (power !== undefined) scaled *= 1024n ** BigInt(binary[power]!);
  else if (suffix !== undefined) tens += decimal[suffix]!;
  else if (exponent !== undefined) tens += Math.max(-100, Math.min(100, Number(exponent)));
  let nano: bigint;
  if (tens >= 0) nano = scaled * 10n ** BigInt(tens);
  else {
    const divisor = 10n ** BigInt(-tens);
    nano = scaled / divisor + (scaled % divisor === 0n ? 0n : 1n);
  }
  return {
    nano: sign === "-" ? -nano : nano,
    format: power !== undefined ? "binary" : exponent !== undefined ? "exponent" : "decimal",
  };
}

/** The text in which the API server writes a quantity: no fraction, the largest suffix that allows it. */
export function canonicalQuantity(text: string): string | undefined {
  const quantity = parseQuantity(text);
  if (!quantity) return undefined;
  const { nano, format } = quantity;
  if (nano === 0n) return "0";
  const sign = nano < 0n ? "-" : "";
  const size = nano < 0n ? -nano : nano;
  if (format === "binary" && size % billion === 0n && size / billion >= 1024n) {
    let value = size / billion;
    let power = 0;
    while (power < 6 && value % 1024n === 0n) {
      value /= 1024n;
      power++;
    }
    return `${sign}${value}${Object.keys(binary)[power - 1] ?? ""}`;
  }
  let value = size;
  let exponent = -9;
  while (exponent < 18 && value % 1000n === 0n) {
    value /= 1000n;
    exponent += 3;
  }
  if (format === "exponent") return exponent === 0 ? `${sign}${value}` : `${sign}${value}e${exponent}`;
  const suffix = Object.entries(decimal).find(([, power]) => power === exponent)![0];
  return `${sign}${value}${suffix}`;
}

// Walks a packet through the pieces of the nftables backend as the kernel does on one node, for tests (upstream's nftracer,
// pkg/proxy/nftables/helpers_test.go, has the same purpose). Hooks and their order come from the base chains' own text. It knows
// the expressions that our backend writes and throws at any other, so that no rule is passed over that it does not understand.

import { contains, parseCidr } from "../../base/cidr.ts";
import { isHook } from "../nftables/pieces.ts";
import type { Rules } from "../service-rules.ts";
import type { TracedPacket, TraceSurroundings } from "./chain-tracer.ts";
import type { IptablesTrace } from "./trace-iptables.ts";

interface Live {
  readonly packet: TracedPacket & { readonly translated: boolean };
  readonly probability: number;
}

/** Where a base chain ends for a packet; `accept` when no rule says otherwise. */
interface End extends Live {
  readonly verdict: "accept" | "drop" | "reject" | "dnat" | "masquerade";
}

type Hook = "prerouting" | "input" | "forward" | "output" | "postrouting";

/** What one statement makes of a packet: it goes on to the next statement, the rule does not match, or a verdict. */
type Outcome =
  | { readonly go: "on"; readonly live: Live }
  | { readonly go: "miss"; readonly live: Live }
  | { readonly go: "jump" | "goto"; readonly chain: string; readonly live: Live }
  | { readonly go: "end"; readonly end: End };

export function traceNftables(
  rules: Rules,
  packet: Omit<TracedPacket, "mark">,
  around: Pick<TraceSurroundings, "isLocal">,
): IptablesTrace {
  const table = new Table(rules, around.isLocal);
  const fromNode = around.isLocal(packet.source);
  const endpoints: IptablesTrace["endpoints"][number][] = [];
  const start: End = { packet: { ...packet, mark: 0, translated: false }, probability: 1, verdict: "accept" };
  for (const entered of table.hook(fromNode ? "output" : "prerouting", start)) {
    if (isLost(entered)) return { outcome: entered.verdict, endpoints: [] };
    const { destination: address, port } = entered.packet;
    const local = around.isLocal(address);
    // The node's own packet to itself comes in again through the loopback device, as a connection that is translated already.
    const later: Hook[] = fromNode ? (local ? ["input"] : []) : [local ? "input" : "forward"];
    let ends = [entered];
    for (const hook of later) ends = ends.flatMap((end) => table.hook(hook, end));
    const lost = ends.find(isLost);
    if (lost) return { outcome: lost.verdict, endpoints: [] };
    if (!entered.packet.translated) continue;
    const [out] = ends.flatMap((end) => table.hook("postrouting", end));
    endpoints.push({ address, port, probability: entered.probability, masqueraded: out!.verdict === "masquerade" });
  }
  return { outcome: endpoints.length > 0 ? "endpoints" : "pass", endpoints };
}

function isLost(end: End): end is End & { readonly verdict: "drop" | "reject" } {
  return end.verdict === "drop" || end.verdict === "reject";
}

class Table {
  readonly #rules: Rules;
  readonly #isLocal: (address: string) => boolean;

  constructor(rules: Rules, isLocal: (address: string) => boolean) {
    this.#rules = rules;
    this.#isLocal = isLocal;
  }

  /** All base chains of a hook, by priority; a packet that is lost in one sees no other. */
  hook(hook: Hook, start: End): readonly End[] {
    const chains = [...this.#rules].flatMap(([piece, lines]) => {
      const match = /^type \w+ hook (\w+) priority (-?\d+); policy accept;$/.exec(isHook(lines[0]) ? lines[0]! : "");
      if (!piece.startsWith("chain ") || match?.[1] !== hook) return [];
      return [{ name: piece.slice("chain ".length), priority: Number(match[2]) }];
    });
    let ends: readonly End[] = [{ ...start, verdict: "accept" }];
    for (const { name } of chains.sort((a, b) => a.priority - b.priority)) {
      ends = ends.flatMap((end): End[] => {
        if (isLost(end)) return [end];
        const { ended, through } = this.#walk(name, end, 0);
        return [...ended, ...through.map((live): End => ({ ...live, verdict: "accept" }))];
      });
    }
    return ends;
  }

  #walk(
    chain: string,
    start: Live,
    depth: number,
  ): { readonly ended: readonly End[]; readonly through: readonly Live[] } {
    const lines = this.#rules.get(`chain ${chain}`);
    if (!lines) throw new Error(`a rule leads to chain ${chain}, which is not there`);
    if (depth > 16) throw new Error(`chains lead around in a circle at ${chain}`);
    const ended: End[] = [];
    const returned: Live[] = [];
    let alive: readonly Live[] = [{ packet: start.packet, probability: start.probability }];
    for (const line of lines) {
      if (isHook(line)) continue;
      const next: Live[] = [];
      for (const outcome of alive.flatMap((live) => this.#rule(line, live))) {
        if (outcome.go === "end") ended.push(outcome.end);
        else if (outcome.go === "on" || outcome.go === "miss") next.push(outcome.live);
        else {
          const inner = this.#walk(outcome.chain, outcome.live, depth + 1);
          ended.push(...inner.ended);
          // What no rule decides goes on after a jump; after a goto it goes on where this chain would have.
          (outcome.go === "jump" ? next : returned).push(...inner.through);
        }
      }
      alive = next;
    }
    return { ended, through: [...alive, ...returned] };
  }

  #rule(line: string, start: Live): readonly Outcome[] {
    const words = new Words(line.replace(/ comment "[^"]*"$/, ""), line);
    let outcomes: readonly Outcome[] = [{ go: "on", live: start }];
    while (!words.ended) {
      const statement = this.#statement(words);
      outcomes = outcomes.flatMap((one) => (one.go === "on" ? statement(one.live) : [one]));
    }
    return outcomes;
  }

  /** Reads one statement; what it does to a packet. */
  #statement(words: Words): (live: Live) => readonly Outcome[] {
    const when =
      (test: (packet: Live["packet"]) => boolean) =>
      (live: Live): readonly Outcome[] => [{ go: test(live.packet) ? "on" : "miss", live }];
    const end =
      (verdict: End["verdict"]) =>
      (live: Live): readonly Outcome[] => [{ go: "end", end: { ...live, verdict } }];

    if (words.take("ct state new")) return when(() => true);
    if (words.take("ct status dnat")) return when(({ translated }) => translated);
    if (words.take("fib daddr type local")) return when(({ destination }) => this.#isLocal(destination));
    if (words.take("fib saddr type local")) return when(({ source }) => this.#isLocal(source));
    if (words.take("meta mark set meta mark")) {
      const [operator, value] = [words.next(), Number(words.next())];
      if (operator !== "|" && operator !== "^") throw words.unknown();
      const changed = (mark: number) => (operator === "|" ? mark | value : mark ^ value);
      return (live) => [{ go: "on", live: { ...live, packet: { ...live.packet, mark: changed(live.packet.mark) } } }];
    }
    if (words.take("meta mark &")) {
      const mask = Number(words.next());
      if (!words.take("!= 0x00000000")) throw words.unknown();
      return when(({ mark }) => (mark & mask) !== 0);
    }
    // What a client that comes for the first time is remembered for.
    if (words.take("update")) {
      words.next();
      words.braces();
      return when(() => true);
    }
    if (words.take("masquerade fully-random")) return end("masquerade");
    if (words.take("dnat to")) {
      const to = words.next();
      const colon = to.lastIndexOf(":");
      return translate(to.slice(0, colon).replace(/^\[|\]$/g, ""), to.slice(colon + 1));
    }
    if (
      words.take("dnat ip addr . port to numgen random mod") ||
      words.take("dnat ip6 addr . port to numgen random mod")
    ) {
      const choices = this.#choices(words, "map").map((choice) => {
        const [address = "", port = ""] = choice.split(" . ");
        return translate(address, port);
      });
      return (live) => choices.flatMap((choice) => choice(part(live, 1 / choices.length)));
    }
    if (words.take("numgen random mod")) {
      if (/^\d+ 0 /.test(words.rest)) {
        const share = 1 / Number(words.next());
        words.next();
        return (live) => [
          { go: "on", live: part(live, share) },
          { go: "miss", live: part(live, 1 - share) },
        ];
      }
      const choices = this.#choices(words, "vmap").map((verdict) => this.#statement(new Words(verdict, words.line)));
      return (live) => choices.flatMap((choice) => choice(part(live, 1 / choices.length)));
    }
    for (const verdict of ["drop", "reject"] as const) if (words.take(verdict)) return end(verdict);
    for (const go of ["jump", "goto"] as const) {
      if (!words.take(go)) continue;
      const chain = words.next();
      return (live) => [{ go, chain, live }];
    }
    return this.#match(words);
  }

  /** `ip saddr != VALUE`, `ip daddr . meta l4proto . th dport @SET`, `… vmap @MAP`. */
  #match(words: Words): (live: Live) => readonly Outcome[] {
    const fields: ((packet: Live["packet"]) => string)[] = [];
    do fields.push(fieldOf(words));
    while (words.take("."));
    const key = (live: Live) => fields.map((field) => field(live.packet)).join(" . ");
    if (words.take("vmap")) {
      const map = words.next().slice(1);
      if (!this.#rules.has(`map ${map}`)) throw words.unknown();
      return (live) => {
        const element = this.#rules.get(`element ${map} ${key(live)}`)?.[0];
        if (element === undefined) return [{ go: "miss", live }];
        const verdict = element.slice(element.lastIndexOf(" : ") + " : ".length);
        return this.#statement(new Words(verdict, element))(live);
      };
    }
    const negated = words.take("!=");
    const holds = this.#values(words);
    return (live) => [{ go: holds(key(live)) !== negated ? "on" : "miss", live }];
  }

  /** A set's name, several values in braces, or one. */
  #values(words: Words): (key: string) => boolean {
    if (words.rest.startsWith("@")) {
      const set = words.next().slice(1);
      if (!this.#rules.has(`set ${set}`)) throw words.unknown();
      return (key) => this.#rules.has(`element ${set} ${key}`);
    }
    const values = words.rest.startsWith("{") ? words.braces().split(", ") : [words.next()];
    return (key) =>
      values.some((value) => {
        const range = parseCidr(value);
        return range ? contains(range, key) : value === key;
      });
  }

  /** `N map { 0 : a, 1 : b }`: what stands after the numbers, which have to be all from 0 on. */
  #choices(words: Words, kind: "map" | "vmap"): readonly string[] {
    const count = Number(words.next());
    if (!words.take(kind)) throw words.unknown();
    const choices = words.braces().split(", ");
    if (choices.length !== count) throw words.unknown();
    return choices.map((choice, at) => {
      const prefix = `${at} : `;
      if (!choice.startsWith(prefix)) throw words.unknown();
      return choice.slice(prefix.length);
    });
  }
}

function translate(address: string, port: string) {
  return ({ packet, probability }: Live): readonly Outcome[] => {
    const to = { ...packet, destination: address, port: Number(port), translated: true };
    return [{ go: "end", end: { packet: to, probability, verdict: "dnat" } }];
  };
}

function part(live: Live, share: number): Live {
  return { ...live, probability: live.probability * share };
}

function fieldOf(words: Words): (packet: TracedPacket) => string {
  if (words.take("ip saddr") || words.take("ip6 saddr")) return ({ source }) => source;
  if (words.take("ip daddr") || words.take("ip6 daddr")) return ({ destination }) => destination;
  if (words.take("meta l4proto")) return ({ protocol }) => protocol;
  if (words.take("th dport")) return ({ port }) => String(port);
  throw words.unknown();
}

/** The words of a rule that are still to be read. */
class Words {
  rest: string;
  readonly line: string;

  constructor(text: string, line: string) {
    this.rest = text;
    this.line = line;
  }

  get ended(): boolean {
    return this.rest === "";
  }

  /** Whether these words come next; they are read then. */
  take(words: string): boolean {
    if (this.rest !== words && !this.rest.startsWith(`${words} `)) return false;
    this.rest = this.rest.slice(words.length + 1);
    return true;
  }

  next(): string {
    const [word = ""] = this.rest.split(" ", 1);
    this.rest = this.rest.slice(word.length + 1);
    return word;
  }

  /** What stands between `{` and `}`. */
  braces(): string {
    const end = this.rest.indexOf("}");
    if (!this.rest.startsWith("{ ") || end < 0) throw this.unknown();
    const inner = this.rest.slice(2, end - 1);
    this.rest = this.rest.slice(end + 2);
    return inner;
  }

  unknown(): Error {
    return new Error(`the tracer does not know "${this.rest}" in: ${this.line}`);
  }
}

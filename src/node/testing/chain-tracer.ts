// Walks a packet through iptables chains as text, for tests: what upstream's TestTracePacket machinery does
// (pkg/proxy/iptables/proxier_test.go newIPTablesTracer). It knows the matches and targets that our backends write and throws at
// any other, so that a rule which it does not understand is no rule that it passes over.

import { contains, parseCidr } from "../../base/cidr.ts";

export interface TracedPacket {
  readonly protocol: string;
  readonly source: string;
  readonly destination: string;
  readonly port: number;
  readonly mark: number;
}

/** What a walk comes to. Rules that draw lots make several ends of one packet. */
export interface TraceEnd {
  readonly verdict: "accept" | "drop" | "reject" | "dnat" | "masquerade" | "none";
  readonly packet: TracedPacket;
  readonly probability: number;
}

export interface TraceSurroundings {
  readonly isLocal: (address: string) => boolean;
  /** Whether a set has what the packet is; only backends with sets need it. */
  readonly inSet?: (name: string, fields: string, packet: TracedPacket) => boolean;
}

export type Chains = ReadonlyMap<string, readonly string[]>;

interface Live {
  readonly packet: TracedPacket;
  readonly probability: number;
}

/** Walks `table/chain` from its first rule; what no rule decides ends as `none`. */
export function traceChain(chains: Chains, name: string, packet: TracedPacket, around: TraceSurroundings): TraceEnd[] {
  const { ended, through } = walk(chains, name, { packet, probability: 1 }, around, 0);
  return [...ended, ...through.map((live): TraceEnd => ({ verdict: "none", ...live }))];
}

function walk(
  chains: Chains,
  name: string,
  start: Live,
  around: TraceSurroundings,
  depth: number,
): { readonly ended: TraceEnd[]; readonly through: Live[] } {
  const lines = chains.get(name);
  if (!lines && depth > 0) throw new Error(`a rule leads to ${name}, which is not there`);
  if (depth > 20) throw new Error(`chains lead around in a circle at ${name}`);
  const table = name.slice(0, name.indexOf("/"));
  const ended: TraceEnd[] = [];
  const returned: Live[] = [];
  let alive: Live[] = [start];
  for (const line of lines ?? []) {
    const rule = parse(line);
    const next: Live[] = [];
    for (const live of alive) {
      if (!matches(rule, live.packet, around)) {
        next.push(live);
        continue;
      }
      const taken: Live = { ...live, probability: live.probability * rule.share };
      if (rule.share < 1) next.push({ ...live, probability: live.probability * (1 - rule.share) });
      const { target, options } = rule;
      if (target === undefined) next.push(taken);
      else if (target === "RETURN") returned.push(taken);
      else if (target === "ACCEPT") ended.push({ verdict: "accept", ...taken });
      else if (target === "DROP") ended.push({ verdict: "drop", ...taken });
      else if (target === "REJECT") ended.push({ verdict: "reject", ...taken });
      else if (target === "MASQUERADE") ended.push({ verdict: "masquerade", ...taken });
      else if (target === "DNAT") ended.push({ verdict: "dnat", ...taken, packet: translated(taken.packet, options) });
      else if (target === "MARK") next.push({ ...taken, packet: marked(taken.packet, options) });
      else {
        const inner = walk(chains, `${table}/${target}`, taken, around, depth + 1);
        ended.push(...inner.ended);
        next.push(...inner.through);
      }
    }
    alive = next;
  }
  return { ended, through: [...alive, ...returned] };
}

interface Rule {
  readonly tests: readonly ((packet: TracedPacket, around: TraceSurroundings) => boolean)[];
  /** Of the packets that match, the part that is taken. */
  readonly share: number;
  readonly target: string | undefined;
  readonly options: readonly string[];
}

function matches(rule: Rule, packet: TracedPacket, around: TraceSurroundings): boolean {
  return rule.tests.every((test) => test(packet, around));
}

const parsed = new Map<string, Rule>();

function parse(line: string): Rule {
  const known = parsed.get(line);
  if (known) return known;
  const rule = parseRule(line);
  parsed.set(line, rule);
  return rule;
}

function parseRule(line: string): Rule {
  const words = line.match(/"(?:[^"\\]|\\.)*"|\S+/g) ?? [];
  const tests: Rule["tests"][number][] = [];
  let share = 1;
  let not = false;
  const add = (test: Rule["tests"][number]) => {
    const negated = not;
    not = false;
    tests.push(negated ? (packet, around) => !test(packet, around) : test);
  };
  for (let at = 0; at < words.length; at++) {
    const word = words[at]!;
    const value = () => words[++at] ?? "";
    switch (word) {
      case "!":
        not = true;
        break;
      case "-m":
      case "--comment":
      case "--name":
      case "--mask":
      case "--seconds":
      case "--mode":
        value();
        break;
      case "--reap":
      case "--rsource":
      case "--set":
        break;
      case "-s": {
        const range = parseCidr(value())!;
        add(({ source }) => contains(range, source));
        break;
      }
      case "-d": {
        const range = parseCidr(value())!;
        add(({ destination }) => contains(range, destination));
        break;
      }
      case "-p": {
        const protocol = value();
        add((packet) => packet.protocol === protocol);
        break;
      }
      case "--dport": {
        const port = Number(value());
        add((packet) => packet.port === port);
        break;
      }
      case "--dst-type":
        value();
        add(({ destination }, { isLocal }) => isLocal(destination));
        break;
      case "--src-type":
        value();
        add(({ source }, { isLocal }) => isLocal(source));
        break;
      case "--ctstate": {
        const states = value().split(",");
        add(() => states.includes("NEW"));
        break;
      }
      case "--mark": {
        const [wanted, mask] = value().split("/").map(Number);
        add(({ mark }) => (mark & mask!) === wanted);
        break;
      }
      case "--match-set": {
        const [name, fields] = [value(), value()];
        add((packet, around) => around.inSet!(name, fields, packet));
        break;
      }
      case "--physdev-is-in":
        add(() => false);
        break;
      // What a client that comes for the first time is remembered for.
      case "--rcheck":
        add(() => false);
        break;
      case "--probability":
        share = Number(value());
        break;
      case "--vproto": {
        const protocol = { "6": "tcp", "17": "udp", "132": "sctp" }[value()];
        add((packet) => packet.protocol === protocol);
        break;
      }
      case "--vport": {
        const port = Number(value());
        add((packet) => packet.port === port);
        break;
      }
      case "--vaddr": {
        const address = value();
        add(({ destination }) => destination === address);
        break;
      }
      case "-j":
        return { tests, share, target: value(), options: words.slice(at + 1) };
      default:
        throw new Error(`the tracer does not know ${word} in: ${line}`);
    }
  }
  return { tests, share, target: undefined, options: [] };
}

function marked(packet: TracedPacket, options: readonly string[]): TracedPacket {
  const [value, mask] = (options[options.indexOf("--set-xmark") + 1] ?? "").split("/").map(Number);
  return { ...packet, mark: (packet.mark & ~mask!) ^ value! };
}

function translated(packet: TracedPacket, options: readonly string[]): TracedPacket {
  const to = options[options.indexOf("--to-destination") + 1] ?? "";
  const colon = to.lastIndexOf(":");
  return { ...packet, destination: to.slice(0, colon).replace(/^\[|\]$/g, ""), port: Number(to.slice(colon + 1)) };
}

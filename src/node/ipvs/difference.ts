// From one state of the kernel to another as a text of steps, each for one tool, in an order that loses no packet: what lets
// packets through comes before what attracts them, and what attracts them goes first. Only what differs is written.
//
// Pieces by name: `set/NAME` (what it is made with), `entry/NAME ENTRY`, `table/CHAIN`, `ipvs/-t ADDRESS:PORT` (scheduler, then
// real servers in order), `device/NAME`, `address/ADDRESS`.

import { difference as chainDifference } from "../iptables/difference.ts";
import { sameLines } from "../iptables/renderer.ts";
import type { Rules, Transaction } from "../service-rules.ts";
import { device, type SetKind, setIds, setName, sets } from "./names.ts";

/** The tools that steps are for; what each reads on its standard input is its own restore or batch format. */
export const tools = ["ipset", "iptables", "ipvsadm", "ip"] as const;
export type Tool = (typeof tools)[number];

export interface Step {
  readonly tool: Tool;
  readonly text: string;
}

const stepMark = "## ";
const chainTables = new Set(["filter", "nat"]);
const kinds = new Map<string, SetKind & { readonly id: string }>();
for (const id of setIds) for (const family of [4, 6] as const) kinds.set(setName(id, family), { ...sets[id], id });

/** See `ServiceRules.difference`. */
export function difference(now: Rules, wanted: Rules, names?: Iterable<string>): Transaction {
  const changed = changes(now, wanted, names);
  const chains: string[] = [];
  /** The chains that change, with the rules of before and of after. */
  const both = new Map<string, readonly string[]>();
  const setsBefore: Ordered[] = [];
  const setsAfter: Ordered[] = [];
  const setsGone: Ordered[] = [];
  const servers = { add: [] as string[], remove: [] as string[] };
  const addresses = { device: [] as string[], add: [] as string[], remove: [] as string[] };
  const unguarded = new Set(
    changed.filter(({ name, after }) => guards(name) && !after).map(({ name }) => portOf(name)),
  );

  for (const { name, before, after } of changed) {
    const slash = name.indexOf("/");
    const kind = name.slice(0, slash);
    const rest = name.slice(slash + 1);
    if (chainTables.has(kind)) {
      chains.push(name);
      both.set(name, merged(before ?? [], after ?? []));
    } else if (kind === "set") {
      // A set of another type under our name: taken away last time or somebody's; the kernel refuses while rules use it.
      if (before) (after ? setsBefore : setsGone).push({ rank: 0, line: `destroy ${rest}` });
      if (after) setsBefore.push({ rank: 1, line: `create ${rest} ${after.join(" ")}` });
    } else if (kind === "entry") {
      const set = kinds.get(rest.slice(0, rest.indexOf(" ")));
      const keeps = set?.keepsSource === true;
      // Who is shut out of a port that stays guarded is so before endpoints come that it must not meet.
      const shutsOut = excepts(set?.id) && !unguarded.has(portOf(name));
      const steps = (after ? !keeps : keeps || shutsOut) ? setsBefore : setsAfter;
      steps.push({ rank: rankOf(set?.id, after !== undefined), line: `${after ? "add" : "del"} ${rest}` });
    } else if (kind === "ipvs") serverChange(rest, before, after, servers);
    else if (kind === "device") {
      addresses[after ? "device" : "remove"].push(
        `link ${after ? "add" : "delete"} dev ${rest}${after ? ` ${after[0]}` : ""}`,
      );
    } else if (kind === "address") {
      const of = after ?? before ?? [];
      // Without duplicate address detection, which a device that is down never ends.
      const options = rest.includes(":") ? " nodad" : "";
      if (after) addresses.add.push(`address replace ${of[0]} dev ${device}${options}`);
      else addresses.remove.unshift(`address delete ${of[0]} dev ${device}`);
    }
  }

  const steps: Step[] = [
    { tool: "ipset", text: ordered(setsBefore) },
    { tool: "iptables", text: chainDifference(now, both, chains).text },
    { tool: "ipvsadm", text: lines(servers.add) },
    { tool: "ip", text: lines([...addresses.device, ...addresses.add, ...addresses.remove]) },
    // Before what guards them and masquerades for them.
    { tool: "ipvsadm", text: lines(servers.remove) },
    { tool: "ipset", text: ordered(setsAfter) },
    { tool: "iptables", text: chainDifference(both, wanted, chains).text },
    { tool: "ipset", text: ordered(setsGone) },
  ];
  return { text: steps.map(printStep).join(""), pieces: changed.length };
}

/** The steps of a transaction's text. */
export function stepsOf(text: string): readonly Step[] {
  const steps: { tool: Tool; text: string }[] = [];
  for (const line of text.split("\n")) {
    const tool = line.startsWith(stepMark) ? tools.find((one) => one === line.slice(stepMark.length)) : undefined;
    if (tool) steps.push({ tool, text: "" });
    else if (line !== "") steps.at(-1)!.text += `${line}\n`;
  }
  return steps;
}

function printStep({ tool, text }: Step): string {
  return text === "" ? "" : `${stepMark}${tool}\n${text}`;
}

interface Change {
  readonly name: string;
  readonly before: readonly string[] | undefined;
  readonly after: readonly string[] | undefined;
}

function changes(now: Rules, wanted: Rules, names: Iterable<string> | undefined): readonly Change[] {
  const out: Change[] = [];
  for (const name of names ?? new Set([...now.keys(), ...wanted.keys()])) {
    const [before, after] = [now.get(name), wanted.get(name)];
    if (before === after || (before && after && sameLines(before, after))) continue;
    out.push({ name, before, after });
  }
  return out;
}

/**
 * New real servers come before old ones go. An old one keeps its connections with weight 0 (`draining.ts` takes it away when they
 * have ended), but for UDP and SCTP, whose connections have no end (pkg/proxy/ipvs/graceful_termination.go).
 */
function serverChange(
  server: string,
  before: readonly string[] | undefined,
  after: readonly string[] | undefined,
  out: { readonly add: string[]; readonly remove: string[] },
): void {
  if (!after) {
    out.remove.push(`-D ${server}`);
    return;
  }
  if (!before) out.add.push(`-A ${server} ${after[0]}`);
  else if (before[0] !== after[0]) out.add.push(`-E ${server} ${after[0]}`);
  const had = new Map((before ?? []).slice(1).map((line) => [realServerOf(line), line]));
  for (const line of after.slice(1)) {
    const real = realServerOf(line);
    const known = had.get(real);
    had.delete(real);
    if (known !== line) out.add.push(`${known === undefined ? "-a" : "-e"} ${server} ${line}`);
  }
  const graceful = server.startsWith("-t ");
  for (const real of had.keys()) out.add.push(graceful ? `-e ${server} -r ${real} -m -w 0` : `-d ${server} -r ${real}`);
}

/** `10.244.1.5:8080` of `-r 10.244.1.5:8080 -m -w 1`. */
export function realServerOf(line: string): string {
  return line.split(" ")[1] ?? "";
}

/**
 * The rules of two states of a chain, each in its order. A rule that matches a set is there while the set has entries, and does
 * nothing while it has none: so it comes before the first entry, and goes when the last one is not needed any more.
 */
function merged(before: readonly string[], after: readonly string[]): readonly string[] {
  const out: string[] = [];
  let done = 0;
  for (const line of before) {
    const at = after.indexOf(line, done);
    if (at >= 0) {
      out.push(...after.slice(done, at));
      done = at + 1;
    }
    out.push(line);
  }
  return [...out, ...after.slice(done)];
}

interface Ordered {
  readonly rank: number;
  readonly line: string;
}

/**
 * Within a step: additions before deletions. A restriction comes after its exceptions; it goes after the port that it guards, and
 * before its exceptions.
 */
function rankOf(set: string | undefined, added: boolean): number {
  const restricts = set === "KUBE-LOAD-BALANCER-FW" || set === "KUBE-IPVS-IPS";
  if (added) return restricts ? 3 : 2;
  return restricts ? 5 : excepts(set) ? 6 : 4;
}

/** Whether entries of a set let sources in that would be shut out. */
function excepts(set: string | undefined): boolean {
  return set === "KUBE-LOAD-BALANCER-SOURCE-CIDR" || set === "KUBE-LOAD-BALANCER-SOURCE-IP";
}

/** Whether a piece is an entry that shuts all but some sources out of a port. */
function guards(name: string): boolean {
  return kinds.get(name.slice("entry/".length, name.indexOf(" ")))?.id === "KUBE-LOAD-BALANCER-FW";
}

/** `10.97.0.1,tcp:80` of a piece that is an entry about it. */
function portOf(name: string): string {
  return name
    .slice(name.indexOf(" ") + 1)
    .split(",")
    .slice(0, 2)
    .join();
}

function ordered(all: readonly Ordered[]): string {
  return lines([...all].sort((a, b) => a.rank - b.rank).map(({ line }) => line));
}

function lines(all: readonly string[]): string {
  return all.length > 0 ? `${all.join("\n")}\n` : "";
}

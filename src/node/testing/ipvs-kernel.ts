// The kernel's state of the ipvs backend as pieces, and what ipset, iptables-restore, ipvsadm and ip make of a transaction's text:
// for tests of what a transaction ends in, and of each state on the way.

import { stepsOf } from "../ipvs/difference.ts";
import type { Rules } from "../service-rules.ts";

/**
 * What the tools do with a transaction, as far as the backend uses them. Throws where the kernel would refuse. `seen` is called
 * with each state that a packet can meet: after every line, and of iptables after every table.
 */
export function applyIpvs(now: Rules, text: string, seen?: (state: Rules, line: string) => void): Rules {
  const rules = new Map([...now].map(([name, lines]) => [name, [...lines]]));
  const must = (holds: boolean, line: string) => {
    if (!holds) throw new Error(`refused: ${line}`);
  };
  let chainTable = "";
  for (const { tool, text: input } of stepsOf(text)) {
    for (const line of input.trimEnd().split("\n")) {
      const [verb = "", name = "", ...rest] = line.split(" ");
      if (tool === "ipset") {
        const entry = `entry/${name} ${rest[0]}`;
        if (verb === "create") rules.set(`set/${name}`, [rest.join(" ")]);
        else if (verb === "destroy") {
          const users = [...rules].filter(([, lines]) => lines.some((one) => one.includes(`--match-set ${name} `)));
          must(rules.delete(`set/${name}`) && users.length === 0, line);
        } else if (verb === "add") {
          must(rules.has(`set/${name}`), line);
          rules.set(entry, [line]);
        } else must(rules.delete(entry), line);
      } else if (tool === "ip") {
        const device = rest.at(-1) === "nodad" ? rest.at(-2) : rest.at(-1);
        if (line.startsWith("link add")) rules.set(`device/${rest[1]}`, [rest.slice(2).join(" ")]);
        else if (line.startsWith("link delete")) must(rules.delete(`device/${rest[1]}`), line);
        else if (name === "replace") {
          must(rules.has(`device/${device}`), line);
          rules.set(`address/${rest[0]?.split("/")[0]}`, [rest[0]!]);
        } else must(rules.delete(`address/${rest[0]?.split("/")[0]}`), line);
      } else if (tool === "ipvsadm") server(rules, line, must);
      else if (line.startsWith("*")) chainTable = line.slice(1);
      else if (line !== "COMMIT") {
        chain(rules, chainTable, line, must);
        continue;
      }
      seen?.(rules, `${tool}: ${line}`);
    }
  }
  for (const [name, lines] of rules) {
    if (lines.length === 0 && /^(nat|filter)\/(?!KUBE-)/.test(name)) rules.delete(name);
  }
  return rules;
}

type Must = (holds: boolean, line: string) => void;

function server(rules: Map<string, string[]>, line: string, must: Must): void {
  const [verb, flag, address, ...rest] = line.split(" ");
  const name = `ipvs/${flag} ${address}`;
  const lines = rules.get(name);
  if (verb === "-A") {
    must(!lines, line);
    rules.set(name, [rest.join(" ")]);
  } else if (verb === "-D") must(rules.delete(name), line);
  else {
    must(lines !== undefined, line);
    const at = lines!.findIndex((one, index) => index > 0 && one.split(" ")[1] === rest[1]);
    must(verb === "-E" || (verb === "-a") === at < 0, line);
    if (verb === "-E") lines![0] = rest.join(" ");
    else if (verb === "-a") lines!.push(rest.join(" "));
    // With weight 0 it drains, and is read no more.
    else if (verb === "-d" || rest.at(-1) === "0") lines!.splice(at, 1);
    else lines![at] = rest.join(" ");
    rules.set(name, [lines![0]!, ...lines!.slice(1).sort()]);
  }
}

function chain(rules: Map<string, string[]>, inTable: string, line: string, must: Must): void {
  const [verb = "", word = "", ...rest] = line.split(" ");
  if (line.startsWith(":")) {
    rules.set(`${inTable}/${verb.slice(1)}`, []);
    return;
  }
  const name = `${inTable}/${word}`;
  const lines = rules.get(name) ?? [];
  const used = [...line.matchAll(/--match-set (\S+)/g)].every(([, set]) => rules.has(`set/${set}`));
  must(used, line);
  if (verb === "-A") lines.push(rest.join(" "));
  else if (verb === "-I") lines.splice(Number(rest[0]) - 1, 0, rest.slice(1).join(" "));
  else if (verb === "-D") {
    const at = lines.indexOf(rest.join(" "));
    must(at >= 0, line);
    lines.splice(at, 1);
  } else if (verb === "-X") {
    must(lines.length === 0, line);
    rules.delete(name);
    return;
  }
  rules.set(name, lines);
}

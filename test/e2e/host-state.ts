// What of the host's network a stack could leave behind, to be the same before and after: everything that is there but for what
// bears the name of another stack or test (`fl-…`), which may come and go meanwhile.

import { hostLink } from "../../src/node/netns/names.ts";
import { run } from "./stack.ts";

/** `stack` is the name of the stack that is looked at. Things without any name of ours are in it, whoever made them. */
export async function hostState(stack: string): Promise<string> {
  const shown = await Promise.all(
    [
      ["ip", "netns"],
      ["ip", "-o", "link"],
      ["ip", "route"],
      ["ip", "-6", "route"],
      ["iptables-save"],
      ["ls", "/etc/netns"],
    ].map((argv) => run(argv)),
  );
  return shown.map(({ out }) => linesOf(out, stack).join("\n")).join("\n---\n");
}

function linesOf(text: string, stack: string): readonly string[] {
  return (
    text
      .replace(/^#.*\n/gm, "")
      // Counters, and numbers that the kernel gives in passing.
      .replace(/\[\d+:\d+\]/g, "")
      .replace(/ \(id: \d+\)| link-netnsid \d+/g, "")
      .split("\n")
      .filter((line) => !/\bfl-/.test(line) || line.includes(`fl-${stack}.`) || line.includes(hostLink(stack)))
  );
}

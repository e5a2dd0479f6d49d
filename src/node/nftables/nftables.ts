// The nftables backend: kube-proxy's table, written and read with `nft`. Reading and writing are one process each; what to write
// is decided in `difference.ts`, without listing the table first.

import type { ServiceTable } from "../../services/service-table.ts";
import type { Renderer, Rules, Run, ServiceRules, Transaction } from "../service-rules.ts";
import { deletions, difference } from "./difference.ts";
import { fixedPieces, ipWord, type NftablesOptions, tableName } from "./fixed.ts";
import { parsePiece } from "./pieces.ts";
import { parseListing } from "./read.ts";
import { NftablesRenderer, render } from "./renderer.ts";

/** The oldest nft that takes what is written (KEP-3866). */
const oldest = [1, 0, 1] as const;

/** The backend for one family on one node. `run` starts programs inside the node's network namespace. */
export function nftables(run: Run, options: NftablesOptions): ServiceRules {
  const { family } = options;
  const table = `${ipWord(family)} ${tableName}`;
  let checked = false;

  async function nft(argv: readonly string[], stdin?: string) {
    if (!checked) {
      const version = await run(["nft", "--version"]);
      const problem = versionProblem(version.code === 0 ? version.stdout : undefined);
      if (problem !== undefined) throw new Error(problem);
      checked = true;
    }
    return run(["nft", ...argv], stdin);
  }

  async function read(): Promise<Rules> {
    const result = await nft(["-j", "list", "table", ...table.split(" ")]);
    if (result.code === 0) return parseListing(result.stdout);
    if (result.stderr.includes("No such file or directory")) return new Map();
    throw new Error(`nft list table ${table} failed (exit code ${result.code}): ${firstLine(result.stderr)}`);
  }

  async function write(text: string): Promise<void> {
    const result = await nft(["-f", "-"], text);
    if (result.code === 0) return;
    const error = new Error(`nft failed (exit code ${result.code}): ${explainFailure(result.stderr, text)}`);
    throw Object.assign(error, { busy: /resource busy/i.test(result.stderr) });
  }

  async function commit({ text }: Transaction): Promise<void> {
    if (text === "") return;
    try {
      await write(text);
    } catch (error) {
      // Kernels before 6.2 notice a moment late that no element leads to a chain any more. Such chains are empty and unused
      // after the first part; when the second is refused, too, the caller reads, and tries again later.
      const at = firstDeletion(text);
      if (!(error as { busy?: boolean }).busy || at === 0 || at >= text.length) throw error;
      await write(text.slice(0, at));
      await write(text.slice(at));
    }
  }

  return {
    mode: "nftables",
    family,
    render: (rows: ServiceTable): Rules => render(rows, options),
    renderer: (): Renderer => new NftablesRenderer(options),
    difference: (now, wanted, names) => difference(family, now, wanted, names),
    read,
    commit,
    async remove() {
      // Adding first makes it no error that the table is not there.
      await write(`add table ${table}\ndelete table ${table}\n`);
    },
    async intact() {
      // A dry run, because every listing of nft 1.0.6 reads all sets: what is in use cannot be deleted, so each refusal says that
      // the thing is there and that a rule names it.
      const probes = usedObjects(options);
      const text = probes.map((object) => `delete ${object}\n`).join("");
      const result = await nft(["-c", "-f", "-"], text);
      return (result.stderr.match(/resource busy/gi) ?? []).length === probes.length;
    },
  };
}

/** Fixed sets, maps and chains that rules of base chains lead to. */
function usedObjects(options: NftablesOptions): readonly string[] {
  const table = `${ipWord(options.family)} ${tableName}`;
  const objects: string[] = [];
  for (const name of fixedPieces(options).keys()) {
    const piece = parsePiece(name);
    if (piece.kind === "table" || piece.kind === "element") continue;
    if (piece.kind === "chain" && /^(filter|nat)-|^reject-chain$/.test(piece.name)) continue;
    objects.push(`${piece.kind} ${table} ${piece.name}`);
  }
  return objects;
}

/** What is wrong with an nft that says `nftables v1.0.6 (…)` of itself; undefined `output` is an nft that cannot be run. */
export function versionProblem(output: string | undefined): string | undefined {
  const wanted = oldest.join(".");
  const remedy = `install nftables ${wanted} or newer, or use --proxy-mode iptables`;
  if (output === undefined) return `the program nft cannot be run: ${remedy}`;
  const numbers = /v(\d+)\.(\d+)(?:\.(\d+))?/
    .exec(output)
    ?.slice(1)
    .map((text) => Number(text ?? 0));
  if (!numbers) return `nft does not say its version (${firstLine(output)}): ${remedy}`;
  for (const [at, least] of oldest.entries()) {
    if (numbers[at]! > least) return undefined;
    if (numbers[at]! < least) return `nft ${numbers.join(".")} is too old: ${remedy}`;
  }
  return undefined;
}

/** Where the deletions at the end begin; the text's length when it has none. */
function firstDeletion(text: string): number {
  const lines = text.trimEnd().split("\n");
  let at = text.trimEnd().length + 1;
  while (lines.length > 0 && deletions.some((words) => lines.at(-1)!.startsWith(words))) at -= lines.pop()!.length + 1;
  return at;
}

function firstLine(text: string): string {
  return text.trim().split("\n")[0] ?? "";
}

/** nft's words, with the line it stumbled over where it names one. */
function explainFailure(stderr: string, text: string): string {
  const number = /^\S*:(\d+):\d+/m.exec(stderr)?.[1];
  const line = number === undefined ? undefined : text.split("\n")[Number(number) - 1];
  const said = firstLine(stderr);
  return line === undefined ? said : `${said}: ${line.length > 300 ? `${line.slice(0, 300)}…` : line}`;
}

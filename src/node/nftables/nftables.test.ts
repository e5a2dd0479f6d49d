import { describe, expect, test } from "bun:test";
import { nftables, versionProblem } from "./nftables.ts";

describe("the nftables backend", () => {
  test("says what is wrong with an nft that it cannot use, and what to do", () => {
    expect(versionProblem("nftables v1.0.6 (Lester Gooch #5)\n")).toBeUndefined();
    expect(versionProblem("nftables v1.1 (x)")).toBeUndefined();
    expect(versionProblem("nftables v1.0.0 (x)")).toBe(
      "nft 1.0.0 is too old: install nftables 1.0.1 or newer, or use --proxy-mode iptables",
    );
    expect(versionProblem("nftables v0.9.8 (x)")).toContain("nft 0.9.8 is too old");
    expect(versionProblem(undefined)).toContain("the program nft cannot be run: install nftables");
  });

  /** Answers like nft; keeps what it was given. */
  function fakeNft(
    answer: (argv: readonly string[], stdin: string) => { code: number; stderr?: string; stdout?: string },
  ) {
    const given: string[] = [];
    const backend = nftables(
      async (argv, stdin = "") => {
        if (argv.includes("--version")) return { code: 0, stdout: "nftables v1.0.6 (x)", stderr: "" };
        given.push(stdin);
        return { stdout: "", stderr: "", ...answer(argv, stdin) };
      },
      { family: 4 },
    );
    return { backend, given };
  }

  test("shows the line that nft refused", async () => {
    const { backend } = fakeNft(() => ({
      code: 1,
      stderr: "/dev/stdin:2:1-30: Error: No such file or directory\nadd rule …",
    }));
    await expect(backend.commit({ text: "add table ip x\nadd rule ip x y accept\n", pieces: 1 })).rejects.toThrow(
      "nft failed (exit code 1): /dev/stdin:2:1-30: Error: No such file or directory: add rule ip x y accept",
    );
  });

  test("where the kernel still holds a chain that nothing leads to, deletes it in a transaction of its own", async () => {
    const { backend, given } = fakeNft((_argv, stdin) =>
      stdin.includes("flush")
        ? { code: stdin.includes("delete chain") ? 1 : 0, stderr: "Device or resource busy" }
        : { code: 0 },
    );
    await backend.commit({ text: "delete set x\nflush chain a\ndelete chain a\ndelete set b\n", pieces: 2 });
    expect(given.slice(1)).toEqual(["delete set x\nflush chain a\n", "delete chain a\ndelete set b\n"]);
  });

  test("reads a table that is not there as nothing, and anything else that goes wrong as an error", async () => {
    const missing = fakeNft(() => ({ code: 1, stderr: "Error: No such file or directory\nlist table" }));
    expect((await missing.backend.read()).size).toBe(0);
    const denied = fakeNft(() => ({ code: 1, stderr: "Operation not permitted (you must be root)" }));
    await expect(denied.backend.read()).rejects.toThrow("Operation not permitted");
  });
});

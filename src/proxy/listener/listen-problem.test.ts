// What is said of listeners that cannot be opened: the real reason, and a remedy.

import { expect, test } from "bun:test";
import { UserError } from "../../base/errors.ts";
import { listenProblem } from "./listen-problem.ts";

const here = { address: "192.0.2.1", port: 80, transport: "tcp" } as const;
const failed = (code: string) => Object.assign(new Error("it failed"), { code });

test.each([
  ["EADDRINUSE", here, /^192\.0\.2\.1:80 is in use by another process: .*ss -ltnp "sport = 80"/],
  ["EADDRINUSE", { ...here, address: "::1", transport: "udp" }, /^\[::1\]:80 is in use .*ss -lunp/],
  ["EADDRNOTAVAIL", here, /^192\.0\.2\.1 is no address of this machine: use/],
  ["EADDRNOTAVAIL", { ...here, namespace: "/run/netns/a" }, /^192\.0\.2\.1 is no address of network namespace \/run/],
  ["ENOENT", { ...here, namespace: "/run/netns/a" }, /^network namespace \/run\/netns\/a does not exist$/],
  ["EACCES", here, /^192\.0\.2\.1:80 may not be opened by this user: .*CAP_NET_BIND_SERVICE/],
  ["EAFNOSUPPORT", { ...here, address: "::1" }, /IPv6 is off/],
  ["EMFILE", here, /ulimit -n/],
  ["EPROTO", here, /^it failed$/],
] as const)("%s of %j", (code, listener, said) => {
  expect(listenProblem(failed(code), listener)).toMatch(said);
});

test("errors of ours are sentences already", () => {
  expect(listenProblem(new UserError("needs CAP_NET_ADMIN"), here)).toBe("needs CAP_NET_ADMIN");
});

// The load generators of the benchmarks: wrk for HTTP/1.1, h2load for HTTP/2 and for steady rates. Each run gives the CPU time of
// the proxy's process for each request and fails when one answer was not right.

import { apiVersion, type Contender, host } from "./contenders.ts";
import { cpuTime } from "./cpu.ts";

export interface Run {
  /** CPU time of the proxy, in microseconds a request. */
  readonly microseconds: number;
  readonly perSecond: number;
}

export const perSecond = (runs: readonly Run[]) =>
  `${Math.max(...runs.map((run) => run.perSecond)).toFixed(0)} requests/s at most`;

const agent = "user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36";
const accept = "accept: text/html,application/json;q=0.9,*/*;q=0.8";

export async function wrk(
  { name, port, pid }: Contender<string>,
  target: string,
  options: { seconds: number; connections: number; tls?: boolean; script?: string },
): Promise<Run> {
  const before = cpuTime(pid);
  // With a capital: wrk knows its own Host field only by that.
  const fields = [`Host: ${host}`, agent, accept, `x-api-version: ${apiVersion}`];
  const text = await output([
    "wrk",
    "-t1",
    `-c${options.connections}`,
    `-d${options.seconds}s`,
    "--timeout",
    "30s",
    ...(options.script ? ["-s", options.script] : []),
    ...fields.flatMap((one) => ["-H", one]),
    `${options.tls ? "https" : "http"}://127.0.0.1:${port}${target}`,
  ]);
  const requests = Number(/(\d+) requests in/.exec(text)?.[1]);
  if (/Non-2xx|Socket errors/.test(text) || !(requests > 0)) throw new Error(`wrk saw errors of ${name}:\n${text}`);
  return {
    microseconds: (cpuTime(pid) - before) / requests,
    perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(text)?.[1]),
  };
}

export async function h2load(
  { name, port, pid }: Contender<string>,
  target: string,
  options: { requests: number; connections: number; tls?: boolean; more?: readonly string[] },
): Promise<Run> {
  const before = cpuTime(pid);
  const fields = [agent, accept, `x-api-version: ${apiVersion}`, `:authority: ${host}`];
  const scheme = options.tls ? "https" : "http";
  const text = await output([
    "h2load",
    `-n${options.requests}`,
    `-c${options.connections}`,
    "-t1",
    ...(options.more ?? []),
    ...fields.flatMap((one) => ["-H", one]),
    `--connect-to=127.0.0.1:${port}`,
    `${scheme}://${host}:${port}${target}`,
  ]);
  if (!text.includes(`${options.requests} succeeded`) || !text.includes(`${options.requests} 2xx`))
    throw new Error(`h2load saw errors of ${name}:\n${text}`);
  return {
    microseconds: (cpuTime(pid) - before) / options.requests,
    perSecond: Number(/([\d.]+) req\/s/.exec(text)?.[1]),
  };
}

async function output(command: string[]): Promise<string> {
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "pipe" });
  return await new Response(child.stdout).text();
}

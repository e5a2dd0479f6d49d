// `fairlead proxy explain`: what a proxy would do with a request, by the files that `fairlead proxy run` serves.

import { UserError } from "../base/errors.ts";
import { explain } from "../cluster/explain.ts";
import { renderExplanation } from "../cluster/explain-text.ts";
import { readModel } from "../cluster/static/read-model.ts";
import type { Command, Words } from "./command.ts";
import { parseHeader } from "./explain.ts";
import { print } from "./terminal.ts";

export const command: Command = {
  name: "proxy explain",
  summary: "Say what `proxy run` would do with a request, by the same files",
  usage: "proxy explain -f FILE|DIR|- URL [options]",
  options: {
    files: { type: "string", short: "f", value: "FILE|DIR|-", multiple: true, help: "May be given again." },
    request: { type: "string", short: "X", value: "METHOD", help: "Default: GET." },
    header: { type: "string", short: "H", value: "'Name: value'", multiple: true, help: "May be given again." },
    output: { type: "string", short: "o", value: "FORMAT", help: "json" },
  },
  examples: [
    ["fairlead proxy explain -f proxy.yaml http://127.0.0.1:8080/cart -H 'host: shop.example'", "Which rule takes it"],
  ],
  run,
};

async function run(words: Words): Promise<number> {
  const paths = words.texts("files");
  const [url, ...more] = words.positionals;
  if (paths.length === 0 || url === undefined || more.length > 0) {
    throw new UserError("proxy explain needs -f and a URL", {
      remedy: "For example: fairlead proxy explain -f proxy.yaml http://127.0.0.1:8080/",
      exitCode: 2,
    });
  }
  const { model, problems, locate } = await readModel(paths);
  if (problems.length > 0) throw new UserError(problems.join("\n"));
  const request = {
    method: words.text("request") ?? "GET",
    url,
    headers: words.texts("header").map(parseHeader),
  };
  const explanation = explain(model, request, {
    ...{ locate, findings: () => [], service: () => undefined, podAddress: () => undefined },
  });
  if (words.text("output") === "json") print(JSON.stringify(explanation, undefined, 2));
  else print(renderExplanation(explanation, process.cwd()));
  return 0;
}

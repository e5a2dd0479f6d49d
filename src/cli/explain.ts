// `fairlead explain`: why a request goes where it goes, from a running stack or from files alone.

import { UserError } from "../base/errors.ts";
import { ControlClient } from "../cluster/control-api.ts";
import { type ExplainRequest, parseUrl } from "../cluster/explain.ts";
import { renderExplanation } from "../cluster/explain-text.ts";
import { defaultStackName } from "../cluster/stack.ts";
import { parsePacketQuestion } from "../services/packet-question.ts";
import { renderPacketDecision } from "../services/packet-report.ts";
import { type Command, nameOption, type Words } from "./command.ts";
import { print } from "./terminal.ts";

export const command: Command = {
  name: "explain",
  summary: "Say which rule takes a request, where it goes and why",
  usage: "explain METHOD URL [options] | explain --packet 'PROTOCOL SOURCE -> DESTINATION' [options]",
  description:
    "Names the listener, route, rule and match that take the request, the backends with their shares, endpoints and\n" +
    "filters, each with its object, field and line, and why the rules before did not match.",
  options: {
    header: {
      type: "string",
      short: "H",
      value: "'Name: value'",
      multiple: true,
      help: "A header of the request; may be given again.",
    },
    from: {
      type: "string",
      value: "NAMESPACE/POD",
      help: "The client is this pod: Service names and addresses are explained as it sees them.",
    },
    gateway: { type: "string", value: "NAMESPACE/NAME", help: "Ask this Gateway, when several take the URL." },
    files: {
      type: "string",
      short: "f",
      value: "FILE|DIR|-",
      multiple: true,
      help: "Decide by these files alone, with no stack running; may be given again.",
    },
    fill: {
      type: "boolean",
      help: "With --files: make up what the files refer to and do not contain, as up --fill does.",
    },
    packet: {
      type: "string",
      value: "'tcp A:1 -> B:80'",
      help: "Explain a packet to a Service instead. Ends: an address, node, node/NAME, NAMESPACE/POD (from), NAMESPACE/SERVICE (to).",
    },
    node: { type: "string", value: "NAME", help: "With --packet: the node whose rules are asked." },
    mode: {
      type: "string",
      value: "iptables|nftables|ipvs",
      help: "With --packet and --files: whose rules. Default: iptables.",
    },
    "cluster-cidr": {
      type: "string",
      value: "RANGE[,RANGE]",
      help: "With --packet and --files: the pods' addresses. Default: the podCIDRs of Nodes in the files.",
    },
    output: { type: "string", short: "o", value: "FORMAT", help: "json" },
    name: nameOption,
  },
  examples: [
    ["fairlead explain GET https://api.example.com/orders -H 'x-api-version: v2'", "Why a request reaches v2"],
    ["fairlead explain GET http://shop.example.com/ --files examples/shop", "The same question to files, in a test"],
    ["fairlead explain GET http://inventory/ --from default/client", "What a Service name means to a pod"],
    ["fairlead explain --packet 'tcp 10.244.1.5:40000 -> 10.96.0.20:80'", "The rules that a packet passes"],
    [
      "kubectl get svc,endpointslices,nodes,pods -A -o yaml | fairlead explain --packet 'tcp 192.0.2.7 -> node/a:30080' -f -",
      "The same for any cluster, with nothing running",
    ],
    ["fairlead explain --packet 'udp default/client -> node/node-2:30053'", "A node port, from a pod"],
  ],
  run,
};

async function run(words: Words): Promise<number> {
  if (words.text("packet") !== undefined) return explainPacket(words, words.text("packet") ?? "");
  const [method, url, ...more] = words.positionals;
  if (method === undefined || url === undefined || more.length > 0) {
    throw new UserError("explain needs a method and a URL", {
      remedy: "For example: fairlead explain GET https://api.example.com/orders",
      exitCode: 2,
    });
  }
  parseUrl(url);
  const from = words.text("from");
  const gateway = words.text("gateway");
  const request: ExplainRequest = {
    method,
    url,
    headers: words.texts("header").map(parseHeader),
    ...(from ? { from } : {}),
    ...(gateway ? { gateway } : {}),
  };
  const files = words.texts("files");
  const explanation =
    files.length > 0
      ? await (await import("../cluster/explain-files.ts")).explainFiles(files, request, { fill: words.flag("fill") })
      : await new ControlClient(words.text("name") ?? defaultStackName).explain(request);
  if (words.text("output") === "json") print(JSON.stringify(explanation, undefined, 2));
  else print(renderExplanation(explanation, process.cwd()));
  return 0;
}

async function explainPacket(words: Words, packet: string): Promise<number> {
  const misplaced =
    words.positionals[0] ??
    ["header", "from", "gateway", "fill"]
      .map((name) => (words.text(name) === undefined ? undefined : `--${name}`))
      .find(Boolean);
  if (misplaced !== undefined) {
    throw new UserError(`explain --packet takes no "${misplaced}"`, {
      remedy: "Requests and packets are explained one at a time: leave one of them out.",
      exitCode: 2,
    });
  }
  parsePacketQuestion(packet);
  const node = words.text("node");
  const request = { packet, ...(node ? { node } : {}) };
  const files = words.texts("files");
  const mode = words.text("mode");
  const podRanges = words.text("cluster-cidr")?.split(",");
  if (files.length === 0 && (mode ?? podRanges) !== undefined) {
    throw new UserError(`--${mode === undefined ? "cluster-cidr" : "mode"} is for --files; a stack has its own`, {
      exitCode: 2,
    });
  }
  const decision =
    files.length > 0
      ? await (await import("../cluster/explain-packet-files.ts")).explainPacketFiles(files, request, {
          ...(mode === undefined ? {} : { mode }),
          ...(podRanges ? { podRanges } : {}),
        })
      : await new ControlClient(words.text("name") ?? defaultStackName).explainPacket(request);
  if (words.text("output") === "json") print(JSON.stringify(decision, undefined, 2));
  else print(renderPacketDecision(decision));
  return 0;
}

export function parseHeader(text: string): readonly [string, string] {
  const colon = text.indexOf(":");
  if (colon > 0) return [text.slice(0, colon).trim(), text.slice(colon + 1).trim()];
  throw new UserError(`-H '${text}': not a header`, { remedy: "Write it as -H 'Name: value'.", exitCode: 2 });
}

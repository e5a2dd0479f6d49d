// A packet's decision as lines for people.

import { describeProvenance } from "../model/provenance.ts";
import type { PacketDecision, PacketEndpoint } from "./packet.ts";
import type { PacketStep } from "./packet-rules.ts";
import { endpointText } from "./service-table.ts";

export function renderPacketDecision(decision: PacketDecision): string {
  const { packet, node, mode, answer, steps, endpoints, masquerade, affinity, leftOut, notes } = decision;
  const lines = [`${packet}   on ${node} (${mode})`, "", `→ ${answer}`];
  for (const endpoint of endpoints)
    lines.push(`  ${percent(endpoint.probability).padStart(6)}  ${endpointLine(endpoint)}`);
  const sources = new Set(endpoints.map(({ source }) => sourceLine(source)));
  if (sources.size === 1) lines.push("", ...sources);
  else if (sources.size > 1) {
    lines.push("", ...endpoints.map((endpoint) => `${endpointText(endpoint)}: ${sourceLine(endpoint.source)}`));
  }
  const failing = endpoints.filter(({ fails }) => fails);
  if (failing.length > 0) {
    lines.push("", `A connection to ${failing.map(endpointText).join(", ")} fails: ${failing[0]?.fails}`);
  }
  if (affinity) {
    lines.push(
      "",
      `A client that came within the last ${affinity.seconds} s goes where it went before   ${describeProvenance(affinity.from)}`,
    );
  }
  const passed: readonly PacketStep[] = [
    ...steps,
    ...endpoints.map((endpoint) => ({ where: endpoint.where, what: `to ${endpointText(endpoint)}` })),
    ...(masquerade ? [masquerade] : []),
  ];
  if (passed.length > 0) lines.push("", "through");
  const width = Math.max(...passed.map(({ where }) => where.length));
  for (const { where, what, from } of passed) {
    lines.push(`  ${where.padEnd(width)}  ${what}${from ? `   ${describeProvenance(from)}` : ""}`);
  }
  if (leftOut.length > 0) {
    lines.push("", "left out");
    for (const endpoint of leftOut) lines.push(`  ${endpointText(endpoint)}  ${endpoint.reason}`);
  }
  if (notes && notes.length > 0) lines.push("", ...notes);
  return lines.join("\n");
}

function endpointLine({ address, port, target, node, thisNode, terminating }: PacketEndpoint): string {
  const words = [
    endpointText({ address, port }),
    ...(target ? [`${target.kind.toLowerCase()} ${target.namespace}/${target.name}`] : []),
    ...(node ? [`on ${node}${thisNode ? " (this node)" : ""}`] : []),
    ...(terminating ? ["terminating: nothing else is ready"] : []),
  ];
  return words.join("  ");
}

function sourceLine({ address, kept, reason }: PacketEndpoint["source"]): string {
  return kept ? `The source ${address} is kept: ${reason}` : `The source is masqueraded as ${address}: ${reason}`;
}

function percent(share: number): string {
  const value = share * 100;
  return `${Number.isInteger(value) ? value : value.toFixed(1)} %`;
}

// What is well formed of listeners: addresses, chains, and what their TLS asks for. Part of `validate.ts`.

import { ipFamily } from "../base/ip.ts";
import { hostPatternProblem } from "./host-pattern.ts";
import type {
  ChainCondition,
  ClientsTls,
  FilterChain,
  Listener,
  OriginalSource,
  TlsContext,
  WeightedBackend,
} from "./model.ts";
import { pathNormalizations } from "./path-normalization.ts";
import { checkCiphers, checkPeerDemands } from "./peer-demands.ts";
import { checkPort, checkRange, checkStringMatch, checkTlsVersions, type Problems } from "./problems.ts";
import type { Provenance } from "./provenance.ts";

const clientModes: readonly string[] = ["require", "optional", "unverified"];
const telling = ["hash", "subject", "uri", "dns", "cert"];

/** `checkShare` looks at what a share says of its own. */
export function checkListener(
  problems: Problems,
  listener: Listener,
  checkShare: (field: string, share: WeightedBackend) => void,
): void {
  const { address, transport, chains } = listener;
  if (ipFamily(address) === undefined) problems.add("address", `"${address}" is no IP address`);
  checkPort(problems, "port", listener.port);
  if (transport !== "tcp" && transport !== "udp") problems.add("transport", `"${transport}" is neither tcp nor udp`);
  listener.trusted?.forEach((range, i) => {
    checkRange(problems, `trusted[${i}]`, range);
  });
  const { namespace, originalDestination, pathNormalization, transparent } = listener;
  if (pathNormalization !== undefined && !pathNormalizations.includes(pathNormalization))
    problems.add(
      "pathNormalization",
      `${JSON.stringify(pathNormalization)} is none of ${pathNormalizations.join(", ")}`,
    );
  if (namespace !== undefined && !/^(\/[^/\0]+)+$/.test(namespace))
    problems.add("namespace", `"${namespace}" is no path of a network namespace (like /run/netns/x)`);
  if (transparent && originalDestination)
    problems.add(
      "transparent",
      "is beside originalDestination: rules redirect connections, or leave them their addresses",
    );
  if (chains.length === 0) problems.add("chains", "has none: nothing could be served");
  if (transport === "udp") checkUdp(problems, listener);
  chains.forEach((chain, i) => {
    checkChain(problems, `chains[${i}]`, chain, checkShare);
    const original = "original" in chain.serve && chain.serve.original;
    if ("tcp" in chain.serve && chain.serve.originalSource) {
      checkOriginalSource(problems, `chains[${i}].serve.originalSource`, chain.serve.originalSource, chain.from);
      if (!original)
        problems.add(`chains[${i}].serve.originalSource`, "is for original: backends say it of themselves", chain.from);
    }
    if (!original || !("tcp" in chain.serve)) return;
    if (!originalDestination && !transparent) {
      problems.add(
        `chains[${i}].serve.original`,
        "needs originalDestination or transparent of its listener",
        chain.from,
      );
    }
    if (chain.serve.tcp.length > 0) problems.add(`chains[${i}].serve.tcp`, "is beside original", chain.from);
  });
}

/** Of a chain, or of a backend. */
export function checkOriginalSource(
  problems: Problems,
  field: string,
  { mark }: OriginalSource,
  from?: Provenance,
): void {
  if (mark !== undefined && !(Number.isInteger(mark) && mark >= 1 && mark < 2 ** 32))
    problems.add(`${field}.mark`, `${mark} is no mark of packets (1 to 4294967295)`, from);
}

function checkUdp(problems: Problems, listener: Listener): void {
  const { address, chains, proxyProtocol, originalDestination, transparent } = listener;
  if (!transparent && (address === "0.0.0.0" || address === "::")) {
    problems.add("address", "of a udp listener must be one address: answers must come from the one that was asked");
  }
  if (originalDestination)
    problems.add("originalDestination", "is for connections; a udp listener takes what TPROXY sends it (transparent)");
  if (proxyProtocol) problems.add("proxyProtocol", "is for connections, and a udp listener has none");
  if (chains.length > 1 && !transparent)
    problems.add("chains", "of a udp listener can only be one: datagrams do not say more");
  for (const { when, serve, from } of chains) {
    const { kind, ...more } = when;
    if (when.protocols) problems.add("chains[0].when", "protocols is for TLS, and a udp listener has none", from);
    else if (!transparent && Object.keys(more).length > 0)
      problems.add("chains[0].when", `${Object.keys(more)[0]} is for connections, and a udp listener has none`, from);
    if (kind !== "plain" || !("tcp" in serve))
      problems.add("chains[0]", "of a udp listener must be plain and serve backends (tcp)", from);
  }
}

function checkChain(
  problems: Problems,
  field: string,
  chain: FilterChain,
  checkShare: (field: string, share: WeightedBackend) => void,
): void {
  const { when, tls, serve, from } = chain;
  if (when.kind === "sni") {
    if (when.names.length === 0) problems.add(`${field}.when.names`, "lists no server name", from);
    when.names.forEach((name, i) => {
      const problem = hostPatternProblem(name);
      if (problem) problems.add(`${field}.when.names[${i}]`, problem, from);
    });
  }
  checkConnection(problems, `${field}.when`, when, from);
  if (when.kind === "plain" && tls) problems.add(`${field}.tls`, "has certificates for connections without TLS", from);
  if (when.kind !== "plain" && !tls && "routes" in serve) {
    problems.add(
      `${field}.tls`,
      "is absent, and routes cannot be served from a TLS connection that is not terminated",
      from,
    );
  }
  if (tls) checkTls(problems, `${field}.tls`, tls, from);
  if ("routes" in serve) return;
  if (!Array.isArray(serve.tcp)) {
    problems.add(`${field}.serve.tcp`, "is no list of backends (beside original: an empty one, [])", from);
    return;
  }
  const { idleTimeout } = serve;
  if (idleTimeout !== undefined && !(Number.isFinite(idleTimeout) && idleTimeout >= 0)) {
    problems.add(`${field}.serve.idleTimeout`, `${idleTimeout} is no number of milliseconds`, from);
  }
  serve.tcp.forEach((share, i) => {
    if (share.filters.length > 0) {
      problems.add(`${field}.serve.tcp[${i}].filters`, "are for requests, and these connections are passed on unread");
    }
    checkShare(`${field}.serve.tcp[${i}]`, share);
  });
}

function checkConnection(problems: Problems, field: string, when: ChainCondition, from: Provenance): void {
  for (const name of ["destination", "source"] as const) {
    if (when[name]?.length === 0) problems.add(`${field}.${name}`, "lists none: leave it out to take all", from);
    when[name]?.forEach((range, i) => {
      checkRange(problems, `${field}.${name}[${i}]`, range, from);
    });
  }
  const { destinationPorts, protocols } = when;
  if (destinationPorts?.length === 0)
    problems.add(`${field}.destinationPorts`, "lists none: leave it out to take all", from);
  destinationPorts?.forEach((port, i) => {
    checkPort(problems, `${field}.destinationPorts[${i}]`, port);
  });
  if (!protocols) return;
  if (when.kind === "plain") problems.add(`${field}.protocols`, "are those of ALPN, which only TLS has", from);
  if (protocols.length === 0) problems.add(`${field}.protocols`, "lists none: leave it out to take all", from);
  protocols.forEach((name, i) => {
    if (name.length === 0 || Buffer.byteLength(name) > 255)
      problems.add(`${field}.protocols[${i}]`, `"${name}" is no protocol of ALPN (1 to 255 bytes)`, from);
  });
}

function checkTls(problems: Problems, field: string, tls: TlsContext, from: Provenance): void {
  const { certificates, ciphers, clients } = tls;
  if (certificates.length === 0) problems.add(`${field}.certificates`, "lists no certificate", from);
  checkTlsVersions(problems, field, tls, from);
  checkCiphers(problems, `${field}.ciphers`, ciphers, from);
  if (clients) checkClients(problems, `${field}.clients`, clients, from);
}

function checkClients(problems: Problems, field: string, clients: ClientsTls, from: Provenance): void {
  const { mode, authorities } = clients;
  if (!clientModes.includes(mode))
    problems.add(`${field}.mode`, `"${mode}" is none of ${clientModes.join(", ")}`, from);
  if (mode === "unverified") {
    for (const what of ["authorities", "names", "pins", "maxIntermediates"] as const)
      if (clients[what] !== undefined)
        problems.add(
          `${field}.${what}`,
          "is there, but mode unverified looks at nothing: leave it out, or take optional",
          from,
        );
  } else if (!authorities) {
    const missing = authorities === "" ? "is empty" : "is missing";
    problems.add(`${field}.authorities`, `${missing}: name a Secret of authorities, or take mode unverified`, from);
  }
  checkPeerDemands(problems, field, clients, from);
  clients.names?.forEach(({ kind, match }, i) => {
    const name = `${field}.names[${i}]`;
    if (kind !== "dns" && kind !== "uri" && kind !== "cn")
      problems.add(`${name}.kind`, `"${kind}" is none of dns, uri, cn`, from);
    checkStringMatch(problems, `${name}.match`, match, from);
  });
  clients.tell?.forEach((what, i) => {
    if (!telling.includes(what)) {
      problems.add(`${field}.tell[${i}]`, `"${what}" is none of ${telling.join(", ")}`, from);
    }
  });
}

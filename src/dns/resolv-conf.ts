// The resolv.conf of a pod, by its dnsPolicy and dnsConfig (pkg/kubelet/network/dns/dns.go, resolv.conf(5)), within the limits of
// the C library that kubelets keep to. What is left out because of them is told in kubelets' words, as an Event DNSConfigForming.

import { readFileSync } from "node:fs";
import type { Pod } from "../api/kinds.ts";

export interface ResolvConfOptions {
  /** The cluster DNS server's addresses. */
  readonly nameservers: readonly string[];
  readonly zone?: string;
  /** The text of the host's own resolv.conf. */
  readonly host?: string;
}

export interface ResolvConf {
  readonly text: string;
  /** What of the pod's wishes could not be had. */
  readonly problems: readonly string[];
}

interface Lines {
  readonly servers: readonly string[];
  readonly searches: readonly string[];
  /** `ndots:5`, `rotate`. */
  readonly options: readonly string[];
}

const mostServers = 3;
const mostSearches = 32;
const longestSearchLine = 2048;
/** A longer one makes some C libraries give up (RFC 1035: 255 bytes on the wire). */
const longestSearch = 253;

/** The host's, as it is now; a file that cannot be read says nothing. */
export function hostResolvConf(): string {
  try {
    return readFileSync("/etc/resolv.conf", "utf8");
  } catch {
    return "";
  }
}

export function resolvConf(pod: Pod, options: ResolvConfOptions): ResolvConf {
  const { dnsPolicy = "ClusterFirst", dnsConfig, hostNetwork } = pod.spec ?? {};
  const host = parseResolvConf(options.host ?? "");
  const problems: string[] = [];
  const ofCluster = dnsPolicy === "ClusterFirstWithHostNet" || (dnsPolicy === "ClusterFirst" && hostNetwork !== true);
  let lines = dnsPolicy === "None" ? none : ofCluster ? clusterLines(pod, options, host) : host;
  if (dnsConfig) {
    const wanted = (dnsConfig.options ?? []).map(({ name = "", value }) => (value ? `${name}:${value}` : name));
    lines = {
      servers: [...new Set([...lines.servers, ...(dnsConfig.nameservers ?? [])])],
      searches: [...new Set([...lines.searches, ...(dnsConfig.searches ?? [])])],
      options: mergeOptions(lines.options, wanted),
    };
  }
  const servers = lines.servers.slice(0, mostServers);
  if (servers.length < lines.servers.length) {
    const applied = `the applied nameserver line is: ${servers.join(" ")}`;
    problems.push(`Nameserver limits were exceeded, some nameservers have been omitted, ${applied}`);
  }
  const searches = fitting(lines.searches);
  if (searches.length < lines.searches.length) {
    const applied = `the applied search line is: ${searches.join(" ")}`;
    problems.push(`Search Line limits were exceeded, some search paths have been omitted, ${applied}`);
  }
  const text = [
    ...(searches.length > 0 ? [`search ${searches.join(" ")}`] : []),
    ...servers.map((address) => `nameserver ${address}`),
    ...(lines.options.length > 0 ? [`options ${lines.options.join(" ")}`] : []),
  ];
  return { text: text.map((line) => `${line}\n`).join(""), problems };
}

const none: Lines = { servers: [], searches: [], options: [] };

function clusterLines(pod: Pod, { nameservers, zone = "cluster.local" }: ResolvConfOptions, host: Lines): Lines {
  const own = [`${pod.metadata.namespace ?? "default"}.svc.${zone}`, `svc.${zone}`, zone];
  return {
    servers: nameservers,
    searches: [...new Set([...own, ...host.searches])],
    options: ["ndots:5"],
  };
}

/** The last of several `search` lines counts; a final dot means nothing. */
function parseResolvConf(text: string): Lines {
  const servers: string[] = [];
  let searches: string[] = [];
  let options: string[] = [];
  for (const line of text.split("\n")) {
    const [keyword, ...words] = line.trim().split(/\s+/);
    if (keyword === "nameserver" && words[0] !== undefined) servers.push(words[0]);
    if (keyword === "search") searches = words.map((word) => (word === "." ? word : word.replace(/\.$/, "")));
    if (keyword === "options") options = words;
  }
  return { servers, searches, options };
}

/** Later ones replace earlier ones of the same name. */
function mergeOptions(earlier: readonly string[], later: readonly string[]): readonly string[] {
  const byName = new Map([...earlier, ...later].map((option) => [option.split(":")[0], option]));
  return [...byName.values()];
}

function fitting(searches: readonly string[]): readonly string[] {
  const fit = searches.slice(0, mostSearches).filter((one) => one.length <= longestSearch);
  while (fit.join(" ").length > longestSearchLine) fit.pop();
  return fit;
}

// `fairlead rules`: what a node's Service rules would be for objects in files. Nothing is started and no kernel is asked: files,
// defaults and validation, the service table, a backend's pure `render`, and its text.

import { decode } from "../api/decode.ts";
import { applyDefaults } from "../api/defaults.ts";
import type { EndpointSlice, Node, Service } from "../api/kinds.ts";
import { type KubeObject, objectName } from "../api/object.ts";
import { resourceKey } from "../api/resource.ts";
import { builtinScheme } from "../api/scheme.ts";
import { normalizeService } from "../api/service-strategy.ts";
import { validateCreate } from "../api/validation/validate.ts";
import { messageOf, UserError } from "../base/errors.ts";
import { type IpFamily, ipFamily } from "../base/ip.ts";
import type { LocalDetector } from "../node/iptables/fixed-chains.ts";
import { render as renderIptables } from "../node/iptables/renderer.ts";
import { render as renderIpvs } from "../node/ipvs/renderer.ts";
import { printRules } from "../node/ipvs/save.ts";
import { listing } from "../node/nftables/listing.ts";
import { render as renderNftables } from "../node/nftables/renderer.ts";
import { isHeadless, serviceOfSlice, zoneLabel } from "../services/objects.ts";
import { resolveService } from "../services/resolved-service.ts";
import { type ServicePort, servicePortsOf } from "../services/service-table.ts";
import { lineOf, type Manifest, type ReadOptions, readManifests } from "./manifests.ts";
import {
  checkFlags,
  commonOptions,
  ipvsOptions,
  localDetector,
  localhostNodePorts,
  nodePortAddresses,
  type ProxyFlagTexts,
} from "./proxy-flags.ts";
import { iptablesSaveText } from "./rules-text.ts";
import type { ProxyMode } from "./stack.ts";

export interface RulesRequest {
  readonly mode: string;
  readonly family: IpFamily;
  /** The node that the rules are for; none is no endpoint's node. */
  readonly node?: string;
  /** Its zone; otherwise the label of a Node in the files. */
  readonly zone?: string;
  /** Its address; otherwise that of a Node in the files. */
  readonly nodeAddress?: string;
  /** kube-proxy's flags; without --cluster-cidr or another way to know pods nothing is masqueraded on its way to a ClusterIP. */
  readonly flags?: ProxyFlagTexts;
  /** With kube-proxy's two counters, which it has where the kernel does (xt_nfacct). */
  readonly nfacct?: boolean;
  /** The Services' ranges; otherwise those of ServiceCIDRs in the files. */
  readonly serviceCidrs?: readonly string[];
}

export interface RulesOfFiles {
  /** As the mode's own tool prints rules, and takes them. */
  readonly text: string;
  /** What was left out and why, each beginning with `file:line:`. */
  readonly warnings: readonly string[];
}

interface Given {
  readonly rows: readonly ServicePort[];
  readonly family: IpFamily;
  readonly flags: ProxyFlagTexts;
  readonly localDetector: LocalDetector | undefined;
  readonly nodeAddress: string | undefined;
  readonly nodePortAddresses: readonly string[] | undefined;
  readonly serviceCidrs: readonly string[];
  readonly nfacct: boolean;
}

/** The text of each mode's rules. */
const modes: Readonly<Record<string, (given: Given) => string>> = {
  iptables: (given) =>
    iptablesSaveText(
      renderIptables(
        { values: () => given.rows },
        {
          ...backendOptions(given),
          localhostNodePorts: localhostNodePorts(given.flags, given.family),
          nfacct: given.nfacct,
          dropInvalid: !given.flags["conntrack-tcp-be-liberal"],
        },
      ),
    ),
  nftables: (given) => {
    const { family, serviceCidrs } = given;
    const options = { ...backendOptions(given), serviceCidrs };
    return listing(family, renderNftables({ values: () => given.rows }, options));
  },
  ipvs: (given) => {
    const { nodePortAddresses: nodeAddresses = [], ...common } = backendOptions(given);
    const rules = renderIpvs({ values: () => given.rows }, { ...common, ...ipvsOptions(given.flags), nodeAddresses });
    return `${printRules(rules)}\n# iptables-save\n${iptablesSaveText(rules)}`;
  },
};

export const rulesModes: readonly string[] = Object.keys(modes);

function backendOptions({ family, flags, localDetector, nodeAddress, nodePortAddresses }: Given) {
  return {
    family,
    ...commonOptions(flags),
    ...(localDetector ? { localDetector } : {}),
    ...(nodeAddress === undefined ? {} : { nodeAddress }),
    ...(nodePortAddresses === undefined ? {} : { nodePortAddresses }),
  };
}

/** Reads the files and prints the rules. Throws a UserError for an unknown mode, unreadable files, or none with a Service. */
export async function rulesOfFiles(
  files: readonly string[],
  request: RulesRequest,
  options: ReadOptions = {},
): Promise<RulesOfFiles> {
  const print = Object.hasOwn(modes, request.mode) ? modes[request.mode] : undefined;
  if (!print) {
    throw new UserError(`--mode ${request.mode}: there is no such mode`, {
      remedy: `There are ${rulesModes.join(", ")}.`,
      exitCode: 2,
    });
  }
  const { family, flags = {} } = request;
  checkFlags(flags, request.mode as ProxyMode);
  const objects = new Objects(await readManifests(files, { ...options, lists: true }));
  if (objects.services.length === 0) {
    throw new UserError(`no usable Service in ${files.join(", ")}`, {
      remedy: [
        ...objects.warnings,
        "Save what a cluster has with: kubectl get services,endpointslices,nodes,servicecidrs -A -o yaml > objects.yaml",
      ].join("\n"),
    });
  }
  const node = objects.nodes.find(({ metadata }) => metadata.name === request.node);
  const zone = request.zone ?? node?.metadata.labels?.[zoneLabel];
  const slices = Map.groupBy(objects.slices, serviceOfSlice);
  const rows = objects.services.flatMap(({ service, at }) => {
    const resolved = resolveService(service, slices.get(objectName(service)) ?? []);
    const found = servicePortsOf(resolved, { name: request.node ?? "", ...(zone ? { zone } : {}) });
    objects.noteUnserved(service, at, found);
    return found;
  });
  objects.noteClashes(rows);
  const addresses = node?.status?.addresses?.filter(({ type }) => type === "InternalIP").map((one) => one.address);
  const nodeAddress = request.nodeAddress ?? addresses?.find((one) => ipFamily(one) === family);
  if (request.mode === "ipvs" && nodeAddress === undefined) objects.noteUnboundNodePorts(rows, family);
  const own = nodeAddress === undefined ? [] : [nodeAddress];
  const known = own.length > 0 || flags["nodeport-addresses"] !== undefined;
  const text = print({
    rows: [...new Map(rows.map((row) => [row.key, row])).values()],
    family,
    flags,
    localDetector: localDetector(flags, family, { cluster: [], node: podRangesOf(node) }),
    nodeAddress,
    // Where the node's address is not known, nftables is printed for all addresses.
    nodePortAddresses: known ? nodePortAddresses(flags, request.mode as ProxyMode, family, own) : undefined,
    serviceCidrs: request.serviceCidrs ?? objects.serviceCidrs,
    nfacct: request.nfacct ?? false,
  });
  return { text, warnings: objects.warnings };
}

function podRangesOf(node: Node | undefined): readonly string[] {
  const { podCIDR, podCIDRs = podCIDR ? [podCIDR] : [] } = (node?.spec ?? {}) as {
    podCIDR?: string;
    podCIDRs?: readonly string[];
  };
  return podCIDRs;
}

/** The objects of the files as the API server would have them, and what is wrong with the others. */
class Objects {
  readonly services: { readonly service: Service; readonly at: string }[] = [];
  readonly slices: EndpointSlice[] = [];
  readonly nodes: Node[] = [];
  readonly serviceCidrs: string[] = [];
  readonly warnings: string[] = [];

  constructor(manifests: readonly Manifest[]) {
    const scheme = builtinScheme();
    const read = new Set(["services", "endpointslices.discovery.k8s.io", "nodes", "servicecidrs.networking.k8s.io"]);
    // As applied one after another: the last of a name holds.
    const latest = new Map<string, { readonly object: KubeObject; readonly manifest: Manifest; key: string }>();
    for (const manifest of manifests) {
      const { object } = manifest;
      const resource = scheme.byKind(object.apiVersion, object.kind);
      if (!resource || !read.has(resourceKey(resource))) continue;
      const namespace = resource.scope === "Namespaced" ? (object.metadata.namespace ?? "default") : undefined;
      const placed = { ...object, metadata: { ...object.metadata, ...(namespace ? { namespace } : {}) } };
      try {
        const decoded = decode(scheme, resource, placed, { fieldValidation: "Warn" });
        for (const warning of decoded.warnings) this.#warn(manifest, "", warning);
        const defaulted = applyDefaults(scheme, resource, decoded.object);
        const full = resource.plural === "services" ? normalizeService(defaulted) : defaulted;
        const errors = validateCreate(scheme, resource, full);
        for (const { field, message } of errors) this.#warn(manifest, field, `${field}: ${message}`);
        // A slice's bad address is no reason to forget its good ones; everything else that is wrong is left out.
        const usable = errors.every(
          ({ field }) => full.kind === "EndpointSlice" && /^endpoints\[\d+\]\.addresses/.test(field),
        );
        const key = resourceKey(resource);
        if (usable) latest.set(`${key} ${objectName(full)}`, { object: full, manifest, key });
      } catch (error) {
        this.#warn(manifest, "", messageOf(error));
      }
    }
    for (const { object, manifest, key } of latest.values()) {
      if (key === "services") this.services.push({ service: object as Service, at: this.#place(manifest, "spec") });
      else if (key === "nodes") this.nodes.push(object as Node);
      else if (key === "servicecidrs.networking.k8s.io") {
        this.serviceCidrs.push(...((object["spec"] as { cidrs?: readonly string[] } | undefined)?.cidrs ?? []));
      } else this.slices.push(object as EndpointSlice);
    }
  }

  /** A Service that the rules should serve and cannot: what an API server would have allocated is not in the file. */
  noteUnserved(service: Service, at: string, rows: readonly ServicePort[]): void {
    const { spec = {} } = service;
    if (spec.type === "ExternalName" || isHeadless(spec)) return;
    const name = objectName(service);
    if (!spec.clusterIP) {
      this.warnings.push(`${at}: Service ${name}: spec.clusterIP is missing: no rules are made without an address`);
    } else if (ipFamily(spec.clusterIP) === undefined) {
      this.warnings.push(
        `${at}: Service ${name}: spec.clusterIP ${spec.clusterIP} is no address: no rules are made for it`,
      );
    } else if (spec.type === "NodePort" && rows.some((row) => row.nodePort === undefined)) {
      this.warnings.push(`${at}: Service ${name}: spec.ports[].nodePort is missing: no rules are made for it`);
    }
  }

  /** IPVS has no "all local addresses": a node port is one virtual server for each address of the node. */
  noteUnboundNodePorts(rows: readonly ServicePort[], family: IpFamily): void {
    const row = rows.find((one) => one.family === family && one.nodePort !== undefined);
    if (!row) return;
    const port = `node port ${row.nodePort} of Service ${row.name}`;
    this.warnings.push(`${port}, and any other, is left out: the node's address is not known (--node, --node-address)`);
  }

  /** Two Services that claim one address and port: only one of them gets its traffic. */
  noteClashes(rows: readonly ServicePort[]): void {
    const owners = new Map<string, string>();
    for (const row of rows) {
      const addresses = [row.clusterIP, ...row.externalIPs, ...row.loadBalancerIPs].map(
        (one) => `${one} port ${row.port}`,
      );
      for (const address of new Set([...addresses, ...(row.nodePort ? [`node port ${row.nodePort}`] : [])])) {
        const key = `${row.family} ${row.protocol} ${address}`;
        const owner = owners.get(key);
        if (owner === undefined) owners.set(key, row.name);
        else if (owner !== row.name) {
          this.warnings.push(
            `Services ${owner} and ${row.name} both claim ${row.protocol} ${address}; one of them gets it`,
          );
        }
      }
    }
  }

  #warn(manifest: Manifest, field: string, text: string): void {
    const { kind, metadata } = manifest.object;
    this.warnings.push(
      `${this.#place(manifest, field)}: ${kind} ${metadata.namespace ?? "default"}/${metadata.name}: ${text}`,
    );
  }

  #place({ source }: Manifest, field: string): string {
    return `${source.file}:${lineOf(source, field)}`;
  }
}

// The names of a cluster as maps, kept by a DNS server: what questions are answered from. It takes changes as `zone-changes.ts`
// describes them, one by one or as a whole state that is sent again after the source was away.

import type { Disposable } from "../base/disposal.ts";
import { canonicalAddress } from "../base/ip.ts";
import type { PodNames, ServiceNames, ZoneView } from "./names.ts";
import { type PodAddress, pieces, type ZoneChanges } from "./zone-changes.ts";

export interface ZoneSettings {
  readonly zone: string;
  readonly nameservers: readonly string[];
  readonly ttl: number;
  readonly pods: PodNames;
}

/** What changed: one Service by its key, or so much that nothing made before may be used again. */
export type ZoneChange = { readonly service: string } | "all";

export class ZoneTable implements ZoneView {
  #settings: ZoneSettings;
  readonly #now: () => number;
  readonly #services = new Map<string, ServiceNames>();
  readonly #byAddress = new Map<string, Set<string>>();
  readonly #namespaces = new Set<string>();
  readonly #pods = new Map<string, PodAddress>();
  readonly #podByAddress = new Map<string, string>();
  readonly #listeners = new Set<(change: ZoneChange) => void>();
  /** What a state that is being sent again has named so far; undefined when none is. */
  #seen: { services: Set<string>; namespaces: Set<string>; pods: Set<string> } | undefined;
  #serial: number;
  synced = false;

  constructor(settings: ZoneSettings, now: () => number = Date.now) {
    this.#settings = settings;
    this.#now = now;
    this.#serial = Math.floor(now() / 1000);
  }

  get zone(): string {
    return this.#settings.zone;
  }

  get nameservers(): readonly string[] {
    return this.#settings.nameservers;
  }

  get ttl(): number {
    return this.#settings.ttl;
  }

  get pods(): PodNames {
    return this.#settings.pods;
  }

  get serial(): number {
    return this.#serial;
  }

  get size(): number {
    return this.#services.size;
  }

  /** Whether all of a state is there: not before the first one, and not while one is being sent again. */
  get whole(): boolean {
    return this.synced && this.#seen === undefined;
  }

  /** Everything there is, in pieces. What changes meanwhile may be in it or not. */
  *snapshot(): Generator<ZoneChanges> {
    for (const namespaces of pieces(this.#namespaces)) yield { namespaces };
    for (const services of pieces(this.#services.values())) yield { services };
    for (const pods of pieces(this.#pods.values())) yield { pods };
  }

  /** Which namespaces, Services and pods are known is unaffected. */
  configure(settings: ZoneSettings): void {
    this.#settings = settings;
    this.#changed("all");
  }

  /** A state follows from its beginning: what it does not name is forgotten at `end`, and answered until then. */
  begin(): void {
    this.#seen = { services: new Set(), namespaces: new Set(), pods: new Set() };
  }

  end(): void {
    const seen = this.#seen;
    this.#seen = undefined;
    if (seen) {
      this.apply({
        servicesGone: [...this.#services.keys()].filter((key) => !seen.services.has(key)),
        namespacesGone: [...this.#namespaces].filter((key) => !seen.namespaces.has(key)),
        podsGone: [...this.#pods.keys()].filter((key) => !seen.pods.has(key)),
      });
    }
    this.synced = true;
    this.#changed("all");
  }

  apply(changes: ZoneChanges): void {
    const {
      services = [],
      servicesGone = [],
      namespaces = [],
      namespacesGone = [],
      pods = [],
      podsGone = [],
    } = changes;
    for (const namespace of namespaces) {
      this.#seen?.namespaces.add(namespace);
      if (this.#namespaces.has(namespace)) continue;
      this.#namespaces.add(namespace);
      this.#changed("all");
    }
    for (const namespace of namespacesGone) if (this.#namespaces.delete(namespace)) this.#changed("all");
    for (const service of services) {
      this.#seen?.services.add(service.key);
      this.#setService(service.key, service);
    }
    for (const key of servicesGone) this.#setService(key, undefined);
    for (const pod of pods) {
      this.#seen?.pods.add(pod.key);
      this.#setPod(pod.key, pod);
    }
    for (const key of podsGone) this.#setPod(key, undefined);
  }

  /** Called for each change, after it. */
  onChange(listener: (change: ZoneChange) => void): Disposable {
    this.#listeners.add(listener);
    return { dispose: () => this.#listeners.delete(listener) };
  }

  hasNamespace(name: string): boolean {
    return this.#namespaces.has(name);
  }

  service(namespace: string, name: string): ServiceNames | undefined {
    return this.#services.get(`${namespace}/${name}`);
  }

  servicesAt(address: string): readonly ServiceNames[] {
    return [...(this.#byAddress.get(address) ?? [])].flatMap((key) => this.#services.get(key) ?? []);
  }

  namespaceOfPod(address: string): string | undefined {
    const key = this.#podByAddress.get(address);
    return key === undefined ? undefined : this.#pods.get(key)?.namespace;
  }

  #setService(key: string, service: ServiceNames | undefined): void {
    const before = this.#services.get(key);
    if (!before && !service) return;
    if (before) for (const address of addressesOf(before)) remove(this.#byAddress, address, key);
    if (service) {
      this.#services.set(key, service);
      for (const address of addressesOf(service)) add(this.#byAddress, address, key);
    } else this.#services.delete(key);
    this.#changed({ service: key });
  }

  #setPod(key: string, pod: PodAddress | undefined): void {
    for (const address of this.#pods.get(key)?.addresses ?? []) {
      // A later pod may have the address by now.
      if (this.#podByAddress.get(address) === key) this.#podByAddress.delete(address);
    }
    if (pod) {
      this.#pods.set(key, pod);
      for (const address of pod.addresses) this.#podByAddress.set(address, key);
    } else this.#pods.delete(key);
    if (this.pods === "verified") this.#changed("all");
  }

  #changed(change: ZoneChange): void {
    this.#serial = Math.max(this.#serial + 1, Math.floor(this.#now() / 1000));
    for (const listener of this.#listeners) listener(change);
  }
}

/** The same names under another zone: CoreDNS's `kubernetes a b` with several. */
export function viewAs(view: ZoneView, zone: string): ZoneView {
  return {
    zone,
    get nameservers() {
      return view.nameservers;
    },
    get synced() {
      return view.synced;
    },
    get serial() {
      return view.serial;
    },
    get ttl() {
      return view.ttl ?? 5;
    },
    get pods() {
      return view.pods ?? "insecure";
    },
    namespaceOfPod: (address) => view.namespaceOfPod?.(address),
    hasNamespace: (name) => view.hasNamespace(name),
    service: (namespace, name) => view.service(namespace, name),
    // Addresses lead back to the first zone only.
    servicesAt: () => [],
  };
}

function addressesOf(names: ServiceNames): readonly string[] {
  const given = names.kind === "headless" ? names.endpoints.map((one) => one.address) : names.addresses;
  return given.map(canonicalAddress);
}

function add(map: Map<string, Set<string>>, address: string, key: string): void {
  const keys = map.get(address);
  if (keys) keys.add(key);
  else map.set(address, new Set([key]));
}

function remove(map: Map<string, Set<string>>, address: string, key: string): void {
  const keys = map.get(address);
  keys?.delete(key);
  if (keys?.size === 0) map.delete(address);
}

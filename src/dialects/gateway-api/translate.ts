// Gateway API to the model: the graph of derivations from GatewayClasses, Gateways, HTTPRoutes and what they refer to, to
// listeners, route tables, secrets, statuses and findings. Each step is a pure function in a file of its own; this one only
// says what reads what, and so what is computed anew when something changes (docs/gateway-api.md has the picture).

import type { ReferenceGrant } from "../../api/kinds.ts";
import type { KubeObject } from "../../api/object.ts";
import { type Disposable, disposeAll } from "../../base/disposal.ts";
import type { Collection, Fetch } from "../../collections/collection.ts";
import { derive, union } from "../../collections/derive.ts";
import { index } from "../../collections/index.ts";
import type { Listener, RouteTable, Secret } from "../../model/model.ts";
import { resourceName } from "../../model/model.ts";
import type { Finding, ListenerState, StatusUpdate } from "../../model/status-update.ts";
import { type Attachment, attach } from "./attachment.ts";
import { certificateView, referencedSecrets, sameCertificate } from "./certificates.ts";
import { findingKey } from "./findings.ts";
import { type Adopt, classFindings, classStatus, classView, isAdopted } from "./gateway-class.ts";
import { type GatewayPlan, type GatewayResult, judgeGateway, planGateway } from "./gateway-plan.ts";
import { addressFindings, gatewayStatus, orphanFinding, orphanStatus, usableAddress } from "./gateway-status.ts";
import { modelListeners } from "./model-listeners.ts";
import { addressOwner, type GatewayKey, ownController } from "./names.ts";
import { type RouteRules, translateRules } from "./route-rules.ts";
import { routeFindings, routeStatus } from "./route-status.ts";
import { mergeTable, planTables, type RouteFragment } from "./route-table.ts";
import {
  byAge,
  type GatewayView,
  gatewayView,
  namespaceView,
  type RouteView,
  routeView,
  serviceView,
} from "./views.ts";

/** Objects are keyed by `namespace/name` (or name), as `fromStore` keys them. */
export interface GatewayApiInputs {
  readonly gatewayClasses: Collection<KubeObject>;
  readonly gateways: Collection<KubeObject>;
  readonly httpRoutes: Collection<KubeObject>;
  readonly services: Collection<KubeObject>;
  readonly secrets: Collection<KubeObject>;
  readonly namespaces: Collection<KubeObject>;
  readonly referenceGrants: Collection<KubeObject>;
  /** Load-balancer addresses by owner; a Gateway's owner is `gateway/NAMESPACE/NAME`. */
  readonly addresses: Collection<{ readonly owner: string; readonly address: string }>;
  /** Why owners have no address, where the pool has said so. */
  readonly addressFailures?: Collection<{ readonly owner: string; readonly message: string }>;
  /** What the proxies made of listeners, by the listener's name. */
  readonly listenerStates: Collection<ListenerState>;
  /** Whose classes are served: `any` controller's (embedded), or these. */
  readonly adopt: Adopt;
}

export interface GatewayApi extends Disposable {
  readonly listeners: Collection<Listener>;
  readonly routeTables: Collection<RouteTable>;
  readonly secrets: Collection<Secret>;
  /** By `resource namespace/name`. */
  readonly statuses: Collection<StatusUpdate>;
  readonly findings: Collection<Finding>;
}

export function gatewayApi(inputs: GatewayApiInputs): GatewayApi {
  const { adopt } = inputs;
  const own: Disposable[] = [];
  const keep = <T extends Disposable>(made: T): T => {
    own.push(made);
    return made;
  };
  const byKey = (value: { readonly key: string }) => value.key;
  const byName = (value: { readonly name: string }) => value.name;

  // The inputs, reduced.
  const isOwn = (controller: string) => controller === ownController || isAdopted(adopt, controller);
  const classes = keep(derive(inputs.gatewayClasses, (one) => classView(one, adopt), named("classes", byName)));
  const gateways = keep(derive(inputs.gateways, gatewayView, named("gateways", byKey)));
  const routes = keep(derive(inputs.httpRoutes, (one) => routeView(one, isOwn), named("routes", byKey)));
  const namespaces = keep(derive(inputs.namespaces, namespaceView, named("namespaces", byName)));
  const services = keep(derive(inputs.services, serviceView, named("services", byKey)));
  const grants = keep(
    index(inputs.referenceGrants as Collection<ReferenceGrant>, label("grants by namespace"), (grant) => [
      grant.metadata.namespace ?? "default",
    ]),
  );
  const grantsOf = (fetch: Fetch) => (namespace: string) => fetch.where(grants, namespace);

  // Certificates: only of the Secrets that Gateways name.
  const gatewaysBySecret = keep(index(gateways, label("gateways by secret"), referencedSecrets));
  const certificates = keep(
    derive(
      inputs.secrets,
      (secret, fetch) => {
        const key = `${secret.metadata.namespace ?? "default"}/${secret.metadata.name}`;
        return fetch.where(gatewaysBySecret, key).length === 0 ? undefined : certificateView(secret);
      },
      { ...named("certificates", byKey), equal: sameCertificate },
    ),
  );
  const secrets = keep(
    derive(certificates, (one) => one.secret, {
      name: label("secrets"),
      key: byName,
      equal: (a, b) => a.name === b.name && a.fingerprint === b.fingerprint,
    }),
  );

  // Who is at which address: two Gateways on one address and port are told apart by age.
  const sites = keep(
    derive(
      gateways,
      (gateway, fetch) => siteOf(gateway, fetch.one(inputs.addresses, addressOwner(gateway.key))?.address),
      {
        ...named("gateway sites", byKey),
      },
    ),
  );
  const sitesByAddress = keep(
    index(sites, label("gateway sites by address"), (site) => (site.address ? [site.address] : [])),
  );

  // Gateways: what of them can be had, then the listeners and tables they ask for.
  const results = keep(
    derive(
      gateways,
      (gateway, fetch): (GatewayResult & { readonly key: GatewayKey }) | undefined => {
        const ofClass = fetch.one(classes, gateway.spec.gatewayClassName);
        if (!ofClass?.accepted) return undefined;
        const site = fetch.one(sites, gateway.key);
        const rivals = site?.address
          ? fetch.where(sitesByAddress, site.address).filter((other) => {
              if (other.key === gateway.key || byAge(other, site) > 0) return false;
              return fetch.one(classes, other.className)?.accepted === true;
            })
          : [];
        const result = planGateway(gateway, {
          controllerName: ofClass.controllerName,
          certificate: (key) => fetch.one(certificates, key),
          grants: grantsOf(fetch),
          portTakenBy: (port) => rivals.find((rival) => rival.ports.includes(port))?.key,
        });
        return { key: gateway.key, ...result };
      },
      named("gateway results", byKey),
    ),
  );
  const plans = keep(derive(results, (result): GatewayPlan => result.plan, named("gateway plans", byKey)));
  const listeners = keep(
    derive(
      plans,
      (plan, fetch) => {
        const address = usableAddress(plan, { address: fetch.one(inputs.addresses, addressOwner(plan.key))?.address });
        return address === undefined ? [] : modelListeners(plan, address);
      },
      named("listeners", byName),
    ),
  );
  const tablePlans = keep(derive(plans, planTables, named("table plans", byName)));

  // Routes: rules and attachments apart, since they change for different reasons.
  const rules = keep(
    derive(
      routes,
      (route, fetch): RouteRules =>
        translateRules(route, { service: (key) => fetch.one(services, key), grants: grantsOf(fetch) }),
      named("route rules", byKey),
    ),
  );
  const attachments = keep(
    derive(
      routes,
      (route, fetch): Attachment =>
        attach(route, {
          gateway: (key) => fetch.one(plans, key),
          namespace: (name) => fetch.one(namespaces, name),
          answerForMissing: adopt === "any" ? ownController : undefined,
        }),
      named("route attachments", byKey),
    ),
  );
  const attachmentsByListener = keep(
    index(attachments, label("route attachments by listener"), ({ places }) =>
      places.map((place) => `${place.gateway} ${place.listener}`),
    ),
  );
  const fragments = keep(
    derive(
      attachments,
      (attachment, fetch): RouteFragment | undefined => {
        const served = attachment.places.filter((place) => place.table !== undefined && place.hosts.length > 0);
        const own = fetch.one(rules, attachment.key);
        if (served.length === 0 || !own) return undefined;
        return { key: attachment.key, places: served, rules: own.rules };
      },
      named("route fragments", byKey),
    ),
  );
  const fragmentsByTable = keep(
    index(fragments, label("route fragments by table"), ({ places }) => places.map((place) => place.table ?? "")),
  );
  const routeTables = keep(
    derive(tablePlans, (plan, fetch) => mergeTable(plan, fetch.where(fragmentsByTable, plan.name)), {
      name: label("route tables"),
      key: (one) => resourceName("routeTables", one),
    }),
  );

  const failureOf = (gateway: GatewayKey, fetch: Fetch) =>
    inputs.addressFailures && fetch.one(inputs.addressFailures, addressOwner(gateway))?.message;

  // Statuses.
  const statusKey = (one: StatusUpdate) => `${one.resource} ${one.namespace ? `${one.namespace}/` : ""}${one.name}`;
  const classStatuses = keep(derive(classes, (one) => classStatus(one, adopt), named("class statuses", statusKey)));
  const gatewayStatuses = keep(
    derive(
      gateways,
      (gateway, fetch) => {
        const plan = fetch.one(plans, gateway.key);
        if (!plan) {
          const orphan = adopt === "any" && fetch.one(classes, gateway.spec.gatewayClassName) === undefined;
          return orphan ? orphanStatus(gateway) : undefined;
        }
        return gatewayStatus(gateway, plan, {
          address: fetch.one(inputs.addresses, addressOwner(gateway.key))?.address,
          addressFailure: failureOf(gateway.key, fetch),
          state: (name) => fetch.one(inputs.listenerStates, name),
          attachedRoutes: (listener) => fetch.where(attachmentsByListener, `${gateway.key} ${listener}`).length,
        });
      },
      named("gateway statuses", statusKey),
    ),
  );
  const routeStatuses = keep(
    derive(
      routes,
      (route, fetch) => {
        const attachment = fetch.one(attachments, route.key);
        const own = fetch.one(rules, route.key);
        if (!attachment || !own) return undefined;
        const answers = attachment.parents.length > 0 || route.answered;
        return answers ? routeStatus(route, attachment, own) : undefined;
      },
      named("route statuses", statusKey),
    ),
  );

  // Findings.
  const gatewayFindings = keep(
    derive(
      gateways,
      (gateway, fetch) => {
        const result = fetch.one(results, gateway.key);
        if (result) return [...result.findings, ...addressFindings(result.plan, failureOf(gateway.key, fetch))];
        const orphan = adopt === "any" && fetch.one(classes, gateway.spec.gatewayClassName) === undefined;
        return orphan ? [orphanFinding(gateway)] : [];
      },
      named("gateway findings", findingKey),
    ),
  );
  const attachmentFindings = keep(
    derive(
      routes,
      (route: RouteView, fetch) => {
        const attachment = fetch.one(attachments, route.key);
        return attachment ? routeFindings(route, attachment) : [];
      },
      named("attachment findings", findingKey),
    ),
  );
  const ruleFindings = keep(derive(rules, (one) => one.findings, named("rule findings", findingKey)));
  const classesFindings = keep(derive(classes, classFindings, named("class findings", findingKey)));

  return {
    listeners,
    routeTables,
    secrets,
    statuses: keep(union(label("statuses"), [classStatuses, gatewayStatuses, routeStatuses])),
    findings: keep(union(label("findings"), [classesFindings, gatewayFindings, attachmentFindings, ruleFindings])),
    dispose: () => disposeAll(own).dispose(),
  };
}

interface GatewaySite {
  readonly key: GatewayKey;
  readonly created: string;
  readonly className: string;
  /** The one it asks for, or else the one it has. */
  readonly address: string | undefined;
  readonly ports: readonly number[];
}

/** A Gateway that is served nowhere is in nobody's way. */
function siteOf(gateway: GatewayView, assigned: string | undefined): GatewaySite {
  const { key, created, spec } = gateway;
  const { accepted, requestedAddresses } = judgeGateway(gateway, () => {});
  const served = accepted.ok && requestedAddresses.length <= 1;
  return {
    key,
    created,
    className: spec.gatewayClassName,
    address: served ? (requestedAddresses[0] ?? assigned) : undefined,
    ports: [...new Set(spec.listeners.map((listener) => listener.port))],
  };
}

function label(what: string): string {
  return `gateway api: ${what}`;
}

function named<O>(what: string, key: (output: O) => string): { name: string; key: (output: O) => string } {
  return { name: label(what), key };
}

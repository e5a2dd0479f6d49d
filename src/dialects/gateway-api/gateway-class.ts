// GatewayClasses: which of them this stack speaks for, and what their status says. An embedded stack adopts every controller
// name, so that any manifest can be tried unchanged, and says so; in a cluster only those are adopted that name Fairlead.

import type { GatewayClass } from "../../api/kinds.ts";
import type { KubeObject } from "../../api/object.ts";
import type { Finding, StatusUpdate } from "../../model/status-update.ts";
import { finding } from "./findings.ts";
import { condition, gatewayGroup } from "./names.ts";
import { supportedFeatures } from "./supported-features.ts";

/** `any` controller name, or only these. */
export type Adopt = "any" | readonly string[];

export function isAdopted(adopt: Adopt, controllerName: string): boolean {
  return adopt === "any" || adopt.includes(controllerName);
}

export interface ClassView {
  readonly name: string;
  readonly generation: number;
  readonly controllerName: string;
  readonly accepted: boolean;
  readonly parameters: string | undefined;
}

/** Undefined for a class of another controller. */
export function classView(object: KubeObject, adopt: Adopt): ClassView | undefined {
  const { metadata, spec } = object as GatewayClass;
  const controllerName = spec?.controllerName ?? "";
  if (!isAdopted(adopt, controllerName)) return undefined;
  const parameters = spec?.parametersRef;
  return {
    name: metadata.name,
    generation: metadata.generation ?? 1,
    controllerName,
    // A class of somebody else's controller has somebody else's parameters, which an adopting stack leaves aside, aloud.
    accepted: parameters === undefined || adopt === "any",
    parameters: parameters && `${parameters.kind} ${parameters.name}`,
  };
}

export function classStatus(view: ClassView, adopt: Adopt): StatusUpdate {
  const adopted = adopt === "any" ? `adopted for controller ${view.controllerName}` : "accepted";
  const ignored = view.parameters ? `; spec.parametersRef (${view.parameters}) is not read` : "";
  return {
    resource: `gatewayclasses.${gatewayGroup}`,
    namespace: undefined,
    name: view.name,
    generation: view.generation,
    status: {
      conditions: [
        view.accepted
          ? condition("Accepted", true, "Accepted", `Fairlead serves this class: ${adopted}${ignored}`, view.generation)
          : condition(
              "Accepted",
              false,
              "InvalidParameters",
              `spec.parametersRef: Fairlead has no parameters of kind ${view.parameters}`,
              view.generation,
            ),
      ],
      supportedFeatures: supportedFeatures.map((name) => ({ name })),
    },
    after: [],
  };
}

export function classFindings(view: ClassView): readonly Finding[] {
  if (!view.parameters) return [];
  const object = { kind: "GatewayClass", name: view.name };
  return [
    finding(
      object,
      "spec.parametersRef",
      "ParametersNotRead",
      view.accepted ? "warning" : "error",
      `${view.parameters} is not read: Fairlead has no such parameters`,
      "remove spec.parametersRef",
    ),
  ];
}

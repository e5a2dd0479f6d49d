// What becomes of a PersistentVolumeClaim, as a pure function: the volume it gets, found among those there are or to be made by
// the local provisioner, or why it gets none. Upstream: pkg/controller/volume/persistentvolume (pv_controller.go, index.go).

import type { PersistentVolume, PersistentVolumeClaim } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { parseQuantity } from "../api/quantity.ts";
import { matchesLabelSelector } from "../api/selectors.ts";

/** The provisioner of StorageClass `standard`: folders of this machine. */
export const localProvisioner = "fairlead.dev/local";

export type ClaimPlan =
  /** Bound, or lost because its volume is gone. */
  | { readonly do: "report"; readonly phase: "Bound" | "Lost"; readonly volume: PersistentVolume | undefined }
  | { readonly do: "bind"; readonly volume: PersistentVolume }
  | { readonly do: "provision"; readonly class: KubeObject }
  /** Takes the default class, which came after the claim. */
  | { readonly do: "class"; readonly name: string }
  | { readonly do: "wait"; readonly reason: string; readonly message: string; readonly type: "Normal" | "Warning" };

export function claimPlan(
  claim: PersistentVolumeClaim,
  volumes: readonly PersistentVolume[],
  classes: readonly KubeObject[],
): ClaimPlan {
  const { volumeName, storageClassName } = claim.spec ?? {};
  const reserved = volumes.filter(({ spec }) => isFor(spec?.claimRef, claim));
  if (volumeName) {
    const volume = volumes.find(({ metadata }) => metadata.name === volumeName);
    const ours = volume && (volume.spec?.claimRef === undefined || reserved.includes(volume));
    if (volume && ours && volume.spec?.claimRef?.uid !== claim.metadata.uid) return { do: "bind", volume };
    if (ours) return { do: "report", phase: "Bound", volume };
    if (claim.metadata.annotations?.[bindCompleted]) return { do: "report", phase: "Lost", volume: undefined };
    return {
      do: "wait",
      type: "Warning",
      reason: "FailedBinding",
      message: `volume ${JSON.stringify(volumeName)} not found`,
    };
  }
  const found = reserved[0] ?? smallest(claim, volumes);
  if (found) return { do: "bind", volume: found };
  if (storageClassName === undefined) {
    const fallback = defaultClass(classes);
    if (fallback) return { do: "class", name: fallback.metadata.name };
  }
  if (!storageClassName) {
    const message = "no persistent volumes available for this claim and no storage class is set";
    return { do: "wait", type: "Normal", reason: "FailedBinding", message };
  }
  const own = classes.find(({ metadata }) => metadata.name === storageClassName);
  if (!own) {
    const message = `storageclass.storage.k8s.io ${JSON.stringify(storageClassName)} not found`;
    return { do: "wait", type: "Warning", reason: "ProvisioningFailed", message };
  }
  if (own["provisioner"] === localProvisioner) return { do: "provision", class: own };
  const message = `Waiting for a volume to be created either by the external provisioner '${own["provisioner"]}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.`;
  return { do: "wait", type: "Normal", reason: "ExternalProvisioning", message };
}

export const bindCompleted = "pv.kubernetes.io/bind-completed";
const isDefault = "storageclass.kubernetes.io/is-default-class";

/** The newest of the classes that say they are the default. */
function defaultClass(classes: readonly KubeObject[]): KubeObject | undefined {
  const created = ({ metadata }: KubeObject) => metadata.creationTimestamp ?? "";
  const marked = classes.filter(({ metadata }) => metadata.annotations?.[isDefault] === "true");
  return marked.sort((a, b) => (created(a) < created(b) ? 1 : -1))[0];
}

interface ClaimRef {
  readonly namespace?: string;
  readonly name?: string;
  readonly uid?: string;
}

function isFor(ref: ClaimRef | undefined, { metadata }: PersistentVolumeClaim): boolean {
  if (ref === undefined || ref.name !== metadata.name || ref.namespace !== metadata.namespace) return false;
  return ref.uid === undefined || ref.uid === metadata.uid;
}

/** The smallest free volume that has what the claim asks for. */
function smallest(claim: PersistentVolumeClaim, volumes: readonly PersistentVolume[]): PersistentVolume | undefined {
  const { accessModes = [], storageClassName = "", volumeMode = "Filesystem", selector, resources } = claim.spec ?? {};
  const size = (text: string | undefined) => parseQuantity(text ?? "0")?.nano ?? 0n;
  const wanted = size(resources?.requests?.["storage"]);
  const fitting = volumes.filter(
    ({ metadata, spec }) =>
      metadata.deletionTimestamp === undefined &&
      spec?.claimRef === undefined &&
      (spec?.storageClassName ?? "") === storageClassName &&
      (spec?.volumeMode ?? "Filesystem") === volumeMode &&
      accessModes.every((mode) => spec?.accessModes?.includes(mode)) &&
      (selector === undefined || matchesLabelSelector(selector, metadata.labels)) &&
      size(spec?.capacity?.["storage"]) >= wanted,
  );
  const room = ({ spec }: PersistentVolume) => size(spec?.capacity?.["storage"]);
  return fitting.sort((a, b) => (room(a) < room(b) ? -1 : room(a) > room(b) ? 1 : 0))[0];
}

/** The volume that the local provisioner makes for a claim; `folder` is its path on this machine. */
export function localVolume(claim: PersistentVolumeClaim, storageClass: KubeObject, folder: string): KubeObject {
  const { namespace, name, uid, resourceVersion } = claim.metadata;
  const { accessModes, resources, volumeMode } = claim.spec ?? {};
  return {
    apiVersion: "v1",
    kind: "PersistentVolume",
    metadata: {
      name: `pvc-${uid}`,
      annotations: { "pv.kubernetes.io/provisioned-by": localProvisioner },
    },
    spec: {
      accessModes,
      capacity: { storage: resources?.requests?.["storage"] ?? "0" },
      claimRef: { apiVersion: "v1", kind: "PersistentVolumeClaim", namespace, name, uid, resourceVersion },
      hostPath: { path: folder, type: "DirectoryOrCreate" },
      persistentVolumeReclaimPolicy: storageClass["reclaimPolicy"] ?? "Delete",
      storageClassName: storageClass.metadata.name,
      ...(volumeMode ? { volumeMode } : {}),
    },
  };
}

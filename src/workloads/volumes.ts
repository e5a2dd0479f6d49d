// Persistent volumes of embedded mode: claims are bound to volumes, made as folders of this machine where StorageClass `standard` is
// asked for; a claim in use stays until its pods are gone; a volume whose claim is gone is kept or deleted as its policy says.
// Upstream: pkg/controller/volume/persistentvolume and pvcprotection. Volumes on other machines are not known here.

import { semanticEqual } from "../api/data.ts";
import {
  type PersistentVolume,
  type PersistentVolumeClaim,
  PersistentVolumeClaims,
  PersistentVolumes,
  type Pod,
  Pods,
  StorageClasses,
} from "../api/kinds.ts";
import { type KubeObject, nameOf, objectName } from "../api/object.ts";
import { isStatusReason } from "../api/status-error.ts";
import { type Disposable, disposeAll } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import { startController } from "./controller.ts";
import { recorder } from "./events.ts";
import { eachChange, type Objects } from "./objects.ts";
import { isFinished } from "./pods.ts";
import { bindCompleted, claimPlan, localProvisioner, localVolume } from "./volume-binding.ts";

/** Where volumes are kept on this machine; by the name of the PersistentVolume. */
export interface LocalVolumes {
  path(volume: string): string;
  remove(volume: string): Promise<void>;
}

const protection = "kubernetes.io/pvc-protection";

export const standardClass: KubeObject = {
  apiVersion: "storage.k8s.io/v1",
  kind: "StorageClass",
  metadata: { name: "standard", annotations: { "storageclass.kubernetes.io/is-default-class": "true" } },
  provisioner: localProvisioner,
  reclaimPolicy: "Delete",
  volumeBindingMode: "Immediate",
};

export function startVolumes(objects: Objects, local: LocalVolumes): Disposable {
  const record = recorder(objects, "persistentvolume-controller");
  const claims = objects.of(PersistentVolumeClaims);
  const volumes = objects.of(PersistentVolumes);
  const classes = objects.of(StorageClasses);
  const users = objects.indexed(Pods, "by-claim", (pod: Pod) =>
    isFinished(pod)
      ? []
      : (pod.spec?.volumes ?? []).flatMap(({ persistentVolumeClaim }) =>
          persistentVolumeClaim ? [nameOf(pod.metadata.namespace, persistentVolumeClaim.claimName)] : [],
        ),
  );
  /** What was said last of a claim that waits, so that it is said once. */
  const told = new Map<string, string>();

  const claimController = startController({
    name: "volume-claims",
    clock: objects.clock,
    log: objects.log,
    async reconcile(key) {
      const claim = claims.get(key) as PersistentVolumeClaim | undefined;
      if (!claim) {
        told.delete(key);
        return;
      }
      const finalizers = claim.metadata.finalizers ?? [];
      if (claim.metadata.deletionTimestamp !== undefined) {
        if (finalizers.includes(protection) && users.where(key).length === 0) {
          const rest = finalizers.filter((one) => one !== protection);
          await objects.updateMetadata(PersistentVolumeClaims, claim, { finalizers: rest });
        }
        return;
      }
      if (!finalizers.includes(protection)) {
        await objects.updateMetadata(PersistentVolumeClaims, claim, { finalizers: [...finalizers, protection] });
        return;
      }
      await carryOut(key, claim);
    },
  });

  async function carryOut(key: string, claim: PersistentVolumeClaim): Promise<void> {
    const plan = claimPlan(claim, [...volumes.values()] as PersistentVolume[], [...classes.values()]);
    switch (plan.do) {
      case "report": {
        const { spec } = plan.volume ?? {};
        const bound = { accessModes: spec?.accessModes, capacity: spec?.capacity };
        const status = { ...claim.status, phase: plan.phase, ...(spec ? bound : {}) };
        if (semanticEqual(status, claim.status)) return;
        await objects.updateStatus(PersistentVolumeClaims, claim, status);
        return;
      }
      case "bind":
        return bind(claim, plan.volume);
      case "class": {
        const spec = { ...claim.spec, storageClassName: plan.name };
        await objects.update(PersistentVolumeClaims, { ...claim, spec });
        return;
      }
      case "provision": {
        const name = `pvc-${claim.metadata.uid}`;
        const volume = localVolume(claim, plan.class, local.path(name));
        try {
          await objects.create(PersistentVolumes, volume);
        } catch (error) {
          if (!isStatusReason(error, "AlreadyExists")) {
            record(claim, { type: "Warning", reason: "ProvisioningFailed", message: messageOf(error) });
            throw error;
          }
        }
        record(claim, {
          type: "Normal",
          reason: "ProvisioningSucceeded",
          message: `Successfully provisioned volume ${name}`,
        });
        claimController.enqueue(key);
        return;
      }
      case "wait":
        if (told.get(key) === plan.message) return;
        told.set(key, plan.message);
        record(claim, plan);
    }
  }

  /** The volume first: should we end in between, its claimRef says whose it is. */
  async function bind(claim: PersistentVolumeClaim, volume: PersistentVolume): Promise<void> {
    const { namespace, name, uid, resourceVersion } = claim.metadata;
    if (volume.spec?.claimRef?.uid !== uid) {
      const claimRef = { apiVersion: "v1", kind: "PersistentVolumeClaim", namespace, name, uid, resourceVersion };
      await objects.update(PersistentVolumes, { ...volume, spec: { ...volume.spec, claimRef } });
    }
    const annotations = {
      ...claim.metadata.annotations,
      [bindCompleted]: "yes",
      ...(claim.spec?.volumeName ? {} : { "pv.kubernetes.io/bound-by-controller": "yes" }),
      ...(volume.metadata.annotations?.["pv.kubernetes.io/provisioned-by"]
        ? { "volume.kubernetes.io/storage-provisioner": localProvisioner }
        : {}),
    };
    const metadata = { ...claim.metadata, annotations };
    const spec = { ...claim.spec, volumeName: volume.metadata.name };
    await objects.update(PersistentVolumeClaims, { ...claim, metadata, spec });
  }

  const volumeController = startController({
    name: "volumes",
    clock: objects.clock,
    log: objects.log,
    async reconcile(key) {
      const volume = volumes.get(key) as PersistentVolume | undefined;
      if (!volume || volume.metadata.deletionTimestamp !== undefined) return;
      const ref = volume.spec?.claimRef;
      let phase = "Available";
      if (ref?.uid !== undefined) {
        const claim = claims.get(nameOf(ref.namespace, ref.name ?? ""));
        phase = claim?.metadata.uid === ref.uid ? "Bound" : "Released";
      }
      if (phase === "Released" && volume.spec?.persistentVolumeReclaimPolicy === "Delete") {
        if (await reclaim(volume)) return;
        phase = "Failed";
      }
      if (phase !== volume.status?.phase)
        await objects.updateStatus(PersistentVolumes, volume, { ...volume.status, phase });
    },
  });

  /** Deletes what the local provisioner made; false for volumes of others. */
  async function reclaim(volume: PersistentVolume): Promise<boolean> {
    if (volume.metadata.annotations?.["pv.kubernetes.io/provisioned-by"] !== localProvisioner) return false;
    await local.remove(volume.metadata.name);
    await objects.delete(PersistentVolumes, volume);
    return true;
  }

  const unboundClaims = () => {
    for (const claim of claims.values()) if (!claim.spec?.volumeName) claimController.enqueue(objectName(claim));
  };
  void ensureClass();

  async function ensureClass(): Promise<void> {
    try {
      if (!classes.has("standard")) await objects.create(StorageClasses, standardClass);
    } catch (error) {
      objects.log.warn("StorageClass standard could not be made", { error: messageOf(error) });
    }
  }

  return disposeAll([
    claimController,
    volumeController,
    eachChange(claims, (claim, { key, after }) => {
      claimController.enqueue(key);
      if (claim.spec?.volumeName) volumeController.enqueue(claim.spec["volumeName"] as string);
      if (!after) for (const volume of volumes.keys()) volumeController.enqueue(volume);
    }),
    eachChange(volumes, (volume, { key }) => {
      volumeController.enqueue(key);
      const ref = (volume as PersistentVolume).spec?.claimRef;
      if (ref) claimController.enqueue(nameOf(ref.namespace, ref.name ?? ""));
      else unboundClaims();
    }),
    eachChange(classes, unboundClaims),
    eachChange(objects.of(Pods), (pod: Pod, { after }) => {
      if (after && !isFinished(after)) return;
      for (const { persistentVolumeClaim } of pod.spec?.volumes ?? []) {
        if (persistentVolumeClaim)
          claimController.enqueue(nameOf(pod.metadata.namespace, persistentVolumeClaim.claimName));
      }
    }),
  ]);
}

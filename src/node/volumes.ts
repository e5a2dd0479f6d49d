// The volumes of a pod as files: what is in them (`volumeFiles`, pure) and their writing under the state directory. ConfigMap,
// Secret, downward API and projected volumes are written whole and kept current; emptyDir is a folder; hostPath is the path
// itself; claims are in `claim-folders.ts`. Others have no storage behind them here and become empty folders.

import { chmodSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import type { KeyToPath, Pod, Volume } from "../api/kinds.ts";
import { type PodFacts, podField, resourceField } from "./pod-fields.ts";
import { configMapData, MissingSource, type PodSources, secretData } from "./pod-sources.ts";

export interface VolumeFile {
  readonly path: string;
  readonly content: Uint8Array;
  readonly mode: number;
}

/** The files of a volume; undefined for one that the agent does not fill. Throws a {@link MissingSource}. */
export function volumeFiles(
  pod: Pod,
  volume: Volume,
  facts: PodFacts,
  sources: PodSources,
): readonly VolumeFile[] | undefined {
  const namespace = pod.metadata.namespace ?? "default";
  const { configMap, secret, downwardAPI, projected } = volume;
  if (configMap) {
    const data = configMapData(sources, namespace, configMap.name ?? "", configMap.optional);
    return filesOf(data, configMap.items, configMap.defaultMode ?? 0o644, configMap.optional);
  }
  if (secret) {
    const data = secretData(sources, namespace, secret.secretName ?? "", secret.optional);
    return filesOf(data, secret.items, secret.defaultMode ?? 0o644, secret.optional);
  }
  if (downwardAPI) return downwardFiles(pod, downwardAPI.items ?? [], facts, downwardAPI.defaultMode ?? 0o644);
  if (!projected) return undefined;
  const mode = projected.defaultMode ?? 0o644;
  return (projected.sources ?? []).flatMap((source): readonly VolumeFile[] => {
    if (source.configMap) {
      const { name = "", items, optional } = source.configMap;
      return filesOf(configMapData(sources, namespace, name, optional), items, mode, optional);
    }
    if (source.secret) {
      const { name = "", items, optional } = source.secret;
      return filesOf(secretData(sources, namespace, name, optional), items, mode, optional);
    }
    if (source.downwardAPI) return downwardFiles(pod, source.downwardAPI.items ?? [], facts, mode);
    if (source.serviceAccountToken && sources.serviceAccountToken) {
      const { path, audience } = source.serviceAccountToken;
      const account = pod.spec?.serviceAccountName ?? "default";
      const token = sources.serviceAccountToken(namespace, account, audience);
      return [{ path: safePath(path), content: Buffer.from(token), mode: 0o600 }];
    }
    return [];
  });
}

type Items = readonly KeyToPath[] | undefined;

function filesOf(
  data: ReadonlyMap<string, Uint8Array> | undefined,
  items: Items,
  mode: number,
  optional: boolean | undefined,
): readonly VolumeFile[] {
  if (!data) return [];
  if (!items) return [...data].map(([path, content]) => ({ path, content, mode }));
  return items.flatMap((item) => {
    const content = data.get(item.key);
    if (content !== undefined) return [{ path: safePath(item.path), content, mode: item.mode ?? mode }];
    if (optional) return [];
    throw new MissingSource(`references non-existent config key: ${item.key}`);
  });
}

function downwardFiles(
  pod: Pod,
  items: NonNullable<NonNullable<Volume["downwardAPI"]>["items"]>,
  facts: PodFacts,
  mode: number,
): readonly VolumeFile[] {
  return items.flatMap((item) => {
    let text: string | undefined;
    if (item.fieldRef) text = podField(pod, facts, item.fieldRef.fieldPath);
    else if (item.resourceFieldRef) {
      const { containerName, resource, divisor } = item.resourceFieldRef;
      const container = pod.spec?.containers.find((one) => one.name === containerName);
      text = container && resourceField(container, resource, divisor);
    }
    if (text === undefined) return [];
    return [{ path: safePath(item.path), content: Buffer.from(text), mode: item.mode ?? mode }];
  });
}

function safePath(path: string): string {
  const normal = normalize(path);
  if (normal.startsWith("/") || normal.split("/").includes("..")) {
    throw new MissingSource(`the path ${JSON.stringify(path)} leads out of its volume`);
  }
  return normal;
}

/** The folder that stands for a volume of a pod; hostPath volumes are their own. */
export function volumeFolder(podDir: string, volume: Volume): string {
  return volume.hostPath?.path ?? join(podDir, "volumes", volume.name);
}

/** Writes a volume's files so that a reader sees all of the old or all of the new (kubelet's AtomicWriter: `..data`). */
export function writeVolume(folder: string, files: readonly VolumeFile[] | undefined): void {
  mkdirSync(folder, { recursive: true });
  if (!files) return;
  const version = `..${Date.now().toString(36)}${Math.floor(Math.random() * 1e6).toString(36)}`;
  for (const { path, content, mode } of files) {
    const target = join(folder, version, path);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, content);
    chmodSync(target, mode);
  }
  mkdirSync(join(folder, version), { recursive: true });
  const old = readdirSync(folder).filter((name) => name.startsWith("..") && name !== "..data" && name !== version);
  symlinkSync(version, join(folder, "..data.new"));
  renameSync(join(folder, "..data.new"), join(folder, "..data"));
  const wanted = new Set(files.map(({ path }) => path.split("/")[0]!));
  for (const name of readdirSync(folder)) {
    if (!name.startsWith("..") && !wanted.has(name)) rmSync(join(folder, name), { recursive: true, force: true });
  }
  const present = new Set(readdirSync(folder));
  for (const name of wanted) if (!present.has(name)) symlinkSync(join("..data", name), join(folder, name));
  for (const name of old) rmSync(join(folder, name), { recursive: true, force: true });
}

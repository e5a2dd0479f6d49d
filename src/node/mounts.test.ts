import { describe, expect, test } from "bun:test";
import type { Container, Pod } from "../api/kinds.ts";
import { mountsOf, topMounts } from "./mounts.ts";

const pod = { apiVersion: "v1", kind: "Pod", metadata: { name: "web" } } as Pod;
const folderOf = (name: string) => (name === "texts" ? "/state/texts" : undefined);
const mounts = (volumeMounts: unknown[], env = {}) =>
  mountsOf(pod, { name: "app", volumeMounts } as unknown as Container, folderOf, env);

describe("the mounts of a container", () => {
  test("are folders of volumes at their paths, or parts of them", () => {
    expect(
      mounts(
        [
          { name: "texts", mountPath: "/etc/texts" },
          { name: "texts", mountPath: "/a.txt", subPath: "a.txt", readOnly: true },
          { name: "texts", mountPath: "/own", subPathExpr: "$(POD)" },
        ],
        { POD: "web" },
      ),
    ).toEqual([
      { source: "/state/texts", target: "/etc/texts", readOnly: false },
      { source: "/state/texts/a.txt", target: "/a.txt", readOnly: true },
      { source: "/state/texts/web", target: "/own", readOnly: false },
    ]);
  });

  test("must name a volume and stay within it", () => {
    expect(() => mounts([{ name: "other", mountPath: "/x" }])).toThrow('names no volume "other"');
    expect(() => mounts([{ name: "texts", mountPath: "/x", subPath: "../../etc" }])).toThrow("leads out of volume");
  });
});

test("the mounts that lie on the root file system are found, those of other mounts are left to them", () => {
  const mountinfo = [
    "27 1 254:0 / / rw - ext4 /dev/vda rw",
    "22 27 0:21 / /proc rw - proc proc rw",
    "24 27 0:6 / /dev rw - devtmpfs devtmpfs rw",
    "25 24 0:23 / /dev/shm rw - tmpfs tmpfs rw",
    "28 27 0:25 / /mnt/a\\040b rw - tmpfs x rw",
    "42 27 254:0 /run/netns /run/netns rw - ext4 /dev/vda rw",
    "",
  ].join("\n");
  expect(topMounts(mountinfo)).toEqual(["/proc", "/dev", "/mnt/a b"]);
});

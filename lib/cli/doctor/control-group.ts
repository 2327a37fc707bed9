// What the control groups of Linux leave this process, as containers set it.
import { readFileSync } from "node:fs";

/** Undefined: no limit. */
export interface GroupLimits {
  /** Processors' worth of time; may be a fraction. */
  processors: number | undefined;
  /** In bytes. */
  memory: number | undefined;
}

export type ReadText = (path: string) => string | undefined;

/** A small file of the system; undefined where it cannot be read. */
export const readText: ReadText = (path) => {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
};

/** The tightest limits on the way from this process's group to the root, of version 1 or 2. */
export function groupLimits(read: ReadText = readText): GroupLimits {
  const limits: GroupLimits = { processors: undefined, memory: undefined };
  const narrow = (name: keyof GroupLimits, value: number) => {
    if (value > 0 && value < (limits[name] ?? Infinity)) limits[name] = value;
  };
  for (const line of (read("/proc/self/cgroup") ?? "").split("\n")) {
    const [, controllers, path] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;
    const names = controllers.split(",");
    for (const group of groupAndAbove(path)) {
      if (controllers === "") {
        const [quota, period] = (read(`/sys/fs/cgroup${group}/cpu.max`) ?? "").split(" ").map(Number);
        if (period) narrow("processors", quota! / period);
        narrow("memory", Number(read(`/sys/fs/cgroup${group}/memory.max`)));
      } else if (names.includes("cpu")) {
        const folder = `/sys/fs/cgroup/${controllers}${group}`;
        narrow(
          "processors",
          Number(read(`${folder}/cpu.cfs_quota_us`)) / Number(read(`${folder}/cpu.cfs_period_us`)),
        );
      } else if (names.includes("memory")) {
        const memory = Number(read(`/sys/fs/cgroup/${controllers}${group}/memory.limit_in_bytes`));
        if (memory < 2 ** 60) narrow("memory", memory); // more is how version 1 says "no limit"
      }
    }
  }
  return limits;
}

/** "/a/b": "/a/b", "/a", "". In a container the path may be one of the host, of which only the root is seen. */
function groupAndAbove(path: string): string[] {
  const parts = path.split("/").filter((part) => part !== "");
  return parts.map((_, i) => `/${parts.slice(0, parts.length - i).join("/")}`).concat("");
}

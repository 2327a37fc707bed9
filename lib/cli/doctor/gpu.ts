// GPUs that the system knows of, found without any of their libraries.
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { type ReadText, readText } from "./control-group.js";

export interface Gpus {
  /** In the driver's words, where there is one. */
  driver: string | undefined;
  devices: string[];
  /** Where was looked; undefined: nowhere on this system. */
  looked: string | undefined;
}

const vendors: Record<string, string> = { "0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel" };

export function findGpus(
  platform: string = process.platform,
  read: ReadText = readText,
  list = listFolder,
): Gpus {
  if (platform === "linux") {
    const nvidia = "/proc/driver/nvidia";
    const models = list(`${nvidia}/gpus`).map(
      (name) =>
        /^Model:\s*(.+)$/m.exec(read(`${nvidia}/gpus/${name}/information`) ?? "")?.[1] ?? `GPU ${name}`,
    );
    const others = list("/sys/class/drm")
      .filter((name) => /^card\d+$/.test(name))
      .map((name) => vendors[read(`/sys/class/drm/${name}/device/vendor`) ?? ""])
      .filter((vendor) => vendor !== undefined && !(vendor === "NVIDIA" && models.length > 0))
      .map((vendor) => `a GPU by ${vendor}`);
    const [driver] = read(`${nvidia}/version`)?.replace("NVRM version: ", "").split("\n") ?? [];
    return { driver, devices: [...models, ...others], looked: `${nvidia} and /sys/class/drm` };
  }
  if (platform === "win32") {
    const library = join(process.env.SystemRoot ?? "C:\\Windows", "System32", "nvcuda.dll");
    return { driver: existsSync(library) ? library : undefined, devices: [], looked: library };
  }
  return { driver: undefined, devices: [], looked: undefined };
}

function listFolder(path: string): string[] {
  try {
    return readdirSync(path).sort();
  } catch {
    return [];
  }
}

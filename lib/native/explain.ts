// Why the addon could not be loaded: what was looked for, what was found, and which command mends it.
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

import { isOlder, manifest } from "./manifest.js";
import { glibcVersion, platforms } from "./platforms.js";

/** The oldest glibc that the packages for Linux run with. */
export const oldestGlibc = "2.28";

export interface Failure {
  /** The package's folder. */
  root: string;
  /** As packages are called: "linux-x64-musl". */
  platform: string;
  /** The binary that was found; undefined also for one that a bundler has put into a program's own files. */
  path?: string | undefined;
  /** What came of loading it, or of looking for the package. */
  error?: unknown;
  /** Of the binary, which is not the package's own; empty: it is no binary of inhouse's. */
  version?: string;
}

const ownGlibc = () => (process.platform === "linux" ? glibcVersion() : undefined);

/** What was wanted, for the beginning of a message. */
export function subject(platform: string, glibc = ownGlibc()): string {
  const library = glibc === undefined ? "" : ` (glibc ${glibc})`;
  return `the native part of inhouse ${manifest.version} for ${platform}${library}, Node ${process.versions.node}`;
}

export function explain(failure: Failure, glibc = ownGlibc()): string {
  const { path, version, error } = failure;
  const isThere = (path ?? version) !== undefined || codeOf(error).startsWith("ERR_DLOPEN_");
  const [found, remedy] = isThere ? refused(failure, glibc) : missing(failure);
  return `${subject(failure.platform, glibc)}: ${found}; ${remedy}`;
}

const codeOf = (error: unknown) => String((error as NodeJS.ErrnoException | undefined)?.code);

/** Under --permission. */
const { permission } = process as { permission?: { has(scope: string, reference?: string): boolean } };

/** False also where it must not be asked. */
function exists(path: string): boolean {
  try {
    return existsSync(path);
  } catch {
    return false;
  }
}

/** True also where there is nothing, or it must not be asked. */
function readable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch (error) {
    return codeOf(error) !== "EACCES";
  }
}

/** What was found, and what mends it. */
type Finding = [found: string, remedy: string];

const reinstall = "install anew: delete node_modules, then: npm install";
const reinstallHere = "delete node_modules and package-lock.json, then: npm install";

function missing({ root, platform, error }: Failure): Finding {
  const tuple = `${process.platform}-${process.arch}`;
  const builds = (folder: string) =>
    `build/Release, build/Debug or prebuilds/${tuple} of ${folder} for a local build`;
  const given = process.env.INHOUSE_PREBUILD;
  if (given) {
    return [
      `looked in ${builds(given)}, because the environment names it in INHOUSE_PREBUILD, and found none`,
      "unset INHOUSE_PREBUILD, or build there with: npm run build:addon",
    ];
  }
  const isClone = exists(join(root, "CMakeLists.txt"));
  const looked = `looked in ${builds(root)}`;
  if (!(platforms as readonly string[]).includes(platform)) {
    return [
      `${looked}, and found none; there is no package for ${platform}, only for ${platforms.join(", ")}`,
      isClone
        ? "build it with: npm run build:addon"
        : "build a clone of the repository with npm ci && npm run build:addon, and name its folder in INHOUSE_PREBUILD",
    ];
  }
  const name = `@inhouse/${platform}`;
  const folder = join(root, "..", "@inhouse", platform);
  if (permission?.has("fs.read", folder) === false) {
    return [
      `${looked} and for the package ${name}, but --permission does not let this process read ${folder}`,
      `start node with --allow-fs-read=${folder}`,
    ];
  }
  const installed = installedPackages();
  const damaged = installed.get(platform);
  if (damaged !== undefined) {
    const reason = error instanceof Error ? ` (${firstLine(error)})` : "";
    return [`the package ${name} stands in ${damaged} without its inhouse.node${reason}`, reinstall];
  }
  const nothing = `${looked} and for the package ${name}, and found neither`;
  if (isClone) return [nothing, "build it with: npm run build:addon"];
  if (installed.size > 0) {
    const others = [...installed.keys()].map((other) => `@inhouse/${other}`).join(", ");
    const same = [...installed.keys()].some((other) => other.replace("-musl", "") === tuple);
    const reason = same
      ? "which is for another C library than this Node's"
      : "so node_modules or the lock file came from another system";
    return [`${nothing}, but ${others}, ${reason}`, `install on this one: ${reinstallHere}`];
  }
  return [
    `${nothing}: optional dependencies were left out (--omit=optional, --no-optional), or the lock file lacks this platform`,
    `install them: npm install --include=optional; if that does not help, ${reinstallHere}`,
  ];
}

/** Platform packages within reach of this module, with their folders. */
function installedPackages(): Map<string, string> {
  const found = new Map<string, string>();
  for (const folder of createRequire(__filename).resolve.paths("@inhouse/any") ?? []) {
    for (const platform of platforms) {
      const path = join(folder, "@inhouse", platform);
      if (!found.has(platform) && exists(join(path, "package.json"))) found.set(platform, path);
    }
  }
  return found;
}

function refused({ root, path: known, error, version }: Failure, glibc: string | undefined): Finding {
  const words = error instanceof Error ? firstLine(error) : String(error);
  // Of a bundle only the loader's words may tell it.
  const path = known ?? /(?:\/|\b[A-Za-z]:\\).*?\.node\b/.exec(words)?.[0] ?? "the addon in this program";
  const isClone = path.startsWith(root) && exists(join(root, "CMakeLists.txt"));
  const build = "build it anew: npm run build:addon";
  const again = process.env.INHOUSE_PREBUILD
    ? `unset INHOUSE_PREBUILD, or ${build} in the folder it names`
    : isClone
      ? build
      : reinstall;
  if (version === "") return [`found ${path}, which is the addon of another program`, again];
  if (version !== undefined) return [`found ${path} of version ${version}`, again];

  if (codeOf(error) === "ERR_DLOPEN_DISABLED") {
    const found = `found ${path}, which this process may not load`;
    return permission !== undefined
      ? [`${found}: --permission is in force without --allow-addons`, "start node with --allow-addons"]
      : [`${found}: --no-addons is in force`, "start node without --no-addons (look into NODE_OPTIONS too)"];
  }
  const found = `found ${path}, which could not be loaded: ${words}`;
  const mount = mountPoint(path);
  if (mount?.noexec) {
    return [
      `${found}; the file system at ${mount.folder} is mounted noexec`,
      `install into a folder elsewhere, or allow it: mount -o remount,exec ${mount.folder}`,
    ];
  }
  if (!readable(path)) {
    return [`${found}; this process may not read it`, `allow it: chmod a+r ${path} (and a+rx its folders)`];
  }
  const [, wanted] = /version `GLIBC_([\d.]+)' not found/.exec(words) ?? [];
  if (wanted !== undefined) {
    const old = isOlder(glibc ?? "0", oldestGlibc);
    return [found, old ? `use a system with glibc ${oldestGlibc} or newer` : again];
  }
  return [`${found}; it may be damaged, or for another processor or C library`, again];
}

const firstLine = (error: Error) => error.message.split("\n", 1)[0]!;

/** The file system that a file is on, where Linux tells. */
function mountPoint(path: string): { folder: string; noexec: boolean } | undefined {
  try {
    const mounts = readFileSync("/proc/self/mounts", "utf8")
      .split("\n")
      .map((line) => line.split(" "))
      .map(([, folder = "", , options = ""]) => ({
        folder: folder.replace(/\\(\d{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8))),
        noexec: options.split(",").includes("noexec"),
      }))
      .filter(({ folder }) => folder === "/" || path === folder || path.startsWith(`${folder}/`));
    // Of several on one folder the last is the one that is seen.
    return mounts.reduce((best, mount) => (mount.folder.length >= best.folder.length ? mount : best));
  } catch {
    return undefined;
  }
}

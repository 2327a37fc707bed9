// Finds the addon and loads it: a local build where there is one, else the platform's package.
import { closeSync, fstatSync, openSync, readFileSync, readSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve, sep } from "node:path";

import { InhouseError } from "../errors.js";
import type { NativeAddon } from "../native.js";
import { explain, type Failure, subject } from "./explain.js";
import { isOlder, manifest, oldestNode } from "./manifest.js";
import { isPlatform, type Platform, platformName } from "./platforms.js";

export interface LoadedAddon {
  addon: NativeAddon;
  /** Undefined where a bundler has put it into a program's own files. */
  path: string | undefined;
  /** The package it came from; undefined: a local build. */
  package: string | undefined;
}

/** The addon for the package at `root`. Throws ERR_INHOUSE_NATIVE_LOAD. */
export function load(root: string): LoadedAddon {
  if (isOlder(process.versions.node, oldestNode)) {
    throw new InhouseError(
      "ERR_INHOUSE_NATIVE_LOAD",
      `${subject(platformName())}: this Node is too old; install Node ${oldestNode} or a newer one`,
    );
  }
  const platform = platformName();
  const local = localBuild(root);
  const packaged = local === undefined && !process.env.INHOUSE_PREBUILD && isPlatform(platform);
  const failed = (failure: Omit<Failure, "root" | "platform">) =>
    new InhouseError("ERR_INHOUSE_NATIVE_LOAD", explain({ root, platform, ...failure }), {
      cause: failure.error,
    });
  if (local === undefined && !packaged) throw failed({});
  const file = local ?? packagePath(platform);
  const cut = file === undefined ? undefined : cutOff(file);
  if (cut !== undefined) throw failed({ path: file, error: cut });
  let addon: NativeAddon;
  try {
    // eslint-disable-next-line @typescript-eslint/no-require-imports
    addon = (local === undefined ? requirePackage(platform as Platform) : require(local)) as NativeAddon;
  } catch (error) {
    throw failed({ path: file, error });
  }
  const version = (addon as Partial<NativeAddon> | undefined)?.version;
  if (version !== manifest.version) throw failed({ path: file, version: version ?? "" });
  return { addon, path: file, package: packaged ? `@inhouse/${platform}` : undefined };
}

/**
 * What node-gyp-build finds in the folder INHOUSE_PREBUILD, else in `root`: build/Release, build/Debug or prebuilds/. In a
 * bundle `root` is some folder of the program's, and node-gyp-build looks beside the running program too: the addons of
 * other packages that may stand there are not ours.
 */
function localBuild(root: string): string | undefined {
  const given = process.env.INHOUSE_PREBUILD;
  const folder = resolve(given || root);
  try {
    if (!given && !isOurs(root)) return undefined;
    // eslint-disable-next-line @typescript-eslint/no-require-imports
    const found = resolve((require("node-gyp-build") as { path(folder: string): string }).path(folder));
    return found.startsWith(folder + sep) ? found : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Why a library for Linux is not whole: the system's loader maps what there is of one that was cut off, and the process
 * ends at the first page that is missing. The table of its sections stands at its end.
 */
function cutOff(path: string): Error | undefined {
  const head = Buffer.alloc(64);
  let size: number;
  try {
    const file = openSync(path, "r");
    try {
      size = fstatSync(file).size;
      if (readSync(file, head, 0, head.length, 0) < head.length) return undefined;
    } finally {
      closeSync(file);
    }
  } catch {
    return undefined; // the loader says it better
  }
  if (head.toString("latin1", 0, 4) !== "\x7fELF") return undefined;
  const end = Number(head.readBigUInt64LE(40)) + head.readUInt16LE(58) * head.readUInt16LE(60);
  return size < end ? new Error(`the file is cut off: ${size} of ${end} bytes`) : undefined;
}

const isOurs = (folder: string) =>
  (JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as { name?: unknown }).name ===
  manifest.name;

/** Where the package of a platform has its addon; undefined where it is not installed. */
function packagePath(platform: string): string | undefined {
  try {
    return createRequire(__filename).resolve(`@inhouse/${platform}`);
  } catch {
    return undefined;
  }
}

/**
 * The names stand here literally, for tools that trace a program's files, and inside `try`, so that bundlers only warn
 * of those that are not installed.
 */
/* eslint-disable @typescript-eslint/no-require-imports */
function requirePackage(platform: Platform): unknown {
  try {
    switch (platform) {
      case "linux-x64":
        return require("@inhouse/linux-x64");
      case "linux-x64-musl":
        return require("@inhouse/linux-x64-musl");
      case "linux-arm64":
        return require("@inhouse/linux-arm64");
      case "linux-arm64-musl":
        return require("@inhouse/linux-arm64-musl");
      case "darwin-arm64":
        return require("@inhouse/darwin-arm64");
      case "darwin-x64":
        return require("@inhouse/darwin-x64");
      case "win32-x64":
        return require("@inhouse/win32-x64");
      case "win32-arm64":
        return require("@inhouse/win32-arm64");
    }
  } catch (error) {
    throw error;
  }
}

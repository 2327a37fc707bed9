// The platforms there are packages for, and which of them this process runs on.
import { closeSync, openSync, readSync } from "node:fs";

export type Libc = "glibc" | "musl";

/** Every platform with a package of its own, `@inhouse/` and this name. */
export const platforms = [
  "linux-x64",
  "linux-x64-musl",
  "linux-arm64",
  "linux-arm64-musl",
  "darwin-arm64",
  "darwin-x64",
  "win32-x64",
  "win32-arm64",
] as const;

export type Platform = (typeof platforms)[number];

/** What the package for a process like this one is called, whether there is one or not. */
export function platformName(
  platform: string = process.platform,
  arch: string = process.arch,
  library: () => Libc = libc,
): string {
  return `${platform}-${arch}${platform === "linux" && library() === "musl" ? "-musl" : ""}`;
}

export const isPlatform = (name: string): name is Platform => (platforms as readonly string[]).includes(name);

/**
 * The C library of this Node on Linux. Its dynamic loader's name stands near the beginning of the program; where it
 * does not, or must not be read, the diagnostic report tells, which takes ten times longer.
 */
export function libc(head = programHead(), glibc = glibcVersion): Libc {
  const [name] = /ld-(linux|musl)-/.exec(head) ?? [];
  if (name !== undefined) return name === "ld-musl-" ? "musl" : "glibc";
  return glibc() === undefined ? "musl" : "glibc";
}

function programHead(): string {
  let file: number | undefined;
  try {
    file = openSync(process.execPath, "r");
    const head = Buffer.alloc(4096);
    return head.toString("latin1", 0, readSync(file, head, 0, head.length, 0));
  } catch {
    return "";
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** For example "2.36"; undefined without glibc. */
export function glibcVersion(): string | undefined {
  const report = process.report as NodeJS.ProcessReport & { excludeNetwork?: boolean | undefined };
  const { excludeNetwork } = report;
  try {
    report.excludeNetwork = true; // it would look up the names of all sockets' addresses
    return (report.getReport() as { header: { glibcVersionRuntime?: string } }).header.glibcVersionRuntime;
  } catch {
    return undefined;
  } finally {
    report.excludeNetwork = excludeNetwork;
  }
}

// `inhouse doctor`: what it finds on made-up systems, and the command over this one.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

import { advice } from "../lib/cli/doctor/advice.js";
import { groupLimits } from "../lib/cli/doctor/control-group.js";
import type { Examination } from "../lib/cli/doctor/examine.js";
import { findGpus } from "../lib/cli/doctor/gpu.js";
import { builtAddon, platform } from "./support/installed.js";

const root = join(import.meta.dirname, "..");

function doctor(args: string[], env: Record<string, string> = {}) {
  return spawnSync(process.execPath, [join(root, "dist/cli/main.js"), "doctor", ...args], {
    env: { ...process.env, INHOUSE_CACHE: join(root, "no-such-cache"), ...env },
    encoding: "utf8",
  });
}

describe("the command", () => {
  it("prints one document", () => {
    const { status, stdout, stderr } = doctor(["--json"]);
    expect([status, stderr]).toEqual([0, ""]);
    const found = JSON.parse(stdout) as Examination & { advice: string[] };
    expect(found).toMatchObject({
      platform,
      node: process.versions.node,
      binary: { path: builtAddon, version: found.version },
      gpus: { devices: expect.any(Array) },
      store: { path: join(root, "no-such-cache/models"), models: [] },
    });
    const { processor, memory } = found;
    expect(processor.instructionSets.find(({ supported }) => supported)?.name).toBe(processor.chosen);
    expect(processor.instructionSets.at(-1)).toMatchObject({ name: "baseline", supported: true });
    expect(processor.threads).toBeGreaterThan(0);
    expect(memory.available).toBeLessThanOrEqual(memory.total);
    expect(memory.total).toBeGreaterThan(1e8);
    expect(Array.isArray(found.advice)).toBe(true);
  });

  it("prints lines for people", () => {
    const { status, stdout } = doctor([]);
    expect(status).toBe(0);
    for (const text of [builtAddon, "a local build", platform, `Node           ${process.versions.node}`])
      expect(stdout).toContain(text);
    expect(stdout).toMatch(/^instructions +\w+ \(.*\): (used|present|not present)$/m);
    expect(stdout).toMatch(/\n\nWhat would be faster:\n/);
  });

  it("tells the rest, and fails, where the native part does not load", () => {
    const { status, stdout } = doctor([], { INHOUSE_PREBUILD: import.meta.dirname });
    expect(status).toBe(1);
    expect(stdout).toMatch(/^binary +none$/m);
    expect(stdout).toMatch(/^memory +\d/m);
    expect(stdout).toMatch(/unset INHOUSE_PREBUILD.*\(ERR_INHOUSE_NATIVE_LOAD\)\n$/);
    const json = JSON.parse(
      doctor(["--json"], { INHOUSE_PREBUILD: import.meta.dirname }).stdout,
    ) as Examination;
    expect(json.error?.code).toBe("ERR_INHOUSE_NATIVE_LOAD");
  });

  it("takes no operands", () => {
    expect(doctor(["model.gguf"]).status).toBe(2);
  });
});

const reader = (files: Record<string, string>) => (path: string) => files[path];

describe("control groups", () => {
  it("of version 2 limit by the tightest on the way up", () => {
    const files = {
      "/proc/self/cgroup": "0::/pods/a",
      "/sys/fs/cgroup/pods/a/cpu.max": "max 100000",
      "/sys/fs/cgroup/pods/a/memory.max": "2000000000",
      "/sys/fs/cgroup/pods/cpu.max": "150000 100000",
      "/sys/fs/cgroup/pods/memory.max": "max",
    };
    expect(groupLimits(reader(files))).toEqual({ processors: 1.5, memory: 2e9 });
  });

  it("of version 1 limit too, and of a container the root is seen", () => {
    const files = {
      "/proc/self/cgroup": "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n1:name=systemd:/",
      "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000",
      "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
      "/sys/fs/cgroup/memory/memory.limit_in_bytes": "512000000",
    };
    expect(groupLimits(reader(files))).toEqual({ processors: 0.5, memory: 512e6 });
  });

  it("without limits, or without control groups, say so", () => {
    const none = { processors: undefined, memory: undefined };
    const files = {
      "/proc/self/cgroup": "4:memory:/\n3:cpu:/",
      "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
      "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
      "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
    };
    expect(groupLimits(reader(files))).toEqual(none);
    expect(groupLimits(reader({}))).toEqual(none);
  });
});

describe("GPUs", () => {
  it("are named by their driver, others by their maker", () => {
    const files = {
      "/proc/driver/nvidia/version":
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54\nGCC version: 12",
      "/proc/driver/nvidia/gpus/0000:01/information": "Model: \t NVIDIA H100\nIRQ: 5",
      "/sys/class/drm/card0/device/vendor": "0x10de",
      "/sys/class/drm/card1/device/vendor": "0x8086",
    };
    const folders: Record<string, string[]> = {
      "/proc/driver/nvidia/gpus": ["0000:01"],
      "/sys/class/drm": ["card0", "card0-DP-1", "card1", "version"],
    };
    const found = findGpus("linux", reader(files), (path) => folders[path] ?? []);
    expect(found.driver).toBe("NVIDIA UNIX x86_64 Kernel Module  550.54");
    expect(found.devices).toEqual(["NVIDIA H100", "a GPU by Intel"]);
  });

  it("may be absent", () => {
    const absent = { driver: undefined, devices: [], looked: "/proc/driver/nvidia and /sys/class/drm" };
    expect(findGpus("linux", reader({}), () => [])).toEqual(absent);
  });
});

describe("advice", () => {
  const fine: Examination = {
    version: "1.0.0",
    node: "24.0.0",
    platform: "linux-x64",
    release: "6.1",
    libc: "glibc 2.36",
    binary: {
      path: "/app/node_modules/@inhouse/linux-x64/inhouse.node",
      package: "@inhouse/linux-x64",
      version: "1.0.0",
      bytes: 1,
    },
    error: undefined,
    processor: {
      model: "Xeon",
      logical: 8,
      available: 8,
      threads: 4,
      features: [],
      instructionSets: [],
      chosen: "avx512vnni",
    },
    memory: { total: 8e9, available: 4e9 },
    largePages: "madvise",
    controlGroup: { processors: undefined, memory: undefined },
    gpus: { driver: undefined, devices: [], looked: "" },
    cudaImage: undefined,
    store: { path: "", models: [{ name: "small", bytes: 1e9 }], error: undefined },
  };
  const { processor } = fine;
  const cases: [string, Partial<Examination>, RegExp][] = [
    [
      "a virtual machine without AVX2",
      { processor: { ...processor, chosen: "baseline" } },
      /no AVX2.*-cpu host/,
    ],
    ["a processor without VNNI", { processor: { ...processor, chosen: "avx2" } }, /VNNI/],
    [
      "an old ARM processor",
      { platform: "linux-arm64", processor: { ...processor, chosen: "neon" } },
      /ARMv8\.2/,
    ],
    ["an emulated Node", { processor: { ...processor, model: "Apple M4" } }, /Node for arm64/],
    [
      "a debug build",
      { binary: { path: "/a/build/Debug/inhouse.node", package: undefined, version: "", bytes: 1 } },
      /debug build/,
    ],
    [
      "a container's processors",
      { controlGroup: { processors: 1.5, memory: undefined } },
      /1\.5 of 8 processors.*--cpus/,
    ],
    ["an affinity", { processor: { ...processor, available: 2 } }, /may run on 2 of 8.*taskset/],
    ["little memory", { memory: { total: 8e9, available: 5e8 } }, /small has 1\.00 GB, and 500 MB/],
    ["large pages that are off", { largePages: "never" }, /transparent_hugepage/],
    ["a GPU", { gpus: { driver: "550", devices: ["H100"], looked: "" } }, /Not used: H100/],
    [
      "a driver alone",
      { gpus: { driver: "nvcuda.dll", devices: [], looked: "" } },
      /Not used: the GPU of this driver/,
    ],
  ];

  it.each(cases)("for %s", (_, change, wanted) => {
    expect(advice({ ...fine, ...change })).toEqual([expect.stringMatching(wanted)]);
  });

  it("is not given without need, nor without a binary", () => {
    expect(advice(fine)).toEqual([]);
    const gpus = { driver: "580", devices: ["H100"], looked: "" };
    expect(advice({ ...fine, gpus, cudaImage: "/a/inhouse-cuda.fatbin" })).toEqual([]);
    expect(advice({ ...fine, binary: undefined, largePages: "never" })).toEqual([]);
  });
});

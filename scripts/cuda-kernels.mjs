// `npm run cuda`: compiles the CUDA image for every target, warnings as errors, with an nvcc from PyPI, and compares
// what each kernel takes of a multiprocessor with kernels/cuda/resources.txt, so that a change to it shows in review.
//
//   node scripts/cuda-kernels.mjs [--record]     --record writes the table anew
//
// Linux on x64. Needs `npm run build`. The image is build-cuda/inhouse-cuda.fatbin.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { pythonEnvironment } from "./python-env.mjs";
import { root } from "./source-files.mjs";

const { values } = parseArgs({ options: { record: { type: "boolean" } } });
const table = join(root, "kernels/cuda/resources.txt");
const out = join(root, "build-cuda");

/**
 * What a multiprocessor has, by compute capability: threads, blocks, bytes of shared memory, and of them what a block
 * takes besides its own. CUDA C++ Programming Guide 13.0, "Technical Specifications per Compute Capability".
 */
const multiprocessors = {
  75: { threads: 1024, blocks: 16, shared: 64 << 10, reserved: 0 },
  80: { threads: 2048, blocks: 32, shared: 164 << 10, reserved: 1 << 10 },
  86: { threads: 1536, blocks: 16, shared: 100 << 10, reserved: 1 << 10 },
  89: { threads: 1536, blocks: 24, shared: 100 << 10, reserved: 1 << 10 },
  90: { threads: 2048, blocks: 32, shared: 228 << 10, reserved: 1 << 10 },
  100: { threads: 2048, blocks: 32, shared: 228 << 10, reserved: 1 << 10 },
  120: { threads: 1536, blocks: 24, shared: 100 << 10, reserved: 1 << 10 },
};

/** The share of a multiprocessor's threads that blocks of a kernel can hold. */
function occupancy(target, { threads, shared, registers }) {
  const has = multiprocessors[parseInt(target, 10)];
  const warps = threads / 32;
  // Each of four partitions has 16,384 registers, which warps get in portions of 256.
  const held = 4 * Math.floor(16384 / (256 * Math.ceil((32 * registers) / 256)));
  const blocks = Math.min(
    has.blocks,
    Math.floor(has.threads / threads),
    Math.floor(held / warps),
    Math.floor(has.shared / (shared + has.reserved || 1)),
  );
  return (blocks * threads) / has.threads;
}

/** nvcc of the list of requirements. */
function findNvcc() {
  const { python, env } = pythonEnvironment("requirements-cuda.txt", "python-cuda");
  const code = "import nvidia; print(list(nvidia.__path__)[0])";
  const { stdout } = spawnSync(python[0], [...python.slice(1), "-c", code], { env, encoding: "utf8" });
  const nvcc = join(stdout.trim(), "cu13/bin/nvcc");
  if (!existsSync(nvcc)) throw new Error(`${nvcc} is missing: delete .cache/python-cuda and try again`);
  return nvcc;
}

/** Runs a program; its output, which is shown where it fails. */
function run(command, args, env = process.env) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    env,
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  if (status === 0) return stdout + stderr;
  throw new Error(`${command} ${args.join(" ")}\n${stdout ?? ""}${stderr ?? ""}${error?.message ?? ""}`);
}

/** What ptxas says of each kernel, by target. */
function resources(output) {
  const found = new Map();
  let kernel;
  for (const line of output.split("\n")) {
    const [, name, target] = /Compiling entry function 'inhouse_(\w+)' for 'sm_(\w+)'/.exec(line) ?? [];
    if (name) {
      kernel = { spills: 0 };
      if (!found.has(target)) found.set(target, new Map());
      found.get(target).set(name, kernel);
    }
    const [, stores, loads] = /(\d+) bytes spill stores, (\d+) bytes spill loads/.exec(line) ?? [];
    if (stores && kernel) kernel.spills = Math.max(Number(stores), Number(loads));
    const [, registers] = /Used (\d+) registers/.exec(line) ?? [];
    if (registers) {
      kernel.registers = Number(registers);
      kernel.shared = Number(/(\d+) bytes smem/.exec(line)?.[1] ?? 0);
    }
  }
  return found;
}

try {
  const list = join(root, "build/bench/native/inhouse_cuda_kernels");
  if (!existsSync(list)) throw new Error(`${list} is not built: npm run build`);
  const launches = run(list, [])
    .trim()
    .split("\n")
    .map((line) => line.split(" "))
    .map(([name, threads, shared]) => ({ name, threads: Number(threads), shared: Number(shared) }));
  const nvcc = findNvcc();
  run("cmake", ["-S", root, "-B", out, "-DINHOUSE_CUDA=ON", `-DINHOUSE_NVCC=${nvcc}`]);
  console.error("compiling the kernels for all targets; this takes some minutes");
  const output = run("cmake", ["--build", out, "--target", "inhouse_cuda", "--clean-first", "--verbose"], {
    ...process.env,
    NVCC_APPEND_FLAGS: "-Xptxas -v",
  });
  const found = resources(output);
  const targets = [...found.keys()].sort((a, b) => parseInt(a, 10) - parseInt(b, 10));
  const widths = [Math.max(...launches.map(({ name }) => name.length)), 7, 6, ...targets.map(() => 11)];
  const row = (cells) =>
    cells
      .map((cell, i) => String(cell).padEnd(widths[i]))
      .join(" ")
      .trimEnd();
  const lines = launches.map(({ name, threads, shared }) =>
    row([
      name,
      threads,
      shared,
      ...targets.map((target) => {
        const kernel = found.get(target).get(name);
        if (kernel?.registers === undefined) throw new Error(`ptxas says nothing of ${name} for ${target}`);
        const { registers, spills } = kernel;
        const share = occupancy(target, { threads, shared: shared + kernel.shared, registers });
        return `${registers}/${spills}/${Math.round(100 * share)}%`;
      }),
    ]),
  );
  const text =
    "# What the CUDA kernels take, by nvcc 13.0.88 (node scripts/cuda-kernels.mjs --record): threads of a block, bytes of\n" +
    "# shared memory that launches ask for, and for each target registers/bytes spilled/share of a multiprocessor's threads.\n" +
    `${[row(["kernel", "threads", "shared", ...targets.map((target) => `sm_${target}`)]), ...lines].join("\n")}\n`;
  const recorded = existsSync(table) ? readFileSync(table, "utf8") : "";
  if (values.record) writeFileSync(table, text);
  console.log(text.trimEnd());
  const bytes = statSync(join(out, "inhouse-cuda.fatbin")).size;
  console.log(`${launches.length} kernels for ${targets.length} targets, ${(bytes / 1e6).toFixed(1)} MB`);
  if (!values.record && text !== recorded) {
    const before = new Set(recorded.split("\n"));
    const changed = text.split("\n").filter((line) => !before.has(line));
    console.error(
      `kernels/cuda/resources.txt says otherwise of:\n${changed.join("\n")}\nnode scripts/cuda-kernels.mjs --record writes it anew`,
    );
    process.exitCode = 1;
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}

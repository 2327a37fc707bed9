// What the compilers make of the kernels: the arrangement of the shipped linux-x64 binary (the core by zig's clang, the
// kernels by g++) beside builds by g++ alone and by that clang alone. Each product is measured with the three in turn, in
// fresh processes, on one thread, with the best instruction set of the processor.
//
//   node bench/compilers.mjs [--rounds 3] [--type Q4_K,Q6_K,Q4_1,Q8_0,F16,BF16] [--machine NAME]
//
// Builds into build-compilers/. With --machine the result goes to bench/results/NAME.compilers.json, which
// docs/performance.md is made from; it is printed either way.
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { count, start } from "./start.mjs";

start(import.meta.filename);
const { buildKernels, cmake } = await import("../scripts/prebuilds/cmake.mjs");
const { targets } = await import("../scripts/prebuilds/targets.mjs");
const { compilerVersions, kernelsToolchain, toolchain } = await import("../scripts/prebuilds/toolchain.mjs");
const { root } = await import("../scripts/source-files.mjs");

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    type: { type: "string", default: "Q4_K,Q6_K,Q4_1,Q8_0,F16,BF16" },
    machine: { type: "string" },
  },
});
const rounds = count("rounds", options.rounds, 1000);
const out = join(root, "build-compilers");

/** Builds the benchmark of the kernels; its program. */
function build(name, variables) {
  const folder = join(out, name);
  cmake(folder, "inhouse_kernels_bench", { ...variables, INHOUSE_TESTS: "ON" });
  return join(folder, "bench/native/inhouse_kernels_bench");
}

const tools = join(out, "tools");
const clang = toolchain(targets["linux-x64"], tools);
const gxx = kernelsToolchain(targets["linux-x64"], tools);
const kernels = buildKernels(join(out, "kernels"), gxx);
const programs = {
  shipped: build("shipped", { ...clang, INHOUSE_KERNELS: kernels }),
  "g++": build("g++", gxx),
  clang: build("clang", clang),
};

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
let isa;
/** One measurement of a type's products. */
function measure(program, type) {
  const args = ["--json", "--threads", "1", "--type", type];
  const result = JSON.parse(execFileSync(program, args, { encoding: "utf8" }));
  isa = result.isa;
  return result.runs[0].products;
}

const products = [];
for (const type of options.type.split(",")) {
  process.stderr.write(`${type}, ${rounds} rounds\n`);
  const samples = Object.fromEntries(Object.keys(programs).map((name) => [name, []]));
  for (let round = 0; round < rounds; ++round)
    for (const [name, program] of Object.entries(programs)) samples[name].push(measure(program, type));
  for (const [i, { rows, cols }] of samples.shipped[0].entries()) {
    const of = (figure) =>
      Object.fromEntries(
        Object.entries(samples).map(([name, all]) => [name, median(all.map((one) => one[i][figure]))]),
      );
    const [vectorGB, fourGB, batch64GMAC, batch512GMAC] = [
      "vectorGB",
      "fourGB",
      "batch64GMAC",
      "batch512GMAC",
    ].map(of);
    products.push({ type, rows, cols, vectorGB, fourGB, batch64GMAC, batch512GMAC });
  }
}
const result = {
  machine: {
    processor: cpus()[0]?.model.trim() ?? "unknown processor",
    cores: availableParallelism(),
    platform: process.platform,
  },
  date: new Date().toISOString(),
  versions: compilerVersions(),
  isa,
  rounds,
  products,
};
const text = `${JSON.stringify(result, undefined, 2)}\n`;
if (options.machine !== undefined)
  writeFileSync(join(import.meta.dirname, `results/${options.machine}.compilers.json`), text);
process.stdout.write(text);

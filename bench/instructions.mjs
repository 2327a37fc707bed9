// Counts the instructions of the ARM kernels per multiply-add under qemu-user, for machines without such a processor:
// what a wrapper or a layout costs is seen exactly, though not how fast a processor takes it.
//
//   node bench/instructions.mjs [--json] [--functions] [--build build-arm] [--emulator qemu-aarch64-static]
//     [--root /usr/aarch64-linux-gnu] [--isa NAME,…] [--type NAME,…]
//
// after a cross build (docs/adding-a-kernel.md). qemu writes each translated block's instructions once and a line for
// every time it runs one; both are read from a pipe. Two runs differ in one product, so that their difference is
// its alone. --functions also says which functions the instructions stand in.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { Failure, start, UsageError } from "./start.mjs";
import { instructionTable } from "./tables.mjs";

start(import.meta.filename);
const { values: options } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    functions: { type: "boolean", default: false },
    build: { type: "string", default: "build-arm" },
    emulator: { type: "string", default: "qemu-aarch64-static" },
    root: { type: "string", default: "/usr/aarch64-linux-gnu" },
    isa: { type: "string", default: "neon,neondot,neoni8mm" },
    type: { type: "string", default: "Q4_K,Q6_K,Q8_0,Q4_1,IQ4_XS,F16" },
  },
});
const program = join(options.build, "bench/native/inhouse_product_count");
if (!existsSync(program))
  throw new UsageError(
    `${program} is not built: docs/adding-a-kernel.md says how (--build names the folder)`,
  );
const shape = { rows: 512, cols: 512 };
const activationRows = [1, 24]; // decoding; a prompt, unpacked once for all its rows
const repeats = [1, 2];

// Vector instructions that multiply and add (Arm Architecture Reference Manual, C4.1): of 16 bytes, or of 4 floats.
const multiplies = [
  { name: "sdot", mask: 0xffe0fc00, word: 0x4e809400, multiplyAdds: 16 },
  { name: "sdot", mask: 0xffc0f400, word: 0x4f80e000, multiplyAdds: 16 }, // by element
  { name: "usdot", mask: 0xffe0fc00, word: 0x4e809c00, multiplyAdds: 16 },
  { name: "usdot", mask: 0xffc0f400, word: 0x4f80f000, multiplyAdds: 16 }, // by element
  { name: "smmla", mask: 0xffe0fc00, word: 0x4e80a400, multiplyAdds: 32 },
  { name: "usmmla", mask: 0xffe0fc00, word: 0x4e80ac00, multiplyAdds: 32 },
  { name: "smlal", mask: 0xbfe0fc00, word: 0x0e208000, multiplyAdds: 8 },
  { name: "smull", mask: 0xbfe0fc00, word: 0x0e20c000, multiplyAdds: 8 },
  { name: "fmla", mask: 0xffe0fc00, word: 0x4e20cc00, multiplyAdds: 4, float: true },
  { name: "fmla", mask: 0xffc0f400, word: 0x4f801000, multiplyAdds: 4, float: true }, // by element
];
const multiplyOf = (word) => multiplies.find(({ mask, word: bits }) => (word & mask) >>> 0 === bits);

/** Runs the product `count` times; the number of times that each block ran, with its instructions. */
function blocksOf(isa, type, tokens, count) {
  const log = ["-d", "in_asm,exec,nochain"]; // to stderr, for Node's own pipes cannot be opened by name
  const args = [isa, type, shape.rows, shape.cols, tokens, count].map(String);
  return new Promise((resolve, reject) => {
    const child = spawn(options.emulator, ["-L", options.root, "-cpu", "max", ...log, program, ...args], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    const blocks = new Map(); // by address and flags
    let translated;
    let last;
    let other = ""; // what is no line of the log: a complaint
    createInterface({ input: child.stderr }).on("line", (line) => {
      if (line.startsWith("Trace ")) {
        const id = line.slice(line.indexOf("/") + 1, line.indexOf("]"));
        last = blocks.get(id);
        if (!last || translated) blocks.set(id, (last = { runs: last?.runs ?? 0, ...translated }));
        translated = undefined;
        last.runs++;
      } else if (line.startsWith("IN: ")) {
        translated = { name: line.slice(4), words: [] };
      } else if (line.startsWith("0x")) {
        translated.words.push(parseInt(line.slice(line.indexOf(":") + 1).trim(), 16));
      } else if (line.startsWith("Stopped execution")) {
        last.runs--;
      } else if (line && !line.startsWith("---")) {
        other += `\n${line}`;
      }
    });
    child.on("error", reject);
    child.on("close", (code) =>
      code === 0
        ? resolve(blocks)
        : reject(new Failure(`${program} ${args.join(" ")}: exit status ${code}${other}`)),
    );
  });
}

/** All instructions, those that multiply by name, and those of each function. */
function sum(blocks) {
  const total = { instructions: 0, multiplies: {}, functions: {} };
  const add = (to, name, count) => (to[name] = (to[name] ?? 0) + count);
  for (const { name, words, runs } of blocks.values()) {
    total.instructions += runs * words.length;
    add(total.functions, name, runs * words.length);
    for (const word of words) {
      const kind = multiplyOf(word);
      if (kind) add(total.multiplies, kind.name, runs);
    }
  }
  return total;
}

async function measure(isa, type, tokens) {
  const [few, many] = await Promise.all(
    repeats.map(async (count) => sum(await blocksOf(isa, type, tokens, count))),
  );
  const products = repeats[1] - repeats[0];
  const multiplyAdds = products * tokens * shape.rows * shape.cols;
  const difference = (name) => many.multiplies[name] - (few.multiplies[name] ?? 0);
  // Products of bytes also scale their sums by fmla, which is no multiply-add of theirs.
  const found = Object.keys(many.multiplies)
    .filter((name) => difference(name) > 0)
    .map((name) => ({ ...multiplies.find((kind) => kind.name === name), count: difference(name) }));
  const bytes = found.filter(({ float }) => !float);
  const used = bytes.length > 0 ? bytes : found;
  const done = used.reduce((all, kind) => all + kind.count * kind.multiplyAdds, 0);
  if (done !== multiplyAdds)
    throw new Failure(`${isa} ${type}: ${done} of ${multiplyAdds} multiply-adds counted`);
  const per = (count) => Number((count / multiplyAdds).toFixed(5));
  const functions = Object.entries(many.functions)
    .map(([name, count]) => [name, per(count - (few.functions[name] ?? 0))])
    .filter(([, count]) => count > 0.0005)
    .sort(([, a], [, b]) => b - a);
  return {
    isa,
    type,
    activationRows: tokens,
    multiplyBy: used.map(({ name }) => name),
    instructionsPerMultiplyAdd: per(many.instructions - few.instructions),
    multipliesPerMultiplyAdd: per(used.reduce((all, { count }) => all + count, 0)),
    ...(options.functions && { functions: Object.fromEntries(functions) }),
  };
}

const counts = [];
for (const type of options.type.split(","))
  for (const isa of options.isa.split(","))
    for (const tokens of activationRows) counts.push(await measure(isa, type, tokens));
const result = { shape, counts };
if (options.json) {
  console.log(JSON.stringify(result, null, 2));
} else {
  console.log(instructionTable(result));
  for (const { isa, type, activationRows: rows, functions } of options.functions ? counts : [])
    console.log(`${isa} ${type} ${rows}:`, functions);
}

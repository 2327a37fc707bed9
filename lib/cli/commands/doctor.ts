// `inhouse doctor`: what this machine is, which binary is used, and what would be faster.
import { advice } from "../doctor/advice.js";
import { type Examination, examine } from "../doctor/examine.js";
import { allFlags, type Command, operands } from "../command.js";
import { parseFlags } from "../flags.js";
import { bytes, json, plural, visible } from "../terminal.js";

export const doctorCommand: Command = {
  name: "doctor",
  operands: "",
  summary: "Tell what this machine is, which binary is used, and what would be faster.",
  details: "Exits with 1 if the native part does not load, and says what mends it.",
  groups: { Output: { json: { name: "json", help: "Print one JSON document." } } },
  async run(args, shell) {
    const { values, positionals } = parseFlags(args, allFlags(this.groups));
    operands(this, positionals, 0);
    const found = await examine();
    const faster = advice(found);
    const text =
      values.json === true ? `${json({ ...found, advice: faster })}\n` : visible(report(found, faster));
    await shell.stdout.write(text);
    if (found.error !== undefined) process.exitCode = 1;
  },
};

function where({ path, bytes: size }: NonNullable<Examination["binary"]>): string {
  return `${path ?? "within this program"}${size === undefined ? "" : `, ${bytes(size)}`}`;
}

function report(found: Examination, faster: readonly string[]): string {
  const { binary, error, processor, memory, controlGroup, gpus, store } = found;
  const limits = [
    controlGroup.processors === undefined ? [] : [`${plural(controlGroup.processors, "processor")}`],
    controlGroup.memory === undefined ? [] : [`${bytes(controlGroup.memory)} of memory`],
  ].flat();
  const sets = processor.instructionSets.map(({ name, title, supported }) => {
    const state = name === processor.chosen ? "used" : supported ? "present" : "not present";
    return `${name} (${title}): ${state}`;
  });
  const gpu = [gpus.driver === undefined ? [] : [`driver ${gpus.driver}`], gpus.devices].flat().join(", ");
  const models = `${plural(store.models.length, "model")}, ${bytes(store.models.reduce((sum, { bytes }) => sum + bytes, 0))}`;
  const rows: [string, string][] = [
    ["inhouse", found.version],
    ["Node", `${found.node}, ${found.platform}${found.libc === undefined ? "" : `, ${found.libc}`}`],
    ["system", `${process.platform} ${found.release}`],
    ["binary", binary ? where(binary) : "none"],
    ["from", binary ? (binary.package ?? "a local build") : "nowhere; see below"],
    ["processor", processor.model],
    ["processors", `${processor.logical}, ${processor.available} for this process`],
    ["threads", processor.threads === undefined ? "unknown" : `${processor.threads} by default`],
    ["features", processor.features.join(" ") || "not told by this system"],
    ...sets.map((set, i): [string, string] => [i === 0 ? "instructions" : "", set]),
    ["memory", `${bytes(memory.total)}, ${bytes(memory.available)} free`],
    ["control group", limits.join(", ") || "no limits"],
    [
      "GPU",
      gpu || (gpus.looked === undefined ? "not looked for on this system" : `none found in ${gpus.looked}`),
    ],
    ["CUDA part", found.cudaImage ?? "none"],
    ["store", store.error ?? `${store.path}: ${models}`],
  ];
  const lines = rows.map(([name, value]) => `${name.padEnd(14)} ${value}`);
  if (error !== undefined) return `${lines.join("\n")}\n\n${error.message} (${error.code})\n`;
  const hints =
    faster.length === 0
      ? ["Nothing was found that would make it faster here."]
      : faster.map((hint) => `- ${hint}`);
  return `${lines.join("\n")}\n\nWhat would be faster:\n${hints.join("\n")}\n`;
}

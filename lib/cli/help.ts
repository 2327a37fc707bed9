import type { Command } from "./command.js";
import type { Flag } from "./flags.js";

const width = 100;

/** Breaks text into lines of at most `columns` characters. */
function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  for (const paragraph of text.split("\n")) {
    let line = "";
    for (const word of paragraph.split(" ")) {
      if (line !== "" && line.length + 1 + word.length > columns) {
        lines.push(line);
        line = word;
      } else line = line === "" ? word : `${line} ${word}`;
    }
    lines.push(line);
  }
  return lines;
}

/** Two columns: names, and what they mean. */
function columns(rows: [string, string][]): string {
  const left = Math.min(28, Math.max(...rows.map(([name]) => name.length)));
  return rows
    .map(([name, text]) => {
      const [first = "", ...rest] = wrap(text, width - left - 4);
      const head = name.length > left ? `  ${name}\n${" ".repeat(left + 4)}` : `  ${name.padEnd(left)}  `;
      return [head + first, ...rest.map((line) => " ".repeat(left + 4) + line)].join("\n");
    })
    .join("\n");
}

function flagName(flag: Flag): string {
  const short = flag.short === undefined ? "" : `-${flag.short}, `;
  return `${short}--${flag.name}${flag.value === undefined ? "" : ` ${flag.value}`}${flag.repeats ? " …" : ""}`;
}

/** Help of one command. */
export function commandHelp(command: Command): string {
  const parts = [
    `Usage: inhouse ${command.name} ${command.operands}`.trimEnd() + " [flags]",
    wrap(command.summary, width).join("\n"),
  ];
  if (command.details !== undefined) parts.push(wrap(command.details, width).join("\n"));
  for (const [title, flags] of Object.entries(command.groups)) {
    parts.push(`${title}:\n${columns(Object.values(flags).map((flag) => [flagName(flag), flag.help]))}`);
  }
  return `${parts.join("\n\n")}\n`;
}

/** Help of the whole program. */
export function programHelp(commands: readonly Command[], modelNames: readonly string[]): string {
  const rows = commands.map((command): [string, string] => [
    `${command.name} ${command.operands}`,
    command.summary,
  ]);
  return `Usage: inhouse COMMAND …

Runs open-weight language models (GGUF files) in this process.

Commands:
${columns(rows)}

Each command explains itself: inhouse COMMAND --help. Also: inhouse --version, inhouse --help.

MODEL is the path of a GGUF file, or a name in the local store (inhouse list). "inhouse pull NAME" fetches
${modelNames.join(", ")}. Text goes to stdout, everything else to stderr.
Exit codes: 0, 1 failed, 2 wrong usage, 130 interrupted.
`;
}
